/* A link's outgoing packet, built in place.
 *
 * One buffer per link holds room for a packet's prefix and then records, appended where they will be sealed.
 * At the end of the turn (phase PACK), or as soon as the buffer has the size of a packet, it is sealed in
 * place and given to the link's send function: many records, one seal, one publish. The buffer is reused; in
 * steady state sending allocates nothing.
 *
 * A packet is at most 32 KiB, or the server's max_payload if that is less: large enough that its fixed cost
 * (a publish, a seal, a wakeup on the other side) does not count, small enough that a message on another
 * channel does not wait behind a long one, and that a thousand links do not hold a thousand large buffers. It
 * also fits what nats-server reads at once (64 KiB), which a larger one does not: the server then puts it
 * together from pieces, and a stream of large messages took it a quarter more time at 128 KiB.
 *
 * Control records need no credit; each is small, and when the buffer is full it goes out first: a peer that
 * provokes answers without end gets them at the rate at which it provokes, and occupies one buffer.
 *
 * departed: a message has departed when the send function took the packet that holds its first byte. If it
 * did not take it, the link ends and the messages of this packet have not departed: nothing of it was
 * published. Its number is spent: whoever gets the link's last words, the next packet, finds the gap.
 *
 * Trusts its callers in link/ for the sizes of records. Loop thread only.
 */
#include "link/link_private.h"

#define PAUSE_US        G_USEC_PER_SEC /* after such a silence the next packet asks whether anybody listens */
#define IDLE_US         (5 * G_USEC_PER_SEC)
#define BACKLOG_HIGH    (4u * 1024 * 1024)
#define BACKLOG_LOW     (2u * 1024 * 1024)
#define BACKLOG_LOOK_US (5 * 1000)
#define ERROR_NAME_MAX  255
#define REASON_MAX      4096

static inline gsize
filled(const CbusLink *link)
{
    return link->batch == NULL ? 0 : link->batch->len - CBUS_PACKET_PREFIX_BYTES;
}

gsize
cbus_batch_capacity(const CbusLink *link)
{
    return link->packet_max - CBUS_PACKET_OVERHEAD;
}

gsize
cbus_batch_room(const CbusLink *link)
{
    return cbus_batch_capacity(link) - filled(link);
}

guint8 *
cbus_batch_reserve(CbusLink *link, gsize len)
{
    if (link->batch == NULL) {
        link->batch = g_byte_array_new();
        g_byte_array_set_size(link->batch, CBUS_PACKET_PREFIX_BYTES);
    }
    guint at = link->batch->len;
    g_byte_array_set_size(link->batch, at + (guint)len);
    return link->batch->data + at;
}

void
cbus_batch_discard(CbusLink *link)
{
    GList *node;

    while ((node = g_queue_pop_head_link(&link->in_batch)) != NULL)
        ((CbusChannel *)node->data)->is_in_batch = FALSE;
    if (link->batch != NULL)
        g_byte_array_set_size(link->batch, CBUS_PACKET_PREFIX_BYTES);
}

/* A thousand links that once had much to say do not keep a thousand buffers. */
void
cbus_batch_tick(CbusLink *link, gint64 now)
{
    if (link->batch != NULL && filled(link) == 0 && now - link->last_sent >= IDLE_US)
        g_clear_pointer(&link->batch, g_byte_array_unref);
}

void
cbus_link_wake(CbusLink *link)
{
    if (link->state == CBUS_LINK_OPEN)
        cbus_turn_defer(link->loop->turn, CBUS_TURN_PACK, &link->pack);
}

void
cbus_link_check_backlog(CbusLink *link)
{
    if (link->backlog == NULL)
        return;
    gsize waiting = link->backlog(link->send_data);
    if (link->stalled ? waiting > BACKLOG_LOW : waiting > BACKLOG_HIGH) {
        link->stalled = TRUE;
        cbus_budget_wake_at(link->budget, cbus_link_now(link) + BACKLOG_LOOK_US);
    } else if (link->stalled) {
        link->stalled = FALSE;
        cbus_link_wake(link);
    }
}

static void
count_departed(CbusLink *link)
{
    GList *node;

    while ((node = g_queue_pop_head_link(&link->in_batch)) != NULL) {
        CbusChannel *channel = node->data;
        channel->is_in_batch = FALSE;
        channel->departed = channel->packed;
    }
}

gboolean
cbus_link_flush(CbusLink *link)
{
    if (link->state != CBUS_LINK_OPEN && !link->last_words)
        return FALSE;
    gsize len = filled(link);
    if (len == 0)
        return TRUE;
    gint64 now = cbus_link_now(link);
    gboolean probe = link->probe || now - link->last_sent > PAUSE_US;

    (void)cbus_batch_reserve(link, CBUS_PACKET_TAG_BYTES);
    cbus_session_seal(link->session, link->batch->data, len);
    gboolean taken = link->send(link->batch->data, link->batch->len, probe, link->send_data);
    g_byte_array_set_size(link->batch, CBUS_PACKET_PREFIX_BYTES);
    link->probe = FALSE;
    link->last_sent = now;
    if (!taken) {
        cbus_link_end(link,
                      g_error_new_literal(CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST,
                                          "a packet could not be handed to NATS: the connection is lost, or "
                                          "its queue is full because the server does not read"),
                      TRUE);
        return FALSE;
    }
    count_departed(link);
    cbus_link_check_backlog(link);
    return link->state == CBUS_LINK_OPEN;
}

void
cbus_link_pack(gpointer user_data)
{
    CbusLink *link = user_data;

    if (link->state != CBUS_LINK_OPEN)
        return;
    cbus_link_drain(link);
    if (link->state != CBUS_LINK_OPEN)
        return;
    cbus_credit_pack(link);
    (void)cbus_link_flush(link);
}

void
cbus_link_control(CbusLink *link, CbusRecordType type, guint32 channel, const guint8 *payload, gsize len)
{
    gsize need = CBUS_RECORD_HEADER_BYTES + len;

    if (link->state != CBUS_LINK_OPEN && !link->last_words)
        return;
    if (cbus_batch_room(link) < need && !cbus_link_flush(link))
        return;
    g_return_if_fail(cbus_batch_room(link) >= need);
    guint8 *at = cbus_batch_reserve(link, need);
    cbus_record_header(at, type, 0, channel, (guint32)len);
    if (len > 0)
        memcpy(at + CBUS_RECORD_HEADER_BYTES, payload, len);
    cbus_link_wake(link);
}

/* Texts come from buses, files and libraries: what is too long is cut between characters, so that the
 * peer, which checks, does not take the whole link down for it. */
void
cbus_batch_put_text(GByteArray *out, const char *text, gsize max)
{
    g_autofree char *valid = g_utf8_make_valid(text != NULL ? text : "", -1);

    if (strlen(valid) > max)
        *g_utf8_find_prev_char(valid, valid + max + 1) = '\0';
    cbus_put_string(out, valid);
}

void
cbus_link_control_reason(CbusLink *link, CbusRecordType type, guint32 channel, const char *error_name,
                         const char *message)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    cbus_batch_put_text(payload, error_name, ERROR_NAME_MAX);
    cbus_batch_put_text(payload, message, REASON_MAX);
    cbus_link_control(link, type, channel, payload->data, payload->len);
}
