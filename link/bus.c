/* A raw D-Bus connection on the loop.
 *
 * Reading: the kernel's bytes go into one buffer, and each whole message is handed over where it lies. The
 * buffer is the poller's, which all connections share and which is always warm; a connection has one of its
 * own only while a part of a message waits for its rest, so a thousand idle portals cost no buffer at all. A
 * message larger than the shared buffer makes its own grow by doubling up to exactly its framed size: a peer
 * that claims 128 MiB makes us hold at most twice of what it really sent. At most READ_A_TURN bytes a
 * wake-up: the poller comes back, and others get their turn.
 *
 * Writing: what is sent gathers in an outbox and leaves with one send at the end of the turn, behind what the
 * authentication has to say; EPOLLOUT is watched only while the kernel would not take it all.
 *
 * Ends: a connection ends once, with one reason, and never from inside a call of the user: cbus_bus_send over
 * quota notes the fault, and the end of the turn reports it. Freeing is allowed in every handler: memory goes
 * when the outermost one has returned (depth).
 *
 * Trust: the other end is hostile. Sizes are checked by cbus_message_frame before anything grows, the
 * authentication has a deadline, and descriptors that someone attaches are dropped by the kernel because we
 * never receive them. One thread: the loop's. */
#include "link/bus.h"
#include "link/outbox.h"
#include "link/sasl.h"
#include "link/sasl_server.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_A_TURN   (1024 * 1024)
#define WRITE_A_TURN  (1024 * 1024)
#define AUTH_SECONDS  10
#define SERVE_SECONDS 5

struct _CbusBus {
    CbusLoop *loop;
    int fd;
    CbusWatch *watch;
    gsize limit, quota;
    CbusBusHandler handler;
    gpointer user_data;

    guint8 *in; /* NULL when empty */
    gsize in_len, in_capacity;
    gboolean in_borrowed; /* `in` is the poller's, while reading */
    gsize in_wanted;      /* framed size of the message that begins the buffer, 0 when unknown */

    CbusSaslServer *server; /* while a client authenticates */
    CbusSaslStep sasl;      /* while we do */
    guint32 peer;
    CbusOutbox out;
    CbusDeferred flush, resume;
    GSource *deadline; /* of the authentication */
    GError *fault;     /* to be reported at the end of the turn */

    guint depth;
    gboolean authenticated, reading, blocked, closed, freed;
};

static void
disconnect(CbusBus *bus)
{
    bus->closed = TRUE;
    g_clear_pointer(&bus->watch, cbus_watch_remove);
    if (bus->fd >= 0)
        close(bus->fd);
    bus->fd = -1;
    cbus_turn_cancel(&bus->flush);
    cbus_turn_cancel(&bus->resume);
    if (bus->deadline != NULL)
        g_source_destroy(bus->deadline);
    g_clear_pointer(&bus->deadline, g_source_unref);
}

static void
destroy(CbusBus *bus)
{
    g_free(bus->in);
    g_clear_pointer(&bus->server, cbus_sasl_server_free);
    cbus_outbox_clear(&bus->out);
    g_clear_error(&bus->fault);
    g_free(bus);
}

static void
enter(CbusBus *bus)
{
    bus->depth++;
}

static void
leave(CbusBus *bus)
{
    if (--bus->depth == 0 && bus->freed)
        destroy(bus);
}

/* REASON: (transfer full). */
static void
fail(CbusBus *bus, GError *reason)
{
    g_autoptr(GError) owned = reason;

    if (bus->closed)
        return;
    disconnect(bus);
    enter(bus);
    bus->handler.closed(bus, owned, bus->user_data);
    leave(bus);
}

static void
update_events(CbusBus *bus)
{
    if (!bus->closed)
        cbus_watch_modify(bus->watch, (bus->reading ? EPOLLIN : 0) | (bus->blocked ? EPOLLOUT : 0));
}

static void
schedule(CbusBus *bus)
{
    if (!bus->closed && (!bus->blocked || bus->fault != NULL))
        cbus_turn_defer(bus->loop->turn, CBUS_TURN_PACK, &bus->flush);
}

/* Takes what the other end said while authenticating. Returns the bytes used. */
static gsize
authenticate(CbusBus *bus, const guint8 *data, gsize len)
{
    GError *error = NULL;
    gboolean done = FALSE;
    gssize used;

    if (bus->server != NULL) {
        used = cbus_sasl_server_receive(bus->server, data, len, cbus_outbox_bytes(&bus->out), &done, &error);
    } else {
        used = cbus_sasl_receive(&bus->sasl, data, len, &error);
        done = bus->sasl == CBUS_SASL_DONE;
    }
    if (used < 0) {
        fail(bus, error);
        return 0;
    }
    schedule(bus);
    if (done) {
        bus->authenticated = TRUE;
        g_clear_pointer(&bus->server, cbus_sasl_server_free);
        g_source_destroy(bus->deadline);
        g_clear_pointer(&bus->deadline, g_source_unref);
        bus->handler.ready(bus, bus->user_data);
    }
    return used;
}

/* Hands over the message at DATA. Returns its size, or 0 when it is not whole yet or the connection ended. */
static gsize
deliver_one(CbusBus *bus, const guint8 *data, gsize len)
{
    g_autoptr(GError) error = NULL;
    gssize size = cbus_message_frame(data, len, bus->limit, &error);

    if (size < 0) {
        fail(bus, g_error_new(CBUS_BUS_ERROR, CBUS_BUS_ERROR_INVALID,
                              "the other end sent no D-Bus message: %s", error->message));
        return 0;
    }
    if ((gsize)size > len) {
        bus->in_wanted = size;
        return 0;
    }
    if (size > 0) {
        cbus_turn_count(bus->loop->turn);
        bus->handler.message(bus, data, size, bus->user_data);
    }
    return size;
}

static void
deliver(CbusBus *bus)
{
    gsize offset = 0;

    bus->in_wanted = 0;
    while (!bus->closed && bus->reading && offset < bus->in_len) {
        const guint8 *data = bus->in + offset;
        gsize len = bus->in_len - offset;
        gsize used = bus->authenticated ? deliver_one(bus, data, len) : authenticate(bus, data, len);

        if (used == 0)
            break;
        offset += used;
    }
    if (bus->closed || offset == 0)
        return;
    bus->in_len -= offset;
    if (bus->in_len > 0)
        memmove(bus->in, bus->in + offset, bus->in_len);
}

/* Reads go to the shared buffer, behind what waits for its rest, unless that needs a larger one. */
static void
borrow_buffer(CbusBus *bus)
{
    guint8 *shared = cbus_poller_buffer(bus->loop->poller);

    if (MAX(bus->in_len, bus->in_wanted) > CBUS_POLLER_BUFFER)
        return;
    if (bus->in_len > 0)
        memcpy(shared, bus->in, bus->in_len);
    g_free(bus->in);
    bus->in = shared;
    bus->in_capacity = CBUS_POLLER_BUFFER;
    bus->in_borrowed = TRUE;
}

/* What is left is ours from here on: as large as it is, and gone when it is nothing. */
static void
own_buffer(CbusBus *bus)
{
    if (bus->in_borrowed)
        bus->in = g_memdup2(bus->in, bus->in_len);
    else if (MAX(bus->in_len, bus->in_wanted) <= CBUS_POLLER_BUFFER)
        bus->in = g_realloc(bus->in, bus->in_len);
    else
        return;
    bus->in_capacity = bus->in_len;
    bus->in_borrowed = FALSE;
}

static void
make_room(CbusBus *bus)
{
    if (bus->in_len < bus->in_capacity)
        return;
    gsize capacity = MAX(MIN(bus->in_wanted, 2 * bus->in_capacity), bus->in_len + 1);
    if (bus->in_borrowed)
        own_buffer(bus);
    bus->in = g_realloc(bus->in, capacity);
    bus->in_capacity = capacity;
}

static GError *
closed_by_peer(CbusBus *bus, int saved)
{
    if (saved != 0)
        return g_error_new(CBUS_BUS_ERROR, CBUS_BUS_ERROR_CLOSED, "the connection failed: %s",
                           g_strerror(saved));
    if (!bus->authenticated && bus->server == NULL)
        return g_error_new_literal(CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH,
                                   "the bus closed the connection during authentication");
    return g_error_new(CBUS_BUS_ERROR, CBUS_BUS_ERROR_CLOSED, "the other end closed the connection%s",
                       bus->in_len > 0 ? " in the middle of a message" : "");
}

static void
read_into(CbusBus *bus)
{
    gsize budget = READ_A_TURN;

    while (budget > 0 && !bus->closed && bus->reading) {
        gsize room;
        gssize n;

        make_room(bus);
        room = MIN(bus->in_capacity - bus->in_len, budget);
        n = recv(bus->fd, bus->in + bus->in_len, room, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            fail(bus, closed_by_peer(bus, n < 0 ? errno : 0));
            return;
        }
        bus->in_len += n;
        budget -= n;
        deliver(bus);
        if ((gsize)n < room)
            break;
    }
}

static void
read_some(CbusBus *bus)
{
    deliver(bus); /* what was left when the user stopped reading */
    borrow_buffer(bus);
    read_into(bus);
    own_buffer(bus);
}

static void
write_some(CbusBus *bus)
{
    if (!cbus_outbox_write(&bus->out, bus->fd, WRITE_A_TURN)) {
        fail(bus, closed_by_peer(bus, errno));
        return;
    }
    bus->blocked = cbus_outbox_pending(&bus->out) > 0;
    update_events(bus);
}

static void
on_flush(gpointer user_data)
{
    CbusBus *bus = user_data;

    enter(bus);
    if (bus->fault != NULL)
        fail(bus, g_steal_pointer(&bus->fault));
    else
        write_some(bus);
    leave(bus);
}

static void
on_resume(gpointer user_data)
{
    CbusBus *bus = user_data;

    enter(bus);
    deliver(bus);
    own_buffer(bus);
    leave(bus);
}

static void
on_events(guint32 events, gpointer user_data)
{
    CbusBus *bus = user_data;

    enter(bus);
    if (bus->reading && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        read_some(bus);
    if (!bus->closed && (events & (EPOLLOUT | EPOLLERR)) != 0)
        cbus_turn_defer(bus->loop->turn, CBUS_TURN_PACK, &bus->flush);
    leave(bus);
}

static gboolean
on_deadline(gpointer user_data)
{
    CbusBus *bus = user_data;

    enter(bus);
    fail(bus, g_error_new(CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH,
                          "the other end did not finish the authentication within %d s",
                          bus->server != NULL ? SERVE_SECONDS : AUTH_SECONDS));
    leave(bus);
    return G_SOURCE_REMOVE;
}

static void
start_deadline(CbusBus *bus, guint seconds)
{
    bus->deadline = g_timeout_source_new_seconds(seconds);
    g_source_set_callback(bus->deadline, on_deadline, bus, NULL);
    g_source_attach(bus->deadline, bus->loop->context);
}

static void
start_authentication(CbusBus *bus, guint32 uid, gboolean descriptors)
{
    start_deadline(bus, AUTH_SECONDS);
    bus->sasl = cbus_sasl_begin(uid, descriptors, cbus_outbox_bytes(&bus->out));
    schedule(bus);
}

static gboolean
start_serving(CbusBus *bus, guint32 owner, GError **error)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    if (getsockopt(bus->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH, "who connected can not be told: %s",
                    g_strerror(errno));
        return FALSE;
    }
    bus->peer = peer.uid;
    bus->server = cbus_sasl_server_new(peer.uid, owner);
    start_deadline(bus, SERVE_SECONDS);
    return TRUE;
}

/* See the header. On failure FD is closed too. */
CbusBus *
cbus_bus_new(CbusLoop *loop, int fd, CbusBusMode mode, guint32 uid, gsize limit, gsize quota,
             const CbusBusHandler *handler, gpointer user_data, GError **error)
{
    CbusBus *bus = g_new0(CbusBus, 1);
    int flags = fcntl(fd, F_GETFL);

    bus->loop = loop;
    bus->fd = fd;
    bus->limit = limit;
    bus->quota = quota;
    bus->handler = *handler;
    bus->user_data = user_data;
    cbus_outbox_init(&bus->out, cbus_poller_spare(loop->poller));
    bus->flush = (CbusDeferred){.func = on_flush, .user_data = bus};
    bus->resume = (CbusDeferred){.func = on_resume, .user_data = bus};
    bus->authenticated = mode == CBUS_BUS_NO_AUTH;
    bus->reading = TRUE;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_CLOSED, "not a usable socket: %s",
                    g_strerror(errno));
    else
        bus->watch = cbus_poller_add(loop->poller, fd, EPOLLIN, on_events, bus, error);
    if (bus->watch == NULL || (mode == CBUS_BUS_SERVER && !start_serving(bus, uid, error))) {
        cbus_bus_free(bus);
        return NULL;
    }
    if (mode == CBUS_BUS_CLIENT || mode == CBUS_BUS_CLIENT_FDS)
        start_authentication(bus, uid, mode == CBUS_BUS_CLIENT_FDS);
    return bus;
}

void
cbus_bus_free(CbusBus *bus)
{
    if (bus == NULL)
        return;
    disconnect(bus);
    bus->freed = TRUE;
    if (bus->depth == 0)
        destroy(bus);
}

void
cbus_bus_finish(CbusBus *bus)
{
    /* A socket that fails now is as closed as it would be anyway. */
    if (!bus->closed)
        (void)!cbus_outbox_write(&bus->out, bus->fd, G_MAXSIZE);
    cbus_bus_free(bus);
}

static void
check_quota(CbusBus *bus, gsize pending)
{
    if (pending > bus->quota && bus->fault == NULL && !bus->closed)
        bus->fault = g_error_new(CBUS_BUS_ERROR, CBUS_BUS_ERROR_LIMIT,
                                 "the other end does not read: %zu bytes wait for it, %zu are allowed",
                                 pending, bus->quota);
}

void
cbus_bus_send(CbusBus *bus, const guint8 *message, gsize size)
{
    if (bus->closed || bus->fault != NULL)
        return;
    check_quota(bus, cbus_bus_pending(bus) + size);
    if (bus->fault == NULL)
        g_byte_array_append(cbus_outbox_bytes(&bus->out), message, size);
    schedule(bus);
}

GByteArray *
cbus_bus_begin(CbusBus *bus)
{
    return cbus_outbox_bytes(&bus->out);
}

void
cbus_bus_end(CbusBus *bus)
{
    check_quota(bus, cbus_bus_pending(bus));
    if (bus->closed || bus->fault != NULL)
        cbus_outbox_drop(&bus->out);
    schedule(bus);
}

guint32
cbus_bus_peer(const CbusBus *bus)
{
    return bus->peer;
}

gsize
cbus_bus_pending(const CbusBus *bus)
{
    return cbus_outbox_pending(&bus->out);
}

void
cbus_bus_set_reading(CbusBus *bus, gboolean reading)
{
    if (bus->closed || bus->reading == reading)
        return;
    bus->reading = reading;
    update_events(bus);
    if (reading && bus->in_len > 0)
        cbus_turn_defer(bus->loop->turn, CBUS_TURN_PACK, &bus->resume);
}
