/* The journal's native protocol and lines of text.
 *
 * A journal record is one datagram of NAME=VALUE lines; a value that holds a newline is written as NAME, a
 * newline, its length in 64 bits little-endian, its bytes and a newline (systemd, "Native Journal Protocol").
 * The socket is not connected: each record names the journal's address, which costs a path lookup and lets
 * the journal's socket be made anew without our noticing. Sending never blocks; a journal that does not read
 * fills its socket's queue, and that is an error for the caller to count.
 *
 * A line of text goes out in one write after a poll said that there is room. A pipe that polls writable takes
 * PIPE_BUF bytes without blocking; terminals and files take any.
 *
 * Trust: values may hold text of a remote machine, and are bounded and escaped here. */
#include "link/log_form.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static const int SEND_QUEUE = 8 * 1024 * 1024; /* bytes */

void
cbus_log_append_journal(GString *out, const char *name, const char *value, gsize len)
{
    len = MIN(len, CBUS_LOG_VALUE_MAX);
    g_string_append(out, name);
    if (len == 0 || memchr(value, '\n', len) == NULL) {
        g_string_append_c(out, '=');
    } else {
        guint64 framed = GUINT64_TO_LE(len);

        g_string_append_c(out, '\n');
        g_string_append_len(out, (const char *)&framed, sizeof framed);
    }
    g_string_append_len(out, value, len);
    g_string_append_c(out, '\n');
}

void
cbus_log_append_text(GString *out, const char *value, gsize len)
{
    g_autofree char *valid = g_utf8_make_valid(value != NULL ? value : "", MIN(len, CBUS_LOG_VALUE_MAX));

    for (const char *p = valid; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (c == '\t' || !g_unichar_iscntrl(c))
            g_string_append_unichar(out, c);
        else
            g_string_append_printf(out, "\\x%02x", c);
    }
}

void
cbus_log_append_text_field(GString *out, const char *name, const char *value, gsize len)
{
    g_autofree char *lower =
        g_ascii_strdown(g_str_has_prefix(name, "CBUS_") ? name + strlen("CBUS_") : name, -1);

    g_string_append_printf(out, " %s=", lower);
    cbus_log_append_text(out, value, len);
}

int
cbus_log_open_journal(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    /* FORCE goes over the administrator's bound, and is root's alone. */
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &SEND_QUEUE, sizeof SEND_QUEUE) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &SEND_QUEUE, sizeof SEND_QUEUE);
    return fd;
}

gboolean
cbus_log_send_journal(int fd, const char *path, const GString *record)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return FALSE;
    }
    return sendto(fd, record->str, record->len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address,
                  sizeof address) >= 0;
}

gboolean
cbus_log_send_text(const GString *line)
{
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    const struct iovec parts[] = {{line->str, MIN(line->len, LINE_MAX_BYTES) - 1}, {(char *)"\n", 1}};
    gssize n;

    if (poll(&room, 1, 0) <= 0 || (room.revents & POLLOUT) == 0) {
        errno = EAGAIN;
        return FALSE;
    }
    do
        n = writev(STDERR_FILENO, parts, G_N_ELEMENTS(parts));
    while (n < 0 && errno == EINTR);
    return n >= 0;
}
