/* A packet taken apart.
 *
 * What does not open (junk, replays, packets of other links) is counted and changes nothing. What opens was
 * sealed by the peer; still, it may be a broken or a hostile peer, so each record is checked for its place:
 * which side may send it, when, for which channel. What no honest peer sends ends the link at once with
 * CBUS_LINK_ERROR_PROTOCOL, and the message says what it was; the rest of the packet is not delivered.
 *
 * Records for a channel that was closed while they were under way are dropped, without fault.
 *
 * Before FINISH an agent takes nothing but FINISH, alone in the first packet; between FINISH and the user's
 * decision it takes nothing at all. The decision is taken inside the handler, or the next packet ends the
 * link.
 *
 * What a peer can make us do per packet is bounded: answers are as short as questions, and at most eight
 * PINGs and one OPEN per 20 bytes fit; a channel over the limit is refused here.
 *
 * A handler may free the link: after each call of a handler it is looked at again (cbus_link_leave).
 * Loop thread only.
 */
#include "link/link_private.h"

#include "wire/message.h"
#include "wire/tree.h"

#define PINGS_MAX       8u
#define SERVER_INFO_MAX 4096u
#define DESTINATION_MAX 255u

static void
receive_finish(CbusLink *link, const CbusRecord *record, gsize rest)
{
    if (link->side != CBUS_SIDE_AGENT || link->state != CBUS_LINK_NEW || rest > 0) {
        cbus_link_end_protocol(link, "FINISH where none belongs");
        return;
    }
    link->state = CBUS_LINK_ASKED;
    if (link->handler.finish != NULL)
        link->handler.finish(link, record->payload, link->user_data);
}

static void
receive_server_info(CbusLink *link, const CbusRecord *record)
{
    const guint8 *data = record->payload;
    gsize len = record->len;

    if (link->side != CBUS_SIDE_PROXY) {
        cbus_link_end_protocol(link, "SERVERINFO from a proxy");
        return;
    }
    g_auto(GStrv) strings = g_new0(char *, 5);
    for (guint i = 0; i < 4; i++) {
        CbusSpan span;
        if (!cbus_get_string(&data, &len, SERVER_INFO_MAX, &span)) {
            cbus_link_end_protocol(link, "SERVERINFO is cut short or holds what is no text");
            return;
        }
        strings[i] = g_strndup(span.text, span.len);
    }
    if (len > 0)
        cbus_link_end_protocol(link, "SERVERINFO is too long");
    else if (link->handler.server_info != NULL)
        link->handler.server_info(link, strings[0], strings[1], strings[2], strings[3], link->user_data);
}

static void
receive_open(CbusLink *link, const CbusRecord *record)
{
    if (link->side != CBUS_SIDE_AGENT || record->channel <= link->last_channel) {
        cbus_link_end_protocol(link, "OPEN of channel %u, which was opened before", record->channel);
        return;
    }
    if (g_hash_table_size(link->channels) >= CBUS_CHANNELS_MAX) {
        link->last_channel = record->channel;
        cbus_link_control_reason(link, CBUS_RECORD_REFUSED, record->channel,
                                 CBUS_DBUS_ERROR("LimitsExceeded"),
                                 "this link has 1024 channels already; close some");
        return;
    }
    (void)cbus_link_add_channel(link, record->channel);
    if (link->handler.open != NULL)
        link->handler.open(link, record->channel, cbus_be32(record->payload), link->user_data);
}

/* The channel of RECORD; NULL: it was closed meanwhile, or the link just ended because it never was. */
static CbusChannel *
find_channel(CbusLink *link, const CbusRecord *record)
{
    if (record->channel == 0 || record->channel > link->last_channel) {
        cbus_link_end_protocol(link, "a record for channel %u, which was never opened", record->channel);
        return NULL;
    }
    return cbus_link_channel(link, record->channel);
}

static void
receive_opened(CbusLink *link, const CbusRecord *record)
{
    CbusChannel *channel = find_channel(link, record);

    if (link->side != CBUS_SIDE_PROXY || (channel != NULL && channel->opened)) {
        cbus_link_end_protocol(link, "OPENED of channel %u where none belongs", record->channel);
        return;
    }
    if (channel == NULL || channel->closing)
        return;
    channel->opened = TRUE;
    if (link->handler.opened != NULL)
        link->handler.opened(link, channel->id, link->user_data);
}

static CbusLinkError
code_of(const CbusRecord *record, const char *error_name)
{
    if (record->type == CBUS_RECORD_REFUSED)
        return CBUS_LINK_ERROR_REFUSED;
    if (g_str_equal(error_name, CBUS_DBUS_ERROR("Disconnected")))
        return CBUS_LINK_ERROR_LOST;
    if (g_str_equal(error_name, CBUS_DBUS_ERROR("InconsistentMessage")))
        return CBUS_LINK_ERROR_PROTOCOL;
    return CBUS_LINK_ERROR_CLOSED;
}

/* CLOSE and REFUSED, of a channel or of the link. */
static void
receive_over(CbusLink *link, const CbusRecord *record)
{
    g_autofree char *error_name = NULL;
    g_autofree char *message = NULL;

    if (record->type == CBUS_RECORD_REFUSED && link->side != CBUS_SIDE_PROXY) {
        cbus_link_end_protocol(link, "REFUSED from a proxy");
        return;
    }
    if (!cbus_record_reason(record, &error_name, &message)) {
        cbus_link_end_protocol(link, "CLOSE or REFUSED with a reason that is no text");
        return;
    }
    if (record->channel == 0) {
        const char *text = message[0] != '\0' ? message : "the other side closed the link";
        cbus_link_end(link, g_error_new_literal(CBUS_LINK_ERROR, (gint)code_of(record, error_name), text),
                      FALSE);
        return;
    }
    CbusChannel *channel = find_channel(link, record);
    if (channel != NULL)
        cbus_link_channel_over(link, channel, error_name, message);
}

static void
deliver_tree(CbusLink *link, CbusChannel *channel, const guint8 *data, gsize len)
{
    char destination[DESTINATION_MAX + 1];
    CbusSpan span;

    if (len < 5) {
        cbus_link_end_protocol(link, "TREE is cut short");
        return;
    }
    guint32 id = cbus_be32(data);
    data += 4;
    len -= 4;
    if (link->side == CBUS_SIDE_AGENT) {
        if (!cbus_get_string(&data, &len, DESTINATION_MAX, &span) || len > 0 || !cbus_is_bus_name(span)) {
            cbus_link_end_protocol(link, "TREE asks for what is no bus name");
            return;
        }
        memcpy(destination, span.text, span.len);
        destination[span.len] = '\0';
        data = (const guint8 *)destination;
        len = span.len;
    }
    if (link->handler.tree != NULL)
        link->handler.tree(link, channel->id, id, data, len, link->user_data);
}

static void
give_up_channel(CbusLink *link, CbusChannel *channel)
{
    static const char text[] = "too much is being put together from fragments; the channel was closed";

    cbus_link_control_reason(link, CBUS_RECORD_CLOSE, channel->id, CBUS_DBUS_ERROR("LimitsExceeded"), text);
    cbus_link_channel_over(link, channel, CBUS_DBUS_ERROR("LimitsExceeded"), text);
}

/* MESSAGE and TREE. */
static void
receive_data(CbusLink *link, const CbusRecord *record)
{
    gboolean tree = record->type == CBUS_RECORD_TREE;
    const guint8 *data = NULL;
    gsize len = 0;
    const char *fault = NULL;

    if (!cbus_credit_consume(link, CBUS_RECORD_HEADER_BYTES + record->len)) {
        cbus_link_end_protocol(link, "more was sent than credit was granted for");
        return;
    }
    gboolean answer = (record->flags & CBUS_RECORD_ANSWER) != 0;
    if (tree &&
        (answer != (link->side == CBUS_SIDE_PROXY) || (!answer && (record->flags & CBUS_RECORD_MORE) != 0))) {
        cbus_link_end_protocol(link, "a TREE question where an answer belongs, or the other way round");
        return;
    }
    CbusChannel *channel = find_channel(link, record);
    if (channel == NULL || channel->closing)
        return;
    CbusAssembly *assembly = tree ? &channel->tree : &channel->message;
    switch (cbus_assembly_add(link, assembly, record, &data, &len, &fault)) {
        case CBUS_ASSEMBLY_WAIT:
            return;
        case CBUS_ASSEMBLY_INVALID:
            cbus_link_end_protocol(link, "%s", fault);
            return;
        case CBUS_ASSEMBLY_LIMIT:
            give_up_channel(link, channel);
            return;
        case CBUS_ASSEMBLY_WHOLE:
            break;
    }
    /* The handler may close the channel: what it reads must not be the channel's. */
    G_GNUC_UNUSED g_autoptr(GByteArray) bytes =
        assembly->bytes != NULL ? g_byte_array_ref(assembly->bytes) : NULL;
    cbus_assembly_clear(link, assembly);
    cbus_turn_count(link->loop->turn);
    if (tree)
        deliver_tree(link, channel, data, len);
    else if (link->handler.message != NULL)
        link->handler.message(link, record->channel, data, len, link->user_data);
}

static void
receive_record(CbusLink *link, const CbusRecord *record, gsize rest, guint *pings)
{
    switch (record->type) {
        case CBUS_RECORD_FINISH:
            receive_finish(link, record, rest);
            break;
        case CBUS_RECORD_OPEN:
            receive_open(link, record);
            break;
        case CBUS_RECORD_OPENED:
            receive_opened(link, record);
            break;
        case CBUS_RECORD_REFUSED:
        case CBUS_RECORD_CLOSE:
            receive_over(link, record);
            break;
        case CBUS_RECORD_CREDIT:
            if (record->channel != 0 ||
                !cbus_credit_heard(link, cbus_be64(record->payload), cbus_be64(record->payload + 8)))
                cbus_link_end_protocol(link, "CREDIT for a channel, or wanted for what was sent already");
            break;
        case CBUS_RECORD_PING:
            if (++*pings > PINGS_MAX)
                cbus_link_end_protocol(link, "more than %u PINGs in one packet", PINGS_MAX);
            else
                cbus_link_control(link, CBUS_RECORD_PONG, 0, record->payload, record->len);
            break;
        case CBUS_RECORD_PONG:
            cbus_ping_pong(link, cbus_be64(record->payload));
            break;
        case CBUS_RECORD_SERVERINFO:
            receive_server_info(link, record);
            break;
        case CBUS_RECORD_TREE:
        case CBUS_RECORD_MESSAGE:
            receive_data(link, record);
            break;
        default:
            cbus_link_end_protocol(link, "a record of unknown type %u", record->type);
            break;
    }
}

static gboolean
may_come(const CbusLink *link, const CbusRecord *record)
{
    return link->state == CBUS_LINK_OPEN ||
           (link->state == CBUS_LINK_NEW && record->type == CBUS_RECORD_FINISH);
}

static void
receive_records(CbusLink *link, const guint8 *data, gsize len)
{
    CbusRecord record;
    guint pings = 0;
    int found;

    if (len == 0) {
        cbus_link_end_protocol(link, "a packet without records");
        return;
    }
    cbus_link_enter(link);
    while ((found = cbus_record_next(&data, &len, &record)) != 0) {
        if (found < 0)
            cbus_link_end_protocol(link, "what is no record");
        else if (!may_come(link, &record))
            cbus_link_end_protocol(link, "a record of type %u before the link was accepted", record.type);
        else
            receive_record(link, &record, len, &pings);
        if (link->freed || link->state == CBUS_LINK_OVER)
            break;
    }
    cbus_link_leave(link);
}

void
cbus_link_receive(CbusLink *link, guint8 *packet, gsize len)
{
    guint8 *plain = NULL;
    gsize plain_len = 0;

    if (link->state == CBUS_LINK_OVER)
        return;
    switch (cbus_session_open(link->session, packet, len, &plain, &plain_len)) {
        case CBUS_OPEN_DROP:
            link->dropped++;
            return;
        case CBUS_OPEN_GAP:
            cbus_link_fail(link, CBUS_LINK_ERROR_LOST, "a packet was lost on the way");
            return;
        case CBUS_OPEN_OK:
            break;
    }
    cbus_ping_opened(link);
    receive_records(link, plain, plain_len);
}
