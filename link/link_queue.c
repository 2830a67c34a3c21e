/* Whose message goes next.
 *
 * A message that finds nothing queued before it, credit for its whole size and room in a packet is copied
 * into the packet at once. Any other waits, copied once, in its channel's queue; channels with something
 * queued take turns, 64 KiB each, so that a small message on one channel overtakes the 20 MiB that another is
 * sending. A message that fits neither credit nor a packet is cut into records with CBUS_RECORD_MORE.
 *
 * What it promises:
 *  - strict order within a channel: nothing is sent past what is queued there, and CLOSE comes after it;
 *  - a fragment is never silly: below 1 KiB of credit the rest of a message waits for the next grant, which
 * is certain to come, since the peer grants when half of a window of at least 32 KiB is consumed;
 *  - memory: a channel's queue holds at most its quota and one message (of at most 128 MiB);
 *  - while the transport has more than it can write, queues wait (cbus_link_check_backlog).
 *
 * It trusts the messages to be messages (their senders built or viewed them); sizes out of range are refused,
 * since the peer would end the link over them.
 *
 * Loop thread only.
 */
#include "link/link_private.h"

#include "wire/message.h"
#include "wire/tree.h"

#define QUANTUM         (64u * 1024)
#define FRAGMENT_MIN    1024u
#define TREE_ANSWER_MIN 5u /* id and status */

static void
mark_packed(CbusLink *link, CbusChannel *channel)
{
    channel->packed++;
    if (!channel->is_in_batch) {
        channel->is_in_batch = TRUE;
        g_queue_push_tail_link(&link->in_batch, &channel->in_batch);
    }
}

static void
put_record(CbusLink *link, CbusChannel *channel, guint8 type, guint8 flags, const guint8 *data, gsize len)
{
    guint8 *at = cbus_batch_reserve(link, CBUS_RECORD_HEADER_BYTES + len);

    cbus_record_header(at, type, flags, channel->id, (guint32)len);
    memcpy(at + CBUS_RECORD_HEADER_BYTES, data, len);
    cbus_credit_spend(link, CBUS_RECORD_HEADER_BYTES + len);
}

/* TRUE if SIZE bytes went into the packet as one record. */
static gboolean
put_at_once(CbusLink *link, CbusChannel *channel, guint8 type, guint8 flags, const guint8 *data, gsize size)
{
    gsize need = CBUS_RECORD_HEADER_BYTES + size;

    if (cbus_batch_room(link) == cbus_batch_capacity(link))
        cbus_link_check_backlog(link);
    if (link->ready.length > 0 || link->stalled || cbus_credit_left(link) < need ||
        cbus_batch_capacity(link) < need)
        return FALSE;
    if (cbus_batch_room(link) < need && (!cbus_link_flush(link) || link->stalled))
        return FALSE;
    put_record(link, channel, type, flags, data, size);
    if (type == CBUS_RECORD_MESSAGE)
        mark_packed(link, channel);
    return TRUE;
}

static void
enqueue(CbusLink *link, CbusChannel *channel, guint8 type, guint8 flags, const guint8 *data, gsize size)
{
    CbusQueued *queued = g_malloc(sizeof *queued + size);

    *queued = (CbusQueued){.size = size, .type = type, .flags = flags};
    memcpy(queued->data, data, size);
    if (channel->last != NULL)
        channel->last->next = queued;
    else
        channel->first = queued;
    channel->last = queued;
    channel->queued += size;
    link->queued += size;
    if (!channel->is_ready) {
        channel->is_ready = TRUE;
        g_queue_push_tail_link(&link->ready, &channel->ready);
    }
    cbus_link_wake(link);
}

/* One message of any size may wait, and behind it what the quota allows. */
static gboolean
has_room(const CbusChannel *channel, gsize size)
{
    if (channel->first == NULL)
        return TRUE;
    gsize behind = channel->queued - (channel->first->size - channel->first->sent);
    return size <= channel->quota && behind <= channel->quota - size;
}

gboolean
cbus_link_send(CbusLink *link, guint32 id, const guint8 *message, gsize size)
{
    CbusChannel *channel = cbus_link_channel(link, id);

    if (channel == NULL || channel->closing || link->state != CBUS_LINK_OPEN || size < CBUS_MESSAGE_MIN ||
        size > CBUS_MESSAGE_MAX)
        return FALSE;
    if (put_at_once(link, channel, CBUS_RECORD_MESSAGE, 0, message, size)) {
        cbus_link_wake(link);
    } else {
        if (link->state != CBUS_LINK_OPEN || !has_room(channel, size))
            return FALSE;
        enqueue(link, channel, CBUS_RECORD_MESSAGE, 0, message, size);
    }
    channel->accepted++;
    return TRUE;
}

void
cbus_link_send_tree_request(CbusLink *link, guint32 id, guint32 request, const char *destination)
{
    CbusChannel *channel = cbus_link_channel(link, id);

    if (channel == NULL || channel->closing || link->state != CBUS_LINK_OPEN)
        return;
    g_autoptr(GByteArray) payload = g_byte_array_new();
    guint8 number[4];
    cbus_put_be32(number, request);
    g_byte_array_append(payload, number, sizeof number);
    cbus_put_string(payload, destination);
    enqueue(link, channel, CBUS_RECORD_TREE, 0, payload->data, payload->len);
}

void
cbus_link_send_tree_answer(CbusLink *link, guint32 id, const guint8 *answer, gsize len)
{
    CbusChannel *channel = cbus_link_channel(link, id);

    if (channel == NULL || channel->closing || link->state != CBUS_LINK_OPEN || len < TREE_ANSWER_MIN)
        return;
    if (has_room(channel, len)) {
        enqueue(link, channel, CBUS_RECORD_TREE, CBUS_RECORD_ANSWER, answer, len);
        return;
    }
    /* Whoever asks gets an answer; one as short as its question needs no quota. */
    g_autoptr(GByteArray) refusal = g_byte_array_new();
    cbus_tree_write_error(cbus_be32(answer), CBUS_DBUS_ERROR("LimitsExceeded"),
                          "too much waits to be sent on this channel; ask again later", refusal);
    enqueue(link, channel, CBUS_RECORD_TREE, CBUS_RECORD_ANSWER, refusal->data, refusal->len);
}

static void
pop(CbusLink *link, CbusChannel *channel)
{
    CbusQueued *queued = channel->first;

    link->queued -= queued->size - queued->sent;
    channel->queued -= queued->size - queued->sent;
    channel->first = queued->next;
    if (channel->first == NULL)
        channel->last = NULL;
    g_free(queued);
}

void
cbus_link_channel_discard(CbusLink *link, CbusChannel *channel)
{
    while (channel->first != NULL)
        pop(link, channel);
    if (channel->is_ready) {
        channel->is_ready = FALSE;
        g_queue_unlink(&link->ready, &channel->ready);
    }
}

/* How much of QUEUED goes now; 0: it has to wait. May flush the packet to make room. */
static gsize
next_fragment(CbusLink *link, const CbusQueued *queued, gsize quantum)
{
    gsize left = queued->size - queued->sent;
    gsize least = MIN(left, FRAGMENT_MIN);
    gsize room = cbus_batch_room(link);

    if (cbus_credit_left(link) < CBUS_RECORD_HEADER_BYTES + least)
        return 0;
    gboolean fits_anew = CBUS_RECORD_HEADER_BYTES + left <= cbus_batch_capacity(link);
    if (room < CBUS_RECORD_HEADER_BYTES + (fits_anew ? left : least)) {
        if (!cbus_link_flush(link) || link->stalled)
            return 0;
        room = cbus_batch_room(link);
    }
    gsize most = MIN(room, cbus_credit_left(link)) - CBUS_RECORD_HEADER_BYTES;
    return MIN(MIN(left, most), MAX(quantum, least));
}

/* One turn of CHANNEL: at most a quantum. FALSE: what is left has to wait for credit or the transport. */
static gboolean
take_turn(CbusLink *link, CbusChannel *channel)
{
    gsize quantum = QUANTUM;

    while (channel->first != NULL && quantum > 0) {
        CbusQueued *queued = channel->first;
        gsize len = next_fragment(link, queued, quantum);
        if (len == 0)
            return FALSE;
        gboolean last = queued->sent + len == queued->size;
        put_record(link, channel, queued->type, queued->flags | (last ? 0 : CBUS_RECORD_MORE),
                   queued->data + queued->sent, len);
        if (queued->sent == 0 && queued->type == CBUS_RECORD_MESSAGE)
            mark_packed(link, channel);
        queued->sent += len;
        channel->queued -= len;
        link->queued -= len;
        if (last)
            pop(link, channel);
        quantum -= MIN(quantum, len);
    }
    return TRUE;
}

void
cbus_link_drain(CbusLink *link)
{
    GList *node;

    if (link->ready.length > 0)
        cbus_link_check_backlog(link);
    while (!link->stalled && link->state == CBUS_LINK_OPEN &&
           (node = g_queue_peek_head_link(&link->ready)) != NULL) {
        CbusChannel *channel = node->data;
        gboolean go_on = take_turn(link, channel);
        if (link->state != CBUS_LINK_OPEN)
            return;
        /* To the end of the row also when blocked: who waits behind is first at the next grant. */
        g_queue_unlink(&link->ready, node);
        channel->is_ready = channel->first != NULL;
        if (channel->is_ready)
            g_queue_push_tail_link(&link->ready, node);
        else if (channel->closing)
            cbus_link_say_closed(link, channel);
        if (!go_on)
            return;
    }
}
