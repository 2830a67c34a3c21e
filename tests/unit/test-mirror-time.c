/* What the mirror does because time went by: under a clock that the test sets, never by waiting. */
#include "fake-mirror.h"

static const char *const names[] = {"com.example.A=:1.5", NULL};
#define A         "com.example.A"
#define OLD_S     600 /* a call that is older is past hope */
#define IDLE_S    60
#define PATIENT_S 60
#define XML       "<node><interface name='a.b'/></node>"

static Fake *
settled(void)
{
    Fake *fake = fake_new();

    fake_up(fake);
    fake_settle(fake, 0, names, NULL);
    return fake;
}

/* So many calls of SENDER that hang. Returns the last one's serial. */
static guint32
hang(Fake *fake, const char *sender, guint count)
{
    guint32 serial = 0;

    for (guint i = 0; i < count; i++)
        serial = fake_ping(fake, sender, A);
    return serial;
}

static void
test_a_channel_of_old_calls_takes_no_new_ones(void)
{
    Fake *fake = settled();
    guint32 old, young;

    hang(fake, ":1.7", 96);
    old = hang(fake, ":1.8", 1);
    g_assert_cmpuint(fake_channel(fake, 1)->sent->len, ==, 2);
    fake_pass(fake, OLD_S);
    hang(fake, ":1.8", 1);
    g_assert_cmpuint(fake_channel(fake, 1)->sent->len, ==, 3);
    fake_reply(fake, 1, fake_last(fake, 1), NULL);
    g_object_unref(fake_take(fake));
    /* One second later all of it is older than ten minutes: of the main channel there is an heir, too. */
    fake_pass(fake, 1);
    g_assert_cmpuint(fake_open_channels(fake), ==, 3);
    fake_settle(fake, 2, names, NULL);
    young = hang(fake, ":1.8", 1);
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 2)), ==, "Ping");
    g_assert_cmpuint(fake_channel(fake, 1)->sent->len, ==, 3);
    /* Somebody living waits on both: what comes after all still arrives. */
    fake_pass(fake, 5 * OLD_S);
    g_assert_false(fake_channel(fake, 0)->closed);
    g_assert_false(fake_channel(fake, 1)->closed);
    fake_assert_silent(fake);
    fake_reply(fake, 1, g_ptr_array_index(fake_channel(fake, 1)->sent, 1), NULL);
    fake_assert_reply(fake, old, NULL);
    fake_pass(fake, 1);
    g_assert_true(fake_channel(fake, 1)->closed);
    g_assert_false(fake_channel(fake, 0)->closed);
    cbus_mirror_caller_gone(fake->mirror, ":1.7");
    g_assert_true(fake_channel(fake, 0)->closed);
    fake_reply(fake, 2, fake_last(fake, 2), NULL);
    fake_assert_reply(fake, young, NULL);
    fake_free(fake);
}

static void
test_a_few_old_calls_do_not_make_the_main_channel_retire(void)
{
    Fake *fake = settled();

    hang(fake, ":1.7", 47);
    fake_pass(fake, OLD_S + 1);
    g_assert_cmpuint(fake->link.channels->len, ==, 1);
    hang(fake, ":1.7", 1);
    fake_pass(fake, OLD_S);
    g_assert_cmpuint(fake->link.channels->len, ==, 1);
    fake_pass(fake, 1);
    g_assert_cmpuint(fake->link.channels->len, ==, 2);
    fake_free(fake);
}

/* However many hang: ten minutes later there is room for new ones as soon as their callers left. */
static void
test_a_full_pool_has_room_again(void)
{
    Fake *fake = settled();
    guint32 serial;

    hang(fake, ":1.7", 8 * 96);
    fake_assert_error(fake, hang(fake, ":1.8", 1), "org.freedesktop.DBus.Error.LimitsExceeded", "web1");
    fake_pass(fake, OLD_S + 1);
    fake_assert_error(fake, hang(fake, ":1.8", 1), "org.freedesktop.DBus.Error.LimitsExceeded", "web1");
    cbus_mirror_caller_gone(fake->mirror, ":1.7");
    /* The main channel waits for its heir's matches. */
    g_assert_cmpuint(fake_open_channels(fake), ==, 2);
    fake_settle(fake, 8, names, NULL);
    g_assert_cmpuint(fake_open_channels(fake), ==, 1);
    serial = hang(fake, ":1.8", 1);
    fake_assert_silent(fake);
    fake_reply(fake, 8, fake_last(fake, 8), NULL);
    fake_assert_reply(fake, serial, NULL);
    fake_free(fake);
}

static void
test_an_idle_channel_is_closed_after_a_minute(void)
{
    Fake *fake = settled();

    hang(fake, ":1.7", 97);
    fake_reply(fake, 1, fake_last(fake, 1), NULL);
    g_object_unref(fake_take(fake));
    fake_pass(fake, IDLE_S - 1);
    g_assert_false(fake_channel(fake, 1)->closed);
    fake_pass(fake, 1);
    g_assert_true(fake_channel(fake, 1)->closed);
    /* The main channel never is: it has the matches. */
    for (guint i = 0; i < 96; i++) {
        fake_reply(fake, 0,
                   g_ptr_array_index(fake_channel(fake, 0)->sent, fake_channel(fake, 0)->sent->len - 1 - i),
                   NULL);
        g_object_unref(fake_take(fake));
    }
    fake_pass(fake, 100 * IDLE_S);
    g_assert_false(fake_channel(fake, 0)->closed);
    fake_free(fake);
}

static void
test_a_tree_that_never_comes_is_given_up_after_a_minute(void)
{
    Fake *fake = settled();
    guint32 first = fake_introspect(fake, ":1.7", A, "/"), second;

    fake_pass(fake, PATIENT_S);
    second = fake_introspect(fake, ":1.8", A, "/");
    g_assert_cmpuint(fake->link.trees.length, ==, 1);
    fake_assert_silent(fake);
    fake_pass(fake, 1);
    fake_assert_error(fake, first, "org.freedesktop.DBus.Error.NoReply",
                      "web1: no answer came within a minute");
    fake_assert_error(fake, second, "org.freedesktop.DBus.Error.NoReply", A);
    fake_assert_silent(fake);
    /* And asked for anew by who comes then; the late answer to the first is nobody's. */
    first = fake_introspect(fake, ":1.7", A, "/");
    g_assert_cmpuint(fake->link.trees.length, ==, 2);
    fake_tree(fake, "/", XML, NULL);
    fake_assert_silent(fake);
    fake_tree(fake, "/", XML, NULL);
    fake_assert_xml(fake, first, "a.b", TRUE);
    fake_free(fake);
}

static void
test_a_tree_is_fresh_for_two_seconds(void)
{
    Fake *fake = settled();
    guint32 serial = fake_introspect(fake, ":1.7", A, "/");

    fake_tree(fake, "/", XML, NULL);
    fake_assert_xml(fake, serial, "a.b", TRUE);
    fake_pass(fake, 2);
    serial = fake_introspect(fake, ":1.7", A, "/");
    g_assert_cmpuint(fake->link.trees.length, ==, 0);
    fake_assert_xml(fake, serial, "a.b", TRUE);
    fake_pass(fake, 1);
    fake_introspect(fake, ":1.7", A, "/");
    g_assert_cmpuint(fake->link.trees.length, ==, 1);
    fake_assert_silent(fake);
    fake_free(fake);
}

/* Fresh or not: what says that objects came or went, or that somebody else has the name, makes a tree old. */
static void
test_what_changes_makes_a_tree_old(void)
{
    static const char *const signals[] = {"InterfacesAdded", "InterfacesRemoved", NULL};
    Fake *fake = settled();
    guint32 serial;

    for (guint i = 0; i <= G_N_ELEMENTS(signals); i++) {
        serial = fake_introspect(fake, ":1.7", A, "/");
        g_assert_cmpuint(fake->link.trees.length, ==, 1);
        fake_tree(fake, "/", XML, NULL);
        fake_assert_xml(fake, serial, "a.b", TRUE);
        serial = fake_introspect(fake, ":1.7", A, "/");
        g_assert_cmpuint(fake->link.trees.length, ==, 0);
        fake_assert_xml(fake, serial, "a.b", TRUE);
        if (i >= G_N_ELEMENTS(signals))
            break;
        if (signals[i] != NULL)
            fake_signal(fake, ":1.5", "/", "org.freedesktop.DBus.ObjectManager", signals[i],
                        i == 0 ? g_variant_new("(oa{sa{sv}})", "/x", NULL)
                               : g_variant_new("(oas)", "/x", NULL));
        else
            fake_owner_changed(fake, A, ":1.5", ":1.6");
        g_queue_clear_full(&fake->front.out, g_object_unref);
    }
    /* One that is on its way when that is said serves who asked before, and nobody else. */
    fake_owner_changed(fake, A, ":1.6", ":1.5");
    g_queue_clear_full(&fake->front.out, g_object_unref);
    serial = fake_introspect(fake, ":1.7", A, "/");
    fake_signal(fake, ":1.5", "/", "org.freedesktop.DBus.ObjectManager", "InterfacesAdded",
                g_variant_new("(oa{sa{sv}})", "/x", NULL));
    g_queue_clear_full(&fake->front.out, g_object_unref);
    fake_tree(fake, "/", XML, NULL);
    fake_assert_xml(fake, serial, "a.b", TRUE);
    fake_introspect(fake, ":1.7", A, "/");
    g_assert_cmpuint(fake->link.trees.length, ==, 1);
    fake_free(fake);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror-time/old-calls", test_a_channel_of_old_calls_takes_no_new_ones);
    g_test_add_func("/mirror-time/few-old-calls", test_a_few_old_calls_do_not_make_the_main_channel_retire);
    g_test_add_func("/mirror-time/full-pool", test_a_full_pool_has_room_again);
    g_test_add_func("/mirror-time/idle-channel", test_an_idle_channel_is_closed_after_a_minute);
    g_test_add_func("/mirror-time/late-tree", test_a_tree_that_never_comes_is_given_up_after_a_minute);
    g_test_add_func("/mirror-time/fresh-tree", test_a_tree_is_fresh_for_two_seconds);
    g_test_add_func("/mirror-time/old-tree", test_what_changes_makes_a_tree_old);
    return g_test_run();
}
