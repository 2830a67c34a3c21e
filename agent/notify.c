/* The service manager's notification socket: one datagram of text to the address in $NOTIFY_SOCKET, where a
 * leading '@' means an abstract name. The protocol is a stable interface of systemd, so that a library is not
 * worth its place in the memory of a process that has to stay small.
 *
 * The message is a courtesy: without a manager, or when its socket is full, nothing happens. Any thread. */
#include "agent/notify.h"
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void
cbus_notify(const char *state)
{
    const char *name = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    gsize len;
    int fd;

    if (name == NULL || (name[0] != '/' && name[0] != '@'))
        return;
    len = strlen(name);
    if (len >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, name, len);
    if (address.sun_path[0] == '@')
        address.sun_path[0] = '\0';
    if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return;
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}
