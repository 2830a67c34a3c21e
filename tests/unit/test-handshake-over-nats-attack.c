/* Acceptor and dialer over a real nats-server with a third party who overhears all and publishes whatever it
 * likes: no link ends by it, nobody gets in by it, and nobody is kept out. */
#include "handshake-fixture.h"

#include "link/link_private.h"
#include "wire/subject.h"

static void
test_a_replayed_hello_does_no_harm(World *world, gconstpointer data)
{
    char subject[CBUS_SUBJECT_MAX];

    world_wait_for_link(world);
    WAIT_UNTIL(world->hello->len == CBUS_HELLO_BYTES);
    g_autoptr(GByteArray) hello = g_byte_array_new();
    g_byte_array_append(hello, world->hello->data, world->hello->len);
    cbus_subject_hello(subject, &world->agent_key);
    for (guint i = 0; i < 20; i++)
        world_publish(world, subject, "cbus.v1.bogus", hello->data, hello->len);
    nats_fixture_turn_for(300);
    world_assert_link_works(world);
    g_assert_cmpuint(world->agent.accepted, ==, 1);
    g_assert_cmpuint(world->proxy.ended + world->agent.ended, ==, 0);
}

static void
test_junk_on_every_subject_changes_nothing(World *world, gconstpointer data)
{
    char hello[CBUS_SUBJECT_MAX], here[CBUS_SUBJECT_MAX];
    guint8 junk[300];
    static const gsize sizes[] = {0, 1, 7, 8, 31, 32, 48, 72, 144, 300};

    world_wait_for_link(world);
    WAIT_UNTIL(world->agent_in != NULL);
    cbus_subject_hello(hello, &world->agent_key);
    cbus_subject_here(here, &world->agent_key);
    /* Where the proxy listens is told by the reply of a hello: the instance in it. */
    CbusKey key;
    CbusInstance instance;
    char out[CBUS_SUBJECT_MAX];
    g_assert_true(cbus_hello_peek(world->hello->data, world->hello->len, &key, &instance));
    cbus_subject_out(out, &world->agent_key, &key, &instance);
    const char *subjects[] = {hello, here, out, world->agent_in, CBUS_SUBJECT_WHO};
    for (guint round = 0; round < 20; round++) {
        for (guint s = 0; s < G_N_ELEMENTS(subjects); s++) {
            for (guint z = 0; z < G_N_ELEMENTS(sizes); z++) {
                for (guint i = 0; i < sizeof junk; i++)
                    junk[i] = (guint8)g_test_rand_int();
                if (round % 2 == 0)
                    memcpy(junk, "CBUS\1", 5);
                junk[5] = (guint8)(round % 6);
                if (round % 3 == 0)
                    memcpy(junk + 8, cbus_link_id(world->proxy.link), CBUS_LINK_ID_BYTES);
                world_publish(world, subjects[s], NULL, junk, sizes[z]);
            }
        }
    }
    nats_fixture_turn_for(300);
    world_assert_link_works(world);
    g_assert_cmpuint(world->proxy.ended + world->agent.ended, ==, 0);
}

static void
test_a_genuine_proxy_gets_in_after_a_flood(World *world, gconstpointer data)
{
    char subject[CBUS_SUBJECT_MAX];

    world_wait_for_link(world);
    cbus_subject_hello(subject, &world->agent_key);
    CbusKey key;
    CbusInstance instance;
    g_assert_true(cbus_hello_peek(world->hello->data, world->hello->len, &key, &instance));
    g_autofree guint8 *hello = g_memdup2(world->hello->data, world->hello->len);
    /* Half of them in the genuine proxy's own name. */
    for (guint i = 0; i < 4000; i++) {
        guint8 seed[32] = {3};
        cbus_put_be32(seed + 1, i);
        g_autoptr(CbusSecret) stranger = cbus_secret_new_from_seed(seed);
        if (i % 2 == 0)
            memcpy(hello + 56, cbus_secret_public(stranger)->bytes, CBUS_KEY_BYTES);
        else
            memcpy(hello + 56, world->proxy_key.bytes, CBUS_KEY_BYTES);
        world_publish(world, subject, NULL, hello, CBUS_HELLO_BYTES);
    }
    cbus_link_fail(world->proxy.link, CBUS_LINK_ERROR_CLOSED, "again");
    WAIT_UNTIL(world->proxy.linked == 2);
    world_assert_link_works(world);
}

static void
test_forged_hints_end_no_link(World *world, gconstpointer data)
{
    char here[CBUS_SUBJECT_MAX], gone[CBUS_SUBJECT_MAX], nobody[64];
    guint8 bytes[CBUS_PRESENCE_BYTES];
    CbusKey key;
    CbusInstance instance;

    world_wait_for_link(world);
    g_assert_true(cbus_hello_peek(world->hello->data, world->hello->len, &key, &instance));
    cbus_subject_here(here, &world->agent_key);
    cbus_subject_gone(gone, &world->agent_key, &key, &instance);
    WAIT_UNTIL(cbus_key_equal(&world->presence.agent, &world->agent_key));
    CbusPresence forged = world->presence;
    for (guint i = 0; i < 30; i++) {
        forged.farewell = TRUE;
        forged.instance = world->presence.instance;
        cbus_presence_write(&forged, bytes);
        world_publish(world, here, NULL, bytes, sizeof bytes);
        forged.farewell = FALSE;
        cbus_instance_random(&forged.instance);
        cbus_presence_write(&forged, bytes);
        world_publish(world, here, NULL, bytes, sizeof bytes);
        /* The broker itself makes the 503: a request to where nobody listens, with their reply subject. */
        g_snprintf(nobody, sizeof nobody, "nobody.%u", i);
        world_publish(world, nobody, gone, bytes, sizeof bytes);
        nats_fixture_turn_for(40);
    }
    nats_fixture_turn_for(1500);
    world_assert_link_works(world);
    g_assert_cmpuint(world->proxy.ended + world->agent.ended, ==, 0);
    g_assert_cmpuint(world->proxy.linked, ==, 1);
}

static void
test_a_flood_of_fresh_keys_is_rationed(World *world, gconstpointer data)
{
    guint8 bytes[CBUS_PRESENCE_BYTES];
    char here[CBUS_SUBJECT_MAX];

    world_wait_for_link(world);
    world->proxy.wants_all = FALSE;
    world->proxy.announced = 0;
    for (guint i = 0; i < 500; i++) {
        guint8 seed[32] = {4};
        cbus_put_be32(seed + 1, i);
        g_autoptr(CbusSecret) fresh = cbus_secret_new_from_seed(seed);
        CbusPresence presence = {.agent = *cbus_secret_public(fresh), .beat = 1};
        cbus_presence_write(&presence, bytes);
        cbus_subject_here(here, &presence.agent);
        world_publish(world, here, NULL, bytes, sizeof bytes);
    }
    nats_fixture_turn_for(300);
    g_assert_cmpuint(world->proxy.announced, >=, 15);
    g_assert_cmpuint(world->proxy.announced, <=, 32);
    world_assert_link_works(world);
}

#define ADD(name)                                                                                            \
    g_test_add("/handshake-over-nats-attack/" #name, World, NULL, world_set_up, test_##name, world_tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!world_is_possible())
        return 77;
    ADD(a_replayed_hello_does_no_harm);
    ADD(junk_on_every_subject_changes_nothing);
    ADD(a_genuine_proxy_gets_in_after_a_flood);
    ADD(forged_hints_end_no_link);
    ADD(a_flood_of_fresh_keys_is_rationed);
    return g_test_run();
}
