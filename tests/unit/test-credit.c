/* Credit: it grows on demand, out of one budget, and comes back. */
#include "link-pair.h"

#include "link/clock.h"

static void
test_one_window_is_all_that_leaves_unasked(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    gsize bytes = 0;

    g_assert_true(send_message(&pair->proxy, channel, 1024 * 1024, 1));
    pair_turn(pair);
    for (GList *node = pair->proxy.sent.head; node != NULL; node = node->next)
        bytes += g_bytes_get_size(node->data);
    g_assert_cmpuint(bytes, >, CBUS_WINDOW_FIRST - 1100);
    /* Beside the window there are the packet's own bytes and the CREDIT record that asks for more. */
    g_assert_cmpuint(bytes, <=, CBUS_WINDOW_FIRST + CBUS_PACKET_OVERHEAD + 28);
}

static void
test_the_window_grows_on_demand_and_no_further_than_four_mebibytes(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    g_assert_cmpuint(pair->agent.budget->used, ==, 0);
    g_assert_true(send_message(&pair->proxy, channel, 300 * 1024, 1));
    pair_settle(pair);
    gsize some = pair->agent.link->credit.window;
    g_assert_cmpuint(some, >, CBUS_WINDOW_FIRST);
    g_assert_cmpuint(some, <=, 512 * 1024);
    g_assert_true(send_message(&pair->proxy, channel, 60 * 1024 * 1024, 2));
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.link->credit.window, ==, CBUS_WINDOW_MAX);
    g_assert_cmpuint(pair->agent.budget->used, ==, CBUS_WINDOW_MAX - CBUS_WINDOW_FIRST);
    g_assert_cmpuint(pair->agent.messages->len, ==, 2);
}

static void
test_small_traffic_does_not_grow_the_window(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    for (guint32 i = 0; i < 2000; i++) {
        g_assert_true(send_message(&pair->proxy, channel, 1000, i + 1));
        pair_settle(pair);
    }
    g_assert_cmpuint(pair->agent.messages->len, ==, 2000);
    g_assert_cmpuint(pair->agent.link->credit.window, ==, CBUS_WINDOW_FIRST);
}

static void
test_an_exhausted_budget_slows_but_does_not_stop(void)
{
    static const guint8 good[64] = {1};
    g_autoptr(Pair) pair = pair_new_raw(100 * 1024);

    cbus_link_send_finish(pair->proxy.link, good);
    pair_settle(pair);
    guint32 channel = pair_channel(pair);
    g_assert_true(send_message(&pair->proxy, channel, 5 * 1024 * 1024, 1));
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.messages->len, ==, 1);
    g_assert_cmpuint(pair->agent.budget->used, ==, 100 * 1024);
}

static void
test_an_idle_sender_gives_back_and_both_go_on(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    for (guint32 i = 0; i < 3; i++) {
        g_assert_true(send_message(&pair->proxy, channel, 10 * 1024 * 1024, i + 1));
        pair_settle(pair);
        g_assert_cmpuint(pair->agent.budget->used, >, 0);
        for (guint s = 0; s < 6; s++)
            pair_pass(pair, G_USEC_PER_SEC);
        g_assert_cmpuint(pair->agent.budget->used, ==, 0);
        g_assert_cmpuint(cbus_credit_left(pair->proxy.link), <=, CBUS_WINDOW_FIRST);
    }
    g_assert_cmpuint(pair->agent.messages->len, ==, 3);
    g_assert_cmpuint(pair->proxy.endings + pair->agent.endings, ==, 0);
}

static void
test_a_silent_peer_s_share_is_taken_back(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    g_assert_true(send_message(&pair->proxy, channel, 10 * 1024 * 1024, 1));
    pair_settle(pair);
    /* Only the receiver's clock ticks: the sender never gives back. */
    for (guint s = 0; s < 16; s++) {
        pair->now += G_USEC_PER_SEC;
        cbus_budget_tick(pair->agent.budget);
    }
    g_assert_cmpuint(pair->agent.budget->used, ==, 0);
    /* What was granted stays granted. */
    g_assert_true(send_message(&pair->proxy, channel, 3 * 1024 * 1024, 2));
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.messages->len, ==, 2);
    g_assert_cmpuint(pair->agent.endings, ==, 0);
}

static void
test_a_freed_link_returns_its_share(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    g_assert_true(send_message(&pair->proxy, channel, 10 * 1024 * 1024, 1));
    for (guint i = 0; i < 20; i++) {
        pair_turn(pair);
        pair_deliver(&pair->proxy);
        pair_deliver(&pair->agent);
    }
    g_assert_cmpuint(pair->agent.budget->used, >, 0);
    g_assert_cmpuint(pair->agent.budget->assembling, >, 0);
    g_clear_pointer(&pair->agent.link, cbus_link_free);
    g_assert_cmpuint(pair->agent.budget->used, ==, 0);
    g_assert_cmpuint(pair->agent.budget->assembling, ==, 0);
}

/* Nothing goes the other way: three quarters of a window, then one packet with more. */
static void
test_a_one_way_stream_is_told_of_credit_before_it_has_to_stop(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    guint before = pair->proxy.packets;
    gsize bytes = 0;

    for (guint32 i = 0; i < 2000; i++) {
        guint told = pair->proxy.packets;

        g_assert_true(send_message(&pair->agent, channel, 1000, i + 1));
        bytes += CBUS_RECORD_HEADER_BYTES + 1000;
        pair_turn(pair);
        g_assert_true(pair_deliver(&pair->agent));
        /* Told at the very message that passes the mark, and at no other. */
        g_assert_cmpuint(pair->proxy.packets - told, <=, 1);
        if (pair->proxy.packets == told)
            g_assert_cmpuint(cbus_credit_left(pair->agent.link), >=, CBUS_WINDOW_FIRST / 4);
        while (pair_deliver(&pair->proxy))
            ;
        g_assert_cmpuint(pair->agent.link->queued, ==, 0);
        g_assert_false(pair->agent.link->stalled);
    }
    g_assert_cmpuint(pair->proxy.messages->len, ==, 2000);
    g_assert_cmpuint(pair->proxy.packets - before, >=, bytes / CBUS_WINDOW_FIRST);
    g_assert_cmpuint(pair->proxy.packets - before, <=, bytes / (CBUS_WINDOW_FIRST * 3 / 4) + 1);
}

static void
test_credit_rides_along_with_calls_and_replies(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    guint calls = pair->proxy.packets, replies = pair->agent.packets;

    for (guint32 i = 0; i < 500; i++) {
        g_assert_true(send_message(&pair->proxy, channel, 4096, i + 1));
        pair_settle(pair);
        g_assert_true(send_message(&pair->agent, channel, 4096, i + 1));
        pair_settle(pair);
    }
    g_assert_cmpuint(pair->agent.messages->len, ==, 500);
    g_assert_cmpuint(pair->proxy.packets - calls, ==, 500);
    g_assert_cmpuint(pair->agent.packets - replies, ==, 500);
}

typedef struct {
    GBytes *packet;
    guint due;
} Flying;

/* Hands over what END sent LATE steps ago, and lets what it sent now set out. */
static void
fly(End *end, End *to, GQueue *air, guint step, guint late)
{
    GBytes *packet;

    while (!g_queue_is_empty(air) && ((Flying *)g_queue_peek_head(air))->due <= step) {
        g_autofree Flying *flying = g_queue_pop_head(air);
        g_autoptr(GBytes) arrived = flying->packet;

        end_get(to, arrived);
    }
    pair_turn(end->pair);
    while ((packet = g_queue_pop_head(&end->sent)) != NULL) {
        Flying *flying = g_new(Flying, 1);

        *flying = (Flying){packet, step + late};
        g_queue_push_tail(air, flying);
    }
}

/* A stream from far away: a round trip holds twice what the first window does. The window grows until the
 * stream flows; what it cost to find that out is a few round trips, however long the stream is. */
static void
test_a_one_way_stream_over_a_slow_way_loses_a_few_round_trips_only(void)
{
    enum { LATE = 8, COUNT = 4000 };
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    GQueue there = G_QUEUE_INIT, back = G_QUEUE_INIT;
    guint step = 0;

    for (; pair->proxy.messages->len < COUNT; step++) {
        if (step < COUNT)
            g_assert_true(send_message(&pair->agent, channel, 4096, step + 1));
        pair_turn(pair);
        fly(&pair->agent, &pair->proxy, &there, step, LATE);
        fly(&pair->proxy, &pair->agent, &back, step, LATE);
        g_assert_cmpuint(step, <, 2 * COUNT);
    }
    g_assert_cmpuint(step, <=, COUNT + 3 * 2 * LATE);
    g_assert_cmpuint(pair->proxy.link->credit.window, <=, 1024 * 1024);
    g_assert_cmpuint(pair->agent.endings + pair->proxy.endings, ==, 0);
    for (GQueue *air = &there;; air = &back) {
        Flying *flying;

        while ((flying = g_queue_pop_head(air)) != NULL) {
            g_bytes_unref(flying->packet);
            g_free(flying);
        }
        if (air == &back)
            break;
    }
}

static void
test_both_directions_at_once(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    for (guint32 i = 0; i < 4; i++) {
        g_assert_true(send_message(&pair->proxy, channel, 3 * 1024 * 1024 + i, i + 1));
        g_assert_true(send_message(&pair->agent, channel, 2 * 1024 * 1024 + i, i + 1));
    }
    pair_settle(pair);
    for (guint32 i = 0; i < 4; i++) {
        assert_message(&pair->agent, i, channel, 3 * 1024 * 1024 + i, i + 1);
        assert_message(&pair->proxy, i, channel, 2 * 1024 * 1024 + i, i + 1);
    }
}

static void
test_a_sleep_is_a_jump_between_the_clocks(void)
{
    gint64 asleep = 5000;

    g_assert_false(cbus_clock_jumped(&asleep, 5000 + 999 * 1000));
    g_assert_cmpint(asleep, ==, 5000 + 999 * 1000);
    g_assert_true(cbus_clock_jumped(&asleep, asleep + 2 * G_USEC_PER_SEC));
    g_assert_false(cbus_clock_jumped(&asleep, asleep));
    g_assert_true(cbus_clock_jumped(&asleep, asleep - 2 * G_USEC_PER_SEC));
    asleep = cbus_clock_asleep();
    g_assert_false(cbus_clock_jumped(&asleep, cbus_clock_asleep()));
}

static void
test_a_sleep_ends_all_links(void)
{
    g_autoptr(Pair) pair = pair_new();

    pair->proxy.budget->asleep -= 5 * G_USEC_PER_SEC;
    cbus_budget_tick(pair->proxy.budget);
    pair_turn(pair);
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
}

#define ADD(name) g_test_add_func("/credit/" #name, test_##name)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(one_window_is_all_that_leaves_unasked);
    ADD(the_window_grows_on_demand_and_no_further_than_four_mebibytes);
    ADD(small_traffic_does_not_grow_the_window);
    ADD(a_one_way_stream_is_told_of_credit_before_it_has_to_stop);
    ADD(credit_rides_along_with_calls_and_replies);
    ADD(a_one_way_stream_over_a_slow_way_loses_a_few_round_trips_only);
    ADD(an_exhausted_budget_slows_but_does_not_stop);
    ADD(an_idle_sender_gives_back_and_both_go_on);
    ADD(a_silent_peer_s_share_is_taken_back);
    ADD(a_freed_link_returns_its_share);
    ADD(both_directions_at_once);
    ADD(a_sleep_is_a_jump_between_the_clocks);
    ADD(a_sleep_ends_all_links);
    return g_test_run();
}
