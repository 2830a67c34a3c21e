/* The end of the front where GDBus sits.
 *
 * GDBus believes that it talks to the session bus. It is given one end of a socketpair as a stream that is
 * authenticated already (no AUTHENTICATION flag), and says Hello by itself (MESSAGE_BUS_CONNECTION), from a
 * worker thread of its own that blocks for the answer: hence the asynchronous constructor. What comes out
 * here is trusted (it is our process) yet framed and viewed as any message, since the front reads its type.
 *
 * GDBus reads its socket as fast as it can and queues without bound, so the bound is kept here: only so many
 * calls may be unanswered, of 64 KiB each. Larger ones (Cluster's Invoke has arguments and a list of
 * machines) are taken only while few are, whatever their size, so that large ones are few. It closes the
 * connection
 * when it can not decode a message; callers therefore check bodies before they hand a call over.
 *
 * Fences: an answer that GDBus has computed travels through its worker thread and the socketpair, while our
 * own signals are written at once. Without care the answer to a GetAll could arrive after a
 * PropertiesChanged that is newer than it, and undo it in the client's cache. A fence is a signal sent
 * through GDBus's own queue: when it comes out here, every answer computed before it has come out, too. It
 * never reaches the bus.
 *
 * Loop thread only; GDBus's worker touches nothing but its end of the socketpair. */
#include "proxy/front_gdbus.h"

#include <gio/gunixconnection.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALL_LIMIT      (64 * 1024) /* bytes of one call to our own objects */
#define CALLS_LIMIT     1024        /* unanswered */
#define LARGE_LIMIT     (4 * 1024 * 1024)
#define LARGE_CALLS     16 /* unanswered, above which no large call is taken */
#define QUOTA           (2 * (gsize)CALL_LIMIT * CALLS_LIMIT)
#define FENCE_PATH      "/ie/bmcgee/CBus"
#define FENCE_INTERFACE "ie.bmcgee.CBus1.Fence"

/* Outlives us while the constructor's thread runs. */
typedef struct {
    CbusFrontGDBus *self; /* NULL once freed */
} Opening;

struct _CbusFrontGDBus {
    CbusFrontGDBusHandler handler;
    gpointer user_data;
    CbusBus *bus; /* our end; NULL once closed */
    GDBusConnection *connection;
    GCancellable *cancellable;
    Opening *opening; /* borrowed; NULL once connected */
    guint unanswered;
};

static void
on_message(CbusBus *bus, const guint8 *bytes, gsize size, gpointer user_data)
{
    CbusFrontGDBus *self = user_data;
    CbusMessage message;
    g_autoptr(GError) error = NULL;
    if (!cbus_message_view(&message, bytes, size, &error)) {
        self->handler.closed(error, self->user_data);
        return;
    }
    if (message.type == CBUS_MESSAGE_SIGNAL && cbus_span_is(message.interface, FENCE_INTERFACE)) {
        self->handler.fence(self->user_data);
        return;
    }
    if ((message.type == CBUS_MESSAGE_RETURN || message.type == CBUS_MESSAGE_ERROR) && self->unanswered > 0) {
        self->unanswered--;
    }
    self->handler.message(&message, bytes, self->user_data);
}

static void
on_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    CbusFrontGDBus *self = user_data;
    g_clear_pointer(&self->bus, cbus_bus_free);
    self->handler.closed(reason, self->user_data);
}

static void
on_connected(GObject *source, GAsyncResult *result, gpointer user_data)
{
    g_autofree Opening *opening = user_data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) connection = g_dbus_connection_new_finish(result, &error);
    CbusFrontGDBus *self = opening->self;
    if (self == NULL) {
        return;
    }
    self->opening = NULL;
    if (connection == NULL) {
        self->handler.closed(error, self->user_data);
        return;
    }
    self->connection = g_steal_pointer(&connection);
    self->handler.connected(self->connection, self->user_data);
}

/* Gives FD (taken over, whatever the result) to a new GDBusConnection. */
static gboolean
open_connection(CbusFrontGDBus *self, int fd, GError **error)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, error);
    if (socket == NULL) {
        close(fd);
        return FALSE;
    }
    g_autoptr(GSocketConnection) stream = g_socket_connection_factory_create_connection(socket);
    self->opening = g_new0(Opening, 1);
    self->opening->self = self;
    g_dbus_connection_new(G_IO_STREAM(stream), NULL, G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL,
                          self->cancellable, on_connected, self->opening);
    return TRUE;
}

CbusFrontGDBus *
cbus_front_gdbus_new(CbusLoop *loop, const CbusFrontGDBusHandler *handler, gpointer user_data, GError **error)
{
    static const CbusBusHandler bus_handler = {.message = on_message, .closed = on_closed};
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
        int code = errno;
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "no socketpair for GDBus: %s",
                    g_strerror(code));
        return NULL;
    }
    g_autoptr(CbusFrontGDBus) self = g_new0(CbusFrontGDBus, 1);
    self->handler = *handler;
    self->user_data = user_data;
    self->cancellable = g_cancellable_new();
    self->bus = cbus_bus_new(loop, fds[0], CBUS_BUS_NO_AUTH, getuid(), CBUS_MESSAGE_MAX, QUOTA, &bus_handler,
                             self, error);
    if (self->bus == NULL) {
        close(fds[1]);
        return NULL;
    }
    return open_connection(self, fds[1], error) ? g_steal_pointer(&self) : NULL;
}

void
cbus_front_gdbus_free(CbusFrontGDBus *self)
{
    if (self == NULL) {
        return;
    }
    g_cancellable_cancel(self->cancellable);
    if (self->opening != NULL) {
        self->opening->self = NULL;
    }
    g_clear_pointer(&self->bus, cbus_bus_free);
    g_clear_object(&self->connection);
    g_object_unref(self->cancellable);
    g_free(self);
}

void
cbus_front_gdbus_reply(CbusFrontGDBus *self, const guint8 *bytes, gsize size)
{
    if (self->bus != NULL) {
        cbus_bus_send(self->bus, bytes, size);
    }
}

gboolean
cbus_front_gdbus_call(CbusFrontGDBus *self, const CbusMessage *call, const guint8 *bytes)
{
    gboolean large = call->size > CALL_LIMIT;
    if (self->bus == NULL || self->unanswered >= (large ? LARGE_CALLS : CALLS_LIMIT) ||
        call->size > LARGE_LIMIT || cbus_bus_pending(self->bus) + call->size > QUOTA) {
        return FALSE;
    }
    if ((call->flags & CBUS_FLAG_NO_REPLY) == 0) {
        self->unanswered++;
    }
    cbus_bus_send(self->bus, bytes, call->size);
    return TRUE;
}

gboolean
cbus_front_gdbus_busy(const CbusFrontGDBus *self)
{
    return self->unanswered > 0;
}

void
cbus_front_gdbus_fence(CbusFrontGDBus *self)
{
    g_autoptr(GError) error = NULL;
    /* It can only fail on a closed connection, and then `closed` comes anyhow. */
    g_dbus_connection_emit_signal(self->connection, NULL, FENCE_PATH, FENCE_INTERFACE, "Fence", NULL, &error);
}
