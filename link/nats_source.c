/* The socket of a nats.c connection in the loop.
 *
 * nats.c hands its socket to an external loop through four callbacks: attach (called on whatever thread runs
 * natsConnection_Connect, here the worker), and read, write and detach (called with the connection's lock
 * held, on whatever thread uses or closes the connection, here the loop). Attach only takes note of the
 * descriptor and sets its options; nothing polls before the loop has taken the connection over and calls
 * cbus_nats_source_start(). Write means "there are bytes in my buffer": the owner defers its write to the end
 * of the turn. When the library removes the read event, it is about to close the descriptor, so polling stops
 * at once. Newer libraries leave the closing to the adapter (from 3.9.3 on) and hold the connection until the
 * adapter says that it is detached (3.11); both are done in detach, the last thing that closing does, without
 * the lock. Which library it is, meson finds out; against an older one there is nothing to do.
 *
 * TLS: nats.c reads a record with a loop around SSL_read that waits, on our thread, for the rest of a record
 * of which only a part has come: measured, half a record stalled the loop for three seconds. So on a TLS
 * connection the record's header is looked at with MSG_PEEK, and the read event is withheld until the record
 * is whole, with SO_RCVLOWAT telling the kernel when to wake us. Whether a connection is TLS is known from
 * the first byte after the hand-over: NATS commands begin with a letter, '+' or '-', TLS records with 20
 * to 24.
 *
 * Trust: the peer is hostile. A record longer than TLS allows is not waited for: the library sees it and
 * fails. A peer that never completes a record is ended by the heartbeat. Fields written by attach are read by
 * the loop only after the worker has handed the connection over (under a lock: nats_dial.c). */
#include "link/nats_source.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define TLS_HEADER     5
#define TLS_RECORD_MAX (TLS_HEADER + 16384 + 2048)
#define DEAD_PEER_MS   15000 /* unacknowledged bytes for so long end the connection */

typedef enum {
    FRAMING_UNKNOWN,
    FRAMING_PLAIN,
    FRAMING_TLS,
} Framing;

struct _CbusNatsSource {
    int fd; /* −1: not attached, or closed by the library */
#ifdef CBUS_NATS_HAS_CLOSE_EVENT
    int closing; /* −1: none; to be closed in detach */
#endif
#ifdef CBUS_NATS_HAS_DETACHED_EVENT
    natsConnection *connection; /* not ours */
#endif
    CbusWatch *polling; /* NULL: stopped */
    const CbusNatsSourceHandler *handler;
    gpointer user_data;
    gboolean awaiting_write;
    Framing framing;
    int low_water;
};

static natsStatus
on_attach(void **user_data, void *loop, natsConnection *connection, natsSock socket)
{
    CbusNatsSource *source = loop;
    int one = 1;
    unsigned int dead = DEAD_PEER_MS;

    source->fd = socket;
#ifdef CBUS_NATS_HAS_DETACHED_EVENT
    source->connection = connection;
#endif
    *user_data = source;
    /* Each is an improvement, none a condition. */
    fcntl(socket, F_SETFD, FD_CLOEXEC);
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof dead);
    return NATS_OK;
}

/* The library closes it right after, or has us do it in detach. */
static void
forget_descriptor(CbusNatsSource *source)
{
    cbus_nats_source_stop(source);
#ifdef CBUS_NATS_HAS_CLOSE_EVENT
    if (source->fd >= 0)
        source->closing = source->fd;
#endif
    source->fd = -1;
}

static natsStatus
on_read_event(void *user_data, bool add)
{
    if (!add)
        forget_descriptor(user_data);
    return NATS_OK;
}

static natsStatus
on_write_event(void *user_data, bool add)
{
    CbusNatsSource *source = user_data;

    if (add && source->polling != NULL)
        source->handler->want_write(source->user_data);
    return NATS_OK;
}

static natsStatus
on_detach(void *user_data)
{
    CbusNatsSource *source = user_data;

    forget_descriptor(source);
#ifdef CBUS_NATS_HAS_CLOSE_EVENT
    if (source->closing >= 0)
        natsConnection_ProcessCloseEvent(&source->closing);
    source->closing = -1;
#endif
#ifdef CBUS_NATS_HAS_DETACHED_EVENT
    natsConnection_ProcessDetachedEvent(source->connection);
#endif
    return NATS_OK;
}

CbusNatsSource *
cbus_nats_source_new(void)
{
    CbusNatsSource *source = g_new0(CbusNatsSource, 1);

    source->fd = -1;
#ifdef CBUS_NATS_HAS_CLOSE_EVENT
    source->closing = -1;
#endif
    source->low_water = 1;
    return source;
}

natsStatus
cbus_nats_source_install(CbusNatsSource *source, natsOptions *options)
{
    return natsOptions_SetEventLoop(options, source, on_attach, on_read_event, on_write_event, on_detach);
}

void
cbus_nats_source_free(CbusNatsSource *source)
{
    if (source == NULL)
        return;
    cbus_nats_source_stop(source);
    g_free(source);
}

static void
set_low_water(CbusNatsSource *source, int bytes)
{
    if (bytes == source->low_water)
        return;
    source->low_water = bytes;
    setsockopt(source->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

/* TRUE also at the end of the stream and for errors: those the library must see. */
static gboolean
has_whole_record(CbusNatsSource *source)
{
    guint8 header[TLS_HEADER];
    gssize n = recv(source->fd, header, sizeof header, MSG_PEEK | MSG_DONTWAIT);
    int available = 0;
    int record;

    if (n < 0)
        return errno != EAGAIN;
    if (n == 0)
        return TRUE;
    if (source->framing == FRAMING_UNKNOWN)
        source->framing = header[0] >= 20 && header[0] <= 24 ? FRAMING_TLS : FRAMING_PLAIN;
    if (source->framing == FRAMING_PLAIN)
        return TRUE;
    record = n < TLS_HEADER ? TLS_HEADER : TLS_HEADER + (header[3] << 8 | header[4]);
    if (record > TLS_RECORD_MAX || ioctl(source->fd, FIONREAD, &available) < 0 ||
        (n == TLS_HEADER && available >= record)) {
        set_low_water(source, 1);
        return TRUE;
    }
    set_low_water(source, record);
    return FALSE;
}

gboolean
cbus_nats_source_has_record(CbusNatsSource *source)
{
    return source->polling != NULL && source->framing == FRAMING_TLS && has_whole_record(source);
}

static void
on_events(guint32 events, gpointer user_data)
{
    CbusNatsSource *source = user_data;
    gboolean ended = (events & (EPOLLHUP | EPOLLERR)) != 0;

    if ((events & EPOLLOUT) != 0)
        source->handler->writable(source->user_data);
    /* The source may be stopped by now, but is freed only from an idle callback. */
    if (source->polling != NULL && (ended || (events & EPOLLIN) != 0) &&
        (ended || source->framing == FRAMING_PLAIN || has_whole_record(source)))
        source->handler->readable(source->user_data);
}

gboolean
cbus_nats_source_start(CbusNatsSource *source, CbusPoller *poller, const CbusNatsSourceHandler *handler,
                       gpointer user_data, GError **error)
{
    source->handler = handler;
    source->user_data = user_data;
    source->awaiting_write = FALSE;
    source->polling = cbus_poller_add(poller, source->fd, EPOLLIN, on_events, source, error);
    return source->polling != NULL;
}

void
cbus_nats_source_stop(CbusNatsSource *source)
{
    g_clear_pointer(&source->polling, cbus_watch_remove);
}

void
cbus_nats_source_await_write(CbusNatsSource *source, gboolean await)
{
    if (source->polling == NULL || await == source->awaiting_write)
        return;
    source->awaiting_write = await;
    cbus_watch_modify(source->polling, await ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void
cbus_nats_source_shutdown(CbusNatsSource *source)
{
    if (source->fd >= 0)
        shutdown(source->fd, SHUT_RDWR);
}

void
cbus_nats_source_linger(CbusNatsSource *source)
{
    struct linger off = {.l_onoff = 0};

    if (source->fd >= 0)
        setsockopt(source->fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
}

gboolean
cbus_nats_source_wait_write(CbusNatsSource *source, gint64 deadline_us)
{
    struct pollfd room = {.fd = source->fd, .events = POLLOUT};
    gint64 left = deadline_us - g_get_monotonic_time();

    return source->fd >= 0 && left > 0 && poll(&room, 1, (int)(left / 1000) + 1) > 0;
}
