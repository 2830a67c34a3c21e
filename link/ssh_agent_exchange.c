/* A question to a running ssh-agent.
 *
 * One connection a question: an ssh-agent takes them in microseconds, a signature costs it 0.7 ms, and a
 * connection that is not kept needs no care when the agent is restarted.
 *
 * Promise: bounded memory (an answer of at most CBUS_SSH_AGENT_ANSWER_MAX, whose room grows with what arrives
 * and not with what is announced), no waiting outside of cbus_ssh_agent_exchange_run(), and errors that say
 * what to do. The socket is non-blocking from the start: connecting to a Unix socket then never waits, and an
 * agent that does not take connections (stopped, in a debugger) is "busy" and not a process that hangs.
 *
 * Trust: whoever listens at the socket; the answer's content is read and checked in wire/ssh_agent.c.
 *
 * Threads: an exchange belongs to one thread, whichever. */
#include "link/ssh_agent_exchange.h"
#include "link/stop.h"

#include "wire/bytes.h"
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEAD  4
#define CHUNK 4096

struct _CbusSshAgentExchange {
    int fd;
    GByteArray *request;
    gsize sent;
    GByteArray *answer; /* its length in front */
};

static int
fail(GError **error, int code, const char *what)
{
    g_set_error(error, CBUS_SSH_AGENT_ERROR, code, "%s", what);
    return -1;
}

static gboolean
connect_to(int fd, const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path)
        return fail(error, CBUS_SSH_AGENT_ERROR_AWAY, "the path of its socket is too long") == 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return TRUE;
    if (errno == EAGAIN || errno == EINTR)
        return fail(error, CBUS_SSH_AGENT_ERROR_TIMEOUT,
                    "it takes no connections: it is busy, or was stopped") == 0;
    g_set_error(error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_AWAY, "nobody answers there: %s",
                g_strerror(errno));
    return FALSE;
}

CbusSshAgentExchange *
cbus_ssh_agent_exchange_new(const char *socket_path, GByteArray *request, GError **error)
{
    g_autoptr(CbusSshAgentExchange) self = g_new0(CbusSshAgentExchange, 1);

    self->request = request;
    self->answer = g_byte_array_new();
    self->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (self->fd < 0) {
        g_set_error(error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_AWAY, "socket: %s", g_strerror(errno));
        return NULL;
    }
    return connect_to(self->fd, socket_path, error) ? g_steal_pointer(&self) : NULL;
}

void
cbus_ssh_agent_exchange_free(CbusSshAgentExchange *self)
{
    if (self == NULL)
        return;
    if (self->fd >= 0)
        close(self->fd);
    g_byte_array_unref(self->request);
    g_byte_array_unref(self->answer);
    g_free(self);
}

int
cbus_ssh_agent_exchange_fd(const CbusSshAgentExchange *self)
{
    return self->fd;
}

/* Whether the last call on the socket only has to wait; else ERROR is set. */
static gboolean
may_wait(GError **error)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return TRUE;
    g_set_error(error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_AWAY, "the connection broke: %s",
                g_strerror(errno));
    return FALSE;
}

/* How much of the answer is still to come: at first its length. −1 with ERROR if that can not be. */
static gssize
missing(const CbusSshAgentExchange *self, GError **error)
{
    if (self->answer->len < HEAD)
        return HEAD - (gssize)self->answer->len;
    guint32 len = cbus_be32(self->answer->data);
    if (len == 0 || len > CBUS_SSH_AGENT_ANSWER_MAX)
        return fail(error, CBUS_SSH_AGENT_ERROR_PROTOCOL, "what answers makes no sense: is it an ssh-agent?");
    return HEAD + (gssize)len - (gssize)self->answer->len;
}

static int
take_answer(CbusSshAgentExchange *self, GError **error)
{
    guint8 chunk[CHUNK];
    gssize wanted, got;

    while ((wanted = missing(self, error)) > 0) {
        got = recv(self->fd, chunk, MIN((gsize)wanted, sizeof chunk), 0);
        if (got == 0)
            return fail(error, CBUS_SSH_AGENT_ERROR_AWAY, "it hung up without an answer");
        if (got < 0)
            return may_wait(error) ? EPOLLIN : -1;
        g_byte_array_append(self->answer, chunk, (guint)got);
    }
    return (int)wanted;
}

int
cbus_ssh_agent_exchange_step(CbusSshAgentExchange *self, GError **error)
{
    while (self->sent < self->request->len) {
        gssize sent =
            send(self->fd, self->request->data + self->sent, self->request->len - self->sent, MSG_NOSIGNAL);
        if (sent < 0)
            return may_wait(error) ? EPOLLOUT : -1;
        self->sent += (gsize)sent;
    }
    return take_answer(self, error);
}

gboolean
cbus_ssh_agent_exchange_run(CbusSshAgentExchange *self, guint timeout_ms, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * G_TIME_SPAN_MILLISECOND;
    int events;

    while ((events = cbus_ssh_agent_exchange_step(self, error)) > 0) {
        gint64 left = (deadline - g_get_monotonic_time()) / G_TIME_SPAN_MILLISECOND;

        if (left <= 0 || !cbus_stop_or_ready(self->fd, events == EPOLLIN ? POLLIN : POLLOUT, left))
            return fail(error, CBUS_SSH_AGENT_ERROR_TIMEOUT, "it did not answer in time") == 0;
    }
    return events == 0;
}

const guint8 *
cbus_ssh_agent_exchange_answer(const CbusSshAgentExchange *self, gsize *len)
{
    *len = self->answer->len - HEAD;
    return self->answer->data + HEAD;
}
