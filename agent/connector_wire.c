/* Datagrams between the agent's processes.
 *
 * One datagram is one request or one answer: SOCK_SEQPACKET keeps the borders, so that there is no framing to
 * get wrong, and a process that dies is an end of file on the other side. Each begins with a type and an id;
 * how long the payload of a type must be is checked by who serves it.
 *
 * Trust: the network process speaks with the whole world and may be taken over, so that the connector takes
 * these bytes as hostile. Hence a fixed maximum, truncation is an error, and descriptors are accepted only
 * where one can arrive: room for one is given, the kernel closes what does not fit, and MSG_CTRUNC says so.
 *
 * No state, no allocation but for errors; any thread. A socket may be blocking or not: the connector's and
 * the children's are blocking, since each has one counterpart and nothing to do while that one does not
 * read; the network process's are not, since its loop must never wait. */
#include "agent/connector_wire.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

G_DEFINE_QUARK(cbus_datagram_error_quark, cbus_datagram_error)

typedef struct {
    guint32 type, id;
} Head;

gboolean
cbus_datagram_pair(int pair[2], GError **error)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0)
        return TRUE;
    g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO, "socketpair: %s", g_strerror(errno));
    return FALSE;
}

static int
failed(const char *what, GError **error)
{
    int code = errno == EPIPE || errno == ECONNRESET ? CBUS_DATAGRAM_ERROR_CLOSED : CBUS_DATAGRAM_ERROR_IO;

    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return 0;
    g_set_error(error, CBUS_DATAGRAM_ERROR, code, "%s: %s", what, g_strerror(errno));
    return -1;
}

int
cbus_datagram_send(int fd, CbusDatagramType type, guint32 id, const void *payload, gsize len, int passed,
                   GError **error)
{
    Head head = {type, id};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)payload, len}};
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = len > 0 ? 2 : 1};
    ssize_t sent;

    g_return_val_if_fail(len <= CBUS_DATAGRAM_MAX, -1);
    if (passed >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
        struct cmsghdr *head_of_fd = CMSG_FIRSTHDR(&message);
        head_of_fd->cmsg_level = SOL_SOCKET;
        head_of_fd->cmsg_type = SCM_RIGHTS;
        head_of_fd->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head_of_fd), &passed, sizeof passed);
    }
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent >= 0 ? 1 : failed("sendmsg", error);
}

int
cbus_datagram_send_failed(int fd, guint32 id, const char *reason, GError **error)
{
    gsize len = MIN(strlen(reason), CBUS_REASON_MAX);

    return cbus_datagram_send(fd, CBUS_DATAGRAM_FAILED, id, reason, len, -1, error);
}

/* The descriptor that came with MESSAGE, or −1. */
static int
take_descriptor(struct msghdr *message)
{
    int fd = -1;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
            memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

int
cbus_datagram_receive(int fd, CbusDatagram *out, int flags, GError **error)
{
    Head head;
    struct iovec parts[2] = {{&head, sizeof head}, {out->payload, sizeof out->payload}};
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    ssize_t got;
    int passed;

    do
        got = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return failed("recvmsg", error);
    passed = take_descriptor(&message);
    if (got == 0 && passed < 0) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_CLOSED, "the other process is gone");
        return -1;
    }
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || (gsize)got < sizeof head) {
        if (passed >= 0)
            close(passed);
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_INVALID, "a datagram of a wrong size");
        return -1;
    }
    out->type = head.type;
    out->id = head.id;
    out->len = (gsize)got - sizeof head;
    out->fd = passed;
    return 1;
}

char *
cbus_datagram_reason(const CbusDatagram *datagram)
{
    return g_utf8_make_valid((const char *)datagram->payload, (gssize)MIN(datagram->len, CBUS_REASON_MAX));
}
