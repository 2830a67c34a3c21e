/* Did this machine sleep? A link does not outlive a suspend or a restored snapshot (design, "Identity and
 * links"). Any thread; no state but the caller's. */
#pragma once
#include <glib.h>

/* How long the machine was asleep since it booted, in µs: CLOCK_BOOTTIME less CLOCK_MONOTONIC. */
gint64 cbus_clock_asleep(void);

/* TRUE if the machine slept for more than a second since *ASLEEP, which is brought up to date. */
gboolean cbus_clock_jumped(gint64 *asleep, gint64 asleep_now) G_GNUC_WARN_UNUSED_RESULT;
