/* What the end of a turn promises: before the next poll, in order, phases apart. */
#include "link/turn.h"

typedef struct {
    CbusTurn *turn;
    GString *trace;
    CbusDeferred a, b, c, again;
} Fixture;

static void
trace_a(gpointer user_data)
{
    g_string_append_c(((Fixture *)user_data)->trace, 'a');
}

static void
trace_b(gpointer user_data)
{
    g_string_append_c(((Fixture *)user_data)->trace, 'b');
}

static void
trace_c(gpointer user_data)
{
    g_string_append_c(((Fixture *)user_data)->trace, 'c');
}

static void
trace_then_pack_b(gpointer user_data)
{
    Fixture *fixture = user_data;

    g_string_append_c(fixture->trace, '!');
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->b);
}

static void
cancel_b(gpointer user_data)
{
    cbus_turn_cancel(&((Fixture *)user_data)->b);
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    fixture->turn = cbus_turn_new(NULL);
    fixture->trace = g_string_new(NULL);
    fixture->a = (CbusDeferred){.func = trace_a, .user_data = fixture};
    fixture->b = (CbusDeferred){.func = trace_b, .user_data = fixture};
    fixture->c = (CbusDeferred){.func = trace_c, .user_data = fixture};
    fixture->again = (CbusDeferred){.func = trace_then_pack_b, .user_data = fixture};
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    if (fixture->turn != NULL)
        cbus_turn_free(fixture->turn);
    g_string_free(fixture->trace, TRUE);
}

static void
test_phases(Fixture *fixture, gconstpointer data)
{
    cbus_turn_defer(fixture->turn, CBUS_TURN_WRITE, &fixture->c);
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->b);
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->a);
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->b);
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpstr(fixture->trace->str, ==, "bac");
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpstr(fixture->trace->str, ==, "bac");
}

static void
test_pack_deferred_by_write_runs_in_the_same_turn(Fixture *fixture, gconstpointer data)
{
    cbus_turn_defer(fixture->turn, CBUS_TURN_WRITE, &fixture->again);
    cbus_turn_defer(fixture->turn, CBUS_TURN_WRITE, &fixture->c);
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpstr(fixture->trace->str, ==, "!bc");
}

static gboolean
defer_from_dispatch(gpointer user_data)
{
    Fixture *fixture = user_data;

    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->a);
    return G_SOURCE_REMOVE;
}

static void
test_runs_before_the_poll_that_follows_a_dispatch(Fixture *fixture, gconstpointer data)
{
    g_idle_add(defer_from_dispatch, fixture);
    g_main_context_iteration(NULL, TRUE);
    g_assert_cmpstr(fixture->trace->str, ==, "");
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpstr(fixture->trace->str, ==, "a");
}

static void
test_cancelled_does_not_run(Fixture *fixture, gconstpointer data)
{
    CbusDeferred cancel = {.func = cancel_b, .user_data = fixture};

    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->a);
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &cancel);
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->b);
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->c);
    cbus_turn_cancel(&fixture->c);
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->c);
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpstr(fixture->trace->str, ==, "ac");
    cbus_turn_cancel(&fixture->a);
}

static void
test_freed_turn_lets_go_of_what_was_deferred(Fixture *fixture, gconstpointer data)
{
    cbus_turn_defer(fixture->turn, CBUS_TURN_PACK, &fixture->a);
    g_clear_pointer(&fixture->turn, cbus_turn_free);
    cbus_turn_cancel(&fixture->a);
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpstr(fixture->trace->str, ==, "");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/turn/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("phases-in-order-and-once", test_phases);
    ADD("pack-deferred-by-write-runs-in-the-same-turn", test_pack_deferred_by_write_runs_in_the_same_turn);
    ADD("runs-before-the-next-poll", test_runs_before_the_poll_that_follows_a_dispatch);
    ADD("cancelled-does-not-run", test_cancelled_does_not_run);
    ADD("freed-turn-lets-go", test_freed_turn_lets_go_of_what_was_deferred);
    return g_test_run();
}
