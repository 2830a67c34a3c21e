/* What the proxy's bus delivers of the mirror's signals: no more than somebody waits for.
 *
 * The mirror emits the signals of all machines, and a match rule without conditions would have the bus copy
 * them all to us: a thousand machines' worth for one unit of one machine. So what is asked for in terms of
 * the machines becomes match rules in terms of the mirror: sender and path are the path there, interface,
 * member and string arguments are what they were, and other conditions are left to who receives. A rule may
 * let pass more than is wanted, and never less: every signal is judged again (cli/remote_signal.c).
 *
 * A rule names one path, so there is one for each machine, up to RULES_MAX in all (a system bus takes 512 of
 * a connection); with more machines the same conditions are asked of all of them at once.
 *
 * Rules are sent in order and before whatever is asked next, so that reading a value behind
 * cbus_listening_set() leaves no gap. GDBus would deliver a signal once for each subscription that fits;
 * here rules are the bus's and the subscription is one.
 *
 * Trusts the bus to deliver what was asked for and the proxy to own its name. One thread. */
#include "cli/listen.h"

#include "cli/bus.h"
#include "wire/match_rule.h"

#include <string.h>

#define RULES_MAX   200
#define ARGUMENTS   64
#define RULE_BYTES  1000 /* buses take 1024 */
#define OF_PROXY    "type='signal',sender='" CBUS_PROXY_NAME "'"
#define EVERYWHERE  ",path_namespace='" CBUS_PROXY_PATH "'"
#define PROPERTIES  "org.freedesktop.DBus.Properties"
#define OBJECTS     "org.freedesktop.DBus.ObjectManager"
#define DRIVER      "org.freedesktop.DBus"
#define DRIVER_PATH "/org/freedesktop/DBus"

/* ---- rules ---- */

static void
append(GString *rule, const char *key, const char *value)
{
    g_auto(GStrv) parts = NULL;
    g_autofree char *quoted = NULL;

    if (value == NULL)
        return;
    parts = g_strsplit(value, "'", -1);
    quoted = g_strjoinv("'\\''", parts);
    g_string_append_printf(rule, ",%s='%s'", key, quoted);
}

/* Where the mirror has PATH (NULL: the service itself) of DESTINATION. */
static char *
mirrored(const CbusRosterMachine *machine, const char *destination, const char *path)
{
    g_autofree char *service = cbus_fleet_service_path(machine, destination);

    return g_strconcat(service, path != NULL && strcmp(path, "/") != 0 ? path : "", NULL);
}

static void
append_place(GString *out, const CbusRosterMachine *machine, const CbusMatchRule *rule)
{
    const char *sender = cbus_match_rule_value(rule, "sender");
    const char *path = cbus_match_rule_value(rule, "path");
    g_autofree char *node = g_strconcat(CBUS_PROXY_PATH "/", machine->nkey, NULL), *place = NULL;

    if (sender == NULL) {
        append(out, "path_namespace", node);
        return;
    }
    place = mirrored(machine, sender, path != NULL ? path : cbus_match_rule_value(rule, "path_namespace"));
    append(out, path != NULL ? "path" : "path_namespace", place);
}

/* What RULE says of the signal itself. */
static void
append_conditions(GString *out, const CbusMatchRule *rule)
{
    append(out, "interface", cbus_match_rule_value(rule, "interface"));
    append(out, "member", cbus_match_rule_value(rule, "member"));
    append(out, "arg0namespace", cbus_match_rule_value(rule, "arg0namespace"));
    for (guint i = 0; i < ARGUMENTS; i++) {
        g_autofree char *key = g_strdup_printf("arg%u", i);

        append(out, key, cbus_match_rule_value(rule, key));
    }
}

/* RULE of the machine, or of all if it is NULL. */
static char *
rule_for(const CbusRosterMachine *machine, const CbusMatchRule *rule)
{
    g_autoptr(GString) out = g_string_new(OF_PROXY);

    if (machine != NULL)
        append_place(out, machine, rule);
    else
        g_string_append(out, EVERYWHERE);
    append_conditions(out, rule);
    if (out->len > RULE_BYTES) {
        g_string_assign(out, OF_PROXY EVERYWHERE);
        append(out, "interface", cbus_match_rule_value(rule, "interface"));
        append(out, "member", cbus_match_rule_value(rule, "member"));
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

/* What changes of the machine's own properties; of all machines if it is NULL. */
static char *
rule_for_state(const CbusRosterMachine *machine)
{
    g_autoptr(GString) out = g_string_new(OF_PROXY);
    g_autofree char *node = machine != NULL ? g_strconcat(CBUS_PROXY_PATH "/", machine->nkey, NULL) : NULL;

    append(out, "path", node);
    append(out, "interface", PROPERTIES);
    append(out, "member", "PropertiesChanged");
    append(out, "arg0", CBUS_MACHINE_INTERFACE);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

GPtrArray *
cbus_listen_rules_for_signals(const GPtrArray *machines, gboolean open, const GPtrArray *rules)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    gboolean each = machines->len <= RULES_MAX / (rules->len + 1);
    g_autoptr(CbusMatchRule) any = cbus_match_rule_parse(cbus_span(""), NULL);

    /* Machines that come and go. */
    g_ptr_array_add(out, g_strdup(OF_PROXY ",path='" CBUS_PROXY_PATH "'"));
    if (open || !each)
        g_ptr_array_add(out, rule_for_state(NULL));
    for (guint i = 0; i < (each ? machines->len : 1); i++) {
        const CbusRosterMachine *machine = each ? machines->pdata[i] : NULL;

        if (!open && each)
            g_ptr_array_add(out, rule_for_state(machine));
        if (rules->len == 0)
            g_ptr_array_add(out, rule_for(machine, any));
        for (guint j = 0; j < rules->len; j++)
            g_ptr_array_add(out, rule_for(machine, rules->pdata[j]));
    }
    return out;
}

GPtrArray *
cbus_listen_rules_for_property(const GPtrArray *machines, const char *destination, const char *path,
                               const char *interface)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    gboolean each = machines->len <= RULES_MAX / 4;

    for (guint i = 0; i < (each ? machines->len : 1); i++) {
        const CbusRosterMachine *machine = each ? machines->pdata[i] : NULL;
        g_autofree char *object = each ? mirrored(machine, destination, path) : NULL;
        g_autofree char *service = each ? mirrored(machine, destination, NULL) : NULL;
        g_autofree char *driver = each ? mirrored(machine, DRIVER, DRIVER_PATH) : NULL;
        const char *const conditions[][5] = {
            {"path", object, PROPERTIES, "PropertiesChanged", interface},
            {"path_namespace", service, OBJECTS, "InterfacesAdded", NULL},
            {"path", driver, DRIVER, "NameOwnerChanged", destination},
        };

        g_ptr_array_add(out, rule_for_state(machine));
        for (guint j = 0; j < G_N_ELEMENTS(conditions); j++) {
            GString *rule = g_string_new(OF_PROXY);

            append(rule, conditions[j][0], conditions[j][1]);
            append(rule, "interface", conditions[j][2]);
            append(rule, "member", conditions[j][3]);
            append(rule, "arg0", conditions[j][4]);
            g_ptr_array_add(out, g_string_free(rule, FALSE));
        }
    }
    return out;
}

/* ---- listening ---- */

struct _CbusListening {
    GDBusConnection *connection;
    GCancellable *cancellable;
    GHashTable *rules; /* that the bus has of us */
    guint subscription;
    void (*refused)(gpointer user_data);
    gpointer user_data;
};

CbusListening *
cbus_listening_new(GDBusConnection *connection, GDBusSignalCallback func, void (*refused)(gpointer user_data),
                   gpointer user_data)
{
    static const CbusBusRule ours = {.sender = CBUS_PROXY_NAME, .flags = G_DBUS_SIGNAL_FLAGS_NO_MATCH_RULE};
    CbusListening *listening = g_new0(CbusListening, 1);

    listening->connection = g_object_ref(connection);
    listening->cancellable = g_cancellable_new();
    listening->rules = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    listening->refused = refused;
    listening->user_data = user_data;
    listening->subscription = cbus_bus_subscribe(connection, &ours, func, user_data);
    return listening;
}

static void
on_added(GObject *source, GAsyncResult *result, gpointer user_data)
{
    CbusListening *listening = user_data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) answer = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    /* Cancelled: nobody listens any more, and LISTENING may be gone. Closed: a CbusBusWatch tells it. */
    if (answer != NULL || g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
        g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED))
        return;
    g_dbus_error_strip_remote_error(error);
    cbus_cli_complain("the bus does not let us listen: %s", error->message);
    listening->refused(listening->user_data);
}

static void
tell_bus(CbusListening *listening, const char *method, const char *rule, GAsyncReadyCallback func)
{
    g_dbus_connection_call(listening->connection, DRIVER, DRIVER_PATH, DRIVER, method,
                           g_variant_new("(s)", rule), NULL, G_DBUS_CALL_FLAGS_NONE, G_MAXINT,
                           listening->cancellable, func, listening);
}

void
cbus_listening_set(CbusListening *listening, GPtrArray *rules)
{
    g_autoptr(GPtrArray) wanted = rules;
    g_autoptr(GHashTable) before = listening->rules;
    GHashTableIter iter;
    gpointer rule;

    listening->rules = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < wanted->len; i++) {
        if (!g_hash_table_add(listening->rules, g_strdup(wanted->pdata[i])))
            continue;
        if (!g_hash_table_remove(before, wanted->pdata[i]))
            tell_bus(listening, "AddMatch", wanted->pdata[i], on_added);
    }
    g_hash_table_iter_init(&iter, before);
    while (g_hash_table_iter_next(&iter, &rule, NULL))
        tell_bus(listening, "RemoveMatch", rule, NULL);
}

void
cbus_listening_free(CbusListening *listening)
{
    if (listening == NULL)
        return;
    g_cancellable_cancel(listening->cancellable);
    g_dbus_connection_signal_unsubscribe(listening->connection, listening->subscription);
    g_hash_table_unref(listening->rules);
    g_object_unref(listening->cancellable);
    g_object_unref(listening->connection);
    g_free(listening);
}
