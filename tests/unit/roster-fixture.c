/* See the header. */
#include "roster-fixture.h"
#include <glib/gstdio.h>

/* ---- the dialer ---- */

CbusDialer *dialer;

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

gboolean
roster_wants(const CbusKey *key)
{
    return find_nkey(key, NULL);
}

/* ---- the fixture ---- */

static gboolean
on_call(CbusFront *front, const CbusMessage *call, const guint8 *bytes, gpointer user_data)
{
    return cbus_router_call(((RosterFixture *)user_data)->router, front, call, bytes);
}

static void
on_caller_gone(CbusFront *front, const char *unique_name, gpointer user_data)
{
    cbus_roster_caller_gone(((RosterFixture *)user_data)->roster, unique_name);
}

static void
on_added(CbusRoster *roster, CbusMachine *machine, gpointer user_data)
{
    RosterFixture *fixture = user_data;
    cbus_objects_added(fixture->objects, machine);
}

static void
on_removed(CbusRoster *roster, CbusMachine *machine, gpointer user_data)
{
    RosterFixture *fixture = user_data;
    cbus_objects_removed(fixture->objects, machine);
}

static void
on_changed(CbusRoster *roster, CbusMachine *machine, GVariant *changed, gpointer user_data)
{
    RosterFixture *fixture = user_data;
    cbus_objects_changed(fixture->objects, machine, changed);
}

static gboolean known_only;

static void
on_ready(CbusFront *front, GDBusConnection *connection, gpointer user_data)
{
    static const CbusRosterHandler handler = {
        .added = on_added, .removed = on_removed, .changed = on_changed};
    RosterFixture *fixture = user_data;
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
    ((RosterFixture *)user_data)->owned++;
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
    RosterFixture *fixture = user_data;
    g_autofree char *text = g_variant_print(body, FALSE);
    g_string_append_printf(fixture->signals, "%s %s\n", signal, text);
}

const char *
roster_signals(RosterFixture *fixture)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) xml = private_bus_call(&fixture->bus, NAME, CBUS_ROOT_PATH,
                                               CBUS_INTERFACE_INTROSPECTABLE, "Introspect", NULL, &error);
    g_assert_no_error(error);
    return fixture->signals->str;
}

void
roster_set_up(RosterFixture *fixture, gconstpointer data)
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
    roster_signals(fixture); /* the subscription is in place */
}

void
roster_tear_down(RosterFixture *fixture, gconstpointer data)
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

void
roster_assert_signal(RosterFixture *fixture, const char *words)
{
    const char *seen = roster_signals(fixture);
    if (strstr(seen, words) == NULL) {
        g_error("'%s' is not in:\n%s", words, seen);
    }
    g_string_truncate(fixture->signals, 0);
}

CbusKey
roster_key_number(guint8 i)
{
    return (CbusKey){.bytes = {[0] = i, [31] = 1}};
}

CbusKey
roster_base_point(void)
{
    CbusKey key;
    memset(key.bytes, 0x66, sizeof key.bytes);
    key.bytes[0] = 0x58;
    return key;
}

void
roster_pin(RosterFixture *fixture, const CbusKey *key, const char *name)
{
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(key, nkey);
    g_autofree char *text = g_strdup_printf("%s %s\n", nkey, name);
    CbusKnownMachines *known = cbus_known_machines_parse(text, strlen(text), NULL, NULL);
    g_assert_cmpuint(cbus_known_machines_size(known), ==, 1);
    cbus_roster_set_known(fixture->roster, known);
}

void
roster_unpin_all(RosterFixture *fixture)
{
    cbus_roster_set_known(fixture->roster, cbus_known_machines_parse("", 0, NULL, NULL));
}

gboolean
roster_announce(const CbusKey *key)
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

CbusLink *
roster_link_up(RosterFixture *fixture, const CbusKey *key, const char *claim)
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

char *
roster_property(RosterFixture *fixture, const CbusKey *key, const char *name)
{
    g_autoptr(GVariant) value =
        g_variant_ref_sink(cbus_machine_property(cbus_roster_lookup(fixture->roster, key), name));
    return g_variant_print(value, FALSE);
}

void
roster_assert_property(RosterFixture *fixture, const CbusKey *key, const char *name, const char *expected)
{
    g_autofree char *value = roster_property(fixture, key, name);
    g_assert_cmpstr(value, ==, expected);
}
