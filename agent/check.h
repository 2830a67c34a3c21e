/* cbus-agent --check: are the settings and the files in order? */
#pragma once
#include "link/settings.h"

/* Says on standard error all that is wrong with SETTINGS, with the key file, with authorized-keys, with the
 * policies and with the files that the NATS login needs; with line numbers where there are lines. TRUE:
 * nothing is. Forks; before any thread. */
gboolean cbus_check(const CbusSettings *settings);
