/* What a client of the session bus is told of the roster's machines: their objects, the signals when they
 * change, and the answer to a call wherever it goes. */
#include "roster-fixture.h"

/* What GetManagedObjects says is what the machines say one by one, each once. */
static void
assert_listed(RosterFixture *fixture)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        private_bus_call(&fixture->bus, NAME, CBUS_ROOT_PATH, CBUS_INTERFACE_OBJECT_MANAGER,
                         "GetManagedObjects", NULL, &error);
    g_autoptr(GPtrArray) machines = cbus_roster_list(fixture->roster);
    g_autoptr(GVariant) all = NULL;

    g_assert_no_error(error);
    g_assert_cmpstr(g_variant_get_type_string(reply), ==, "(a{oa{sa{sv}}})");
    all = g_variant_get_child_value(reply, 0);
    g_assert_cmpuint(g_variant_n_children(all), ==, machines->len);
    for (guint i = 0; i < machines->len; i++) {
        CbusMachine *machine = g_ptr_array_index(machines, i);
        g_autoptr(GVariant) expected = g_variant_ref_sink(cbus_machine_properties(machine));
        g_autoptr(GVariant) interfaces =
            g_variant_lookup_value(all, cbus_machine_path(machine), G_VARIANT_TYPE("a{sa{sv}}"));
        g_autoptr(GVariant) listed =
            g_variant_lookup_value(interfaces, CBUS_INTERFACE_MACHINE, G_VARIANT_TYPE_VARDICT);
        GVariantIter iter;
        const char *name;
        GVariant *value;

        g_assert_cmpuint(g_variant_n_children(interfaces), ==, 1);
        g_assert_cmpuint(g_variant_n_children(listed), ==, g_variant_n_children(expected));
        g_variant_iter_init(&iter, expected);
        while (g_variant_iter_loop(&iter, "{&sv}", &name, &value)) {
            g_autoptr(GVariant) own = g_variant_lookup_value(listed, name, g_variant_get_type(value));

            g_assert_nonnull(own);
            g_assert_cmpvariant(own, value);
        }
    }
}

static void
test_what_is_kept_of_machines_follows_them(RosterFixture *fixture, gconstpointer data)
{
    CbusKey keys[] = {roster_key_number(9), roster_base_point(), roster_key_number(10)};
    static const char *const names[] = {"w", "web-with-a-longer-name", "db1"};

    assert_listed(fixture);
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_assert_true(roster_announce(&keys[i]));
        assert_listed(fixture);
        roster_link_up(fixture, &keys[i], names[i]);
        assert_listed(fixture);
    }
    roster_pin(fixture, &keys[1], "pinned");
    assert_listed(fixture);
    cbus_machine_close_link(cbus_roster_lookup(fixture->roster, &keys[0]), "it can not be \"reached\", é");
    assert_listed(fixture);
    dialer->handler.vanished(&keys[2], dialer->user_data);
    cbus_machine_close_link(cbus_roster_lookup(fixture->roster, &keys[2]), "test");
    assert_listed(fixture);
    roster_unpin_all(fixture);
    assert_listed(fixture);

    /* Arguments and other methods are refused as ever. */
    g_autoptr(GError) error = NULL, other = NULL;
    g_assert_null(private_bus_call(&fixture->bus, NAME, CBUS_ROOT_PATH, CBUS_INTERFACE_OBJECT_MANAGER,
                                   "GetManagedObjects", g_variant_new("(s)", "x"), &error));
    g_assert_error(error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS);
    g_assert_null(private_bus_call(&fixture->bus, NAME, CBUS_ROOT_PATH, CBUS_INTERFACE_OBJECT_MANAGER,
                                   "Nothing", NULL, &other));
    g_assert_error(other, G_DBUS_ERROR, G_DBUS_ERROR_UNKNOWN_METHOD);
}

static void
test_states_say_why(RosterFixture *fixture, gconstpointer data)
{
    CbusKey key = roster_base_point();
    roster_pin(fixture, &key, "web1");
    CbusMachine *machine = cbus_roster_lookup(fixture->roster, &key);
    const char *path = cbus_machine_path(machine);
    private_bus_assert_error(&fixture->bus, NAME, path, CBUS_INTERFACE_MACHINE, "Ping", NULL,
                             CBUS_ERROR_OFFLINE, "web1|is offline|cbus-agent");
    dialer->handler.state(&key, CBUS_DIAL_UNAUTHORIZED, "no such key", dialer->user_data);
    roster_assert_signal(fixture, "'State': <'unauthorized'>, 'LastError': <'no such key'>");
    private_bus_assert_error(&fixture->bus, NAME, path, CBUS_INTERFACE_MACHINE, "Ping", NULL,
                             CBUS_DBUS_ERROR("AccessDenied"), "web1|no such key");
    dialer->handler.state(&key, CBUS_DIAL_INCOMPATIBLE, "speaks 9", dialer->user_data);
    private_bus_assert_error(&fixture->bus, NAME, path, CBUS_INTERFACE_MACHINE, "Ping", NULL,
                             CBUS_ERROR_INCOMPATIBLE, "web1|speaks 9|update");
    roster_link_up(fixture, &key, "web1");
    roster_assert_signal(fixture, "'Online': <true>, 'State': <'online'>, 'LastError': <''>");

    PrivateAnswer answer = {0};
    g_dbus_connection_call(fixture->bus.client, NAME, path, CBUS_INTERFACE_MACHINE, "Ping", NULL, NULL,
                           G_DBUS_CALL_FLAGS_NONE, -1, NULL, private_bus_on_answer, &answer);
    roster_signals(fixture);
    cbus_machine_close_link(machine, "cut by the test");
    private_bus_wait(&fixture->bus, &answer.done);
    g_autofree char *name = g_dbus_error_get_remote_error(answer.error);
    g_assert_cmpstr(name, ==, CBUS_ERROR_OFFLINE);
    g_clear_error(&answer.error);
    roster_assert_signal(fixture,
                         "'Online': <false>, 'State': <'offline'>, 'LastError': <'cut by the test'>");
}

static guint
count(const char *text, const char *word)
{
    guint found = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word)) {
        found++;
    }
    return found;
}

/* However often a machine changes: what it is last told to be is what it is. */
static void
test_changes_are_told_at_a_pace(RosterFixture *fixture, gconstpointer data)
{
    CbusKey key = roster_base_point();
    roster_pin(fixture, &key, "web1");
    g_string_truncate(fixture->signals, 0);
    for (guint i = 0; i < 1000; i++) {
        g_autofree char *why = g_strdup_printf("reason %u", i);
        dialer->handler.state(&key, CBUS_DIAL_UNAUTHORIZED, why, dialer->user_data);
    }
    roster_assert_property(fixture, &key, "LastError", "'reason 999'");
    assert_listed(fixture);
    while (strstr(roster_signals(fixture), "reason 999") == NULL) {
        g_main_context_iteration(fixture->bus.loop.context, TRUE);
    }
    g_assert_cmpuint(count(roster_signals(fixture), "PropertiesChanged"), <=, 9);
    g_string_truncate(fixture->signals, 0);
    dialer->handler.state(&key, CBUS_DIAL_OFFLINE, "gone", dialer->user_data);
    roster_assert_signal(fixture, "'LastError': <'gone'>");
}

/* Who asked while a change waited to be told, and saw it, is told when it is undone. */
static void
test_what_was_seen_untold_is_told_when_it_is_undone(RosterFixture *fixture, gconstpointer data)
{
    CbusKey key = roster_base_point();
    roster_pin(fixture, &key, "web1");
    g_autofree char *told = NULL, *seen = g_strdup("'reason 0'");
    for (guint i = 1; told == NULL || strstr(roster_signals(fixture), seen) != NULL; i++) {
        g_free(told);
        told = g_steal_pointer(&seen);
        seen = g_strdup_printf("'reason %u'", i);
        g_autofree char *why = g_strdup_printf("reason %u", i);
        dialer->handler.state(&key, CBUS_DIAL_UNAUTHORIZED, why, dialer->user_data);
    }
    roster_assert_property(fixture, &key, "LastError", seen);
    g_string_truncate(fixture->signals, 0);
    g_autofree char *again = g_strndup(told + 1, strlen(told) - 2);
    dialer->handler.state(&key, CBUS_DIAL_OFFLINE, again, dialer->user_data);
    while (strstr(roster_signals(fixture), "'offline'") == NULL) {
        g_main_context_iteration(fixture->bus.loop.context, TRUE);
    }
    g_autofree char *undone = g_strdup_printf("'LastError': <%s>", told);
    roster_assert_signal(fixture, undone);
}

static void
test_calls_go_where_they_belong(RosterFixture *fixture, gconstpointer data)
{
    static const char unknown[] = CBUS_DBUS_ERROR("UnknownObject");
    CbusKey key = roster_base_point();
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(&key, nkey);
    g_autofree char *machine = g_strconcat(CBUS_ROOT_PATH "/", nkey, NULL);
    g_autofree char *bad_service = g_strconcat(machine, "/_zz/x", NULL);
    g_autofree char *service = g_strconcat(machine, "/org_2eexample/x", NULL);
    PrivateBus *bus = &fixture->bus;
    private_bus_assert_error(bus, NAME, machine, "a.b", "C", NULL, unknown, nkey);
    private_bus_assert_error(bus, NAME, service, "a.b", "C", NULL, unknown, nkey);
    roster_pin(fixture, &key, "web1");
    private_bus_assert_error(bus, NAME, bad_service, "a.b", "C", NULL, unknown, "_zz");
    private_bus_assert_error(bus, NAME, CBUS_ROOT_PATH "/foo/bar", "a.b", "C", NULL, unknown, "machine foo");
    private_bus_assert_error(bus, NAME, "/foo", CBUS_INTERFACE_INTROSPECTABLE, "Introspect", NULL, unknown,
                             "/foo");
    private_bus_assert_error(bus, NAME, "/ie", "a.b", "C", NULL, CBUS_DBUS_ERROR("UnknownMethod"), "/ie");
    private_bus_assert_error(bus, NAME, service, "a.b", "C", NULL, CBUS_ERROR_OFFLINE, "web1");
    private_bus_assert_error(bus, NAME, machine, CBUS_INTERFACE_MACHINE, "Nope", NULL,
                             CBUS_DBUS_ERROR("UnknownMethod"), "Nope");
    private_bus_assert_error(bus, NAME, machine, CBUS_INTERFACE_MACHINE, "Ping", g_variant_new("(s)", "x"),
                             CBUS_DBUS_ERROR("InvalidArgs"), "(s)");
    private_bus_assert_error(bus, NAME, "/", CBUS_INTERFACE_INTROSPECTABLE, "Introspect",
                             g_variant_new("(s)", "x"), CBUS_DBUS_ERROR("InvalidArgs"), "no arguments");
}

/* Each node of the way down names the next. */
static void
test_a_tree_walk_finds_the_machines(RosterFixture *fixture, gconstpointer data)
{
    CbusKey key = roster_base_point();
    roster_pin(fixture, &key, "web1");
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(&key, nkey);
    const char *const way[][2] = {
        {"/", "ie"}, {"/ie", "bmcgee"}, {"/ie/bmcgee", "CBus"}, {CBUS_ROOT_PATH, nkey}};
    for (gsize i = 0; i < G_N_ELEMENTS(way); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) answer = private_bus_call(
            &fixture->bus, NAME, way[i][0], CBUS_INTERFACE_INTROSPECTABLE, "Introspect", NULL, &error);
        g_assert_no_error(error);
        const char *xml;
        g_variant_get(answer, "(&s)", &xml);
        g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(xml, &error);
        g_assert_no_error(error);
        g_assert_nonnull(node->nodes[0]);
        g_assert_cmpstr(node->nodes[0]->path, ==, way[i][1]);
        g_assert_null(node->nodes[1]);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func, data)                                                                                \
    g_test_add("/roster-bus/" name, RosterFixture, data, roster_set_up, func, roster_tear_down)
    ADD("what-is-kept-follows-the-machines", test_what_is_kept_of_machines_follows_them, NULL);
    ADD("states-say-why", test_states_say_why, NULL);
    ADD("changes-are-told-at-a-pace", test_changes_are_told_at_a_pace, NULL);
    ADD("what-was-seen-untold-is-told", test_what_was_seen_untold_is_told_when_it_is_undone, NULL);
    ADD("calls-go-where-they-belong", test_calls_go_where_they_belong, NULL);
    ADD("a-tree-walk-finds-the-machines", test_a_tree_walk_finds_the_machines, NULL);
    return g_test_run();
}
