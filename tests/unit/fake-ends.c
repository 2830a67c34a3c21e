/* The front's and the link's functions as a test wants them: everything is recorded, nothing is sent. */
#include "fake-mirror.h"

guint32
cbus_front_serial(CbusFront *front)
{
    return front->serial++;
}

GByteArray *
cbus_front_begin(CbusFront *front)
{
    /* Something before it, as in a real queue: messages must not think that they begin at 0. */
    g_byte_array_set_size(front->building, 0);
    g_byte_array_append(front->building, (const guint8 *)"12345", 5);
    return front->building;
}

void
cbus_front_end(CbusFront *front)
{
    GByteArray *array = front->building;
    g_autoptr(GError) error = NULL;

    g_assert_cmpuint(array->len, >=, 5);
    if (array->len == 5)
        return;
    front->pending += front->growth;
    g_queue_push_tail(&front->out, g_dbus_message_new_from_blob(array->data + 5, array->len - 5,
                                                                G_DBUS_CAPABILITY_FLAGS_NONE, &error));
    g_assert_no_error(error);
}

gsize
cbus_front_pending(const CbusFront *front)
{
    return front->pending;
}

gsize
cbus_front_message_max(const CbusFront *front)
{
    return front->message_max;
}

static void
front_reply(CbusFront *front, const CbusMessage *call, const char *error_name, GVariant *body)
{
    GDBusMessage *reply = g_dbus_message_new();

    g_dbus_message_set_message_type(reply, error_name != NULL ? G_DBUS_MESSAGE_TYPE_ERROR
                                                              : G_DBUS_MESSAGE_TYPE_METHOD_RETURN);
    g_dbus_message_set_reply_serial(reply, call->serial);
    g_dbus_message_set_destination(reply, call->sender.text);
    if (error_name != NULL)
        g_dbus_message_set_error_name(reply, error_name);
    if (body != NULL)
        g_dbus_message_set_body(reply, body);
    if (call->flags & CBUS_FLAG_NO_REPLY)
        g_object_unref(reply);
    else
        g_queue_push_tail(&front->out, reply);
}

void
cbus_front_reply_error(CbusFront *front, const CbusMessage *call, const char *error_name, const char *format,
                       ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    front_reply(front, call, error_name, g_variant_new("(s)", text));
}

void
cbus_front_reply_empty(CbusFront *front, const CbusMessage *call)
{
    front_reply(front, call, NULL, NULL);
}

void
cbus_front_reply_string(CbusFront *front, const CbusMessage *call, const char *text)
{
    front_reply(front, call, NULL, g_variant_new("(s)", text));
}

guint32
cbus_front_uid(const CbusFront *front, CbusSpan sender)
{
    return front->uid;
}

static FakeChannel *
by_id(const CbusLink *link, guint32 id)
{
    g_assert_cmpuint(id, >, 0);
    g_assert_cmpuint(id, <=, link->channels->len);
    return g_ptr_array_index(link->channels, id - 1);
}

guint32
cbus_link_open(CbusLink *link, guint32 uid)
{
    FakeChannel *channel = g_new0(FakeChannel, 1);

    channel->id = link->channels->len + 1;
    channel->sent = g_ptr_array_new_with_free_func(g_object_unref);
    channel->uid = uid;
    channel->departed = G_MAXUINT64;
    g_ptr_array_add(link->channels, channel);
    return channel->id;
}

void
cbus_link_close_channel(CbusLink *link, guint32 id, const char *error_name, const char *message,
                        gboolean discard)
{
    g_assert_false(by_id(link, id)->closed);
    by_id(link, id)->closed = TRUE;
}

gboolean
cbus_link_send(CbusLink *link, guint32 id, const guint8 *message, gsize size)
{
    FakeChannel *channel = by_id(link, id);
    g_autoptr(GError) error = NULL;

    if (channel->full)
        return FALSE;
    g_assert_false(channel->closed);
    g_ptr_array_add(channel->sent, g_dbus_message_new_from_blob((guchar *)message, size,
                                                                G_DBUS_CAPABILITY_FLAGS_NONE, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(g_dbus_message_get_serial(fake_last_sent(channel)), ==, channel->sent->len);
    return TRUE;
}

void
cbus_link_set_channel_quota(CbusLink *link, guint32 id, gsize bytes)
{
    g_assert_cmpuint(bytes, >, 0);
}

void
cbus_link_send_tree_request(CbusLink *link, guint32 channel, guint32 id, const char *destination)
{
    FakeTree *tree = g_new0(FakeTree, 1);

    tree->channel = channel;
    tree->id = id;
    tree->destination = g_strdup(destination);
    g_queue_push_tail(&link->trees, tree);
}

guint64
cbus_link_accepted(const CbusLink *link, guint32 id)
{
    return by_id(link, id)->sent->len;
}

guint64
cbus_link_departed(const CbusLink *link, guint32 id)
{
    return MIN(by_id(link, id)->departed, by_id(link, id)->sent->len);
}

gboolean
cbus_link_is_open(const CbusLink *link)
{
    return !link->over;
}

gsize
cbus_link_queued(const CbusLink *link, guint32 id)
{
    return id == 1 ? link->queued : 0;
}

void
cbus_link_set_busy(CbusLink *link, gboolean busy)
{
    g_assert_cmpint(link->busy, !=, busy);
    link->busy = busy;
}
