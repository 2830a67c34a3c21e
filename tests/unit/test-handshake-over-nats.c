/* Acceptor and dialer against each other over a real nats-server: who is linked, who is not and learns why,
 * and which link stays when there could be two. What is lost is in test-handshake-over-nats-loss.c, what
 * others say in test-handshake-over-nats-attack.c. */
#include "handshake-fixture.h"
#include "link/link_private.h"
#include "wire/message.h"

static void
test_a_link_comes_up_and_carries(World *world, gconstpointer data)
{
    static const guint8 message[16] = {'l', CBUS_MESSAGE_SIGNAL, 0, 1, 0, 0, 0, 0, 1};

    world_wait_for_link(world);
    g_assert_cmpstr(world->proxy.name, ==, "web1");
    world_assert_link_works(world);
    guint32 channel = cbus_link_open(world->proxy.link, 0);
    g_assert_true(cbus_link_send(world->proxy.link, channel, message, sizeof message));
    WAIT_UNTIL(world->agent.messages == 1);
    g_assert_cmpuint(world->proxy.linked, ==, 1);
    g_assert_cmpuint(world->agent.accepted, ==, 1);
}

static void
test_a_refused_key_learns_why(World *world, gconstpointer data)
{
    world->agent.closed = TRUE;
    WAIT_UNTIL(world->proxy.state == CBUS_DIAL_UNAUTHORIZED);
    g_assert_cmpstr(world->proxy.message, ==, "your key is not in authorized-keys");
    g_assert_cmpuint(world->agent.accepted, ==, 0);
    g_assert_null(world->proxy.link);
    /* Tried again; in as soon as the line is there. */
    world->agent.closed = FALSE;
    world_wait_for_link(world);
}

static void
test_a_key_removed_between_hello_and_finish_is_refused(World *world, gconstpointer data)
{
    /* The agent's signature comes late, so that the finish is still to come when the hello is heard. */
    WAIT_UNTIL(world->hello->len == CBUS_HELLO_BYTES);
    g_assert_cmpuint(world->agent.accepted, ==, 0);
    world->agent.closed = TRUE;
    WAIT_UNTIL(world->proxy.state == CBUS_DIAL_UNAUTHORIZED);
    g_assert_cmpuint(world->agent.accepted, ==, 0);
    g_assert_null(world->proxy.link);
}

static void
test_two_agents_with_one_key_do_not_take_turns(World *world, gconstpointer data)
{
    world_wait_for_link(world);
    agent_start(world, &world->twin);
    WAIT_UNTIL(world->proxy.linked == 2);
    /* Each is heard again at least once. */
    guint seen = world->proxy.seen;
    WAIT_UNTIL(world->proxy.seen >= seen + 4);
    nats_fixture_turn_for(500);
    g_assert_cmpuint(world->proxy.linked, ==, 2);
    g_assert_cmpuint(world->proxy.ended, ==, 1);
    g_assert_nonnull(world->twin.link);
    world_assert_link_works(world);
}

static void
test_a_newer_link_of_the_same_proxy_replaces_the_older(World *world, gconstpointer data)
{
    world_wait_for_link(world);
    /* The proxy alone loses it, and can not say so. */
    cbus_link_cut(world->proxy.link);
    cbus_link_fail(world->proxy.link, CBUS_LINK_ERROR_LOST, "lost here alone");
    WAIT_UNTIL(world->agent.accepted == 2 && world->proxy.linked == 2);
    g_assert_cmpuint(world->agent.ended, ==, 1);
    g_assert_error(world->agent.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_CLOSED);
    world_assert_link_works(world);
}

static void
test_a_pinned_machine_without_presence_is_offline(World *world, gconstpointer data)
{
    guint8 seed[32] = {99};
    g_autoptr(CbusSecret) absent = cbus_secret_new_from_seed(seed);

    world_wait_for_link(world);
    cbus_dialer_want(world->proxy.dialer, cbus_secret_public(absent));
    WAIT_UNTIL(world->proxy.message != NULL && strstr(world->proxy.message, "no presence") != NULL);
    g_assert_cmpint(world->proxy.state, ==, CBUS_DIAL_OFFLINE);
}

static void
test_unwanted_machines_get_no_hello(World *world, gconstpointer data)
{
    world->proxy.wants_all = FALSE;
    WAIT_UNTIL(world->proxy.announced >= 1);
    nats_fixture_turn_for(200);
    g_assert_cmpuint(world->hello->len, ==, 0);
    cbus_dialer_want(world->proxy.dialer, &world->agent_key);
    world_wait_for_link(world);
    cbus_dialer_unwant(world->proxy.dialer, &world->agent_key);
    WAIT_UNTIL(world->agent.ended == 1);
    g_assert_error(world->agent.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_CLOSED);
}

#define ADD(name)                                                                                            \
    g_test_add("/handshake-over-nats/" #name, World, NULL, world_set_up, test_##name, world_tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!world_is_possible())
        return 77;
    ADD(a_link_comes_up_and_carries);
    ADD(a_refused_key_learns_why);
    ADD(a_key_removed_between_hello_and_finish_is_refused);
    ADD(two_agents_with_one_key_do_not_take_turns);
    ADD(a_newer_link_of_the_same_proxy_replaces_the_older);
    ADD(a_pinned_machine_without_presence_is_offline);
    ADD(unwanted_machines_get_no_hello);
    return g_test_run();
}
