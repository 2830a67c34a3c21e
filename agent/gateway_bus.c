/* One connection to the bus for everybody on the broker.
 *
 * The connector makes it, as the user of its own reading of [gateway]; every message to and from it passes
 * the policy's filter (agent/filter.c), as a channel's do, and every act is on the record before it is sent.
 * What differs from a channel is the client: it is in this process. It says Hello, asks for all signals,
 * makes calls by serial, and answers whoever calls it that nobody is to be called there.
 *
 * A connection that is lost is made anew, after a pause from 100 ms to 10 s; all calls are told. The end of a
 * connection is never handled where it is noticed, since that may be inside the filter: it is noted, nothing
 * is taken from the connection any more, and at the end of the turn it is buried.
 *
 * A call that was forgotten still waits on the bus, which allows a connection only so many (128 on a system
 * bus): they are counted, so that the gateway can make the connection anew when they are too many.
 *
 * Trust: bodies of local processes are checked as everywhere; calls come from the gateway, well formed. Loop
 * thread only. */
#include "agent/gateway_bus.h"
#include "agent/filter.h"
#include "link/bus.h"
#include "wire/body.h"
#include <unistd.h>

#define DRIVER         "org.freedesktop.DBus"
#define DRIVER_PATH    "/org/freedesktop/DBus"
#define BUS_SLACK      (4u * 1024 * 1024) /* beyond one message, bytes that may wait for the bus */
#define PAUSE_FIRST_MS 100
#define PAUSE_LAST_MS  10000
#define SERIAL_LAST    0x7fffffff

typedef struct {
    CbusGatewayReplyFunc func; /* NULL: forgotten */
    gpointer user_data;
} Call;

struct _CbusGatewayBus {
    const CbusHost *host;
    CbusPolicy *policy;
    CbusGatewayBusHandler handler;
    gpointer user_data;

    guint32 connect; /* the connector's request; 0: none */
    CbusBus *bus;    /* NULL: not connected */
    guint32 uid;
    CbusFilter *filter;
    CbusAuditTrail *trail;
    GHashTable *calls; /* serial → Call */
    guint hung;
    guint32 last_serial;
    GByteArray *out;
    gboolean ready, quiet;

    char *fault; /* set: waits for its burial */
    CbusDeferred burial;
    GSource *pause;
    guint pause_ms;
};

static void begin(CbusGatewayBus *self);

static void
lose(CbusGatewayBus *self, const char *reason)
{
    if (self->fault != NULL)
        return;
    self->fault = g_strdup(reason);
    self->ready = FALSE;
    cbus_turn_defer(self->host->loop->turn, CBUS_TURN_PACK, &self->burial);
}

static void
take_down(CbusGatewayBus *self)
{
    if (self->connect != 0)
        cbus_connector_client_cancel(self->host->connector, self->connect);
    self->connect = 0;
    self->ready = FALSE;
    g_clear_pointer(&self->filter, cbus_filter_free);
    if (self->bus != NULL)
        cbus_quota_give_uid(self->host->quota, self->uid);
    g_clear_pointer(&self->bus, cbus_bus_finish);
    g_clear_pointer(&self->trail, cbus_audit_trail_free);
}

static gboolean
pause_over(gpointer user_data)
{
    CbusGatewayBus *self = user_data;

    g_clear_pointer(&self->pause, g_source_unref);
    begin(self);
    return G_SOURCE_REMOVE;
}

static void
bury(gpointer user_data)
{
    CbusGatewayBus *self = user_data;
    g_autoptr(GHashTable) calls = g_steal_pointer(&self->calls);
    g_autofree char *reason = g_steal_pointer(&self->fault);
    GHashTableIter iter;
    gpointer value;

    take_down(self);
    self->calls = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    self->hung = 0;
    self->pause = g_timeout_source_new(self->pause_ms);
    g_source_set_callback(self->pause, pause_over, self, NULL);
    g_source_attach(self->pause, self->host->loop->context);
    self->pause_ms = MIN(self->pause_ms * 2, PAUSE_LAST_MS);
    g_hash_table_iter_init(&iter, calls);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Call *call = value;
        if (call->func != NULL)
            call->func(NULL, call->user_data);
    }
    self->handler.lost(reason, self->user_data);
}

static void
take_reply(CbusGatewayBus *self, const CbusMessage *reply)
{
    g_autofree Call *call = NULL;
    gpointer value;

    if (!g_hash_table_steal_extended(self->calls, GUINT_TO_POINTER(reply->reply_serial), NULL, &value))
        return;
    call = value;
    if (call->func != NULL)
        call->func(reply, call->user_data);
    else
        self->hung--;
}

/* Somebody on the bus calls us. */
static void
refuse_call(CbusGatewayBus *self, const CbusMessage *call)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    CbusMessage answer;

    if ((call->flags & CBUS_FLAG_NO_REPLY) != 0)
        return;
    cbus_message_append_error(out, SERIAL_LAST, call, CBUS_DBUS_ERROR("UnknownObject"),
                              "the gateway has no objects");
    if (cbus_message_view(&answer, out->data, out->len, NULL))
        (void)cbus_filter_from_client(self->filter, &answer, out->data);
}

static gboolean
deliver(const guint8 *data, gsize size, gpointer user_data)
{
    CbusGatewayBus *self = user_data;
    CbusMessage message;

    if (self->fault != NULL || !cbus_message_view(&message, data, size, NULL))
        return TRUE;
    if (message.type == CBUS_MESSAGE_CALL)
        refuse_call(self, &message);
    else if (message.type != CBUS_MESSAGE_SIGNAL)
        take_reply(self, &message);
    else if (self->ready)
        self->handler.signal(&message, self->user_data);
    return TRUE;
}

/* An error in the bus's name in reply to our own SERIAL. */
static void
answer_error(CbusGatewayBus *self, guint32 serial, const char *name, const char *text)
{
    const CbusHeader header = {.type = CBUS_MESSAGE_ERROR,
                               .flags = CBUS_FLAG_NO_REPLY,
                               .serial = G_MAXUINT32,
                               .reply_serial = serial,
                               .error_name = cbus_span(name),
                               .sender = CBUS_SPAN_LITERAL(DRIVER)};
    g_autoptr(GByteArray) out = g_byte_array_new();

    cbus_message_append(out, &header, "s", text);
    (void)deliver(out->data, out->len, self);
}

/* To the bus, on the record. */
static CbusFilterSent
record_and_send(const CbusMessage *message, const guint8 *data, gpointer user_data)
{
    CbusGatewayBus *self = user_data;

    if (self->quiet || cbus_audit_forward(self->trail, message)) {
        cbus_bus_send(self->bus, data, message->size);
        return CBUS_FILTER_SENT;
    }
    answer_error(self, message->serial, CBUS_DBUS_ERROR("Failed"), CBUS_AUDIT_REFUSAL);
    return CBUS_FILTER_REFUSED;
}

static void
filter_asks(const guint8 *data, gsize size, gpointer user_data)
{
    cbus_bus_send(((CbusGatewayBus *)user_data)->bus, data, size);
}

static void
filter_denied(const CbusMessage *message, const char *reason, gpointer user_data)
{
    CbusGatewayBus *self = user_data;

    if (!self->quiet)
        cbus_audit_denied(self->trail, message, reason);
}

static void
filter_failed(const char *error_name, const char *message, gpointer user_data)
{
    lose(user_data, message);
}

static void
call_driver(CbusGatewayBus *self, const char *member, const GByteArray *body, const char *signature,
            CbusGatewayReplyFunc func)
{
    const CbusHeader header = {.destination = CBUS_SPAN_LITERAL(DRIVER),
                               .path = CBUS_SPAN_LITERAL(DRIVER_PATH),
                               .interface = CBUS_SPAN_LITERAL(DRIVER),
                               .member = cbus_span(member),
                               .signature = {signature, signature != NULL ? strlen(signature) : 0}};
    guint32 serial;

    cbus_gateway_bus_call(self, &header, body, TRUE, &serial, func, self);
}

/* Without Hello or the match there is nothing to be had from this connection. */
static void
prepared(const CbusMessage *reply, gpointer user_data)
{
    CbusGatewayBus *self = user_data;

    if (reply != NULL && reply->type != CBUS_MESSAGE_RETURN)
        lose(self, "the bus refuses what every client may");
    else if (reply != NULL && self->ready)
        self->pause_ms = PAUSE_FIRST_MS;
}

static void
filter_ready(gpointer user_data)
{
    static const char rule[] = "type='signal'";
    CbusGatewayBus *self = user_data;
    g_autoptr(GByteArray) body = g_byte_array_new();
    guint32 len = sizeof rule - 1;

    g_byte_array_append(body, (const guint8 *)&len, sizeof len);
    g_byte_array_append(body, (const guint8 *)rule, sizeof rule);
    self->ready = TRUE;
    call_driver(self, "AddMatch", body, "s", prepared);
    self->handler.ready(self->user_data);
}

/* A message of the bus that can not be used: who asked learns it. */
static void
replace(CbusGatewayBus *self, const CbusMessage *message, const GError *why)
{
    gboolean fds = g_error_matches(why, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS);

    if (message->type == CBUS_MESSAGE_RETURN || message->type == CBUS_MESSAGE_ERROR)
        answer_error(self, message->reply_serial, CBUS_DBUS_ERROR("NotSupported"),
                     fds ? "the reply holds file descriptors, which JSON can not"
                         : "the reply is no valid message");
}

static void
bus_message(CbusBus *bus, const guint8 *data, gsize size, gpointer user_data)
{
    CbusGatewayBus *self = user_data;
    g_autoptr(GError) error = NULL;
    CbusMessage message;

    if (self->fault != NULL)
        return;
    if (!cbus_message_view(&message, data, size, &error)) {
        lose(self, "the machine's bus sent what is no D-Bus message");
        return;
    }
    if (cbus_span_is(message.sender, "org.freedesktop.DBus.Local"))
        return;
    if (message.unix_fds > 0)
        g_set_error_literal(&error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS, "descriptors");
    if (error != NULL ||
        !cbus_body_check(message.body, message.body_len, message.endian, message.signature, &error))
        replace(self, &message, error);
    else
        cbus_filter_from_bus(self->filter, &message, data);
}

static void
bus_ready(CbusBus *bus, gpointer user_data)
{
}

static void
bus_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    lose(user_data, reason->message);
}

static void
connected(int fd, guint32 uid, const char *user, const GError *failure, gpointer user_data)
{
    static const CbusBusHandler on_bus = {.ready = bus_ready, .message = bus_message, .closed = bus_closed};
    static const CbusFilterHandler on_filter = {record_and_send, filter_asks,  deliver,
                                                filter_denied,   filter_ready, filter_failed};
    CbusGatewayBus *self = user_data;
    g_autoptr(GError) error = NULL;

    self->connect = 0;
    if (failure != NULL) {
        lose(self, failure->message);
        return;
    }
    if (!cbus_quota_take_uid(self->host->quota, uid)) {
        close(fd);
        lose(self, "this user has too many channels on this machine");
        return;
    }
    self->uid = uid;
    if (!cbus_audit_opened(self->trail, uid, user)) {
        close(fd);
        g_set_error_literal(&error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_CLOSED, CBUS_AUDIT_REFUSAL);
    } else {
        self->bus = cbus_bus_new(self->host->loop, fd, CBUS_BUS_CLIENT_FDS, uid, CBUS_MESSAGE_MAX,
                                 self->host->message_limit + BUS_SLACK, &on_bus, self, &error);
    }
    if (self->bus == NULL) {
        cbus_quota_give_uid(self->host->quota, uid);
        lose(self, error->message);
        return;
    }
    self->filter = cbus_filter_new(self->policy, self->host->name, &on_filter, self);
    call_driver(self, "Hello", NULL, NULL, prepared);
}

static void
begin(CbusGatewayBus *self)
{
    self->trail = cbus_audit_trail_new_gateway(self->host->audit);
    self->connect = cbus_connector_client_connect_gateway(self->host->connector, connected, self);
    if (self->connect == 0)
        lose(self, "the connector has too much to do");
}

CbusGatewayBus *
cbus_gateway_bus_new(const CbusHost *host, const CbusPolicy *policy, const CbusGatewayBusHandler *handler,
                     gpointer user_data)
{
    CbusGatewayBus *self = g_new0(CbusGatewayBus, 1);

    self->host = host;
    self->policy = cbus_policy_ref(policy);
    self->handler = *handler;
    self->user_data = user_data;
    self->calls = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    self->out = g_byte_array_new();
    self->pause_ms = PAUSE_FIRST_MS;
    self->burial = (CbusDeferred){.func = bury, .user_data = self};
    begin(self);
    return self;
}

void
cbus_gateway_bus_free(CbusGatewayBus *self)
{
    cbus_turn_cancel(&self->burial);
    if (self->pause != NULL)
        g_source_destroy(self->pause);
    g_clear_pointer(&self->pause, g_source_unref);
    take_down(self);
    g_hash_table_unref(self->calls);
    g_byte_array_unref(self->out);
    cbus_policy_unref(self->policy);
    g_free(self->fault);
    g_free(self);
}

void
cbus_gateway_bus_set_policy(CbusGatewayBus *self, const CbusPolicy *policy)
{
    CbusPolicy *old = self->policy;

    self->policy = cbus_policy_ref(policy);
    cbus_policy_unref(old);
    if (self->filter != NULL)
        cbus_filter_set_policy(self->filter, policy);
}

gboolean
cbus_gateway_bus_is_ready(const CbusGatewayBus *self)
{
    return self->ready;
}

static guint32
next_serial(CbusGatewayBus *self)
{
    do
        self->last_serial = self->last_serial < SERIAL_LAST - 1 ? self->last_serial + 1 : 1;
    while (g_hash_table_contains(self->calls, GUINT_TO_POINTER(self->last_serial)));
    return self->last_serial;
}

void
cbus_gateway_bus_call(CbusGatewayBus *self, const CbusHeader *header, const GByteArray *body, gboolean quiet,
                      guint32 *serial, CbusGatewayReplyFunc func, gpointer user_data)
{
    CbusHeader whole = *header;
    CbusMessage message;

    *serial = next_serial(self);
    if (self->filter == NULL || self->fault != NULL) {
        if (func != NULL)
            func(NULL, user_data);
        return;
    }
    whole.type = CBUS_MESSAGE_CALL;
    whole.endian = CBUS_ENDIAN_NATIVE;
    whole.serial = *serial;
    if (func == NULL)
        whole.flags |= CBUS_FLAG_NO_REPLY;
    g_byte_array_set_size(self->out, 0);
    (void)cbus_header_append(self->out, &whole, body != NULL ? body->len : 0);
    if (body != NULL)
        g_byte_array_append(self->out, body->data, body->len);
    if (func != NULL) {
        const Call call = {func, user_data};
        g_hash_table_insert(self->calls, GUINT_TO_POINTER(whole.serial), g_memdup2(&call, sizeof call));
    }
    /* Of its own: an answer that comes at once may make the next call. */
    g_autofree guint8 *data = g_memdup2(self->out->data, self->out->len);
    if (!cbus_message_view(&message, data, self->out->len, NULL))
        g_return_if_reached();
    self->quiet = quiet;
    (void)cbus_filter_from_client(self->filter, &message, data);
    self->quiet = FALSE;
}

void
cbus_gateway_bus_forget(CbusGatewayBus *self, guint32 serial)
{
    Call *call = g_hash_table_lookup(self->calls, GUINT_TO_POINTER(serial));

    if (call == NULL || call->func == NULL)
        return;
    call->func = NULL;
    self->hung++;
}

guint
cbus_gateway_bus_hung(const CbusGatewayBus *self)
{
    return self->hung;
}

void
cbus_gateway_bus_renew(CbusGatewayBus *self, const char *reason)
{
    lose(self, reason);
}
