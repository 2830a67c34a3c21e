/* Links back to back: order, fragments, counters, lifecycle, pings. Credit: test-credit.c; hostile peers:
 * test-link-hostile.c. */
#include "link-pair.h"

static void
test_small_messages_arrive_in_order(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    guint before = pair->proxy.packets;

    for (guint32 i = 0; i < 100; i++)
        g_assert_true(send_message(&pair->proxy, channel, 16 + i, i + 1));
    g_assert_cmpuint(pair->proxy.packets, ==, before);
    pair_settle(pair);
    g_assert_cmpuint(pair->proxy.packets - before, ==, 1);
    g_assert_cmpuint(pair->agent.messages->len, ==, 100);
    for (guint32 i = 0; i < 100; i++)
        assert_message(&pair->agent, i, channel, 16 + i, i + 1);
}

static void
test_a_huge_message_crosses_whole_and_in_order(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    gsize huge = 20 * 1024 * 1024;

    g_assert_true(send_message(&pair->agent, channel, 100, 1));
    g_assert_true(send_message(&pair->agent, channel, huge, 2));
    g_assert_true(send_message(&pair->agent, channel, 100, 3));
    pair_settle(pair);
    g_assert_cmpuint(pair->proxy.messages->len, ==, 3);
    assert_message(&pair->proxy, 0, channel, 100, 1);
    assert_message(&pair->proxy, 1, channel, huge, 2);
    assert_message(&pair->proxy, 2, channel, 100, 3);
    g_assert_cmpuint(pair->agent.largest, <=, CBUS_PACKET_MAX);
    g_assert_cmpuint(cbus_link_queued(pair->agent.link, channel), ==, 0);
}

static void
test_a_small_message_overtakes_a_huge_one(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 slow = pair_channel(pair), quick = pair_channel(pair);

    g_assert_true(send_message(&pair->proxy, slow, 10 * 1024 * 1024, 1));
    g_assert_true(send_message(&pair->proxy, quick, 100, 2));
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.messages->len, ==, 2);
    assert_message(&pair->agent, 0, quick, 100, 2);
    assert_message(&pair->agent, 1, slow, 10 * 1024 * 1024, 1);
}

static void
test_order_holds_in_each_of_many_channels(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channels[8], next[8] = {0};

    for (guint i = 0; i < 8; i++)
        channels[i] = pair_channel(pair);
    for (guint32 n = 0; n < 400; n++)
        g_assert_true(send_message(&pair->proxy, channels[n % 8], 16 + (n * 7919) % 30000, n / 8));
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.messages->len, ==, 400);
    for (guint at = 0; at < 400; at++) {
        guint i = g_array_index(pair->agent.channels, guint32, at) - channels[0];
        guint32 n = next[i]++ * 8 + i;
        assert_message(&pair->agent, at, channels[i], 16 + (n * 7919) % 30000, n / 8);
    }
}

static void
test_counters_are_exact_when_the_link_ends(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    for (guint32 i = 0; i < 3; i++)
        g_assert_true(send_message(&pair->proxy, channel, 100, i + 1));
    g_assert_cmpuint(cbus_link_departed(pair->proxy.link, channel), ==, 0);
    pair_turn(pair);
    g_assert_cmpuint(cbus_link_departed(pair->proxy.link, channel), ==, 3);
    /* One that credit cuts: it departed in part. The next did not. */
    g_assert_true(send_message(&pair->proxy, channel, 100000, 4));
    g_assert_true(send_message(&pair->proxy, channel, 100, 5));
    pair_turn(pair);
    g_assert_cmpuint(cbus_link_accepted(pair->proxy.link, channel), ==, 5);
    g_assert_cmpuint(cbus_link_departed(pair->proxy.link, channel), ==, 4);
    cbus_link_fail(pair->proxy.link, CBUS_LINK_ERROR_LOST, "cut");
    g_assert_false(send_message(&pair->proxy, channel, 100, 6));
    g_assert_cmpuint(pair->proxy.endings, ==, 0);
    pair_turn(pair);
    g_assert_cmpuint(pair->proxy.endings, ==, 1);
    g_assert_cmpuint(cbus_link_accepted(pair->proxy.link, channel), ==, 5);
    g_assert_cmpuint(cbus_link_departed(pair->proxy.link, channel), ==, 4);
}

static void
test_what_the_transport_did_not_take_has_not_departed(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    pair->proxy.refusing = TRUE;
    g_assert_true(send_message(&pair->proxy, channel, 100, 1));
    pair_turn(pair);
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_cmpuint(cbus_link_accepted(pair->proxy.link, channel), ==, 1);
    g_assert_cmpuint(cbus_link_departed(pair->proxy.link, channel), ==, 0);
}

static void
test_queues_wait_while_the_transport_is_full(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    pair->proxy.backlog = 64 * 1024 * 1024;
    guint before = pair->proxy.packets;
    g_assert_true(send_message(&pair->proxy, channel, 20000, 1));
    pair_settle(pair);
    g_assert_cmpuint(pair->proxy.packets, ==, before);
    pair->proxy.backlog = 0;
    pair_pass(pair, 10 * 1000);
    g_assert_cmpuint(pair->agent.messages->len, ==, 1);
}

static void
test_an_idle_link_keeps_no_buffer(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    g_assert_true(send_message(&pair->proxy, channel, 1024 * 1024, 1));
    pair_settle(pair);
    g_assert_nonnull(pair->proxy.link->batch);
    pair_pass(pair, 6 * G_USEC_PER_SEC); /* gives credit back */
    pair_pass(pair, 6 * G_USEC_PER_SEC);
    g_assert_null(pair->proxy.link->batch);
    g_assert_true(send_message(&pair->proxy, channel, 100, 2));
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.messages->len, ==, 2);
}

static void
test_a_full_queue_refuses(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    cbus_link_set_channel_quota(pair->proxy.link, channel, 100000);
    g_assert_true(send_message(&pair->proxy, channel, 90000, 1));
    g_assert_true(send_message(&pair->proxy, channel, 90000, 2));
    g_assert_false(send_message(&pair->proxy, channel, 20000, 3));
    g_assert_cmpuint(cbus_link_accepted(pair->proxy.link, channel), ==, 2);
    pair_settle(pair);
    g_assert_true(send_message(&pair->proxy, channel, 16, 4));
    g_assert_cmpuint(cbus_link_queued(pair->proxy.link, channel), ==, 0);
}

static void
test_sizes_that_are_no_message_are_refused(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    guint8 bytes[16] = {'l'};

    g_assert_false(cbus_link_send(pair->proxy.link, channel, bytes, 15));
    g_assert_false(cbus_link_send(pair->proxy.link, channel, bytes, CBUS_MESSAGE_MAX + 1));
    g_assert_false(cbus_link_send(pair->proxy.link, channel + 1, bytes, 16));
    g_assert_cmpuint(cbus_link_accepted(pair->proxy.link, channel), ==, 0);
}

static void
test_channels_open_and_close(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = cbus_link_open(pair->proxy.link, 1000);

    g_assert_true(send_message(&pair->proxy, channel, 100, 1));
    pair_settle(pair);
    g_assert_cmpstr(pair->agent.log->str, ==, "open:1,1000 ");
    g_assert_cmpuint(pair->agent.messages->len, ==, 1);
    cbus_link_opened(pair->agent.link, channel);
    pair_settle(pair);
    g_assert_cmpstr(pair->proxy.log->str, ==, "opened:1 ");
    cbus_link_close_channel(pair->agent.link, channel, CBUS_DBUS_ERROR("Disconnected"), "the bus is gone",
                            FALSE);
    /* Under way when the channel closes: no fault. */
    g_assert_true(send_message(&pair->proxy, channel, 100, 2));
    pair_settle(pair);
    g_assert_cmpstr(pair->proxy.log->str, ==,
                    "opened:1 closed:1,org.freedesktop.DBus.Error.Disconnected,the bus is gone,2,2 ");
    g_assert_cmpuint(pair->agent.messages->len, ==, 1);
    g_assert_false(send_message(&pair->proxy, channel, 100, 3));
    g_assert_cmpuint(cbus_link_open(pair->proxy.link, 0), ==, 2);
    g_assert_cmpuint(pair->proxy.endings + pair->agent.endings, ==, 0);
}

static void
test_closing_comes_after_what_is_queued(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    g_assert_true(send_message(&pair->proxy, channel, 300000, 1));
    cbus_link_close_channel(pair->proxy.link, channel, "", "done", FALSE);
    g_assert_false(send_message(&pair->proxy, channel, 16, 2));
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.messages->len, ==, 1);
    g_assert_cmpstr(pair->agent.log->str, ==, "closed:1,,done,0,0 ");
}

static void
test_discarding_cuts_a_message_short(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    g_assert_true(send_message(&pair->proxy, channel, 300000, 1));
    pair_turn(pair);
    cbus_link_close_channel(pair->proxy.link, channel, "", "", TRUE);
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.messages->len, ==, 0);
    g_assert_cmpstr(pair->agent.log->str, ==, "closed:1,,,0,0 ");
    g_assert_cmpuint(pair->agent.budget->assembling, ==, 0);
    channel = pair_channel(pair);
    g_assert_true(send_message(&pair->proxy, channel, 16, 2));
    pair_settle(pair);
    g_assert_cmpuint(pair->agent.messages->len, ==, 1);
}

static void
test_a_channel_closed_before_it_opened_is_refused(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = cbus_link_open(pair->proxy.link, G_MAXUINT32);

    pair_settle(pair);
    cbus_link_close_channel(pair->agent.link, channel, CBUS_DBUS_ERROR("AccessDenied"), "no", FALSE);
    pair_settle(pair);
    g_assert_cmpstr(pair->proxy.log->str, ==, "closed:1,org.freedesktop.DBus.Error.AccessDenied,no,0,0 ");
}

static void
test_trees_are_asked_and_answered(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);
    gsize len = 3 * 1024 * 1024;
    g_autofree guint8 *answer = g_malloc0(len);

    cbus_link_send_tree_request(pair->proxy.link, channel, 77, "org.example.A");
    pair_settle(pair);
    g_assert_cmpstr(pair->agent.log->str, ==, "tree:1,77,13,org.exam ");
    cbus_put_be32(answer, 77);
    memcpy(answer + 4, "status", 6);
    cbus_link_send_tree_answer(pair->agent.link, channel, answer, len);
    pair_settle(pair);
    g_assert_cmpstr(pair->proxy.log->str, ==, "tree:1,77,3145724,status ");
}

static void
test_server_info_arrives_and_is_cut_to_fit(void)
{
    g_autoptr(Pair) pair = pair_new();
    g_autofree char *name = g_strnfill(100000, 'x');

    cbus_link_send_server_info(pair->agent.link, "web1", "m", "b", "1");
    pair_settle(pair);
    g_assert_cmpstr(pair->proxy.log->str, ==, "info:web1,m,b,1 ");
    cbus_link_send_server_info(pair->agent.link, name, "m", "b", "1");
    pair_settle(pair);
    g_assert_cmpuint(pair->proxy.endings, ==, 0);
}

static void
test_a_refused_link_learns_why(void)
{
    static const guint8 stranger[64] = {2};
    g_autoptr(Pair) pair = pair_new_raw(0);

    cbus_link_send_finish(pair->proxy.link, stranger);
    pair_settle(pair);
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_REFUSED);
    g_assert_cmpstr(pair->proxy.ended->message, ==, "not you");
    g_assert_cmpuint(pair->agent.endings, ==, 0);
}

static void
test_nothing_leaves_before_finish_is_accepted(void)
{
    static const guint8 undecided[64] = {3};
    g_autoptr(Pair) pair = pair_new_raw(0);

    cbus_link_send_server_info(pair->agent.link, "n", "m", "b", "v");
    cbus_link_suspect(pair->agent.link);
    cbus_link_send_finish(pair->proxy.link, undecided);
    pair_settle(pair);
    cbus_link_fail(pair->agent.link, CBUS_LINK_ERROR_CLOSED, "no");
    pair_turn(pair);
    g_assert_cmpuint(pair->agent.packets, ==, 0);
    g_assert_cmpuint(pair->agent.endings, ==, 1);
}

static void
test_closing_in_order_tells_only_the_peer(void)
{
    g_autoptr(Pair) pair = pair_new();

    cbus_link_close(pair->agent.link, "the agent stops");
    pair_settle(pair);
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_CLOSED);
    g_assert_cmpstr(pair->proxy.ended->message, ==, "the agent stops");
    g_assert_cmpuint(pair->agent.endings, ==, 0);
}

static void
test_a_failed_link_tells_its_peer_at_once(void)
{
    g_autoptr(Pair) pair = pair_new();

    cbus_link_fail(pair->agent.link, CBUS_LINK_ERROR_LOST, "gap");
    pair_settle(pair);
    g_assert_error(pair->agent.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_cmpuint(pair->proxy.endings, ==, 1);
}

static void
test_a_link_whose_packet_was_not_taken_tells_its_peer(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    pair->agent.refusals = 1;
    g_assert_true(send_message(&pair->agent, channel, 16, 1));
    pair_settle(pair);
    g_assert_error(pair->agent.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_cmpuint(cbus_link_departed(pair->agent.link, channel), ==, 0);
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_cmpuint(pair->proxy.messages->len, ==, 0);
}

static void
test_a_link_can_be_freed_in_its_handlers(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint32 channel = pair_channel(pair);

    pair->agent.frees_in_message = TRUE;
    g_assert_true(send_message(&pair->proxy, channel, 16, 1));
    g_assert_true(send_message(&pair->proxy, channel, 16, 2));
    pair_settle(pair);
    g_assert_null(pair->agent.link);
    g_assert_cmpuint(pair->agent.messages->len, ==, 1);
    pair->proxy.frees_in_ended = TRUE;
    cbus_link_fail(pair->proxy.link, CBUS_LINK_ERROR_CLOSED, "end");
    pair_turn(pair);
    g_assert_null(pair->proxy.link);
    g_assert_cmpuint(pair->agent.endings, ==, 0);
}

static void
store_round_trip(gint64 us, gpointer user_data)
{
    *(gint64 *)user_data = us;
}

static void
test_a_ping_measures_the_round_trip(void)
{
    g_autoptr(Pair) pair = pair_new();
    gint64 first = 0, second = 0, last = 0;

    cbus_link_ping(pair->proxy.link, store_round_trip, &first);
    pair_turn(pair);
    pair->now += 1500;
    cbus_link_ping(pair->proxy.link, store_round_trip, &second);
    pair_settle(pair);
    g_assert_cmpint(first, ==, 1500);
    g_assert_cmpint(second, ==, 1);
    g_assert_cmpint(cbus_link_round_trip(pair->proxy.link), ==, 1);
    cbus_link_ping(pair->proxy.link, store_round_trip, &last);
    g_clear_pointer(&pair->proxy.link, cbus_link_free);
    g_assert_cmpint(last, ==, -1);
}

static void
test_a_busy_link_pings_each_second_an_idle_one_seldom(void)
{
    g_autoptr(Pair) pair = pair_new();
    guint before = pair->proxy.packets;

    for (guint i = 0; i < 15; i++)
        pair_pass(pair, G_USEC_PER_SEC);
    g_assert_cmpuint(pair->proxy.packets, ==, before);
    cbus_link_set_busy(pair->proxy.link, TRUE);
    pair->proxy.probed = FALSE;
    for (guint i = 0; i < 10; i++)
        pair_pass(pair, G_USEC_PER_SEC);
    /* One more if the agent's own ping, between its 20th and 30th second, was answered meanwhile. */
    g_assert_cmpuint(pair->proxy.packets - before, >=, 10);
    g_assert_cmpuint(pair->proxy.packets - before, <=, 11);
    g_assert_true(pair->proxy.probed);
    cbus_link_set_busy(pair->proxy.link, FALSE);
    for (guint i = 0; i < 200; i++)
        pair_pass(pair, G_USEC_PER_SEC);
    g_assert_cmpuint(pair->proxy.endings + pair->agent.endings, ==, 0);
}

static void
test_ten_silent_seconds_end_a_link_on_either_side(void)
{
    g_autoptr(Pair) pair = pair_new();

    for (guint i = 0; i < 50; i++) {
        pair->now += G_USEC_PER_SEC;
        cbus_budget_tick(pair->proxy.budget);
        cbus_budget_tick(pair->agent.budget);
        pair_turn(pair);
        if (i == 25)
            g_assert_cmpuint(pair->proxy.endings + pair->agent.endings, ==, 0);
    }
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_error(pair->agent.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
}

static void
test_suspicion_ends_a_dead_link_soon_and_a_living_one_never(void)
{
    g_autoptr(Pair) pair = pair_new();

    for (guint i = 0; i < 20; i++) {
        cbus_link_suspect(pair->proxy.link);
        pair_settle(pair);
        pair_pass(pair, 600 * 1000);
    }
    g_assert_cmpuint(pair->proxy.endings, ==, 0);
    cbus_link_suspect(pair->proxy.link);
    pair_turn(pair);
    pair->now += 499 * 1000;
    cbus_budget_tick(pair->proxy.budget);
    pair_turn(pair);
    g_assert_cmpuint(pair->proxy.endings, ==, 0);
    pair->now += 1000;
    cbus_budget_tick(pair->proxy.budget);
    pair_turn(pair);
    g_assert_error(pair->proxy.ended, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
}

#define ADD(name) g_test_add_func("/link/" #name, test_##name)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(small_messages_arrive_in_order);
    ADD(a_huge_message_crosses_whole_and_in_order);
    ADD(a_small_message_overtakes_a_huge_one);
    ADD(order_holds_in_each_of_many_channels);
    ADD(counters_are_exact_when_the_link_ends);
    ADD(what_the_transport_did_not_take_has_not_departed);
    ADD(queues_wait_while_the_transport_is_full);
    ADD(an_idle_link_keeps_no_buffer);
    ADD(a_full_queue_refuses);
    ADD(sizes_that_are_no_message_are_refused);
    ADD(channels_open_and_close);
    ADD(closing_comes_after_what_is_queued);
    ADD(discarding_cuts_a_message_short);
    ADD(a_channel_closed_before_it_opened_is_refused);
    ADD(trees_are_asked_and_answered);
    ADD(server_info_arrives_and_is_cut_to_fit);
    ADD(a_refused_link_learns_why);
    ADD(nothing_leaves_before_finish_is_accepted);
    ADD(closing_in_order_tells_only_the_peer);
    ADD(a_failed_link_tells_its_peer_at_once);
    ADD(a_link_whose_packet_was_not_taken_tells_its_peer);
    ADD(a_link_can_be_freed_in_its_handlers);
    ADD(a_ping_measures_the_round_trip);
    ADD(a_busy_link_pings_each_second_an_idle_one_seldom);
    ADD(ten_silent_seconds_end_a_link_on_either_side);
    ADD(suspicion_ends_a_dead_link_soon_and_a_living_one_never);
    return g_test_run();
}
