/* Two links back to back in memory, for the tests of link/: a proxy's and an agent's, over a pipe that a test
 * may break, under a clock that a test sets. Included by each test program once. */
#pragma once
#include "link/link_private.h"

#include "wire/message.h"

typedef struct _Pair Pair;
typedef struct _End End;

struct _End {
    Pair *pair;
    CbusLink *link;
    CbusBudget *budget;
    GQueue sent;       /* of GBytes: packets that the other end has not got yet */
    guint packets;     /* how many were ever sent */
    gsize largest;     /* packet */
    gboolean refusing; /* the transport takes nothing */
    guint refusals;    /* the transport does not take so many packets that come next */
    gsize backlog;
    gboolean probed;
    GPtrArray *messages; /* of GBytes, as they came */
    GArray *channels;    /* guint32: the channel of each */
    GString *log;        /* what else was told, one word each */
    GError *ended;
    guint endings;
    gboolean frees_in_message, frees_in_ended;
};

struct _Pair {
    CbusLoop loop;
    gint64 now;
    End proxy, agent;
};

static gint64
pair_clock(gpointer data)
{
    return ((Pair *)data)->now;
}

static gboolean
end_send(const guint8 *packet, gsize len, gboolean probe, gpointer user_data)
{
    End *end = user_data;

    if (end->refusing)
        return FALSE;
    if (end->refusals > 0) {
        end->refusals--;
        return FALSE;
    }
    end->packets++;
    end->largest = MAX(end->largest, len);
    end->probed |= probe;
    g_queue_push_tail(&end->sent, g_bytes_new(packet, len));
    return TRUE;
}

static gsize
end_backlog(gpointer user_data)
{
    return ((End *)user_data)->backlog;
}

static void
on_finish(CbusLink *link, const guint8 signature[64], gpointer user_data)
{
    End *end = user_data;

    g_string_append(end->log, "finish ");
    if (signature[0] == 1)
        cbus_link_accept(link);
    else if (signature[0] == 2)
        cbus_link_refuse(link, CBUS_DBUS_ERROR("AccessDenied"), "not you");
}

static void
on_server_info(CbusLink *link, const char *name, const char *machine_id, const char *boot_id,
               const char *version, gpointer user_data)
{
    g_string_append_printf(((End *)user_data)->log, "info:%s,%s,%s,%s ", name, machine_id, boot_id, version);
}

static void
on_open(CbusLink *link, guint32 channel, guint32 uid, gpointer user_data)
{
    g_string_append_printf(((End *)user_data)->log, "open:%u,%u ", channel, uid);
}

static void
on_opened(CbusLink *link, guint32 channel, gpointer user_data)
{
    g_string_append_printf(((End *)user_data)->log, "opened:%u ", channel);
}

static void
on_message(CbusLink *link, guint32 channel, const guint8 *message, gsize size, gpointer user_data)
{
    End *end = user_data;

    g_ptr_array_add(end->messages, g_bytes_new(message, size));
    g_array_append_val(end->channels, channel);
    if (end->frees_in_message)
        g_clear_pointer(&end->link, cbus_link_free);
}

static void
on_channel_closed(CbusLink *link, guint32 channel, const char *error_name, const char *message,
                  gpointer user_data)
{
    g_string_append_printf(
        ((End *)user_data)->log, "closed:%u,%s,%s,%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT " ", channel,
        error_name, message, cbus_link_accepted(link, channel), cbus_link_departed(link, channel));
}

static void
on_tree(CbusLink *link, guint32 channel, guint32 id, const guint8 *payload, gsize len, gpointer user_data)
{
    g_string_append_printf(((End *)user_data)->log, "tree:%u,%u,%" G_GSIZE_FORMAT ",%.8s ", channel, id, len,
                           (const char *)payload);
}

static void
on_ended(CbusLink *link, const GError *reason, gpointer user_data)
{
    End *end = user_data;

    end->endings++;
    if (end->ended == NULL)
        end->ended = g_error_copy(reason);
    if (end->frees_in_ended)
        g_clear_pointer(&end->link, cbus_link_free);
}

static const CbusLinkHandler end_handler = {
    .finish = on_finish,
    .server_info = on_server_info,
    .open = on_open,
    .opened = on_opened,
    .message = on_message,
    .channel_closed = on_channel_closed,
    .tree = on_tree,
    .ended = on_ended,
};

static CbusSession *
pair_session(gboolean proxy)
{
    static const guint8 id[CBUS_LINK_ID_BYTES] = {7};
    static const guint8 down[32] = {1}, up[32] = {2};

    return cbus_session_new(1, id, proxy ? down : up, proxy ? up : down);
}

static void
end_init(Pair *pair, End *end, CbusSide side, gsize budget)
{
    *end = (End){.pair = pair};
    g_queue_init(&end->sent);
    end->messages = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    end->channels = g_array_new(FALSE, FALSE, sizeof(guint32));
    end->log = g_string_new(NULL);
    end->budget = cbus_budget_new(budget);
    cbus_budget_set_clock(end->budget, pair_clock, pair);
    end->link = cbus_link_new(&pair->loop, side, pair_session(side == CBUS_SIDE_PROXY), 1024 * 1024,
                              end->budget, end_send, end, &end_handler, end);
    cbus_link_set_backlog(end->link, end_backlog);
}

static void
end_clear(End *end)
{
    g_clear_pointer(&end->link, cbus_link_free);
    cbus_budget_free(end->budget);
    g_queue_clear_full(&end->sent, (GDestroyNotify)g_bytes_unref);
    g_ptr_array_unref(end->messages);
    g_array_unref(end->channels);
    g_string_free(end->log, TRUE);
    g_clear_error(&end->ended);
}

/* Before FINISH. */
G_GNUC_UNUSED static Pair *
pair_new_raw(gsize budget)
{
    Pair *pair = g_new0(Pair, 1);

    pair->loop.context = g_main_context_new();
    pair->loop.turn = cbus_turn_new(pair->loop.context);
    pair->now = 1000 * G_USEC_PER_SEC;
    end_init(pair, &pair->proxy, CBUS_SIDE_PROXY, budget);
    end_init(pair, &pair->agent, CBUS_SIDE_AGENT, budget);
    return pair;
}

G_GNUC_UNUSED static void
pair_free(Pair *pair)
{
    end_clear(&pair->proxy);
    end_clear(&pair->agent);
    cbus_turn_free(pair->loop.turn);
    g_main_context_unref(pair->loop.context);
    g_free(pair);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pair, pair_free)

/* Ends the turn and tells what is due. */
G_GNUC_UNUSED static void
pair_turn(Pair *pair)
{
    while (g_main_context_iteration(pair->loop.context, FALSE))
        ;
}

static void
end_get(End *end, GBytes *packet)
{
    gsize len;
    g_autofree guint8 *data = g_memdup2(g_bytes_get_data(packet, &len), g_bytes_get_size(packet));

    if (end->link != NULL)
        cbus_link_receive(end->link, data, len);
}

/* Delivers the oldest packet of FROM; FALSE if there is none. */
G_GNUC_UNUSED static gboolean
pair_deliver(End *from)
{
    End *to = from == &from->pair->proxy ? &from->pair->agent : &from->pair->proxy;
    g_autoptr(GBytes) packet = g_queue_pop_head(&from->sent);

    if (packet == NULL)
        return FALSE;
    end_get(to, packet);
    pair_turn(from->pair);
    return TRUE;
}

/* Runs until neither end has anything to say. */
G_GNUC_UNUSED static void
pair_settle(Pair *pair)
{
    pair_turn(pair);
    while (pair_deliver(&pair->proxy) || pair_deliver(&pair->agent))
        ;
}

G_GNUC_UNUSED static void
pair_pass(Pair *pair, gint64 us)
{
    pair->now += us;
    cbus_budget_tick(pair->proxy.budget);
    cbus_budget_tick(pair->agent.budget);
    pair_settle(pair);
}

G_GNUC_UNUSED static Pair *
pair_new(void)
{
    static const guint8 good[64] = {1};
    Pair *pair = pair_new_raw(32 * 1024 * 1024);

    cbus_link_send_finish(pair->proxy.link, good);
    pair_settle(pair);
    g_assert_cmpstr(pair->agent.log->str, ==, "finish ");
    g_string_truncate(pair->agent.log, 0);
    return pair;
}

/* A channel that both ends know. */
G_GNUC_UNUSED static guint32
pair_channel(Pair *pair)
{
    guint32 channel = cbus_link_open(pair->proxy.link, 1000);

    pair_settle(pair);
    cbus_link_opened(pair->agent.link, channel);
    pair_settle(pair);
    g_string_truncate(pair->agent.log, 0);
    g_string_truncate(pair->proxy.log, 0);
    return channel;
}

/* SIZE bytes that are framed as a message, each different by SERIAL. */
G_GNUC_UNUSED static GBytes *
make_message(gsize size, guint32 serial)
{
    guint8 *data = g_malloc0(size);
    guint32 body = GUINT32_TO_LE((guint32)size - 16), number = GUINT32_TO_LE(serial);

    g_assert_cmpuint(size, >=, 16);
    data[0] = 'l';
    data[1] = CBUS_MESSAGE_SIGNAL;
    data[3] = 1;
    memcpy(data + 4, &body, 4);
    memcpy(data + 8, &number, 4);
    for (gsize i = 16; i < size; i++)
        data[i] = (guint8)(i * 31 + serial);
    return g_bytes_new_take(data, size);
}

G_GNUC_UNUSED static gboolean
send_message(End *end, guint32 channel, gsize size, guint32 serial)
{
    g_autoptr(GBytes) message = make_message(size, serial);

    return cbus_link_send(end->link, channel, g_bytes_get_data(message, NULL), size);
}

/* The INDEXth message that END got is what make_message() makes. */
G_GNUC_UNUSED static void
assert_message(const End *end, guint at, guint32 channel, gsize size, guint32 serial)
{
    g_autoptr(GBytes) message = make_message(size, serial);

    g_assert_cmpuint(at, <, end->messages->len);
    g_assert_true(g_bytes_equal(message, g_ptr_array_index(end->messages, at)));
    g_assert_cmpuint(g_array_index(end->channels, guint32, at), ==, channel);
}
