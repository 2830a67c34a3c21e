/* cbus-agent --check: are the files in order? */
#pragma once
#include <glib.h>

/* Says on standard error what is wrong with the key file, with authorized-keys and with the policies of
 * CONFIG (may be NULL), with line numbers. TRUE: nothing. */
gboolean cbus_check(const char *key_file, const char *authorized_keys, const char *config);
