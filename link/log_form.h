/* A record's two forms, and how each goes out without blocking. Any thread. */
#pragma once
#include <glib.h>

#define CBUS_LOG_JOURNAL   "/run/systemd/journal/socket"
#define CBUS_LOG_VALUE_MAX 4096 /* bytes; longer values are cut */

/* Appends NAME and LEN bytes of VALUE as the journal's native protocol has them: framed by their length where
 * they hold a newline, so that no value makes a field of its own. */
void cbus_log_append_journal(GString *out, const char *name, const char *value, gsize len);
/* Appends LEN bytes of VALUE for people: control characters and what is no UTF-8 are escaped. */
void cbus_log_append_text(GString *out, const char *value, gsize len);
/* Appends " name=value": NAME in lower case, without "CBUS_". */
void cbus_log_append_text_field(GString *out, const char *name, const char *value, gsize len);

/* A datagram socket for cbus_log_send_journal(), close-on-exec, with as long a queue as we may have, or −1
 * with errno. */
int cbus_log_open_journal(void);
/* One record to the journal at PATH. FALSE with errno when it does not take it now. */
gboolean cbus_log_send_journal(int fd, const char *path, const GString *record) G_GNUC_WARN_UNUSED_RESULT;
/* One line, which ends with a newline, to standard error; a very long one is cut. FALSE when it does not take
 * it now. */
gboolean cbus_log_send_text(const GString *line) G_GNUC_WARN_UNUSED_RESULT;
