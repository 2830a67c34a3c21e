/* No signals to this host's init, for a command that takes a machine's bus for its own. */
#pragma once
#include <glib.h>

/* From now on neither this process nor what it becomes can send a signal to process 1, nor one to every
 * process there is. Other signals are as before. Needs CAP_SYS_ADMIN, in a user namespace of its own. */
gboolean cbus_isolate_signals(GError **error) G_GNUC_WARN_UNUSED_RESULT;
