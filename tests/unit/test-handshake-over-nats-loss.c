/* Acceptor and dialer over a real nats-server when an end, a connection or the server goes: both ends know
 * soon, are told why, and are linked again as soon as that can be. */
#include "handshake-fixture.h"

#include "agent/last_words.h"
#include "link/link_private.h"
#include "link/nats_private.h"

static void
test_a_restarted_agent_is_linked_again(World *world, gconstpointer data)
{
    world_wait_for_link(world);
    agent_stop(&world->agent);
    world->agent = (Agent){0};
    agent_start(world, &world->agent);
    WAIT_UNTIL(world->proxy.linked == 2);
    g_assert_cmpuint(world->proxy.ended, ==, 1);
    WAIT_UNTIL(world->agent.link != NULL);
    world_assert_link_works(world);
}

static void
test_a_dead_agent_is_noticed_and_said(World *world, gconstpointer data)
{
    world_wait_for_link(world);
    /* Whoever listens in is a responder to the broker. */
    cbus_nats_unsubscribe(world->other.nats, world->overhearing);
    cbus_link_set_busy(world->proxy.link, TRUE);
    gint64 before = g_get_monotonic_time();
    agent_stop(&world->agent);
    WAIT_UNTIL(world->proxy.ended == 1);
    g_assert_error(world->proxy.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 3 * G_USEC_PER_SEC);
    WAIT_UNTIL(world->proxy.message != NULL && strstr(world->proxy.message, "nobody listens") != NULL);
    g_assert_cmpint(world->proxy.state, ==, CBUS_DIAL_OFFLINE);
    WAIT_UNTIL(world->proxy.vanished == 1);
}

static void
test_a_farewell_ends_the_link_soon(World *world, gconstpointer data)
{
    world_wait_for_link(world);
    cbus_acceptor_farewell(world->agent.acceptor);
    cbus_nats_flush(world->agent.client.nats, 200);
    agent_stop(&world->agent);
    gint64 before = g_get_monotonic_time();
    WAIT_UNTIL(world->proxy.ended == 1 && world->proxy.vanished == 1);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 3 * G_USEC_PER_SEC);
}

static void
test_a_lost_server_ends_links_and_they_come_back(World *world, gconstpointer data)
{
    world_wait_for_link(world);
    nats_fixture_stop_server(&world->server);
    WAIT_UNTIL(world->proxy.ended == 1 && world->agent.ended == 1);
    g_assert_error(world->proxy.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_error(world->agent.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_nonnull(strstr(world->proxy.reason->message, "NATS"));
    nats_fixture_turn_for(1500);
    g_assert_cmpstr(world->proxy.message, ==, "");
    nats_fixture_start_server(&world->server, "");
    world_wait_for_link(world);
    world_assert_link_works(world);
    g_assert_cmpuint(world->proxy.vanished, ==, 0);
}

/* As when the agent's server dies and the proxy's lives: the agent's connection alone breaks, and somebody
 * else (the one who overhears) keeps the broker from telling. */
static void
break_connection(World *world)
{
    world_wait_for_link(world);
    WAIT_UNTIL(cbus_nats_buffered(world->agent.client.nats) == 0);
    cbus_nats_source_shutdown(world->agent.client.nats->source);
}

static void
assert_told_at_once(World *world)
{
    gint64 before = g_get_monotonic_time();

    WAIT_UNTIL(world->proxy.ended == 1);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 3 * G_USEC_PER_SEC);
    g_assert_error(world->proxy.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    WAIT_UNTIL(world->proxy.linked == 2 && world->agent.accepted == 2);
    world_assert_link_works(world);
}

static void
test_an_agent_whose_connection_breaks_tells_on_the_next(World *world, gconstpointer data)
{
    break_connection(world);
    assert_told_at_once(world);
    g_assert_nonnull(strstr(world->proxy.reason->message, "NATS"));
}

/* Goes before anybody is told that the agent's connection is lost. */
typedef struct {
    GSource base;
    World *world;
    gint64 round_trip;
} LossSource;

static gboolean
loss_prepare(GSource *source, gint *timeout)
{
    *timeout = -1;
    return FALSE;
}

static gboolean
loss_check(GSource *source)
{
    return !cbus_nats_is_up(((LossSource *)source)->world->agent.client.nats);
}

static gboolean
loss_dispatch(GSource *source, GSourceFunc callback, gpointer user_data)
{
    LossSource *loss = (LossSource *)source;

    g_assert_nonnull(loss->world->agent.link);
    g_assert_true(cbus_link_is_open(loss->world->agent.link));
    cbus_link_ping(loss->world->agent.link, world_store_round_trip, &loss->round_trip);
    return G_SOURCE_REMOVE;
}

/* The connection is known to be lost, its links do not know it yet, and one of them sends. */
static void
test_a_link_that_sends_while_its_connection_breaks_tells_on_the_next(World *world, gconstpointer data)
{
    static GSourceFuncs funcs = {.prepare = loss_prepare, .check = loss_check, .dispatch = loss_dispatch};
    g_autoptr(GSource) loss = g_source_new(&funcs, sizeof(LossSource));

    ((LossSource *)loss)->world = world;
    g_source_set_priority(loss, G_PRIORITY_HIGH);
    break_connection(world);
    g_source_attach(loss, NULL);
    WAIT_UNTIL(world->agent.ended == 1);
    g_assert_nonnull(strstr(world->agent.reason->message, "could not be handed to NATS"));
    assert_told_at_once(world);
}

static void
count_words(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    g_assert_cmpmem(data, len, "bye", 3);
    (*(guint *)user_data)++;
}

static void
test_last_words_are_said_until_they_are_heard(World *world, gconstpointer data)
{
    CbusNats *nats = world->agent.client.nats;
    guint heard = 0;

    world_wait_for_link(world);
    g_autoptr(CbusLastWords) words = cbus_last_words_new(&world->server.loop, nats);
    cbus_last_words_keep(words, "words.one", (const guint8 *)"bye", 3);
    cbus_last_words_keep(words, "words.two", (const guint8 *)"bye", 3);
    cbus_last_words_up(words);
    /* What is said at once falls on deaf ears: nobody has subscribed when the server gets it. */
    cbus_nats_flush(nats, 1000);
    nats_fixture_turn_for(100);
    (void)cbus_nats_subscribe(world->other.nats, "words.one", count_words, &heard);
    gint64 before = g_get_monotonic_time();
    WAIT_UNTIL(heard == 1);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 2 * G_USEC_PER_SEC);
    /* Another connection. */
    cbus_last_words_down(words);
    cbus_last_words_up(words);
    WAIT_UNTIL(heard == 2);
    cbus_last_words_heard(words, "words.one");
    guint others = 0;
    (void)cbus_nats_subscribe(world->other.nats, "words.two", count_words, &others);
    WAIT_UNTIL(others == 2);
    g_assert_cmpuint(heard, ==, 2);
    cbus_last_words_heard(words, "words.two");
    nats_fixture_turn_for(100);
}

#define ADD(name)                                                                                            \
    g_test_add("/handshake-over-nats-loss/" #name, World, NULL, world_set_up, test_##name, world_tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!world_is_possible())
        return 77;
    ADD(a_restarted_agent_is_linked_again);
    ADD(a_dead_agent_is_noticed_and_said);
    ADD(a_farewell_ends_the_link_soon);
    ADD(a_lost_server_ends_links_and_they_come_back);
    ADD(an_agent_whose_connection_breaks_tells_on_the_next);
    ADD(a_link_that_sends_while_its_connection_breaks_tells_on_the_next);
    ADD(last_words_are_said_until_they_are_heard);
    return g_test_run();
}
