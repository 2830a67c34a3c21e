/* One client of a portal.
 *
 * A client that has authenticated gets a channel, and its first messages follow OPEN in the same packet.
 * From then on whole messages go through verbatim, both ways and in order: the client talks to the machine's
 * bus, which gives it its unique name, keeps its match rules and forgets it when it leaves. Whichever side
 * closes closes the other; what a client sent just before it left is still delivered (dbus-send does not wait
 * for anything).
 *
 * What does not pass. From the client: what is no valid message, down to the last value of the body, since
 * the agent would end the whole link over it; descriptors, which are answered NotSupported, though no honest
 * client sends one after its NEGOTIATE_UNIX_FD was refused. From the machine, which is hostile: invalid
 * messages, descriptors, and org.freedesktop.DBus.Local, which client libraries take for the word of their
 * own connection. An honest agent sends none of these, so each ends the connection.
 *
 * Memory: a client whose channel has more than PAUSE_BYTES queued is not read until that has drained: the
 * kernel's socket buffer fills and the client waits, as on any slow bus. A client that does not read itself
 * is closed when more than QUOTA_BYTES wait for it beside the largest message among them, so that one large
 * answer is no offence.
 *
 * Trust: the client is the owner or root, its bytes are nobody's. Loop thread only. over() frees the client:
 * nothing is touched after it. */
#include "proxy/portal_client.h"

#include "link/bus.h"
#include "wire/body.h"
#include "wire/key.h"

#include <unistd.h>

#define PAUSE_BYTES (1024u * 1024)
#define QUOTA_BYTES (16u * 1024 * 1024)
#define LOCAL       "org.freedesktop.DBus.Local"

struct _CbusPortalClient {
    CbusLink *link;
    CbusBus *bus;
    guint32 channel;
    gsize largest; /* message of those that wait for the client */
    gboolean paused;
    CbusPortalClientHandler handler;
    gpointer user_data;
};

static void
end(CbusPortalClient *client, const char *why)
{
    client->handler.over(client, why, client->user_data);
}

/* ---- from the client ---- */

static void
on_ready(CbusBus *bus, gpointer user_data)
{
    CbusPortalClient *client = user_data;

    client->channel = cbus_link_open(client->link, cbus_bus_peer(bus));
    client->handler.opened(client, client->user_data);
}

static void
refuse_descriptors(CbusPortalClient *client, const CbusMessage *call)
{
    const CbusHeader header = {.type = CBUS_MESSAGE_ERROR,
                               .flags = CBUS_FLAG_NO_REPLY,
                               .serial = G_MAXUINT32,
                               .reply_serial = call->serial,
                               .error_name = CBUS_SPAN_LITERAL(CBUS_DBUS_ERROR("NotSupported")),
                               .sender = CBUS_SPAN_LITERAL("org.freedesktop.DBus")};

    if (call->type != CBUS_MESSAGE_CALL || (call->flags & CBUS_FLAG_NO_REPLY) != 0)
        return;
    cbus_message_append(cbus_bus_begin(client->bus), &header, "s",
                        "file descriptors can not cross to another machine");
    cbus_bus_end(client->bus);
}

static void
on_message(CbusBus *bus, const guint8 *data, gsize size, gpointer user_data)
{
    CbusPortalClient *client = user_data;
    g_autoptr(GError) error = NULL;
    CbusMessage message;

    if (!cbus_message_view(&message, data, size, &error)) {
        g_prefix_error(&error, "it sent what is no D-Bus message: ");
        end(client, error->message);
        return;
    }
    if (message.unix_fds > 0 ||
        !cbus_body_check(message.body, message.body_len, message.endian, message.signature, &error)) {
        if (error == NULL || g_error_matches(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS)) {
            refuse_descriptors(client, &message);
        } else {
            g_prefix_error(&error, "it sent an invalid message: ");
            end(client, error->message);
        }
        return;
    }
    if (!cbus_link_send(client->link, client->channel, data, size)) {
        end(client, "the queue to the machine is over its quota");
    } else if (cbus_link_queued(client->link, client->channel) > PAUSE_BYTES) {
        client->paused = TRUE;
        cbus_bus_set_reading(bus, FALSE);
        client->handler.paused(client, client->user_data);
    }
}

static void
on_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    gboolean left = g_error_matches(reason, CBUS_BUS_ERROR, CBUS_BUS_ERROR_CLOSED);

    end(user_data, left ? NULL : reason->message);
}

gboolean
cbus_portal_client_resume(CbusPortalClient *client)
{
    if (!client->paused)
        return TRUE;
    if (cbus_link_queued(client->link, client->channel) > PAUSE_BYTES / 2)
        return FALSE;
    client->paused = FALSE;
    cbus_bus_set_reading(client->bus, TRUE);
    return TRUE;
}

/* ---- from the machine ---- */

static gboolean
is_local(const CbusMessage *message)
{
    return cbus_span_is(message->interface, LOCAL) || cbus_span_is(message->sender, LOCAL) ||
           cbus_span_is(message->path, "/org/freedesktop/DBus/Local");
}

static gboolean
check(CbusMessage *message, const guint8 *data, gsize size, GError **error)
{
    if (!cbus_message_view(message, data, size, error) ||
        !cbus_body_check(message->body, message->body_len, message->endian, message->signature, error))
        return FALSE;
    if (message->unix_fds > 0 || is_local(message)) {
        g_set_error_literal(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID,
                            message->unix_fds > 0 ? "it claims to hold file descriptors"
                                                  : "it pretends to be the client's own connection's");
        return FALSE;
    }
    return TRUE;
}

void
cbus_portal_client_message(CbusPortalClient *client, const guint8 *data, gsize size)
{
    g_autoptr(GError) error = NULL;
    gsize pending = cbus_bus_pending(client->bus);
    CbusMessage message;

    if (!check(&message, data, size, &error)) {
        g_prefix_error(&error, "the machine sent an invalid message: ");
        end(client, error->message);
        return;
    }
    client->largest = MAX(pending > 0 ? client->largest : 0, size);
    if (pending + size > QUOTA_BYTES + client->largest) {
        end(client, "it does not read, and what waits for it is over its quota of 16 MiB");
        return;
    }
    cbus_bus_send(client->bus, data, size);
}

void
cbus_portal_client_channel_closed(CbusPortalClient *client, const char *error_name, const char *message)
{
    g_autofree char *why =
        g_strdup_printf("the machine closed it: %s (%s)", message[0] != '\0' ? message : "no reason given",
                        error_name[0] != '\0' ? error_name : "no error");

    end(client, why);
}

/* ---- life ---- */

CbusPortalClient *
cbus_portal_client_new(CbusLoop *loop, int fd, CbusLink *link, const CbusPortalClientHandler *handler,
                       gpointer user_data, GError **error)
{
    static const CbusBusHandler bus_handler = {.ready = on_ready, .message = on_message, .closed = on_closed};
    CbusPortalClient *client = g_new0(CbusPortalClient, 1);

    client->link = link;
    client->handler = *handler;
    client->user_data = user_data;
    client->bus = cbus_bus_new(loop, fd, CBUS_BUS_SERVER, (guint32)geteuid(), CBUS_MESSAGE_MAX,
                               CBUS_MESSAGE_MAX + QUOTA_BYTES, &bus_handler, client, error);
    if (client->bus == NULL) {
        g_free(client);
        return NULL;
    }
    return client;
}

void
cbus_portal_client_free(CbusPortalClient *client)
{
    if (client->channel != 0)
        cbus_link_close_channel(client->link, client->channel, "", "", FALSE);
    cbus_bus_finish(client->bus);
    g_free(client);
}

guint32
cbus_portal_client_channel(const CbusPortalClient *client)
{
    return client->channel;
}
