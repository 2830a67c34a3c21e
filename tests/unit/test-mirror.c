/* The mirror's calls, channels and faults, between a front and a link that only record. */
#include "fake-mirror.h"
#include <gio/gunixfdlist.h>
#include <unistd.h>

static const char *const names[] = {"com.example.A=:1.5", NULL};
#define A "com.example.A"

static Fake *
settled(void)
{
    Fake *fake = fake_new();

    fake_up(fake);
    fake_settle(fake, 0, names, NULL);
    fake_assert_silent(fake);
    return fake;
}

static void
test_begins_with_match_and_names(void)
{
    static const char *const members[] = {"Hello", "AddMatch", "ListNames", "ListActivatableNames"};
    Fake *fake = fake_new();
    FakeChannel *channel;

    fake_up(fake);
    channel = fake_channel(fake, 0);
    g_assert_cmpuint(channel->sent->len, ==, G_N_ELEMENTS(members));
    for (guint i = 0; i < G_N_ELEMENTS(members); i++) {
        GDBusMessage *message = g_ptr_array_index(channel->sent, i);

        g_assert_cmpstr(g_dbus_message_get_member(message), ==, members[i]);
        g_assert_cmpstr(g_dbus_message_get_destination(message), ==, "org.freedesktop.DBus");
    }
    fake_free(fake);
}

static void
test_forwards_a_call_as_it_is(void)
{
    Fake *fake = settled();
    g_autofree char *path = g_strconcat(fake->root, "/com_2eexample_2eB/x/y", NULL);
    GDBusMessage *call = fake_message(fake, A, "/a/b", "Do",
                                      g_variant_new("(sov)", path, path, g_variant_new_object_path("/")));
    GDBusMessage *sent;
    g_autofree char *body = NULL,
                    *expected = g_strdup_printf("('%s', objectpath '/x/y', <objectpath '/'>)", path);

    g_dbus_message_set_flags(call, G_DBUS_MESSAGE_FLAGS_NO_AUTO_START |
                                       G_DBUS_MESSAGE_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION);
    fake_call(fake, ":1.7", call);
    sent = fake_last(fake, 0);
    g_assert_cmpstr(g_dbus_message_get_path(sent), ==, "/a/b");
    g_assert_cmpstr(g_dbus_message_get_destination(sent), ==, A);
    g_assert_cmpstr(g_dbus_message_get_member(sent), ==, "Do");
    g_assert_cmpstr(g_dbus_message_get_interface(sent), ==, "com.example.Test");
    g_assert_null(g_dbus_message_get_sender(sent));
    g_assert_cmpuint(g_dbus_message_get_flags(sent), ==,
                     G_DBUS_MESSAGE_FLAGS_NO_AUTO_START |
                         G_DBUS_MESSAGE_FLAGS_ALLOW_INTERACTIVE_AUTHORIZATION);
    body = g_variant_print(g_dbus_message_get_body(sent), TRUE);
    g_assert_cmpstr(body, ==, expected);
    g_assert_true(fake->link.busy);
    fake_reply(fake, 0, sent, NULL);
    fake_free(fake);
}

static void
test_relays_a_reply_with_its_paths_translated(void)
{
    Fake *fake = settled();
    guint32 serial = fake_ping(fake, ":1.7", A);
    g_autofree char *expected = g_strdup_printf("('/p', objectpath '%s/com_2eexample_2eA/p')", fake->root);

    fake_reply(fake, 0, fake_last(fake, 0), g_variant_new("(so)", "/p", "/p"));
    g_assert_cmpstr(g_dbus_message_get_destination(g_queue_peek_head(&fake->front.out)), ==, ":1.7");
    g_assert_null(g_dbus_message_get_sender(g_queue_peek_head(&fake->front.out)));
    fake_assert_reply(fake, serial, expected);
    fake_reply(fake, 0, fake_last(fake, 0), NULL);
    fake_assert_silent(fake);
    fake_free(fake);
}

static void
test_relays_an_error_verbatim(void)
{
    Fake *fake = settled();
    guint32 serial = fake_ping(fake, ":1.7", A);

    fake_reply_error(fake, 0, fake_last(fake, 0), "com.example.Error.Odd");
    fake_assert_error(fake, serial, "com.example.Error.Odd", "as the remote says it");
    fake_free(fake);
}

static void
test_says_offline_from_the_moment_the_link_is_over(void)
{
    Fake *fake = settled();
    guint sent = fake_channel(fake, 0)->sent->len;
    guint32 serial;

    fake->link.over = TRUE;
    serial = fake_ping(fake, ":1.7", A);
    fake_assert_error(fake, serial, "ie.bmcgee.CBus1.Error.Offline", "was not executed");
    g_assert_cmpuint(fake_channel(fake, 0)->sent->len, ==, sent);
    fake_free(fake);
}

static void
test_keeps_nothing_of_a_call_without_reply(void)
{
    Fake *fake = settled();
    GDBusMessage *call = fake_message(fake, A, "/", "Ping", NULL);

    g_dbus_message_set_flags(call, G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
    fake_call(fake, ":1.7", call);
    g_assert_cmpuint(g_dbus_message_get_flags(fake_last(fake, 0)), ==,
                     G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
    cbus_mirror_link_down(fake->mirror, NULL);
    fake_assert_silent(fake);
    fake_free(fake);
}

static void
test_refuses_what_can_not_cross(void)
{
    Fake *fake = settled();
    GDBusMessage *with_fd = fake_message(fake, A, "/", "Take", g_variant_new("(h)", 0));
    GDBusMessage *with_path = fake_message(
        fake, A, "/", "Take",
        g_variant_new("(o)", "/ie/bmcgee/CBus/UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/x"));
    guint sent = fake_channel(fake, 0)->sent->len;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    guint32 serial;

    g_assert_cmpint(g_unix_fd_list_append(fds, 0, NULL), ==, 0);
    g_dbus_message_set_unix_fd_list(with_fd, fds);
    serial = fake_call(fake, ":1.7", with_fd);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.NotSupported", "web1");
    serial = fake_call(fake, ":1.7",
                       fake_message(fake, A, "/", "Take", g_variant_new("(v)", g_variant_new_handle(0))));
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.NotSupported", "descriptor");
    serial = fake_call(fake, ":1.7", with_path);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.InvalidArgs", "web1");
    g_assert_cmpuint(fake_channel(fake, 0)->sent->len, ==, sent);
    serial = fake_ping(fake, ":1.7", A);
    {
        GDBusMessage *reply = g_dbus_message_new_method_reply(fake_last(fake, 0));

        g_dbus_message_set_body(reply, g_variant_new("(v)", g_variant_new_handle(0)));
        fake_receive(fake, 0, reply);
    }
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.NotSupported", "descriptor");
    g_assert_false(fake_channel(fake, 0)->closed);
    fake_free(fake);
}

static void
test_names_what_is_absent(void)
{
    Fake *fake = fake_new();
    guint32 serial;

    serial = fake_ping(fake, ":1.7", A);
    fake_assert_error(fake, serial, "ie.bmcgee.CBus1.Error.Offline", "not executed");
    cbus_mirror_set_absence(fake->mirror, "org.freedesktop.DBus.Error.AccessDenied", "no such key there");
    serial = fake_ping(fake, ":1.7", A);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.AccessDenied", "no such key there");
    fake_up(fake);
    fake_ping(fake, ":1.7", "com.example.Unheard");
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 0)), ==, "Ping");
    fake_settle(fake, 0, names, NULL);
    serial = fake_ping(fake, ":1.7", "com.example.Unheard");
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.UnknownObject", "com.example.Unheard");
    fake_ping(fake, ":1.7", ":1.5");
    g_assert_cmpstr(g_dbus_message_get_destination(fake_last(fake, 0)), ==, ":1.5");
    fake_free(fake);
}

static void
test_spreads_hung_calls_over_eight_channels(void)
{
    Fake *fake = settled();
    guint32 serial = 0;

    for (guint i = 0; i < 8 * 96; i++) {
        g_assert_cmpuint(fake->link.channels->len, ==, i == 0 ? 1 : 1 + (i - 1) / 96);
        fake_ping(fake, ":1.7", A);
    }
    g_assert_cmpuint(fake->link.channels->len, ==, 8);
    g_assert_cmpstr(g_dbus_message_get_member(g_ptr_array_index(fake_channel(fake, 7)->sent, 0)), ==,
                    "Hello");
    fake_assert_silent(fake);
    serial = fake_ping(fake, ":1.8", A);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.LimitsExceeded", "web1");
    fake_reply(fake, 3, fake_last(fake, 3), NULL);
    g_object_unref(fake_take(fake));
    serial = fake_ping(fake, ":1.8", A);
    fake_assert_silent(fake);
    fake_reply(fake, 3, fake_last(fake, 3), NULL);
    fake_assert_reply(fake, serial, NULL);
    fake_free(fake);
}

static void
test_gives_each_local_user_channels_of_its_own(void)
{
    Fake *fake = settled();

    g_assert_cmpuint(fake_channel(fake, 0)->uid, ==, geteuid());
    fake->front.uid = 70001;
    fake_ping(fake, ":1.7", A);
    g_assert_cmpuint(fake->link.channels->len, ==, 2);
    g_assert_cmpuint(fake_channel(fake, 1)->uid, ==, 70001);
    /* Hello and the call: no match, so that signals come once. */
    g_assert_cmpuint(fake_channel(fake, 1)->sent->len, ==, 2);
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 1)), ==, "Ping");
    fake_ping(fake, ":1.8", A);
    g_assert_cmpuint(fake->link.channels->len, ==, 2);
    fake->front.uid = G_MAXUINT32;
    fake_ping(fake, ":1.9", A);
    g_assert_cmpuint(fake_channel(fake, 2)->uid, ==, G_MAXUINT32);
    fake->front.uid = geteuid();
    fake_ping(fake, ":1.10", A);
    g_assert_cmpuint(fake->link.channels->len, ==, 3);
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 0)), ==, "Ping");
    fake_free(fake);
}

/* Eight channels are the bound: who has none takes that of a user whom nobody waits for, or has to wait. */
static void
test_shares_the_channels_among_local_users(void)
{
    Fake *fake = settled();
    guint32 serial;

    for (guint i = 1; i <= 7; i++) {
        fake->front.uid = 70000 + i;
        fake_ping(fake, ":1.7", A);
    }
    g_assert_cmpuint(fake_open_channels(fake), ==, 8);
    fake->front.uid = 70008;
    serial = fake_ping(fake, ":1.8", A);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.LimitsExceeded", "try again later");
    fake_reply(fake, 3, fake_last(fake, 3), NULL);
    g_object_unref(g_queue_pop_head(&fake->front.out));
    fake_ping(fake, ":1.8", A);
    g_assert_true(fake_channel(fake, 3)->closed);
    g_assert_cmpuint(fake_channel(fake, 8)->uid, ==, 70008);
    g_assert_cmpuint(fake_open_channels(fake), ==, 8);
    fake_free(fake);
}

static void
test_closes_channels_whose_callers_are_gone(void)
{
    Fake *fake = settled();
    guint32 serial;

    for (guint i = 0; i < 96 + 50; i++)
        fake_ping(fake, ":1.7", A);
    serial = fake_ping(fake, ":1.8", A);
    g_assert_cmpuint(fake_open_channels(fake), ==, 2);
    cbus_mirror_caller_gone(fake->mirror, ":1.7");
    /* The second has a living caller; the main channel gets an heir first. */
    g_assert_false(fake_channel(fake, 0)->closed);
    g_assert_false(fake_channel(fake, 1)->closed);
    g_assert_cmpuint(fake->link.channels->len, ==, 3);
    fake_settle(fake, 2, names, NULL);
    g_assert_true(fake_channel(fake, 0)->closed);
    fake_reply(fake, 1, fake_last(fake, 1), NULL);
    fake_assert_reply(fake, serial, NULL);
    g_assert_true(fake_channel(fake, 1)->closed);
    fake_ping(fake, ":1.8", A);
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 2)), ==, "Ping");
    g_assert_cmpuint(fake_open_channels(fake), ==, 1);
    fake_free(fake);
}

static void
test_a_tick_calms_the_link_once_nothing_is_pending(void)
{
    Fake *fake = settled();

    cbus_mirror_tick(fake->mirror);
    g_assert_false(fake->link.busy);
    fake_ping(fake, ":1.7", A);
    g_assert_true(fake->link.busy);
    cbus_mirror_tick(fake->mirror);
    g_assert_true(fake->link.busy);
    fake_reply(fake, 0, fake_last(fake, 0), NULL);
    cbus_mirror_tick(fake->mirror);
    g_assert_false(fake->link.busy);
    fake_free(fake);
}

static void
test_drops_the_late_reply_of_a_caller_that_is_gone(void)
{
    Fake *fake = settled();

    fake_ping(fake, ":1.7", A);
    cbus_mirror_caller_gone(fake->mirror, ":1.7");
    fake_reply(fake, 0, fake_last(fake, 0), NULL);
    fake_assert_silent(fake);
    g_assert_cmpuint(fake_open_channels(fake), ==, 1);
    fake_free(fake);
}

static void
test_tells_sent_from_unsent_when_the_link_is_lost(void)
{
    Fake *fake = settled();
    g_autoptr(GError) reason = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_FAILED, "a packet is missing");
    guint32 first = fake_ping(fake, ":1.7", A), second;
    g_autoptr(GDBusMessage) one = NULL;

    fake_channel(fake, 0)->departed = fake_channel(fake, 0)->sent->len;
    second = fake_ping(fake, ":1.7", A);
    cbus_mirror_link_down(fake->mirror, reason);
    one = g_queue_peek_head(&fake->front.out);
    g_object_ref(one);
    if (g_dbus_message_get_reply_serial(one) == second)
        g_queue_push_tail(&fake->front.out, g_queue_pop_head(&fake->front.out));
    fake_assert_error(fake, first, "org.freedesktop.DBus.Error.NoReply", "a packet is missing");
    fake_assert_error(fake, second, "ie.bmcgee.CBus1.Error.Offline", "not executed");
    fake_assert_silent(fake);
    g_assert_null(cbus_mirror_services(fake->mirror)[0]);
    fake_up(fake);
    fake_settle(fake, 1, names, NULL);
    g_assert_cmpstr(cbus_mirror_services(fake->mirror)[0], ==, A);
    fake_free(fake);
}

static void
test_opens_the_main_channel_again_when_the_remote_bus_restarts(void)
{
    Fake *fake = settled();
    guint32 serial = fake_ping(fake, ":1.7", A);

    g_assert_true(cbus_mirror_channel_closed(fake->mirror, 1, "", "the bus closed the connection"));
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.NoReply", "the bus closed the connection");
    serial = fake_ping(fake, ":1.7", A);
    fake_assert_error(fake, serial, "ie.bmcgee.CBus1.Error.Offline", "the bus closed the connection");
    g_assert_cmpuint(fake->link.channels->len, ==, 1);
    while (fake->link.channels->len == 1)
        g_main_context_iteration(fake->context, TRUE);
    fake_settle(fake, 1, names, NULL);
    serial = fake_ping(fake, ":1.7", A);
    fake_reply(fake, 1, fake_last(fake, 1), NULL);
    fake_assert_reply(fake, serial, NULL);
    fake_free(fake);
}

static void
test_tells_of_a_bus_that_is_away_and_back(void)
{
    Fake *fake = settled();

    g_assert_cmpuint(fake->bus_changed, ==, 0);
    g_assert_true(cbus_mirror_channel_closed(fake->mirror, 1, "", "the bus closed the connection"));
    g_assert_cmpstr(fake->bus_error, ==, "its bus connection ended (the bus closed the connection)");
    for (guint tries = 1; tries <= 2; tries++) {
        while (fake->link.channels->len == tries)
            g_main_context_iteration(fake->context, TRUE);
        g_assert_nonnull(fake->bus_error); /* a try is no success */
        if (tries == 1)
            cbus_mirror_channel_closed(fake->mirror, 2, "", "no such socket");
    }
    g_assert_cmpstr(fake->bus_error, ==, "its bus connection ended (no such socket)");
    fake_settle(fake, 2, names, NULL);
    g_assert_null(fake->bus_error);
    g_assert_cmpuint(fake->bus_changed, ==, 3);
    fake_free(fake);
}

static void
test_passes_on_why_a_channel_was_refused(void)
{
    Fake *fake = fake_new();
    guint32 serial;

    fake_up(fake);
    serial = fake_ping(fake, ":1.7", A);
    cbus_mirror_channel_closed(fake->mirror, 1, "org.freedesktop.DBus.Error.LimitsExceeded",
                               "100 channels are open");
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.LimitsExceeded", "100 channels are open");
    fake_free(fake);
}

static void
test_ends_the_channel_of_a_hostile_bus(void)
{
    Fake *fake = settled();
    guint32 serial = fake_ping(fake, ":1.7", A);
    GDBusMessage *reply = g_dbus_message_new_method_reply(fake_last(fake, 0));
    g_autofree guchar *bytes = NULL;
    gsize size;

    g_dbus_message_set_serial(reply, 1);
    g_dbus_message_set_body(reply, g_variant_new("(b)", TRUE));
    bytes = g_dbus_message_to_blob(reply, &size, G_DBUS_CAPABILITY_FLAGS_NONE, NULL);
    bytes[size - 4] = 2; /* no boolean */
    bytes[size - 1] = 2;
    g_assert_true(cbus_mirror_message(fake->mirror, 1, bytes, size));
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.NoReply", "web1");
    fake_assert_silent(fake);
    g_assert_true(fake_channel(fake, 0)->closed);
    g_assert_false(cbus_mirror_message(fake->mirror, 1, bytes, size));
    g_object_unref(reply);
    fake_free(fake);
}

static void
test_bounds_what_waits_to_be_sent(void)
{
    Fake *fake = settled();
    guint32 serial;

    fake->link.queued = 16 * 1024 * 1024;
    serial = fake_ping(fake, ":1.7", A);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.LimitsExceeded", "web1");
    fake->link.queued = 0;
    fake_channel(fake, 0)->full = TRUE;
    serial = fake_ping(fake, ":1.7", A);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.LimitsExceeded", "not executed");
    fake_free(fake);
}

static void
test_answers_though_the_session_bus_stalls(void)
{
    Fake *fake = settled();
    guint32 serial = fake_ping(fake, ":1.7", A);

    fake->front.pending = 193 * 1024 * 1024;
    fake_reply(fake, 0, fake_last(fake, 0), g_variant_new("(s)", "much"));
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.LimitsExceeded", "was executed");
    fake_free(fake);
}

static void
test_declines_calls_of_remote_peers(void)
{
    Fake *fake = settled();
    GDBusMessage *call = g_dbus_message_new_method_call(":1.99", "/", "org.freedesktop.DBus.Peer", "Ping");

    g_dbus_message_set_sender(call, ":1.5");
    g_dbus_message_set_serial(call, 77);
    fake_receive(fake, 0, call);
    g_assert_cmpuint(g_dbus_message_get_reply_serial(fake_last(fake, 0)), ==, 77);
    g_assert_cmpint(g_dbus_message_get_message_type(fake_last(fake, 0)), ==, G_DBUS_MESSAGE_TYPE_ERROR);
    fake_assert_silent(fake);
    fake_free(fake);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror/begins-with-match-and-names", test_begins_with_match_and_names);
    g_test_add_func("/mirror/forwards-a-call-as-it-is", test_forwards_a_call_as_it_is);
    g_test_add_func("/mirror/relays-a-reply", test_relays_a_reply_with_its_paths_translated);
    g_test_add_func("/mirror/relays-an-error-verbatim", test_relays_an_error_verbatim);
    g_test_add_func("/mirror/link-just-over", test_says_offline_from_the_moment_the_link_is_over);
    g_test_add_func("/mirror/no-reply-leaves-no-state", test_keeps_nothing_of_a_call_without_reply);
    g_test_add_func("/mirror/refuses-what-can-not-cross", test_refuses_what_can_not_cross);
    g_test_add_func("/mirror/names-what-is-absent", test_names_what_is_absent);
    g_test_add_func("/mirror/pool", test_spreads_hung_calls_over_eight_channels);
    g_test_add_func("/mirror/local-users", test_gives_each_local_user_channels_of_its_own);
    g_test_add_func("/mirror/local-users-share", test_shares_the_channels_among_local_users);
    g_test_add_func("/mirror/tick", test_a_tick_calms_the_link_once_nothing_is_pending);
    g_test_add_func("/mirror/pool-retires", test_closes_channels_whose_callers_are_gone);
    g_test_add_func("/mirror/late-reply", test_drops_the_late_reply_of_a_caller_that_is_gone);
    g_test_add_func("/mirror/sent-and-unsent", test_tells_sent_from_unsent_when_the_link_is_lost);
    g_test_add_func("/mirror/bus-restart", test_opens_the_main_channel_again_when_the_remote_bus_restarts);
    g_test_add_func("/mirror/bus-away", test_tells_of_a_bus_that_is_away_and_back);
    g_test_add_func("/mirror/refused", test_passes_on_why_a_channel_was_refused);
    g_test_add_func("/mirror/hostile-bus", test_ends_the_channel_of_a_hostile_bus);
    g_test_add_func("/mirror/quota", test_bounds_what_waits_to_be_sent);
    g_test_add_func("/mirror/stalled-session-bus", test_answers_though_the_session_bus_stalls);
    g_test_add_func("/mirror/declines", test_declines_calls_of_remote_peers);
    return g_test_run();
}
