/* The channels of a link: ids, states, counters.
 *
 * A proxy opens channels; their ids are consecutive from 1 and never used again, so that a record for a
 * channel that one side closed while it was under way can be told from one for a channel that never was: the
 * first is dropped, the second ends the link. A channel is forgotten by whoever sent or heard CLOSE or
 * REFUSED; CLOSE is not answered.
 *
 * An agent keeps at most 1024 channels of one link; what is opened beyond is REFUSED with LimitsExceeded
 * before the user hears of it. What one channel may cost is bounded by its queue's quota (link_queue.c) and
 * by what is put together in it (assembly.c).
 *
 * The counters: `accepted` counts what cbus_link_send() took, `packed` what is at least partly in a packet,
 * `departed` what is at least partly in a packet that was taken by the transport. They can be read inside
 * `channel_closed` and `ended`.
 *
 * Loop thread only.
 */
#include "link/link_private.h"

CbusChannel *
cbus_link_channel(const CbusLink *link, guint32 id)
{
    return g_hash_table_lookup(link->channels, GUINT_TO_POINTER(id));
}

CbusChannel *
cbus_link_add_channel(CbusLink *link, guint32 id)
{
    CbusChannel *channel = g_new0(CbusChannel, 1);

    channel->id = id;
    channel->quota = CBUS_QUEUE_QUOTA;
    channel->ready.data = channel;
    channel->in_batch.data = channel;
    link->last_channel = id;
    g_hash_table_insert(link->channels, GUINT_TO_POINTER(id), channel);
    return channel;
}

/* The link has let go of it already (its lists, its share of what is being assembled). */
void
cbus_link_channel_free(gpointer data)
{
    CbusChannel *channel = data;

    while (channel->first != NULL) {
        CbusQueued *queued = channel->first;
        channel->first = queued->next;
        g_free(queued);
    }
    g_free(channel->close_name);
    g_free(channel->close_message);
    g_free(channel);
}

static void
detach(CbusLink *link, CbusChannel *channel)
{
    cbus_link_channel_discard(link, channel);
    if (channel->is_in_batch) {
        channel->is_in_batch = FALSE;
        g_queue_unlink(&link->in_batch, &channel->in_batch);
    }
    cbus_assembly_clear(link, &channel->message);
    cbus_assembly_clear(link, &channel->tree);
}

void
cbus_link_remove_channel(CbusLink *link, CbusChannel *channel)
{
    detach(link, channel);
    g_hash_table_remove(link->channels, GUINT_TO_POINTER(channel->id));
}

static void
tell_gone(CbusLink *link, guint32 id)
{
    if (link->handler.channel_gone != NULL)
        link->handler.channel_gone(link, id, link->user_data);
}

void
cbus_link_channel_over(CbusLink *link, CbusChannel *channel, const char *error_name, const char *message)
{
    gboolean silent = channel->closing;
    guint32 id = channel->id;

    detach(link, channel);
    g_hash_table_steal(link->channels, GUINT_TO_POINTER(channel->id));
    link->leaving = channel;
    if (!silent && link->handler.channel_closed != NULL)
        link->handler.channel_closed(link, channel->id, error_name, message, link->user_data);
    link->leaving = NULL;
    cbus_link_channel_free(channel);
    if (silent)
        tell_gone(link, id);
}

guint32
cbus_link_open(CbusLink *link, guint32 uid)
{
    g_return_val_if_fail(link->side == CBUS_SIDE_PROXY, 0);
    guint8 payload[8] = {0};
    guint32 id = link->last_channel + 1;

    if (link->state != CBUS_LINK_OPEN) {
        link->last_channel = id;
        return id;
    }
    if (id == G_MAXUINT32)
        cbus_link_fail(link, CBUS_LINK_ERROR_CLOSED, "all channel ids of this link are used up");
    (void)cbus_link_add_channel(link, id);
    cbus_put_be32(payload, uid);
    cbus_link_control(link, CBUS_RECORD_OPEN, id, payload, sizeof payload);
    return id;
}

void
cbus_link_opened(CbusLink *link, guint32 id)
{
    g_return_if_fail(link->side == CBUS_SIDE_AGENT);
    CbusChannel *channel = cbus_link_channel(link, id);

    if (channel == NULL || channel->opened || channel->closing)
        return;
    channel->opened = TRUE;
    cbus_link_control(link, CBUS_RECORD_OPENED, id, NULL, 0);
}

void
cbus_link_say_closed(CbusLink *link, CbusChannel *channel)
{
    gboolean refused = link->side == CBUS_SIDE_AGENT && !channel->opened;
    guint32 id = channel->id;

    cbus_link_control_reason(link, refused ? CBUS_RECORD_REFUSED : CBUS_RECORD_CLOSE, id, channel->close_name,
                             channel->close_message);
    cbus_link_remove_channel(link, channel);
    tell_gone(link, id);
}

void
cbus_link_close_channel(CbusLink *link, guint32 id, const char *error_name, const char *message,
                        gboolean discard)
{
    CbusChannel *channel = cbus_link_channel(link, id);

    if (channel == NULL || link->state != CBUS_LINK_OPEN || (channel->closing && !discard))
        return;
    if (!channel->closing) {
        channel->closing = TRUE;
        channel->close_name = g_strdup(error_name);
        channel->close_message = g_strdup(message);
        cbus_assembly_clear(link, &channel->message);
        cbus_assembly_clear(link, &channel->tree);
    }
    if (discard)
        cbus_link_channel_discard(link, channel);
    if (channel->first == NULL)
        cbus_link_say_closed(link, channel);
}

void
cbus_link_set_channel_quota(CbusLink *link, guint32 id, gsize bytes)
{
    CbusChannel *channel = cbus_link_channel(link, id);

    if (channel != NULL)
        channel->quota = bytes;
}

static const CbusChannel *
counted(const CbusLink *link, guint32 id)
{
    if (link->leaving != NULL && link->leaving->id == id)
        return link->leaving;
    return cbus_link_channel(link, id);
}

guint64
cbus_link_accepted(const CbusLink *link, guint32 id)
{
    const CbusChannel *channel = counted(link, id);

    return channel != NULL ? channel->accepted : 0;
}

guint64
cbus_link_departed(const CbusLink *link, guint32 id)
{
    const CbusChannel *channel = counted(link, id);

    return channel != NULL ? channel->departed : 0;
}

gboolean
cbus_link_is_open(const CbusLink *link)
{
    return link->state == CBUS_LINK_OPEN;
}

gsize
cbus_link_queued(const CbusLink *link, guint32 id)
{
    const CbusChannel *channel = counted(link, id);

    return channel != NULL ? channel->queued : 0;
}
