/* Events for the operator, to the journal or to a terminal, without ever blocking the loop.
 *
 * GLib's own journal writer sends on a blocking socket: a journal that hangs would stop every link of the
 * process. Here a record goes out with one non-blocking send, and the text form with one write after a poll
 * says that there is room; what does not fit is dropped and counted, and the next record that goes out says
 * how many were lost.
 *
 * Which form: the journal's native protocol when standard error is the journal's stream (JOURNAL_STREAM names
 * its device and inode), so that a daemon run by hand in a terminal prints there. Fields become journal
 * fields in the first form and name=value after the message in the second, prefix left off and lower case.
 *
 * Trust: values may hold text of a remote machine. In the journal form a value with a newline is framed by
 * its length; in the text form bytes below space, DEL and what is not UTF-8 are escaped, so no terminal obeys
 * them and no line can be forged. Each value is cut at CBUS_LOG_VALUE_MAX bytes.
 *
 * GLib's and nats.c's own g_log messages pass through the same writer. Any thread: what is shared is set once
 * by cbus_log_init() before others start, except two atomic counters. */
#include "link/log.h"
#include "link/log_form.h"
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define FIELDS_MAX 16

static struct {
    char *identifier;
    GLogLevelFlags shown;
    int journal; /* −1: text */
    gint lost;   /* atomic */
} log_state = {.shown = G_LOG_LEVEL_WARNING | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR, .journal = -1};

static int
syslog_priority(GLogLevelFlags level)
{
    if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        return LOG_ERR;
    if (level & G_LOG_LEVEL_WARNING)
        return LOG_WARNING;
    if (level & G_LOG_LEVEL_MESSAGE)
        return LOG_NOTICE;
    return (level & G_LOG_LEVEL_DEBUG) != 0 ? LOG_DEBUG : LOG_INFO;
}

/* Values are strings; only so many bytes of one are looked at. */
static gsize
value_length(const GLogField *field)
{
    return strnlen(field->value, CBUS_LOG_VALUE_MAX);
}

static GString *
journal_record(GLogLevelFlags level, const GLogField *fields, gsize n, gint lost)
{
    GString *record = g_string_sized_new(512);

    g_string_append_printf(record, "PRIORITY=%d\n", syslog_priority(level));
    if (log_state.identifier != NULL)
        cbus_log_append_journal(record, "SYSLOG_IDENTIFIER", log_state.identifier,
                                strlen(log_state.identifier));
    if (lost > 0)
        g_string_append_printf(record, "CBUS_LOG_LOST=%d\n", lost);
    for (gsize i = 0; i < n; i++)
        cbus_log_append_journal(record, fields[i].key, fields[i].value, value_length(&fields[i]));
    return record;
}

static GString *
text_line(GLogLevelFlags level, const GLogField *fields, gsize n, gint lost)
{
    GString *line = g_string_sized_new(256);

    if (log_state.identifier != NULL)
        g_string_append_printf(line, "%s: ", log_state.identifier);
    if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        g_string_append(line, "error: ");
    else if (level & G_LOG_LEVEL_WARNING)
        g_string_append(line, "warning: ");
    for (gsize i = 0; i < n; i++) {
        if (strcmp(fields[i].key, "MESSAGE") == 0)
            cbus_log_append_text(line, fields[i].value, value_length(&fields[i]));
    }
    for (gsize i = 0; i < n; i++) {
        if (strcmp(fields[i].key, "MESSAGE") != 0)
            cbus_log_append_text_field(line, fields[i].key, fields[i].value, value_length(&fields[i]));
    }
    if (lost > 0)
        g_string_append_printf(line, " log_lost=%d", lost);
    g_string_append_c(line, '\n');
    return line;
}

static gboolean
deliver(const GString *record)
{
    if (log_state.journal >= 0)
        return cbus_log_send_journal(log_state.journal, CBUS_LOG_JOURNAL, record);
    return cbus_log_send_text(record);
}

static void
write_record(GLogLevelFlags level, const GLogField *fields, gsize n)
{
    gint lost = g_atomic_int_get(&log_state.lost);
    g_autoptr(GString) record = NULL;

    if (log_state.journal >= 0)
        record = journal_record(level, fields, n, lost);
    else
        record = text_line(level, fields, n, lost);
    if (deliver(record))
        g_atomic_int_add(&log_state.lost, -lost);
    else
        g_atomic_int_inc(&log_state.lost);
}

static GLogWriterOutput
write_glib(GLogLevelFlags level, const GLogField *fields, gsize n, gpointer user_data)
{
    GLogField ours[2] = {{.key = "MESSAGE", .value = NULL}, {.key = "GLIB_DOMAIN", .value = NULL}};

    if ((level & log_state.shown) == 0)
        return G_LOG_WRITER_HANDLED;
    for (gsize i = 0; i < n; i++) {
        if (fields[i].length >= 0)
            continue;
        if (strcmp(fields[i].key, "MESSAGE") == 0)
            ours[0].value = fields[i].value;
        else if (strcmp(fields[i].key, "GLIB_DOMAIN") == 0)
            ours[1].value = fields[i].value;
    }
    if (ours[0].value != NULL)
        write_record(level, ours, ours[1].value != NULL ? 2 : 1);
    return G_LOG_WRITER_HANDLED;
}

gboolean
cbus_log_level_parse(const char *text, int *level, GError **error)
{
    guint64 value = 0;

    if (!g_ascii_string_to_unsigned(text, 10, 0, 2, &value, error)) {
        g_prefix_error(error, "log-level: ");
        return FALSE;
    }
    *level = (int)value;
    return TRUE;
}

/* Once, before other threads start. IDENTIFIER is the program's name; LEVEL as LOG_LEVEL, clamped to 0…2. */
void
cbus_log_init(const char *identifier, int level)
{
    g_return_if_fail(log_state.identifier == NULL);
    log_state.identifier = g_strdup(identifier);
    if (level >= 1)
        log_state.shown |= G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO;
    if (level >= 2)
        log_state.shown |= G_LOG_LEVEL_DEBUG;
    log_state.journal = g_log_writer_is_journald(STDERR_FILENO) ? cbus_log_open_journal() : -1;
    g_log_set_writer_func(write_glib, NULL, NULL);
}

/* One event. Any thread; never blocks, never fails: what can not be written is counted. */
void
cbus_log(GLogLevelFlags level, const char *message, ...)
{
    GLogField fields[FIELDS_MAX] = {{.key = "MESSAGE", .value = message}};
    gsize n = 1;
    const char *key;
    va_list args;

    if ((level & log_state.shown) == 0)
        return;
    va_start(args, message);
    while (n < FIELDS_MAX && (key = va_arg(args, const char *)) != NULL) {
        const char *value = va_arg(args, const char *);

        if (value != NULL)
            fields[n++] = (GLogField){.key = key, .value = value};
    }
    va_end(args);
    write_record(level, fields, n);
}
