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
 * them and no line can be forged. Each value is cut at VALUE_MAX bytes.
 *
 * GLib's and nats.c's own g_log messages pass through the same writer. Any thread: what is shared is set once
 * by cbus_log_init() before others start, except two atomic counters. */
#include "link/log.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#define VALUE_MAX  4096
#define FIELDS_MAX 16
#define JOURNAL    "/run/systemd/journal/socket"

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

static void
append_journal_field(GString *out, const char *name, const char *value)
{
    gsize len = strnlen(value, VALUE_MAX);

    g_string_append(out, name);
    if (memchr(value, '\n', len) == NULL) {
        g_string_append_c(out, '=');
    } else {
        guint64 framed = GUINT64_TO_LE(len);

        g_string_append_c(out, '\n');
        g_string_append_len(out, (const char *)&framed, sizeof framed);
    }
    g_string_append_len(out, value, len);
    g_string_append_c(out, '\n');
}

static void
append_text(GString *out, const char *value)
{
    g_autofree char *cut = g_strndup(value, VALUE_MAX);
    g_autofree char *valid = g_utf8_make_valid(cut, -1);

    for (const char *p = valid; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (c == '\t' || !g_unichar_iscntrl(c))
            g_string_append_unichar(out, c);
        else
            g_string_append_printf(out, "\\x%02x", c);
    }
}

static void
append_text_field(GString *out, const char *name, const char *value)
{
    g_autofree char *lower =
        g_ascii_strdown(g_str_has_prefix(name, "CBUS_") ? name + strlen("CBUS_") : name, -1);

    g_string_append_printf(out, " %s=", lower);
    append_text(out, value);
}

static GString *
journal_record(GLogLevelFlags level, const GLogField *fields, gsize n, gint lost)
{
    GString *record = g_string_sized_new(512);

    g_string_append_printf(record, "PRIORITY=%d\n", syslog_priority(level));
    if (log_state.identifier != NULL)
        append_journal_field(record, "SYSLOG_IDENTIFIER", log_state.identifier);
    if (lost > 0)
        g_string_append_printf(record, "CBUS_LOG_LOST=%d\n", lost);
    for (gsize i = 0; i < n; i++)
        append_journal_field(record, fields[i].key, fields[i].value);
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
            append_text(line, fields[i].value);
    }
    for (gsize i = 0; i < n; i++) {
        if (strcmp(fields[i].key, "MESSAGE") != 0)
            append_text_field(line, fields[i].key, fields[i].value);
    }
    if (lost > 0)
        g_string_append_printf(line, " log_lost=%d", lost);
    g_string_append_c(line, '\n');
    return line;
}

static gboolean
deliver(const GString *record)
{
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    gssize n;

    if (log_state.journal >= 0)
        return send(log_state.journal, record->str, record->len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
    /* A pipe that polls writable takes PIPE_BUF bytes without blocking; terminals and files take any. */
    if (poll(&room, 1, 0) <= 0 || (room.revents & POLLOUT) == 0)
        return FALSE;
    do
        n = write(STDERR_FILENO, record->str, MIN(record->len, 4096));
    while (n < 0 && errno == EINTR);
    return n >= 0;
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

static int
connect_journal(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL};
    int fd;

    if (!g_log_writer_is_journald(STDERR_FILENO))
        return -1;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
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
    log_state.journal = connect_journal();
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
