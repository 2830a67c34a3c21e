/* A link's life: it begins with the keys of a handshake and ends once, for one reason.
 *
 * What it promises:
 *  - `ended` is told once, from the loop, never from inside a call of the user; after the decision nothing
 *    else is delivered and nothing else is sent, so that what the user reads from the counters in `ended` is
 *    final: a message either departed in a published packet or never will.
 *  - The user may free the link inside any handler. The link then lives on, deaf, until the stack has left
 * it.
 *  - A link that ends by itself tells its peer so in a last sealed packet (CLOSE for channel 0), also when it
 * ends because a packet was not taken: the peer need not wait for its pings. Losing that packet loses
 * nothing.
 *  - On an agent nothing is sent before cbus_link_accept(), not even a refusal of what is malformed: who has
 *    not proven an identity gets no sealed byte. On a proxy nothing is sent before FINISH, which travels
 * alone.
 *
 * What it trusts: the session (wire/seal.h) that a packet which opens was sealed by the peer, once. It does
 * not trust the peer to be honest: after authentication every record is still checked (link_receive.c).
 *
 * The parts: link_receive.c takes packets apart, link_batch.c puts them together, link_queue.c decides whose
 * message goes next, link_channel.c keeps the channels, credit.c says how much may be under way, assembly.c
 * puts fragments together, link_ping.c notices silence, link_shared.c is what all links of a process share.
 *
 * Runs on the loop thread only; there is no lock.
 */
#include "link/link_private.h"

G_DEFINE_QUARK(cbus_link_error, cbus_link_error)

#define INFO_MAX 255u

CbusLink *
cbus_link_new(CbusLoop *loop, CbusSide side, CbusSession *session, gsize max_payload, CbusBudget *budget,
              CbusLinkSend send, gpointer send_data, const CbusLinkHandler *handler, gpointer user_data)
{
    CbusLink *link = g_new0(CbusLink, 1);

    link->loop = loop;
    link->budget = budget;
    link->side = side;
    link->session = session;
    link->send = send;
    link->send_data = send_data;
    link->handler = *handler;
    link->user_data = user_data;
    link->packet_max = CLAMP(max_payload, CBUS_PACKET_LEAST, CBUS_PACKET_MAX);
    link->channels = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, cbus_link_channel_free);
    link->pack.func = cbus_link_pack;
    link->pack.user_data = link;
    g_queue_init(&link->ready);
    g_queue_init(&link->in_batch);
    link->in_budget.data = link;
    cbus_budget_attach(budget, link);
    cbus_credit_init(link);
    cbus_ping_init(link);
    return link;
}

static void
destroy(CbusLink *link)
{
    g_hash_table_destroy(link->channels);
    cbus_session_free(link->session);
    g_clear_pointer(&link->batch, g_byte_array_unref);
    g_array_unref(link->pingers_now);
    g_array_unref(link->pingers_next);
    g_clear_error(&link->reason);
    g_free(link);
}

static void
drop_assemblies(CbusLink *link)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, link->channels);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CbusChannel *channel = value;
        cbus_assembly_clear(link, &channel->message);
        cbus_assembly_clear(link, &channel->tree);
    }
}

void
cbus_link_free(CbusLink *link)
{
    static const CbusLinkHandler deaf;

    if (link == NULL || link->freed)
        return;
    link->freed = TRUE;
    link->state = CBUS_LINK_OVER;
    link->handler = deaf;
    if (link->ending != NULL) {
        g_source_destroy(link->ending);
        g_clear_pointer(&link->ending, g_source_unref);
    }
    cbus_turn_cancel(&link->pack);
    link->inside++;
    cbus_ping_over(link);
    link->inside--;
    cbus_batch_discard(link);
    drop_assemblies(link);
    cbus_credit_clear(link);
    cbus_budget_detach(link->budget, link);
    if (link->inside == 0)
        destroy(link);
}

void
cbus_link_enter(CbusLink *link)
{
    link->inside++;
}

void
cbus_link_leave(CbusLink *link)
{
    if (--link->inside == 0 && link->freed)
        destroy(link);
}

void
cbus_link_set_handler(CbusLink *link, const CbusLinkHandler *handler, gpointer user_data)
{
    link->handler = *handler;
    link->user_data = user_data;
}

void
cbus_link_set_backlog(CbusLink *link, CbusLinkBacklog backlog)
{
    link->backlog = backlog;
}

static gboolean
send_nowhere(const guint8 *packet, gsize len, gboolean probe, gpointer send_data)
{
    return FALSE;
}

void
cbus_link_cut(CbusLink *link)
{
    link->send = send_nowhere;
    link->backlog = NULL;
    link->send_data = NULL;
}

const guint8 *
cbus_link_id(const CbusLink *link)
{
    return cbus_session_link_id(link->session);
}

guint64
cbus_link_dropped(const CbusLink *link)
{
    return link->dropped;
}

static void
deliver_end(CbusLink *link)
{
    if (link->ending != NULL) {
        g_source_destroy(link->ending);
        g_clear_pointer(&link->ending, g_source_unref);
    }
    cbus_link_enter(link);
    cbus_ping_over(link);
    if (link->handler.ended != NULL)
        link->handler.ended(link, link->reason, link->user_data);
    cbus_link_leave(link);
}

static gboolean
on_ending(gpointer user_data)
{
    deliver_end(user_data);
    return G_SOURCE_REMOVE;
}

/* The D-Bus error name tells the peer which of our codes it was. */
static const char *
notice_name(const GError *reason)
{
    if (g_error_matches(reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST))
        return CBUS_DBUS_ERROR("Disconnected");
    if (g_error_matches(reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_PROTOCOL))
        return CBUS_DBUS_ERROR("InconsistentMessage");
    return "";
}

static void
say_last(CbusLink *link, CbusRecordType type, const char *error_name, const char *message)
{
    link->last_words = TRUE;
    cbus_link_control_reason(link, type, 0, error_name, message);
    (void)cbus_link_flush(link);
    link->last_words = FALSE;
}

void
cbus_link_end(CbusLink *link, GError *reason, gboolean notify)
{
    if (link->state == CBUS_LINK_OVER) {
        g_error_free(reason);
        return;
    }
    gboolean may_send = link->state == CBUS_LINK_OPEN;
    link->state = CBUS_LINK_OVER;
    cbus_batch_discard(link);
    link->reason = reason;
    link->ending = g_idle_source_new();
    g_source_set_priority(link->ending, G_PRIORITY_DEFAULT);
    g_source_set_callback(link->ending, on_ending, link, NULL);
    g_source_attach(link->ending, link->loop->context);
    if (notify && may_send)
        say_last(link, CBUS_RECORD_CLOSE, notice_name(reason), reason->message);
    cbus_turn_cancel(&link->pack);
}

void
cbus_link_end_protocol(CbusLink *link, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    GError *reason = g_error_new_valist(CBUS_LINK_ERROR, CBUS_LINK_ERROR_PROTOCOL, format, args);
    va_end(args);
    cbus_link_end(link, reason, TRUE);
}

void
cbus_link_fail(CbusLink *link, CbusLinkError code, const char *message)
{
    cbus_link_end(link, g_error_new_literal(CBUS_LINK_ERROR, (gint)code, message), TRUE);
}

void
cbus_link_end_now(CbusLink *link, CbusLinkError code, const char *message)
{
    cbus_link_fail(link, code, message);
    if (link->ending != NULL)
        deliver_end(link);
}

void
cbus_link_send_finish(CbusLink *link, const guint8 signature[64])
{
    g_return_if_fail(link->side == CBUS_SIDE_PROXY);
    if (link->state != CBUS_LINK_NEW)
        return;
    link->state = CBUS_LINK_OPEN;
    link->probe = TRUE;
    cbus_link_control(link, CBUS_RECORD_FINISH, 0, signature, 64);
    (void)cbus_link_flush(link);
}

void
cbus_link_accept(CbusLink *link)
{
    g_return_if_fail(link->side == CBUS_SIDE_AGENT);
    if (link->state == CBUS_LINK_ASKED)
        link->state = CBUS_LINK_OPEN;
}

void
cbus_link_refuse(CbusLink *link, const char *error_name, const char *message)
{
    g_return_if_fail(link->side == CBUS_SIDE_AGENT);
    if (link->state != CBUS_LINK_ASKED)
        return;
    link->state = CBUS_LINK_OVER;
    say_last(link, CBUS_RECORD_REFUSED, error_name, message);
    cbus_turn_cancel(&link->pack);
}

void
cbus_link_close(CbusLink *link, const char *message)
{
    if (link->state == CBUS_LINK_OPEN)
        cbus_link_drain(link);
    gboolean may_send = link->state == CBUS_LINK_OPEN;
    link->state = CBUS_LINK_OVER;
    if (may_send)
        say_last(link, CBUS_RECORD_CLOSE, "", message);
    if (link->ending != NULL) {
        g_source_destroy(link->ending);
        g_clear_pointer(&link->ending, g_source_unref);
    }
    cbus_turn_cancel(&link->pack);
}

void
cbus_link_send_server_info(CbusLink *link, const char *name, const char *machine_id, const char *boot_id,
                           const char *version)
{
    g_return_if_fail(link->side == CBUS_SIDE_AGENT);
    g_autoptr(GByteArray) payload = g_byte_array_new();

    cbus_batch_put_text(payload, name, INFO_MAX);
    cbus_batch_put_text(payload, machine_id, INFO_MAX);
    cbus_batch_put_text(payload, boot_id, INFO_MAX);
    cbus_batch_put_text(payload, version, INFO_MAX);
    cbus_link_control(link, CBUS_RECORD_SERVERINFO, 0, payload->data, payload->len);
}
