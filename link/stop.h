/* Being told to end while a thread waits for somebody: what waits, gives up. */
#pragma once
#include <glib.h>

#define CBUS_STOP_LOOK_MS 50 /* how often a wait looks whether it is still wanted */

/* The program ends: from now on nobody waits. */
void cbus_stop_begin(void);
/* Whether it ends, or will: SIGTERM or SIGINT came while the program still holds them back. Any thread. */
gboolean cbus_stop_is_wanted(void);
/* Waits until FD is ready for EVENTS (poll's), for at most TIMEOUT_MS. FALSE: it is not, or the program ends.
 */
gboolean cbus_stop_or_ready(int fd, short events, gint64 timeout_ms) G_GNUC_WARN_UNUSED_RESULT;
