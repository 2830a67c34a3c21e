/* What the mirror says of the remote bus: names, signals, the driver and introspection. */
#include "fake-mirror.h"

static const char *const names[] = {"com.example.A=:1.5", "com.example.B=:1.5", "com.example.C=:1.6",
                                    "org.freedesktop.systemd1=:1.0", NULL};
static const char *const activatable[] = {"com.example.Lazy", "com.example.A", NULL};
static const char xml[] = "<node><interface name='com.example.Test'><method name='Ping'/></interface></node>";
#define A         "com.example.A"
#define DRIVER    "org.freedesktop.DBus"
#define TEST_TYPE "com.example.Test"

static Fake *
settled(void)
{
    Fake *fake = fake_new();

    fake_up(fake);
    fake_settle(fake, 0, names, activatable);
    fake_assert_silent(fake);
    return fake;
}

static void
assert_emitted(Fake *fake, const char *element, const char *path, const char *body)
{
    g_autoptr(GDBusMessage) message = fake_take(fake);
    g_autofree char *expected = g_strconcat(fake->root, "/", element, path, NULL);
    g_autofree char *text = NULL;

    g_assert_nonnull(message);
    g_assert_cmpint(g_dbus_message_get_message_type(message), ==, G_DBUS_MESSAGE_TYPE_SIGNAL);
    g_assert_cmpstr(g_dbus_message_get_path(message), ==, expected);
    text = g_variant_print(g_dbus_message_get_body(message), FALSE);
    if (body != NULL)
        g_assert_cmpstr(text, ==, body);
}

static void
test_lists_services_sorted(void)
{
    Fake *fake = settled();
    g_autofree char *joined = g_strjoinv(" ", (char **)cbus_mirror_services(fake->mirror));

    g_assert_cmpstr(joined, ==,
                    "com.example.A com.example.B com.example.C com.example.Lazy org.freedesktop.DBus "
                    "org.freedesktop.systemd1");
    g_assert_cmpuint(fake->services_changed, ==, 1);
    fake_owner_changed(fake, "com.example.C", ":1.6", "");
    g_assert_cmpuint(fake->services_changed, ==, 2);
    fake_owner_changed(fake, A, ":1.5", "");
    g_assert_cmpuint(fake->services_changed, ==, 2);
    fake_owner_changed(fake, "com.example.New", "", ":1.44");
    g_assert_cmpuint(fake->services_changed, ==, 3);
    g_assert_cmpstr(cbus_mirror_services(fake->mirror)[3], ==, "com.example.New");
    fake_free(fake);
}

static void
test_emits_a_signal_for_every_name_of_its_sender(void)
{
    Fake *fake = settled();
    g_autofree char *a = g_strdup_printf("('%s/com_2eexample_2eA/p',)", fake->root);
    g_autofree char *b = g_strdup_printf("('%s/com_2eexample_2eB/p',)", fake->root);
    gboolean a_first;

    fake_signal(fake, ":1.5", "/o", TEST_TYPE, "Changed", g_variant_new("(o)", "/p"));
    a_first = g_str_has_suffix(g_dbus_message_get_path(g_queue_peek_head(&fake->front.out)), "A/o");
    if (!a_first)
        assert_emitted(fake, "com_2eexample_2eB", "/o", b);
    assert_emitted(fake, "com_2eexample_2eA", "/o", a);
    if (a_first)
        assert_emitted(fake, "com_2eexample_2eB", "/o", b);
    fake_assert_silent(fake);
    fake_signal(fake, ":1.77", "/o", TEST_TYPE, "Changed", NULL);
    fake_assert_silent(fake);
    fake_free(fake);
}

static void
test_follows_owners_before_it_emits(void)
{
    Fake *fake = settled();

    fake_owner_changed(fake, "com.example.C", ":1.6", ":1.8");
    assert_emitted(fake, "org_2efreedesktop_2eDBus", "/org/freedesktop/DBus",
                   "('com.example.C', ':1.6', ':1.8')");
    fake_signal(fake, ":1.6", "/", TEST_TYPE, "Changed", g_variant_new("(u)", 1));
    fake_assert_silent(fake);
    fake_signal(fake, ":1.8", "/", TEST_TYPE, "Changed", g_variant_new("(u)", 1));
    assert_emitted(fake, "com_2eexample_2eC", "", "(1,)");
    fake_free(fake);
}

static void
test_keeps_unicast_signals_to_itself(void)
{
    Fake *fake = settled();
    GDBusMessage *signal = g_dbus_message_new_signal("/org/freedesktop/DBus", DRIVER, "NameAcquired");

    g_dbus_message_set_sender(signal, DRIVER);
    g_dbus_message_set_destination(signal, ":1.99");
    g_dbus_message_set_body(signal, g_variant_new("(s)", ":1.99"));
    fake_receive(fake, 0, signal);
    fake_assert_silent(fake);
    fake_free(fake);
}

static void
test_drops_signals_when_the_session_bus_stalls(void)
{
    Fake *fake = settled();
    guint32 serial;

    fake->front.pending = 33 * 1024 * 1024;
    fake_signal(fake, ":1.5", "/o", TEST_TYPE, "Changed", NULL);
    fake_assert_silent(fake);
    g_assert_cmpuint(cbus_mirror_signals_lost(fake->mirror), ==, 2);
    serial = fake_ping(fake, ":1.7", A);
    fake_reply(fake, 0, fake_last(fake, 0), NULL);
    fake_assert_reply(fake, serial, NULL);
    while (fake->signals_lost_changed == 0)
        g_main_context_iteration(fake->context, TRUE);
    fake->front.pending = 0;
    fake_signal(fake, ":1.6", "/o", TEST_TYPE, "Changed", g_variant_new("(u)", 1));
    assert_emitted(fake, "com_2eexample_2eC", "/o", "(1,)");
    fake_free(fake);
}

/* One signal of a process with many names is many messages: their number is the machine's to choose. */
static void
test_stops_in_the_middle_of_a_signal_that_overflows(void)
{
    Fake *fake = settled();

    fake->front.growth = 33 * 1024 * 1024;
    fake_signal(fake, ":1.5", "/o", TEST_TYPE, "Changed", NULL);
    g_object_unref(g_queue_pop_head(&fake->front.out));
    fake_assert_silent(fake);
    g_assert_cmpuint(cbus_mirror_signals_lost(fake->mirror), ==, 1);
    fake_free(fake);
}

/* A bus throws out who sends more than it takes, and all machines would be gone with the proxy. */
static void
test_puts_nothing_on_the_bus_that_it_does_not_take(void)
{
    Fake *fake = settled();
    g_autofree char *text = g_strnfill(5000, 'x');
    guint32 serial;

    fake->front.message_max = 4096;
    fake_signal(fake, ":1.6", "/o", TEST_TYPE, "Changed", g_variant_new("(s)", text));
    fake_assert_silent(fake);
    g_assert_cmpuint(cbus_mirror_signals_lost(fake->mirror), ==, 1);
    serial = fake_ping(fake, ":1.7", A);
    fake_reply(fake, 0, fake_last(fake, 0), g_variant_new("(s)", text));
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.LimitsExceeded", "executed");
    fake_free(fake);
}

static guint
count_sent(Fake *fake, const char *wanted)
{
    guint count = 0;

    for (guint i = 0; i < fake_channel(fake, 0)->sent->len; i++) {
        GDBusMessage *sent = g_ptr_array_index(fake_channel(fake, 0)->sent, i);

        count += g_strcmp0(g_dbus_message_get_member(sent), wanted) == 0 ? 1 : 0;
    }
    return count;
}

static guint
count_subscribes(Fake *fake)
{
    return count_sent(fake, "Subscribe");
}

static GDBusMessage *
find_sent(Fake *fake, const char *wanted)
{
    GDBusMessage *found = NULL;

    for (guint i = 0; i < fake_channel(fake, 0)->sent->len; i++) {
        GDBusMessage *sent = g_ptr_array_index(fake_channel(fake, 0)->sent, i);

        if (g_strcmp0(g_dbus_message_get_member(sent), wanted) == 0)
            found = sent;
    }
    return found;
}

/* What a machine makes us ask and answer must not pile up where it takes nothing. */
static void
test_bounds_what_a_machine_makes_it_send(void)
{
    Fake *fake = settled();

    g_assert_cmpuint(count_sent(fake, "ListActivatableNames"), ==, 1);
    for (guint i = 0; i < 3; i++)
        fake_signal(fake, DRIVER, "/org/freedesktop/DBus", DRIVER, "ActivatableServicesChanged", NULL);
    g_assert_cmpuint(count_sent(fake, "ListActivatableNames"), ==, 2);
    fake_reply(fake, 0, find_sent(fake, "ListActivatableNames"),
               g_variant_new_parsed("(['com.example.Lazy'],)"));
    g_assert_cmpuint(count_sent(fake, "ListActivatableNames"), ==, 3);
    fake_reply(fake, 0, find_sent(fake, "ListActivatableNames"),
               g_variant_new_parsed("(['com.example.Late'],)"));
    g_assert_cmpuint(count_sent(fake, "ListActivatableNames"), ==, 3);
    g_assert_true(g_strv_contains(cbus_mirror_services(fake->mirror), "com.example.Late"));

    fake_channel(fake, 0)->departed = fake_channel(fake, 0)->sent->len;
    for (guint i = 0; i < 3; i++)
        fake_owner_changed(fake, "org.freedesktop.systemd1", ":1.0", ":1.90");
    g_assert_cmpuint(count_subscribes(fake), ==, 2);
    fake_channel(fake, 0)->departed = G_MAXUINT64;
    fake_owner_changed(fake, "org.freedesktop.systemd1", ":1.90", ":1.91");
    g_assert_cmpuint(count_subscribes(fake), ==, 3);

    guint before = fake_channel(fake, 0)->sent->len;
    fake->link.queued = 1024 * 1024;
    fake_receive(fake, 0, g_dbus_message_new_method_call(NULL, "/", NULL, "Anything"));
    g_assert_cmpuint(fake_channel(fake, 0)->sent->len, ==, before);
    fake_free(fake);
}

/* Otherwise a few strangers could fill the one answer that every verb of the command line begins with. */
static void
test_bounds_the_names_that_it_lists(void)
{
    Fake *fake = settled();
    gsize bytes = 0;

    for (guint i = 0; i < 1000; i++) {
        g_autofree char *padding = g_strnfill(200, 'x');
        g_autofree char *name = g_strdup_printf("com.example.%s%u", padding, i);

        fake_owner_changed(fake, name, "", ":1.44");
    }
    for (guint i = 0; cbus_mirror_services(fake->mirror)[i] != NULL; i++)
        bytes += strlen(cbus_mirror_services(fake->mirror)[i]);
    g_assert_cmpuint(bytes, >=, 64 * 1024);
    g_assert_cmpuint(bytes, <, 65 * 1024);
    /* What is not listed may be there. */
    g_queue_clear_full(&fake->front.out, g_object_unref);
    fake_ping(fake, ":1.7", "com.example.NotListed");
    fake_assert_silent(fake);
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 0)), ==, "Ping");
    fake_free(fake);
}

static void
test_subscribes_to_systemd_whenever_it_appears(void)
{
    Fake *fake = settled();
    GDBusMessage *call;
    guint32 serial;

    g_assert_cmpuint(count_subscribes(fake), ==, 1);
    fake_owner_changed(fake, "org.freedesktop.systemd1", ":1.0", "");
    g_assert_cmpuint(count_subscribes(fake), ==, 1);
    fake_owner_changed(fake, "org.freedesktop.systemd1", "", ":1.90");
    g_assert_cmpuint(count_subscribes(fake), ==, 2);
    g_queue_clear_full(&fake->front.out, g_object_unref);
    call = fake_message(fake, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "Unsubscribe", NULL);
    g_dbus_message_set_interface(call, "org.freedesktop.systemd1.Manager");
    serial = fake_call(fake, ":1.7", call);
    fake_assert_reply(fake, serial, NULL);
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 0)), ==, "Subscribe");
    fake_free(fake);
}

static guint32
call_driver(Fake *fake, const char *interface, const char *member, GVariant *body)
{
    GDBusMessage *call = fake_message(fake, DRIVER, "/org/freedesktop/DBus", member, body);

    g_dbus_message_set_interface(call, interface);
    return fake_call(fake, ":1.7", call);
}

static void
test_lets_only_questions_through_to_the_driver(void)
{
    static const char *const denied[][2] = {{DRIVER, "RequestName"},
                                            {DRIVER, "ReleaseName"},
                                            {DRIVER, "Hello"},
                                            {DRIVER, "UpdateActivationEnvironment"},
                                            {DRIVER, "ReloadConfig"},
                                            {DRIVER ".Monitoring", "BecomeMonitor"},
                                            {DRIVER ".Debug.Stats", "GetStats"},
                                            {DRIVER ".Monitoring", "ListNames"}};
    Fake *fake = settled();
    guint sent = fake_channel(fake, 0)->sent->len;
    guint32 serial;

    for (guint i = 0; i < G_N_ELEMENTS(denied); i++) {
        serial = call_driver(fake, denied[i][0], denied[i][1], NULL);
        fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.AccessDenied", "portal");
    }
    serial = call_driver(fake, DRIVER, "AddMatch", g_variant_new("(s)", "type='signal'"));
    fake_assert_reply(fake, serial, NULL);
    serial = call_driver(fake, DRIVER, "RemoveMatch", g_variant_new("(s)", "type='signal'"));
    fake_assert_reply(fake, serial, NULL);
    g_assert_cmpuint(fake_channel(fake, 0)->sent->len, ==, sent);
    serial = call_driver(fake, NULL, "GetNameOwner", g_variant_new("(s)", A));
    fake_reply(fake, 0, fake_last(fake, 0), g_variant_new("(s)", ":1.5"));
    fake_assert_reply(fake, serial, "(':1.5',)");
    call_driver(fake, "org.freedesktop.DBus.Peer", "Ping", NULL);
    g_assert_cmpuint(fake_channel(fake, 0)->sent->len, ==, sent + 2);
    fake_free(fake);
}

static void
introspect_machine(Fake *fake, guint32 serial)
{
    const CbusMessage call = {
        .endian = 'l', .type = CBUS_MESSAGE_CALL, .serial = serial, .sender = cbus_span(":1.7")};

    cbus_mirror_introspect_machine(fake->mirror, &call, "<interface name=\"ie.bmcgee.CBus1.Machine\"/>");
}

static void
test_introspects_the_machine_when_its_names_are_known(void)
{
    Fake *fake = fake_new();

    introspect_machine(fake, 5);
    fake_assert_xml(fake, 5, "com_2eexample", FALSE);
    fake_up(fake);
    introspect_machine(fake, 6);
    fake_assert_silent(fake);
    fake_settle(fake, 0, names, activatable);
    fake_assert_xml(fake, 6, "com_2eexample_2eLazy", TRUE);
    introspect_machine(fake, 7);
    fake_assert_xml(fake, 7, "ie.bmcgee.CBus1.Machine", TRUE);
    fake_free(fake);
}

static void
test_never_starts_a_service_by_browsing(void)
{
    Fake *fake = settled();
    guint sent = fake_channel(fake, 0)->sent->len;
    guint32 serial = fake_introspect(fake, ":1.7", "com.example.Lazy", "/");

    fake_assert_xml(fake, serial, "<node", TRUE);
    fake_owner_changed(fake, "com.example.Lazy", "", ":1.50");
    g_queue_clear_full(&fake->front.out, g_object_unref);
    serial = fake_introspect(fake, ":1.7", "com.example.Lazy", "/");
    fake_tree(fake, "/", xml, NULL);
    fake_assert_xml(fake, serial, TEST_TYPE, TRUE);
    fake_owner_changed(fake, "com.example.Lazy", ":1.50", "");
    g_queue_clear_full(&fake->front.out, g_object_unref);
    serial = fake_introspect(fake, ":1.7", "com.example.Lazy", "/");
    fake_assert_xml(fake, serial, TEST_TYPE, TRUE);
    g_assert_cmpuint(fake_channel(fake, 0)->sent->len, ==, sent);
    g_assert_true(g_queue_is_empty(&fake->link.trees));
    fake_free(fake);
}

static void
test_shares_one_tree(void)
{
    Fake *fake = settled();
    guint32 first = fake_introspect(fake, ":1.7", A, "/"), second = fake_introspect(fake, ":1.8", A, "/");
    guint32 serial;

    g_assert_cmpuint(fake->link.trees.length, ==, 1);
    g_assert_cmpstr(((FakeTree *)g_queue_peek_head(&fake->link.trees))->destination, ==, A);
    fake_tree(fake, "/deep/object", xml, NULL);
    fake_assert_xml(fake, first, "deep", TRUE);
    fake_assert_xml(fake, second, "deep", TRUE);
    serial = fake_introspect(fake, ":1.7", A, "/");
    fake_assert_xml(fake, serial, "deep", TRUE);
    serial = fake_introspect(fake, ":1.7", A, "/deep/object");
    fake_assert_xml(fake, serial, TEST_TYPE, TRUE);
    g_assert_true(g_queue_is_empty(&fake->link.trees));
    fake_signal(fake, ":1.5", "/", "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved",
                g_variant_new("(oas)", "/deep/object", NULL));
    g_queue_clear_full(&fake->front.out, g_object_unref);
    fake_introspect(fake, ":1.7", A, "/");
    g_assert_cmpuint(fake->link.trees.length, ==, 1);
    fake_free(fake);
}

static void
test_asks_an_object_that_is_not_in_the_tree(void)
{
    Fake *fake = settled();
    guint32 serial = fake_introspect(fake, ":1.7", A, "/x");
    GDBusMessage *asked = fake_last(fake, 0);

    g_assert_cmpstr(g_dbus_message_get_member(asked), ==, "Introspect");
    g_assert_cmpstr(g_dbus_message_get_path(asked), ==, "/x");
    g_assert_cmpuint(g_dbus_message_get_flags(asked), ==, G_DBUS_MESSAGE_FLAGS_NO_AUTO_START);
    fake_reply(fake, 0, asked, g_variant_new("(s)", xml));
    fake_assert_xml(fake, serial, TEST_TYPE, TRUE);
    serial = fake_introspect(fake, ":1.7", A, "/y");
    fake_reply_error(fake, 0, fake_last(fake, 0), "org.freedesktop.DBus.Error.UnknownObject");
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.UnknownObject", "as the remote says it");
    serial = fake_introspect(fake, ":1.7", A, "/z");
    fake_reply(fake, 0, fake_last(fake, 0), g_variant_new("(s)", "<node><interface name='no'/>"));
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.Failed", A);
    fake_free(fake);
}

static void
test_answers_those_who_wait_for_a_tree(void)
{
    Fake *fake = settled();
    guint32 serial = fake_introspect(fake, ":1.7", A, "/");

    fake_tree(fake, NULL, NULL, "org.freedesktop.DBus.Error.UnknownMethod");
    fake_assert_xml(fake, serial, "<node", TRUE);
    serial = fake_introspect(fake, ":1.7", A, "/");
    fake_tree(fake, NULL, NULL, "org.freedesktop.DBus.Error.AccessDenied");
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.AccessDenied", "as the remote says it");
    serial = fake_introspect(fake, ":1.7", A, "/");
    fake_tree(fake, "/", "<nonsense", NULL);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.Failed", A);
    serial = fake_introspect(fake, ":1.7", "com.example.B", "/");
    cbus_mirror_link_down(fake->mirror, NULL);
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.NoReply", "com.example.B");
    fake_assert_silent(fake);
    fake_free(fake);
}

static void
test_bounds_those_who_wait(void)
{
    Fake *fake = settled();
    guint32 serial;

    for (guint i = 0; i < 256; i++)
        fake_introspect(fake, ":1.7", A, "/");
    fake_assert_silent(fake);
    serial = fake_introspect(fake, ":1.7", A, "/");
    fake_assert_error(fake, serial, "org.freedesktop.DBus.Error.LimitsExceeded", "web1");
    fake_free(fake);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror/services", test_lists_services_sorted);
    g_test_add_func("/mirror/signal-for-every-name", test_emits_a_signal_for_every_name_of_its_sender);
    g_test_add_func("/mirror/owners", test_follows_owners_before_it_emits);
    g_test_add_func("/mirror/unicast", test_keeps_unicast_signals_to_itself);
    g_test_add_func("/mirror/overflow", test_drops_signals_when_the_session_bus_stalls);
    g_test_add_func("/mirror/overflow-in-the-middle", test_stops_in_the_middle_of_a_signal_that_overflows);
    g_test_add_func("/mirror/larger-than-the-bus-takes", test_puts_nothing_on_the_bus_that_it_does_not_take);
    g_test_add_func("/mirror/systemd", test_subscribes_to_systemd_whenever_it_appears);
    g_test_add_func("/mirror/made-to-send", test_bounds_what_a_machine_makes_it_send);
    g_test_add_func("/mirror/many-names", test_bounds_the_names_that_it_lists);
    g_test_add_func("/mirror/driver", test_lets_only_questions_through_to_the_driver);
    g_test_add_func("/mirror/introspect-machine", test_introspects_the_machine_when_its_names_are_known);
    g_test_add_func("/mirror/browsing-starts-nothing", test_never_starts_a_service_by_browsing);
    g_test_add_func("/mirror/one-tree", test_shares_one_tree);
    g_test_add_func("/mirror/one-object", test_asks_an_object_that_is_not_in_the_tree);
    g_test_add_func("/mirror/tree-faults", test_answers_those_who_wait_for_a_tree);
    g_test_add_func("/mirror/waiting-bound", test_bounds_those_who_wait);
    return g_test_run();
}
