/* What rests promise: one only while many messages are under way, none that costs more than it saves,
 * none that is long. */
#include "link/rest.h"

/* COUNT turns with MESSAGES each, the next one TURN_US later. Returns the last rest, as asked for when a turn
 * has taken WORK_US. */
static guint
turns(CbusRest *rest, gint64 *now, guint count, guint turn_us, guint messages, guint work_us)
{
    guint us = 0;

    for (guint i = 0; i < count; i++) {
        cbus_rest_begin(rest, *now);
        rest->messages += messages;
        us = cbus_rest_us(rest, *now + work_us);
        *now += turn_us;
    }
    return us;
}

static void
test_calls_one_after_the_other_are_not_held(void)
{
    CbusRest rest = {0};
    gint64 now = 1000000;

    g_assert_cmpuint(turns(&rest, &now, 1000, 200, 1, 20), ==, 0);
    g_assert_cmpuint(turns(&rest, &now, 1000, 40, 12, 20), ==, 0);
}

/* 30 were under way at once; now they come one by one, 40 µs apart: 15 of them take 600 µs. */
static void
test_many_under_way_are_waited_for(void)
{
    CbusRest rest = {0};
    gint64 now = 1000000;

    (void)turns(&rest, &now, 1, 1200, 30, 20);
    guint us = turns(&rest, &now, 4, 40, 1, 20);
    g_assert_cmpuint(us, >=, 400);
    g_assert_cmpuint(us, <, 600);
}

static void
test_what_comes_fast_is_not_waited_for(void)
{
    CbusRest rest = {0};
    gint64 now = 1000000;

    g_assert_cmpuint(turns(&rest, &now, 100, 100, 40, 20), ==, 0);
}

static void
test_no_rest_is_long(void)
{
    CbusRest rest = {0};
    gint64 now = 1000000;

    (void)turns(&rest, &now, 1, 1000, 4096, 20);
    for (guint i = 0; i < 200; i++)
        g_assert_cmpuint(turns(&rest, &now, 1, 4000, 1, 20), <, 800);
}

/* Also when the turn itself has taken that long. */
static void
test_a_rest_is_part_of_the_turn(void)
{
    CbusRest rest = {0};
    gint64 now = 1000000;

    (void)turns(&rest, &now, 1, 1200, 30, 20);
    g_assert_cmpuint(turns(&rest, &now, 4, 40, 1, 700), ==, 0);
}

static void
test_depth_is_forgotten(void)
{
    CbusRest rest = {0};
    gint64 now = 1000000;

    (void)turns(&rest, &now, 1, 1200, 100, 20);
    g_assert_cmpuint(turns(&rest, &now, 10, 40, 1, 20), >, 0);
    g_assert_cmpuint(turns(&rest, &now, 400, 40, 1, 20), ==, 0);
}

static void
test_after_a_silence_everything_is_new(void)
{
    CbusRest rest = {0};
    gint64 now = 1000000;

    (void)turns(&rest, &now, 1, 1200, 100, 20);
    g_assert_cmpuint(turns(&rest, &now, 10, 40, 1, 20), >, 0);
    now += 6000;
    g_assert_cmpuint(turns(&rest, &now, 10, 40, 1, 20), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rest/calls-one-after-the-other-are-not-held",
                    test_calls_one_after_the_other_are_not_held);
    g_test_add_func("/rest/many-under-way-are-waited-for", test_many_under_way_are_waited_for);
    g_test_add_func("/rest/what-comes-fast-is-not-waited-for", test_what_comes_fast_is_not_waited_for);
    g_test_add_func("/rest/no-rest-is-long", test_no_rest_is_long);
    g_test_add_func("/rest/a-rest-is-part-of-the-turn", test_a_rest_is_part_of_the_turn);
    g_test_add_func("/rest/depth-is-forgotten", test_depth_is_forgotten);
    g_test_add_func("/rest/after-a-silence-everything-is-new", test_after_a_silence_everything_is_new);
    return g_test_run();
}
