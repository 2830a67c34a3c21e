/* One structured line per event an operator cares about, none per message.
 *
 * To the journal with its fields when standard error is the journal, else as text to standard error.
 * LOG_LEVEL: 0 warnings, 1 info, 2 debug. */
#pragma once
#include <glib.h>

void cbus_log_init(const char *identifier, int level);
/* TEXT: 0 warnings, 1 information, 2 debug. ERROR: G_NUMBER_PARSER_ERROR. */
gboolean cbus_log_level_parse(const char *text, int *level, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* MESSAGE is text, not a format. After it pairs of name (CBUS_LOG_MACHINE) and const char * value, ended by
 * NULL; a NULL value leaves its field out. */
void cbus_log(GLogLevelFlags level, const char *message, ...) G_GNUC_NULL_TERMINATED;

/* Field names, spelled once. */
#define CBUS_LOG_MACHINE "CBUS_MACHINE" /* a machine's NKey */
#define CBUS_LOG_NAME    "CBUS_NAME"
#define CBUS_LOG_PROXY   "CBUS_PROXY" /* an operator's NKey */
#define CBUS_LOG_REASON  "CBUS_REASON"
#define CBUS_LOG_CHANNEL "CBUS_CHANNEL"
