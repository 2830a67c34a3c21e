/* A channel: bytes between a link and a bus.
 *
 * Messages go through verbatim, both ways and in order; nothing is rebuilt. What makes a channel more than a
 * pipe is what must not pass. From the link, which is to say from the network: bytes that are no valid
 * message, down to the last value of the body, since the bus disconnects whoever sends one, or worse relays
 * it (dbus-broker does not look into bodies); descriptors, which can not cross; messages larger than the bus
 * takes; the serials that TREE uses. From the bus, which relays what any local process sends: invalid bodies,
 * which would make the proxy end the link, and whatever claims to be org.freedesktop.DBus.Local. A call that
 * is not passed on is answered with an error that says why; a reply that is not passed on becomes an error.
 *
 * What passes so far is judged by agent/filter.c, if there is a policy.
 *
 * Until the connector has given us a connection, messages wait in agent/early.c. Afterwards the bus
 * connection queues them, up to its quota; a bus that does not read loses the channel. The other way the bus
 * is drained always and the link's queue is the bound: over it the channel is closed, as the bus itself would
 * do with a client that does not read.
 *
 * Trust: the link's other end is authenticated but may be hostile; the bus is trusted to route, not to
 * validate. Loop thread only. ended() may free the channel: nothing is touched after it. */
#include "agent/channel.h"
#include "agent/early.h"
#include "agent/filter.h"
#include "agent/tree.h"
#include "link/bus.h"
#include "link/log.h"
#include "wire/body.h"
#include "wire/tree.h"
#include <unistd.h>

#define BUS_SLACK (16u * 1024 * 1024) /* beyond one message, bytes that may wait for the bus */

struct _CbusAgentChannel {
    const CbusHost *host;
    CbusLink *link;
    guint32 id;
    const CbusKey *caller;
    CbusAgentChannelHandler handler;
    gpointer user_data;

    guint32 connect;  /* the connector's request; 0: answered */
    CbusEarly *early; /* what waits for the connection */
    CbusBus *bus;     /* NULL until connected */
    guint32 uid;
    CbusAuditTrail *trail;
    CbusFilter *filter; /* NULL: no policy */
    CbusWalker *walker; /* NULL until the first TREE */
    GByteArray *reply;  /* scratch */
    gboolean greeted;   /* the client sent something: its first message is its Hello */
    guint64 pending;    /* calls that the bus owes a reply */
};

static void
end(CbusAgentChannel *self, const char *name, const char *message, gboolean discard)
{
    self->handler.ended(self, name, message, discard, self->user_data);
}

/* Sends to the link; FALSE when that was the end of the channel or the link. */
static gboolean
send_to_link(CbusAgentChannel *self, const guint8 *message, gsize size)
{
    char nkey[CBUS_NKEY_LENGTH + 1];
    g_autofree char *id = NULL;

    if (cbus_link_send(self->link, self->id, message, size))
        return TRUE;
    /* With nothing queued it is the link that is over, and its end is told elsewhere. */
    if (cbus_link_queued(self->link, self->id) == 0)
        return FALSE;
    cbus_nkey_encode(self->caller, nkey);
    id = g_strdup_printf("%u", self->id);
    cbus_log(G_LOG_LEVEL_WARNING, "channel closed: its proxy takes messages too slowly", CBUS_LOG_PROXY, nkey,
             CBUS_LOG_CHANNEL, id, CBUS_LOG_REASON, "queue over its quota", NULL);
    end(self, CBUS_DBUS_ERROR("LimitsExceeded"),
        "the bus sent more than the link took: the queue went over its quota", TRUE);
    return FALSE;
}

static void
call_sent(CbusAgentChannel *self)
{
    if (self->pending++ == 0)
        self->handler.busy(self, self->user_data);
}

/* A reply goes to the client, or would have. A service may send some that nobody asked for. */
static void
reply_came(CbusAgentChannel *self)
{
    if (self->pending > 0)
        self->pending--;
}

/* TYPE: the second byte of a message. */
static gboolean
is_reply(guint8 type)
{
    return type == CBUS_MESSAGE_RETURN || type == CBUS_MESSAGE_ERROR;
}

/* An error in the bus's name in reply to serial REPLY_SERIAL of the client, who may have asked many machines.
 * As send_to_link(). */
static gboolean
send_error(CbusAgentChannel *self, guint32 reply_serial, const char *name, const char *message)
{
    const CbusHeader header = {.type = CBUS_MESSAGE_ERROR,
                               .flags = CBUS_FLAG_NO_REPLY,
                               .serial = G_MAXUINT32,
                               .reply_serial = reply_serial,
                               .error_name = cbus_span(name),
                               .sender = CBUS_SPAN_LITERAL("org.freedesktop.DBus")};
    g_autofree char *text = g_strdup_printf("Machine %s: %s", self->host->name, message);

    g_byte_array_set_size(self->reply, 0);
    cbus_message_append(self->reply, &header, "s", text);
    return send_to_link(self, self->reply->data, self->reply->len);
}

static gboolean
wants_reply(const CbusMessage *message)
{
    return message->type == CBUS_MESSAGE_CALL && (message->flags & CBUS_FLAG_NO_REPLY) == 0;
}

/* Does not pass MESSAGE of the link on; tells its caller. As send_to_link(). */
static gboolean
refuse(CbusAgentChannel *self, const CbusMessage *message, const char *name, const char *text)
{
    return !wants_reply(message) || send_error(self, message->serial, name, text);
}

/* TRUE if MESSAGE of the link may go to the bus. Otherwise it was answered, or the link fails. */
static gboolean
admit(CbusAgentChannel *self, const CbusMessage *message)
{
    g_autoptr(GError) error = NULL;

    if (message->unix_fds > 0) {
        refuse(self, message, CBUS_DBUS_ERROR("NotSupported"), "file descriptors can not cross to a machine");
    } else if (message->size > self->host->message_limit) {
        g_autofree char *text = g_strdup_printf("the message is %" G_GSIZE_FORMAT
                                                " bytes long, and its bus takes %" G_GSIZE_FORMAT,
                                                message->size, self->host->message_limit);
        refuse(self, message, CBUS_DBUS_ERROR("LimitsExceeded"), text);
    } else if (!cbus_body_check(message->body, message->body_len, message->endian, message->signature,
                                &error)) {
        if (g_error_matches(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS))
            refuse(self, message, CBUS_DBUS_ERROR("NotSupported"),
                   "file descriptors can not cross to a machine");
        else
            cbus_link_fail(self->link, CBUS_LINK_ERROR_PROTOCOL, error->message);
    } else if (message->type == CBUS_MESSAGE_CALL && message->serial >= CBUS_WALKER_SERIAL) {
        refuse(self, message, CBUS_DBUS_ERROR("InvalidArgs"),
               "serials of 0xc0000000 and above are reserved in a channel");
    } else {
        return TRUE;
    }
    return FALSE;
}

/* To the bus, on the record. */
static CbusFilterSent
record_and_send(const CbusMessage *message, const guint8 *data, gpointer user_data)
{
    CbusAgentChannel *self = user_data;

    if (cbus_audit_forward(self->trail, message)) {
        cbus_bus_send(self->bus, data, message->size);
        return CBUS_FILTER_SENT;
    }
    if (wants_reply(message))
        reply_came(self);
    return refuse(self, message, CBUS_DBUS_ERROR("Failed"), CBUS_AUDIT_REFUSAL) ? CBUS_FILTER_REFUSED
                                                                                : CBUS_FILTER_ENDED;
}

/* To the bus, if the policy allows it. FALSE when that was the end of the channel or the link. */
static gboolean
forward(CbusAgentChannel *self, const CbusMessage *message, const guint8 *data)
{
    if (self->filter != NULL)
        return cbus_filter_from_client(self->filter, message, data);
    return record_and_send(message, data, self) != CBUS_FILTER_ENDED;
}

static void
filter_asks(const guint8 *data, gsize size, gpointer user_data)
{
    cbus_bus_send(((CbusAgentChannel *)user_data)->bus, data, size);
}

/* Not all replies of the bus come here: the filter has calls of its own, and answers some of the client's. */
static gboolean
filter_delivers(const guint8 *data, gsize size, gpointer user_data)
{
    if (is_reply(data[1]))
        reply_came(user_data);
    return send_to_link(user_data, data, size);
}

static void
filter_denied(const CbusMessage *message, const char *reason, gpointer user_data)
{
    cbus_audit_denied(((CbusAgentChannel *)user_data)->trail, message, reason);
}

static void
filter_failed(const char *error_name, const char *message, gpointer user_data)
{
    end(user_data, error_name, message, FALSE);
}

void
cbus_agent_channel_message(CbusAgentChannel *self, const guint8 *data, gsize size)
{
    g_autoptr(GError) error = NULL;
    CbusMessage message;

    if (!cbus_message_view(&message, data, size, &error)) {
        cbus_link_fail(self->link, CBUS_LINK_ERROR_PROTOCOL, error->message);
        return;
    }
    if (!admit(self, &message))
        return;
    if (wants_reply(&message))
        call_sent(self);
    self->greeted = TRUE;
    if (self->bus != NULL) {
        (void)forward(self, &message, data);
    } else if (!cbus_early_put_message(self->early, data, size)) {
        end(self, CBUS_DBUS_ERROR("LimitsExceeded"),
            "too many messages were sent before the machine's bus was connected", TRUE);
    }
}

/* A message of the bus that must not cross: a call still needs a reply, whichever way it went. */
static void
replace(CbusAgentChannel *self, const CbusMessage *message, const GError *why)
{
    gboolean fds = g_error_matches(why, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS);
    const char *name = fds ? CBUS_DBUS_ERROR("NotSupported") : CBUS_DBUS_ERROR("InconsistentMessage");

    if (message->type == CBUS_MESSAGE_CALL && (message->flags & CBUS_FLAG_NO_REPLY) == 0) {
        cbus_message_append_error(cbus_bus_begin(self->bus), G_MAXUINT32, message, name,
                                  fds ? "file descriptors can not cross to another machine"
                                      : "the call is no valid D-Bus message");
        cbus_bus_end(self->bus);
    }
    if (message->type == CBUS_MESSAGE_CALL || message->type == CBUS_MESSAGE_SIGNAL)
        return;
    reply_came(self);
    send_error(self, message->reply_serial, name,
               fds ? "the reply holds file descriptors, which can not cross from a machine"
                   : "the reply is no valid D-Bus message");
}

static void
bus_message(CbusBus *bus, const guint8 *data, gsize size, gpointer user_data)
{
    CbusAgentChannel *self = user_data;
    g_autoptr(GError) error = NULL;
    CbusMessage message;

    if (!cbus_message_view(&message, data, size, &error)) {
        end(self, CBUS_DBUS_ERROR("Disconnected"), "the machine's bus sent what is no D-Bus message", FALSE);
        return;
    }
    if (self->walker != NULL && cbus_walker_take(self->walker, &message))
        return;
    /* As path or interface it was no message to begin with. */
    if (cbus_span_is(message.sender, "org.freedesktop.DBus.Local"))
        return;
    if (message.unix_fds > 0)
        g_set_error_literal(&error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS, "descriptors");
    if (error != NULL ||
        !cbus_body_check(message.body, message.body_len, message.endian, message.signature, &error)) {
        replace(self, &message, error);
        return;
    }
    if (self->filter != NULL) {
        cbus_filter_from_bus(self->filter, &message, data);
        return;
    }
    if (is_reply(message.type))
        reply_came(self);
    (void)send_to_link(self, data, size);
}

static void
tree_answer(const guint8 *answer, gsize len, gpointer user_data)
{
    CbusAgentChannel *self = user_data;

    cbus_link_send_tree_answer(self->link, self->id, answer, len);
}

static void
refuse_tree(CbusAgentChannel *self, guint32 request, const char *name, const char *message)
{
    g_byte_array_set_size(self->reply, 0);
    cbus_tree_write_error(request, name, message, self->reply);
    tree_answer(self->reply->data, self->reply->len, self);
}

static gboolean
may_look(const char *destination, const char *path, gpointer user_data)
{
    const CbusAgentChannel *self = user_data;

    return self->filter == NULL || cbus_filter_shows(self->filter, destination, path);
}

static void
walk(CbusAgentChannel *self, guint32 request, const char *destination)
{
    if (!may_look(destination, "/", self)) {
        refuse_tree(self, request, CBUS_DBUS_ERROR("NameHasNoOwner"),
                    "nobody owns this name now, and browsing does not start a service");
        return;
    }
    if (self->walker == NULL)
        self->walker = cbus_walker_new(self->host->loop, self->bus, may_look, tree_answer, self);
    cbus_walker_start(self->walker, request, destination);
}

void
cbus_agent_channel_tree(CbusAgentChannel *self, guint32 request, const char *destination)
{
    if (!self->greeted) {
        refuse_tree(self, request, CBUS_DBUS_ERROR("Failed"), "this channel has not said Hello to the bus");
    } else if (self->bus != NULL && (self->filter == NULL || cbus_filter_is_ready(self->filter))) {
        walk(self, request, destination);
    } else if (!cbus_early_put_tree(self->early, request, destination)) {
        refuse_tree(self, request, CBUS_DBUS_ERROR("LimitsExceeded"),
                    "too many trees are being read at once: try again");
    }
}

static void
bus_ready(CbusBus *bus, gpointer user_data)
{
    CbusAgentChannel *self = user_data;

    cbus_link_opened(self->link, self->id);
}

static void
bus_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    CbusAgentChannel *self = user_data;
    const char *name = CBUS_DBUS_ERROR("Disconnected");
    g_autofree char *message = g_strdup_printf("the machine's bus: %s", reason->message);

    if (g_error_matches(reason, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH))
        name = CBUS_DBUS_ERROR("AuthFailed");
    else if (g_error_matches(reason, CBUS_BUS_ERROR, CBUS_BUS_ERROR_LIMIT))
        name = CBUS_DBUS_ERROR("LimitsExceeded");
    end(self, name, message, FALSE);
}

static void
walk_early(gpointer user_data)
{
    CbusAgentChannel *self = user_data;
    guint32 request = 0;
    char *destination;

    while ((destination = cbus_early_take_tree(self->early, &request)) != NULL) {
        walk(self, request, destination);
        g_free(destination);
    }
}

/* What came before the connection, in order; trees after the messages, whose first is the Hello. */
static void
send_early(CbusAgentChannel *self)
{
    GBytes *message;

    while ((message = cbus_early_take_message(self->early)) != NULL) {
        gsize size = 0;
        const guint8 *data = g_bytes_get_data(message, &size);
        CbusMessage view;
        gboolean going_on = !cbus_message_view(&view, data, size, NULL) || forward(self, &view, data);
        g_bytes_unref(message);
        if (!going_on)
            return;
    }
    if (self->filter == NULL || cbus_filter_is_ready(self->filter))
        walk_early(self);
}

static void
connected(int fd, guint32 uid, const char *user, const GError *failure, gpointer user_data)
{
    static const CbusBusHandler handler = {.ready = bus_ready, .message = bus_message, .closed = bus_closed};
    CbusAgentChannel *self = user_data;
    gsize limit = self->host->message_limit;
    g_autoptr(GError) error = NULL;

    self->connect = 0;
    if (failure != NULL) {
        end(self, CBUS_ERROR_OFFLINE, failure->message, TRUE);
        return;
    }
    if (!cbus_quota_take_uid(self->host->quota, uid)) {
        close(fd);
        end(self, CBUS_DBUS_ERROR("LimitsExceeded"), "this user has too many channels on this machine", TRUE);
        return;
    }
    if (!cbus_audit_opened(self->trail, uid, user)) {
        cbus_quota_give_uid(self->host->quota, uid);
        close(fd);
        end(self, CBUS_DBUS_ERROR("Failed"), CBUS_AUDIT_REFUSAL, TRUE);
        return;
    }
    self->uid = uid;
    self->bus = cbus_bus_new(self->host->loop, fd, CBUS_BUS_CLIENT_FDS, uid, CBUS_MESSAGE_MAX,
                             limit + BUS_SLACK, &handler, self, &error);
    if (self->bus == NULL) {
        cbus_quota_give_uid(self->host->quota, uid);
        end(self, CBUS_DBUS_ERROR("Failed"), error->message, TRUE);
        return;
    }
    send_early(self);
}

CbusAgentChannel *
cbus_agent_channel_new(const CbusHost *host, CbusLink *link, guint32 id, const CbusKey *caller,
                       const guint8 digest[32], guint32 claim, const CbusAgentChannelHandler *handler,
                       gpointer user_data)
{
    CbusAgentChannel *self = g_new0(CbusAgentChannel, 1);

    self->connect = cbus_connector_client_connect(host->connector, caller, digest, connected, self);
    if (self->connect == 0) {
        g_free(self);
        return NULL;
    }
    self->host = host;
    self->link = link;
    self->id = id;
    self->caller = caller;
    self->handler = *handler;
    self->user_data = user_data;
    self->trail = cbus_audit_trail_new(host->audit, caller, cbus_link_id(link), id, claim);
    self->reply = g_byte_array_new();
    self->early = cbus_early_new();
    return self;
}

void
cbus_agent_channel_set_policy(CbusAgentChannel *self, const CbusPolicy *policy)
{
    static const CbusFilterHandler on_filter = {record_and_send, filter_asks, filter_delivers,
                                                filter_denied,   walk_early,  filter_failed};

    if (self->filter != NULL)
        cbus_filter_set_policy(self->filter, policy);
    else if (policy != NULL)
        self->filter = cbus_filter_new(policy, self->host->name, &on_filter, self);
}

guint32
cbus_agent_channel_id(const CbusAgentChannel *self)
{
    return self->id;
}

gboolean
cbus_agent_channel_is_busy(const CbusAgentChannel *self)
{
    return self->pending > 0;
}

void
cbus_agent_channel_free(CbusAgentChannel *self)
{
    if (self->connect != 0)
        cbus_connector_client_cancel(self->host->connector, self->connect);
    g_clear_pointer(&self->walker, cbus_walker_free);
    g_clear_pointer(&self->filter, cbus_filter_free);
    if (self->bus != NULL)
        cbus_quota_give_uid(self->host->quota, self->uid);
    /* What the client sent before it left is delivered. */
    g_clear_pointer(&self->bus, cbus_bus_finish);
    cbus_early_free(self->early);
    g_byte_array_unref(self->reply);
    cbus_audit_trail_free(self->trail);
    g_free(self);
}
