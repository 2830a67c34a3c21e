/* The roster, its D-Bus objects and the router on a real bus, with a dialer that only does what a test says
 * and links that lead nowhere. */
#include "introspect/path.h"
#include "proxy/dialer.h"
#include "proxy/interfaces.h"
#include "proxy/objects.h"
#include "proxy/roster.h"
#include "proxy/router.h"
#include "tests/unit/private_bus.h"
#include <glib/gstdio.h>

#define NAME "ie.bmcgee.Test"

/* ---- the dialer ---- */

struct _CbusDialer {
    CbusDialerHandler handler;
    gpointer user_data;
    GPtrArray *wanted; /* NKeys */
    guint forgotten;
};

static CbusDialer *dialer;

static gboolean
find_nkey(const CbusKey *key, guint *at)
{
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(key, nkey);
    return g_ptr_array_find_with_equal_func(dialer->wanted, nkey, g_str_equal, at);
}

CbusDialer *
cbus_dialer_new(CbusLoop *loop, CbusNats *nats, CbusSigner *signer, CbusBudget *budget,
                const CbusDialerHandler *handler, gpointer user_data)
{
    dialer = g_new0(CbusDialer, 1);
    dialer->handler = *handler;
    dialer->user_data = user_data;
    dialer->wanted = g_ptr_array_new_with_free_func(g_free);
    return dialer;
}

void
cbus_dialer_free(CbusDialer *self)
{
    g_ptr_array_unref(self->wanted);
    g_free(self);
    dialer = NULL;
}

void
cbus_dialer_want(CbusDialer *self, const CbusKey *agent)
{
    char *nkey = g_malloc(CBUS_NKEY_LENGTH + 1);
    cbus_nkey_encode(agent, nkey);
    g_ptr_array_add(self->wanted, nkey);
}

void
cbus_dialer_unwant(CbusDialer *self, const CbusKey *agent)
{
    guint at;
    if (find_nkey(agent, &at)) {
        g_ptr_array_remove_index(self->wanted, at);
    }
}

void
cbus_dialer_nats_up(CbusDialer *self)
{
}

void
cbus_dialer_nats_failed(CbusDialer *self, const GError *reason)
{
}

void
cbus_dialer_nats_down(CbusDialer *self, const GError *reason)
{
}

void
cbus_dialer_forget(CbusDialer *self, CbusLink *link)
{
    self->forgotten++;
}

/* ---- the fixture ---- */

typedef struct {
    PrivateBus bus;
    CbusFront *front;
    CbusRoster *roster;
    CbusCluster *cluster;
    CbusRouter *router;
    CbusObjects *objects;
    CbusBudget *budget;
    char *runtime_dir;
    GString *signals; /* what the client saw: "added:…abcd changed:Name=… " */
    guint owned;
} Fixture;

static gboolean
on_call(CbusFront *front, const CbusMessage *call, const guint8 *bytes, gpointer user_data)
{
    return cbus_router_call(((Fixture *)user_data)->router, front, call, bytes);
}

static void
on_caller_gone(CbusFront *front, const char *unique_name, gpointer user_data)
{
    cbus_roster_caller_gone(((Fixture *)user_data)->roster, unique_name);
}

static void
on_added(CbusRoster *roster, CbusMachine *machine, gpointer user_data)
{
    Fixture *fixture = user_data;
    cbus_objects_added(fixture->objects, machine);
}

static void
on_removed(CbusRoster *roster, CbusMachine *machine, gpointer user_data)
{
    Fixture *fixture = user_data;
    cbus_objects_removed(fixture->objects, machine);
}

static void
on_changed(CbusRoster *roster, CbusMachine *machine, GVariant *changed, gpointer user_data)
{
    Fixture *fixture = user_data;
    cbus_objects_changed(fixture->objects, machine, changed);
}

static gboolean known_only;

static void
on_ready(CbusFront *front, GDBusConnection *connection, gpointer user_data)
{
    static const CbusRosterHandler handler = {
        .added = on_added, .removed = on_removed, .changed = on_changed};
    Fixture *fixture = user_data;
    g_autoptr(GError) error = NULL;
    fixture->roster = cbus_roster_new(&fixture->bus.loop, fixture->front, NULL, NULL, fixture->runtime_dir,
                                      known_only, &handler, fixture);
    fixture->cluster = cbus_cluster_new(&fixture->bus.loop, fixture->roster);
    fixture->objects =
        cbus_objects_new(front, connection, fixture->roster, fixture->cluster, "UOPERATOR", &error);
    g_assert_no_error(error);
    fixture->router = cbus_router_new(fixture->roster, fixture->cluster, fixture->objects);
}

static void
on_owned(CbusFront *front, gpointer user_data)
{
    ((Fixture *)user_data)->owned++;
}

static void
on_lost(CbusFront *front, const GError *reason, gpointer user_data)
{
    g_error("%s", reason->message);
}

static void
on_signal(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
          const char *signal, GVariant *body, gpointer user_data)
{
    Fixture *fixture = user_data;
    g_autofree char *text = g_variant_print(body, FALSE);
    g_string_append_printf(fixture->signals, "%s %s\n", signal, text);
}

/* Everything that was emitted has arrived once a call answered by the same connection has. Returns what came,
 * valid until the next call. */
static const char *
signals(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) xml = private_bus_call(&fixture->bus, NAME, CBUS_ROOT_PATH,
                                               CBUS_INTERFACE_INTROSPECTABLE, "Introspect", NULL, &error);
    g_assert_no_error(error);
    return fixture->signals->str;
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    static const CbusFrontHandler handler = {.call = on_call,
                                             .caller_gone = on_caller_gone,
                                             .ready = on_ready,
                                             .owned = on_owned,
                                             .lost = on_lost};
    g_autoptr(GError) error = NULL;
    known_only = data != NULL;
    fixture->runtime_dir = g_dir_make_tmp("cbus-roster-XXXXXX", &error);
    g_assert_no_error(error);
    private_bus_up(&fixture->bus);
    fixture->budget = cbus_budget_new(1024 * 1024);
    fixture->signals = g_string_new(NULL);
    fixture->front =
        cbus_front_new(&fixture->bus.loop, fixture->bus.address, NAME, &handler, fixture, &error);
    g_assert_no_error(error);
    private_bus_wait(&fixture->bus, &fixture->owned);
    g_dbus_connection_signal_subscribe(fixture->bus.client, NAME, NULL, NULL, NULL, NULL,
                                       G_DBUS_SIGNAL_FLAGS_NONE, on_signal, fixture, NULL);
    signals(fixture); /* the subscription is in place */
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_clear_pointer(&fixture->router, cbus_router_free);
    g_clear_pointer(&fixture->objects, cbus_objects_free);
    g_clear_pointer(&fixture->roster, cbus_roster_free);
    g_clear_pointer(&fixture->cluster, cbus_cluster_free);
    g_clear_pointer(&fixture->front, cbus_front_free);
    cbus_budget_free(fixture->budget);
    private_bus_down(&fixture->bus);
    g_string_free(fixture->signals, TRUE);
    g_autofree char *names = g_build_filename(fixture->runtime_dir, "by-name", NULL);
    g_rmdir(names);
    g_assert_cmpint(g_rmdir(fixture->runtime_dir), ==, 0); /* each machine took its portal with it */
    g_free(fixture->runtime_dir);
}

static void
assert_signal(Fixture *fixture, const char *words)
{
    const char *seen = signals(fixture);
    if (strstr(seen, words) == NULL) {
        g_error("'%s' is not in:\n%s", words, seen);
    }
    g_string_truncate(fixture->signals, 0);
}

/* Identity number I: any 32 bytes have an NKey; tests decode only those that are points. */
static CbusKey
key_number(guint8 i)
{
    return (CbusKey){.bytes = {[0] = i, [31] = 1}};
}

/* A path is parsed by decoding its NKey, which wants a point: the ed25519 base point. */
static CbusKey
base_point(void)
{
    CbusKey key;
    memset(key.bytes, 0x66, sizeof key.bytes);
    key.bytes[0] = 0x58;
    return key;
}

static void
pin(Fixture *fixture, const CbusKey *key, const char *name)
{
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(key, nkey);
    g_autofree char *text = g_strdup_printf("%s %s\n", nkey, name);
    CbusKnownMachines *known = cbus_known_machines_parse(text, strlen(text), NULL, NULL);
    g_assert_cmpuint(cbus_known_machines_size(known), ==, 1);
    cbus_roster_set_known(fixture->roster, known);
}

static void
unpin_all(Fixture *fixture)
{
    cbus_roster_set_known(fixture->roster, cbus_known_machines_parse("", 0, NULL, NULL));
}

static gboolean
announce(const CbusKey *key)
{
    gboolean wanted = dialer->handler.announced(key, dialer->user_data);
    if (wanted) {
        cbus_dialer_want(dialer, key);
    }
    return wanted;
}

static gboolean
send_nowhere(const guint8 *packet, gsize len, gboolean probe, gpointer user_data)
{
    return TRUE;
}

static CbusLink *
link_up(Fixture *fixture, const CbusKey *key, const char *claim)
{
    static const CbusLinkHandler none;
    static const guint8 id[CBUS_LINK_ID_BYTES] = {1}, chain[32] = {2}, signature[CBUS_SIGNATURE_BYTES];
    CbusLink *link = cbus_link_new(&fixture->bus.loop, CBUS_SIDE_PROXY, cbus_session_new(1, id, chain, chain),
                                   1024 * 1024, fixture->budget, send_nowhere, NULL, &none, NULL);
    cbus_link_send_finish(link, signature);
    dialer->handler.linked(key, link, claim, "0123456789abcdef0123456789abcdef", "not an id!", "1.0",
                           dialer->user_data);
    return link;
}

static char *
property(Fixture *fixture, const CbusKey *key, const char *name)
{
    g_autoptr(GVariant) value =
        g_variant_ref_sink(cbus_machine_property(cbus_roster_lookup(fixture->roster, key), name));
    return g_variant_print(value, FALSE);
}

static void
assert_property(Fixture *fixture, const CbusKey *key, const char *name, const char *expected)
{
    g_autofree char *value = property(fixture, key, name);
    g_assert_cmpstr(value, ==, expected);
}

/* What GetManagedObjects says is what the machines say one by one, each once. */
static void
assert_listed(Fixture *fixture)
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

/* ---- what is promised ---- */

static void
test_what_is_kept_of_machines_follows_them(Fixture *fixture, gconstpointer data)
{
    CbusKey keys[] = {key_number(9), base_point(), key_number(10)};
    static const char *const names[] = {"w", "web-with-a-longer-name", "db1"};

    assert_listed(fixture);
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_assert_true(announce(&keys[i]));
        assert_listed(fixture);
        link_up(fixture, &keys[i], names[i]);
        assert_listed(fixture);
    }
    pin(fixture, &keys[1], "pinned");
    assert_listed(fixture);
    cbus_machine_close_link(cbus_roster_lookup(fixture->roster, &keys[0]), "it can not be \"reached\", é");
    assert_listed(fixture);
    dialer->handler.vanished(&keys[2], dialer->user_data);
    cbus_machine_close_link(cbus_roster_lookup(fixture->roster, &keys[2]), "test");
    assert_listed(fixture);
    unpin_all(fixture);
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
test_pinned_machines_are_always_listed(Fixture *fixture, gconstpointer data)
{
    CbusKey key = base_point();
    pin(fixture, &key, "web1");
    g_assert_true(find_nkey(&key, NULL));
    assert_signal(fixture, "InterfacesAdded");

    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) all =
        private_bus_call(&fixture->bus, NAME, CBUS_ROOT_PATH, CBUS_INTERFACE_OBJECT_MANAGER,
                         "GetManagedObjects", NULL, &error);
    g_assert_no_error(error);
    g_autofree char *text = g_variant_print(all, FALSE);
    g_assert_nonnull(strstr(text, "'Name': <'web1'>, 'NamePinned': <true>, 'Online': <false>"));

    pin(fixture, &key, "web2");
    assert_signal(fixture, "PropertiesChanged ('ie.bmcgee.CBus1.Machine', {'Name': <'web2'>}, [])");

    /* It vanishes from NATS, and stays. */
    dialer->handler.vanished(&key, dialer->user_data);
    g_assert_nonnull(cbus_roster_lookup(fixture->roster, &key));

    unpin_all(fixture);
    g_assert_null(cbus_roster_lookup(fixture->roster, &key));
    g_assert_false(find_nkey(&key, NULL));
    assert_signal(fixture, "InterfacesRemoved");
}

static void
test_unpinned_machines_are_listed_while_there(Fixture *fixture, gconstpointer data)
{
    CbusKey key = base_point();
    g_assert_true(announce(&key));
    assert_signal(fixture, "InterfacesAdded");
    link_up(fixture, &key, "web1");
    dialer->handler.vanished(&key, dialer->user_data);
    g_assert_nonnull(cbus_roster_lookup(fixture->roster, &key));

    /* Pinned while online, and no longer: the link stays all the time. */
    pin(fixture, &key, "pinned");
    unpin_all(fixture);
    assert_property(fixture, &key, "Online", "true");
    assert_property(fixture, &key, "Name", "'web1'");
    g_assert_cmpuint(dialer->forgotten, ==, 0);

    cbus_machine_close_link(cbus_roster_lookup(fixture->roster, &key), "test");
    g_assert_cmpuint(dialer->forgotten, ==, 1);
    dialer->handler.vanished(&key, dialer->user_data);
    g_assert_null(cbus_roster_lookup(fixture->roster, &key));
    assert_signal(fixture, "InterfacesRemoved");
}

static void
test_newcomers_are_limited(Fixture *fixture, gconstpointer data)
{
    guint admitted = 0;
    gint64 begin = g_get_monotonic_time();
    for (guint8 i = 0; i < 100; i++) {
        CbusKey key = key_number(i);
        admitted += announce(&key) ? 1 : 0;
    }
    gint64 seconds = (g_get_monotonic_time() - begin) / G_USEC_PER_SEC + 1;
    g_assert_cmpuint(admitted, >=, CBUS_ROSTER_NEW_PER_SECOND);
    g_assert_cmpuint(admitted, <=, CBUS_ROSTER_NEW_PER_SECOND * (seconds + 1));
}

static void
test_known_only_lists_no_others(Fixture *fixture, gconstpointer data)
{
    CbusKey key = base_point();
    g_assert_false(announce(&key));
    g_assert_null(cbus_roster_lookup(fixture->roster, &key));
    pin(fixture, &key, "web1");
    link_up(fixture, &key, "other");
    assert_property(fixture, &key, "Online", "true");
    unpin_all(fixture);
    g_assert_null(cbus_roster_lookup(fixture->roster, &key));
    g_assert_cmpuint(dialer->forgotten, ==, 0);
}

static void
test_claimed_names_can_not_imitate(Fixture *fixture, gconstpointer data)
{
    CbusKey pinned = base_point(), other = key_number(9), third = key_number(10);
    pin(fixture, &pinned, "web-1");
    announce(&other);
    announce(&third);
    link_up(fixture, &other, "WEB1");
    assert_property(fixture, &other, "Name", "''");
    g_autofree char *why = property(fixture, &other, "LastError");
    g_assert_nonnull(strstr(why, "could be taken for"));
    link_up(fixture, &third, "evil\033[2Jname");
    assert_property(fixture, &third, "Name", "''");
    assert_property(fixture, &third, "BootId", "''");
    assert_property(fixture, &third, "MachineId", "'0123456789abcdef0123456789abcdef'");
    unpin_all(fixture);
    assert_property(fixture, &other, "Name", "'WEB1'");
    assert_property(fixture, &other, "LastError", "''");
}

static void
test_states_say_why(Fixture *fixture, gconstpointer data)
{
    CbusKey key = base_point();
    pin(fixture, &key, "web1");
    CbusMachine *machine = cbus_roster_lookup(fixture->roster, &key);
    const char *path = cbus_machine_path(machine);
    private_bus_assert_error(&fixture->bus, NAME, path, CBUS_INTERFACE_MACHINE, "Ping", NULL,
                             CBUS_ERROR_OFFLINE, "web1|is offline|cbus-agent");
    dialer->handler.state(&key, CBUS_DIAL_UNAUTHORIZED, "no such key", dialer->user_data);
    assert_signal(fixture, "'State': <'unauthorized'>, 'LastError': <'no such key'>");
    private_bus_assert_error(&fixture->bus, NAME, path, CBUS_INTERFACE_MACHINE, "Ping", NULL,
                             CBUS_DBUS_ERROR("AccessDenied"), "web1|no such key");
    dialer->handler.state(&key, CBUS_DIAL_INCOMPATIBLE, "speaks 9", dialer->user_data);
    private_bus_assert_error(&fixture->bus, NAME, path, CBUS_INTERFACE_MACHINE, "Ping", NULL,
                             CBUS_ERROR_INCOMPATIBLE, "web1|speaks 9|update");
    link_up(fixture, &key, "web1");
    assert_signal(fixture, "'Online': <true>, 'State': <'online'>, 'LastError': <''>");

    PrivateAnswer answer = {0};
    g_dbus_connection_call(fixture->bus.client, NAME, path, CBUS_INTERFACE_MACHINE, "Ping", NULL, NULL,
                           G_DBUS_CALL_FLAGS_NONE, -1, NULL, private_bus_on_answer, &answer);
    signals(fixture);
    cbus_machine_close_link(machine, "cut by the test");
    private_bus_wait(&fixture->bus, &answer.done);
    g_autofree char *name = g_dbus_error_get_remote_error(answer.error);
    g_assert_cmpstr(name, ==, CBUS_ERROR_OFFLINE);
    g_clear_error(&answer.error);
    assert_signal(fixture, "'Online': <false>, 'State': <'offline'>, 'LastError': <'cut by the test'>");
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
test_changes_are_told_at_a_pace(Fixture *fixture, gconstpointer data)
{
    CbusKey key = base_point();
    pin(fixture, &key, "web1");
    g_string_truncate(fixture->signals, 0);
    for (guint i = 0; i < 1000; i++) {
        g_autofree char *why = g_strdup_printf("reason %u", i);
        dialer->handler.state(&key, CBUS_DIAL_UNAUTHORIZED, why, dialer->user_data);
    }
    assert_property(fixture, &key, "LastError", "'reason 999'");
    assert_listed(fixture);
    while (strstr(signals(fixture), "reason 999") == NULL) {
        g_main_context_iteration(fixture->bus.loop.context, TRUE);
    }
    g_assert_cmpuint(count(signals(fixture), "PropertiesChanged"), <=, 9);
    g_string_truncate(fixture->signals, 0);
    dialer->handler.state(&key, CBUS_DIAL_OFFLINE, "gone", dialer->user_data);
    assert_signal(fixture, "'LastError': <'gone'>");
}

/* Who asked while a change waited to be told, and saw it, is told when it is undone. */
static void
test_what_was_seen_untold_is_told_when_it_is_undone(Fixture *fixture, gconstpointer data)
{
    CbusKey key = base_point();
    pin(fixture, &key, "web1");
    g_autofree char *told = NULL, *seen = g_strdup("'reason 0'");
    for (guint i = 1; told == NULL || strstr(signals(fixture), seen) != NULL; i++) {
        g_free(told);
        told = g_steal_pointer(&seen);
        seen = g_strdup_printf("'reason %u'", i);
        g_autofree char *why = g_strdup_printf("reason %u", i);
        dialer->handler.state(&key, CBUS_DIAL_UNAUTHORIZED, why, dialer->user_data);
    }
    assert_property(fixture, &key, "LastError", seen);
    g_string_truncate(fixture->signals, 0);
    g_autofree char *again = g_strndup(told + 1, strlen(told) - 2);
    dialer->handler.state(&key, CBUS_DIAL_OFFLINE, again, dialer->user_data);
    while (strstr(signals(fixture), "'offline'") == NULL) {
        g_main_context_iteration(fixture->bus.loop.context, TRUE);
    }
    g_autofree char *undone = g_strdup_printf("'LastError': <%s>", told);
    assert_signal(fixture, undone);
}

static void
test_calls_go_where_they_belong(Fixture *fixture, gconstpointer data)
{
    static const char unknown[] = CBUS_DBUS_ERROR("UnknownObject");
    CbusKey key = base_point();
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(&key, nkey);
    g_autofree char *machine = g_strconcat(CBUS_ROOT_PATH "/", nkey, NULL);
    g_autofree char *bad_service = g_strconcat(machine, "/_zz/x", NULL);
    g_autofree char *service = g_strconcat(machine, "/org_2eexample/x", NULL);
    PrivateBus *bus = &fixture->bus;
    private_bus_assert_error(bus, NAME, machine, "a.b", "C", NULL, unknown, nkey);
    private_bus_assert_error(bus, NAME, service, "a.b", "C", NULL, unknown, nkey);
    pin(fixture, &key, "web1");
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
test_a_tree_walk_finds_the_machines(Fixture *fixture, gconstpointer data)
{
    CbusKey key = base_point();
    pin(fixture, &key, "web1");
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
#define ADD(name, func, data) g_test_add("/roster/" name, Fixture, data, set_up, func, tear_down)
    ADD("pinned-machines-are-always-listed", test_pinned_machines_are_always_listed, NULL);
    ADD("unpinned-machines-are-listed-while-there", test_unpinned_machines_are_listed_while_there, NULL);
    ADD("what-is-kept-follows-the-machines", test_what_is_kept_of_machines_follows_them, NULL);
    ADD("newcomers-are-limited", test_newcomers_are_limited, NULL);
    ADD("known-only-lists-no-others", test_known_only_lists_no_others, "known-only");
    ADD("claimed-names-can-not-imitate", test_claimed_names_can_not_imitate, NULL);
    ADD("states-say-why", test_states_say_why, NULL);
    ADD("changes-are-told-at-a-pace", test_changes_are_told_at_a_pace, NULL);
    ADD("what-was-seen-untold-is-told", test_what_was_seen_untold_is_told_when_it_is_undone, NULL);
    ADD("calls-go-where-they-belong", test_calls_go_where_they_belong, NULL);
    ADD("a-tree-walk-finds-the-machines", test_a_tree_walk_finds_the_machines, NULL);
    return g_test_run();
}
