/* A link against a broken pipe, and against a peer that has authenticated and is hostile all the same. */
#include "link-pair.h"

/* ---- the pipe ---- */

static void
test_a_lost_packet_ends_the_link_on_the_spot(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    for (guint32 i = 0; i < 3; i++) {
        g_assert_true(send_message(&pair->proxy, channel, 100, i + 1));
        pair_turn(pair);
    }
    g_assert_cmpuint(pair->proxy.sent.length, ==, 3);
    g_bytes_unref(g_queue_pop_nth(&pair->proxy.sent, 1));
    g_assert_true(pair_deliver(&pair->proxy));
    g_assert_cmpuint(pair->agent.endings, ==, 0);
    g_assert_true(pair_deliver(&pair->proxy));
    g_assert_error(pair->agent.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_cmpuint(pair->agent.messages->len, ==, 1);
    /* And the other end is told. */
    pair_settle(pair);
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
}

static void
test_swapped_packets_end_the_link(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    for (guint32 i = 0; i < 2; i++) {
        g_assert_true(send_message(&pair->proxy, channel, 100, i + 1));
        pair_turn(pair);
    }
    g_queue_reverse(&pair->proxy.sent);
    g_assert_true(pair_deliver(&pair->proxy));
    g_assert_error(pair->agent.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_cmpuint(pair->agent.messages->len, ==, 0);
}

/* Each genuine packet is preceded by damaged copies of it and followed by replays of all before it. */
static void
test_junk_and_replays_change_nothing(void)
{
    g_autoptr(Pair) pair = pair_new();
    g_autoptr(GPtrArray) seen = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    guint32 channel = pair_channel(pair);
    guint64 junk = 0;

    for (guint32 i = 0; i < 60; i++) {
        g_assert_true(send_message(&pair->proxy, channel, 100 + i, i + 1));
        pair_turn(pair);
        GBytes *packet = g_queue_peek_head(&pair->proxy.sent);
        gsize len = g_bytes_get_size(packet);
        for (gsize at = 0; at < len; at += 7) {
            g_autofree guint8 *copy = g_memdup2(g_bytes_get_data(packet, NULL), len);
            copy[at] ^= (guint8)(1 << (i % 8));
            cbus_link_receive(pair->agent.link, copy, len);
            junk++;
        }
        for (gsize cut = 0; cut < len; cut += 31) {
            g_autofree guint8 *copy = g_memdup2(g_bytes_get_data(packet, NULL), len);
            cbus_link_receive(pair->agent.link, copy, cut);
            junk++;
        }
        g_ptr_array_add(seen, g_bytes_ref(packet));
        pair_settle(pair);
        for (guint old = 0; old < seen->len; old++) {
            end_get(&pair->agent, seen->pdata[old]);
            junk++;
        }
    }
    g_assert_cmpuint(cbus_link_dropped(pair->agent.link), ==, junk);
    g_assert_cmpuint(pair->agent.endings, ==, 0);
    g_assert_cmpuint(pair->agent.messages->len, ==, 60);
    for (guint32 i = 0; i < 60; i++)
        assert_message(&pair->agent, i, channel, 100 + i, i + 1);
}

/* ---- the peer ---- */

/* What a peer with the right keys sends instead of END's honest one. */
typedef struct {
    Pair *pair;
    End *victim;
    CbusSession *session;
    GByteArray *plain;
} Villain;

static void
villain_say(Villain *villain)
{
    GByteArray *plain = villain->plain;
    g_autofree guint8 *packet = g_malloc(plain->len + CBUS_PACKET_OVERHEAD);

    if (plain->len > 0)
        memcpy(packet + CBUS_PACKET_PREFIX_BYTES, plain->data, plain->len);
    cbus_session_seal(villain->session, packet, plain->len);
    if (villain->victim->link != NULL)
        cbus_link_receive(villain->victim->link, packet, plain->len + CBUS_PACKET_OVERHEAD);
    pair_turn(villain->pair);
    g_byte_array_set_size(plain, 0);
}

static void
villain_add(Villain *villain, guint8 type, guint8 flags, guint32 channel, const void *payload, gsize len)
{
    cbus_record_append(villain->plain, type, flags, channel, payload, len);
}

static Villain *
villain_new(CbusSide victim)
{
    static const guint8 good[64] = {1};
    Villain *villain = g_new0(Villain, 1);

    villain->pair = pair_new_raw(32 * 1024 * 1024);
    villain->plain = g_byte_array_new();
    villain->session = pair_session(victim == CBUS_SIDE_AGENT);
    if (victim == CBUS_SIDE_AGENT) {
        villain->victim = &villain->pair->agent;
        villain_add(villain, CBUS_RECORD_FINISH, 0, 0, good, sizeof good);
        villain_say(villain);
    } else {
        villain->victim = &villain->pair->proxy;
        cbus_link_send_finish(villain->victim->link, good);
    }
    return villain;
}

static void
villain_free(Villain *villain)
{
    pair_free(villain->pair);
    cbus_session_free(villain->session);
    g_byte_array_unref(villain->plain);
    g_free(villain);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Villain, villain_free)

static void
villain_open(Villain *villain, guint32 channel)
{
    guint8 payload[8] = {0};

    villain_add(villain, CBUS_RECORD_OPEN, 0, channel, payload, sizeof payload);
}

static void
assert_caught(Villain *villain)
{
    g_assert_error(villain->victim->ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_PROTOCOL);
    g_assert_cmpuint(villain->victim->endings, ==, 1);
    g_test_message("%s", villain->victim->ended->message);
}

typedef struct {
    CbusSide victim;
    guint8 type, flags;
    guint32 channel;
    gsize len;
} Misplaced;

/* Each a single record of zeros that no honest peer sends there. */
static void
test_misplaced_records_end_the_link(void)
{
    static const Misplaced cases[] = {
        {CBUS_SIDE_AGENT, CBUS_RECORD_FINISH, 0, 0, 64},
        {CBUS_SIDE_AGENT, CBUS_RECORD_OPENED, 0, 1, 0},
        {CBUS_SIDE_AGENT, CBUS_RECORD_REFUSED, 0, 1, 8},
        {CBUS_SIDE_AGENT, CBUS_RECORD_REFUSED, 0, 0, 8},
        {CBUS_SIDE_AGENT, CBUS_RECORD_SERVERINFO, 0, 0, 16},
        {CBUS_SIDE_AGENT, CBUS_RECORD_CLOSE, 0, 2, 8},
        {CBUS_SIDE_AGENT, CBUS_RECORD_CLOSE, 0, 1, 9},
        {CBUS_SIDE_AGENT, CBUS_RECORD_TREE, CBUS_RECORD_ANSWER, 1, 20},
        {CBUS_SIDE_AGENT, CBUS_RECORD_TREE, CBUS_RECORD_MORE, 1, 20},
        {CBUS_SIDE_AGENT, CBUS_RECORD_TREE, 0, 1, 4},
        {CBUS_SIDE_AGENT, CBUS_RECORD_TREE, 0, 1, 8},
        {CBUS_SIDE_AGENT, CBUS_RECORD_TREE, 0, 0, 20},
        {CBUS_SIDE_AGENT, CBUS_RECORD_MESSAGE, 0, 1, 20},
        {CBUS_SIDE_AGENT, CBUS_RECORD_MESSAGE, CBUS_RECORD_MORE, 1, 8},
        {CBUS_SIDE_AGENT, CBUS_RECORD_MESSAGE, 0, 2, 20},
        {CBUS_SIDE_AGENT, CBUS_RECORD_MESSAGE, 0, 0, 20},
        {CBUS_SIDE_AGENT, CBUS_RECORD_CREDIT, 0, 1, 16},
        {CBUS_SIDE_AGENT, CBUS_RECORD_PING, 0, 0, 7},
        {CBUS_SIDE_AGENT, 99, 0, 0, 0},
        {CBUS_SIDE_PROXY, CBUS_RECORD_FINISH, 0, 0, 64},
        {CBUS_SIDE_PROXY, CBUS_RECORD_OPEN, 0, 1, 8},
        {CBUS_SIDE_PROXY, CBUS_RECORD_OPENED, 0, 1, 0},
        {CBUS_SIDE_PROXY, CBUS_RECORD_MESSAGE, 0, 1, 20},
        {CBUS_SIDE_PROXY, CBUS_RECORD_TREE, 0, 1, 20},
        {CBUS_SIDE_PROXY, CBUS_RECORD_SERVERINFO, 0, 0, 17},
    };
    static const guint8 zeros[64];

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Misplaced *wrong = &cases[i];
        g_autoptr(Villain) villain = villain_new(wrong->victim);
        if (wrong->victim == CBUS_SIDE_AGENT) {
            villain_open(villain, 1);
            villain_say(villain);
            g_assert_null(villain->victim->ended);
        }
        villain_add(villain, wrong->type, wrong->flags, wrong->channel, zeros, wrong->len);
        g_test_message("case %u", i);
        villain_say(villain);
        assert_caught(villain);
    }
}

static void
test_nothing_is_delivered_after_a_fault(void)
{
    g_autoptr(Villain) villain = villain_new(CBUS_SIDE_AGENT);
    g_autoptr(GBytes) message = make_message(100, 1);

    villain_open(villain, 1);
    villain_add(villain, CBUS_RECORD_MESSAGE, 0, 1, g_bytes_get_data(message, NULL), 100);
    villain_add(villain, CBUS_RECORD_OPENED, 0, 1, NULL, 0);
    villain_add(villain, CBUS_RECORD_MESSAGE, 0, 1, g_bytes_get_data(message, NULL), 100);
    villain_say(villain);
    assert_caught(villain);
    g_assert_cmpuint(villain->victim->messages->len, ==, 1);
}

static void
test_an_empty_packet_ends_the_link(void)
{
    g_autoptr(Villain) villain = villain_new(CBUS_SIDE_AGENT);

    villain_say(villain);
    assert_caught(villain);
}

static void
test_finish_must_come_alone_and_first(void)
{
    static const guint8 good[64] = {1}, ping[8];
    g_autoptr(Pair) pair = pair_new_raw(0);
    Villain villain = {pair, &pair->agent, pair_session(TRUE), g_byte_array_new()};

    villain_add(&villain, CBUS_RECORD_FINISH, 0, 0, good, sizeof good);
    villain_add(&villain, CBUS_RECORD_PING, 0, 0, ping, sizeof ping);
    villain_say(&villain);
    assert_caught(&villain);
    g_assert_cmpstr(pair->agent.log->str, ==, "");
    g_assert_cmpuint(pair->agent.packets, ==, 0);
    cbus_session_free(villain.session);
    g_byte_array_unref(villain.plain);
}

static void
test_nothing_goes_before_finish(void)
{
    static const guint8 ping[8];
    g_autoptr(Pair) pair = pair_new_raw(0);
    Villain villain = {pair, &pair->agent, pair_session(TRUE), g_byte_array_new()};

    villain_add(&villain, CBUS_RECORD_PING, 0, 0, ping, sizeof ping);
    villain_say(&villain);
    assert_caught(&villain);
    g_assert_cmpuint(pair->agent.packets, ==, 0);
    cbus_session_free(villain.session);
    g_byte_array_unref(villain.plain);
}

static void
test_more_than_the_credit_ends_the_link(void)
{
    g_autoptr(Villain) villain = villain_new(CBUS_SIDE_AGENT);
    g_autoptr(GBytes) exact = make_message(CBUS_WINDOW_FIRST - CBUS_RECORD_HEADER_BYTES, 1);
    g_autoptr(GBytes) over = make_message(CBUS_WINDOW_FIRST - CBUS_RECORD_HEADER_BYTES + 1, 1);

    villain_open(villain, 1);
    villain_add(villain, CBUS_RECORD_MESSAGE, 0, 1, g_bytes_get_data(exact, NULL), g_bytes_get_size(exact));
    villain_say(villain);
    g_assert_cmpuint(villain->victim->messages->len, ==, 1);
    g_assert_null(villain->victim->ended);
    villain_add(villain, CBUS_RECORD_MESSAGE, 0, 1, g_bytes_get_data(over, NULL), g_bytes_get_size(over));
    villain_say(villain);
    assert_caught(villain);
    g_assert_cmpuint(villain->victim->messages->len, ==, 1);
}

static void
test_pings_are_answered_within_bounds(void)
{
    static const guint8 ping[8];
    g_autoptr(Villain) villain = villain_new(CBUS_SIDE_AGENT);
    guint before = villain->victim->packets;

    for (guint i = 0; i < 8; i++)
        villain_add(villain, CBUS_RECORD_PING, 0, 0, ping, sizeof ping);
    villain_say(villain);
    g_assert_null(villain->victim->ended);
    g_assert_cmpuint(villain->victim->packets - before, ==, 1);
    for (guint i = 0; i < 9; i++)
        villain_add(villain, CBUS_RECORD_PING, 0, 0, ping, sizeof ping);
    villain_say(villain);
    assert_caught(villain);
}

static void
test_channels_have_a_limit(void)
{
    g_autoptr(Villain) villain = villain_new(CBUS_SIDE_AGENT);

    for (guint32 i = 1; i <= 3000; i++)
        villain_open(villain, i);
    villain_say(villain);
    g_assert_null(villain->victim->ended);
    g_assert_cmpuint(g_hash_table_size(villain->victim->link->channels), ==, CBUS_CHANNELS_MAX);
    /* A refused channel is over, not unknown. */
    static const guint8 none[8];
    villain_add(villain, CBUS_RECORD_CLOSE, 0, 2000, none, sizeof none);
    villain_say(villain);
    g_assert_null(villain->victim->ended);
}

static void
test_a_channel_id_is_not_used_twice(void)
{
    static const guint8 none[8];
    g_autoptr(Villain) villain = villain_new(CBUS_SIDE_AGENT);

    villain_open(villain, 5);
    villain_add(villain, CBUS_RECORD_CLOSE, 0, 5, none, sizeof none);
    villain_say(villain);
    g_assert_null(villain->victim->ended);
    villain_open(villain, 5);
    villain_say(villain);
    assert_caught(villain);
}

static void
test_fragments_must_add_up(void)
{
    g_autoptr(GBytes) message = make_message(1000, 1);
    const guint8 *data = g_bytes_get_data(message, NULL);
    /* Lengths of fragments, and whether the last says that more comes. */
    static const struct {
        guint first, second;
        gboolean more;
    } cases[] = {{500, 499, FALSE}, {500, 500, TRUE}, {1000, 1, FALSE}, {16, 985, FALSE}, {999, 0, FALSE}};

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Villain) villain = villain_new(CBUS_SIDE_AGENT);
        villain_open(villain, 1);
        villain_add(villain, CBUS_RECORD_MESSAGE, CBUS_RECORD_MORE, 1, data, cases[i].first);
        villain_add(villain, CBUS_RECORD_MESSAGE, cases[i].more ? CBUS_RECORD_MORE : 0, 1, data,
                    cases[i].second);
        villain_say(villain);
        assert_caught(villain);
        g_assert_cmpuint(villain->victim->messages->len, ==, 0);
    }
}

static void
test_an_endless_tree_costs_its_channel_only(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    gsize len = 33 * 1024 * 1024;
    g_autofree guint8 *answer = g_malloc0(len);

    cbus_link_send_tree_answer(pair->agent.link, channel, answer, len);
    pair_settle(pair);
    g_assert_nonnull(strstr(pair->proxy.log->str, "closed:1,org.freedesktop.DBus.Error.LimitsExceeded"));
    g_assert_nonnull(strstr(pair->agent.log->str, "closed:1,org.freedesktop.DBus.Error.LimitsExceeded"));
    g_assert_cmpuint(pair->proxy.endings, ==, 0);
    g_assert_cmpuint(pair->proxy.budget->assembling, ==, 0);
    channel = pair_channel(pair);
    g_assert_true(send_message(&pair->agent, channel, 100, 1));
    pair_settle(pair);
    g_assert_cmpuint(pair->proxy.messages->len, ==, 1);
}

static void
test_wanting_what_was_sent_already_ends_the_link(void)
{
    g_autoptr(Villain) villain = villain_new(CBUS_SIDE_AGENT);
    g_autoptr(GBytes) message = make_message(1000, 1);
    guint8 credit[16] = {0};

    villain_open(villain, 1);
    villain_add(villain, CBUS_RECORD_MESSAGE, 0, 1, g_bytes_get_data(message, NULL), 1000);
    cbus_put_be64(credit + 8, 1);
    villain_add(villain, CBUS_RECORD_CREDIT, 0, 0, credit, sizeof credit);
    villain_say(villain);
    assert_caught(villain);
}

#define ADD(name) g_test_add_func("/link-hostile/" #name, test_##name)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(a_lost_packet_ends_the_link_on_the_spot);
    ADD(swapped_packets_end_the_link);
    ADD(junk_and_replays_change_nothing);
    ADD(misplaced_records_end_the_link);
    ADD(nothing_is_delivered_after_a_fault);
    ADD(an_empty_packet_ends_the_link);
    ADD(finish_must_come_alone_and_first);
    ADD(nothing_goes_before_finish);
    ADD(more_than_the_credit_ends_the_link);
    ADD(pings_are_answered_within_bounds);
    ADD(channels_have_a_limit);
    ADD(a_channel_id_is_not_used_twice);
    ADD(fragments_must_add_up);
    ADD(an_endless_tree_costs_its_channel_only);
    ADD(wanting_what_was_sent_already_ends_the_link);
    return g_test_run();
}
