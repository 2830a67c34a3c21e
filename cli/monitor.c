/* cbus monitor: the signals of all machines or some, as they come.
 *
 *     cbus monitor --nkeys 'web*' "interface='org.freedesktop.systemd1.Manager',member='JobRemoved'"
 *
 * One line a signal: time (of arrival here), machine, sender, path, interface.member, body as busctl prints
 * it; with --json one object a line. Rules are match rules over what the machine's own bus would show; a
 * signal is shown that fits any of them. The proxy's bus is asked for no more than that (cli/listen.c).
 *
 * What is missing is told, too: signals that the proxy had to drop, machines that go and come back, the proxy
 * leaving the bus. Silence then means that nothing happened. Machines that are pinned while it runs are
 * included when no --nkeys names others, and those that a glob or a tag of it fits by then.
 *
 * Runs until it is interrupted, or the bus or its reader goes away. Remote text is escaped
 * (cli/remote_signal.c). One thread, one GMainLoop. */
#include "cli/cli.h"

#include "cli/bus.h"
#include "cli/json.h"
#include "cli/listen.h"
#include "cli/remote_signal.h"
#include "cli/select.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    CbusFleet fleet;
    const CbusFleetOptions *options;
    GPtrArray *rules;
    CbusListening *listening;
    GMainLoop *loop;
    gboolean asking, again;
    CbusExit status;
} Monitor;

static void
print_line(Monitor *monitor, const char *text)
{
    if (monitor->options->json)
        fputs(text, stdout);
    else
        g_print("%s", text);
    if (putchar('\n') == EOF || fflush(stdout) != 0) {
        monitor->status = CBUS_EXIT_FAILED;
        g_main_loop_quit(monitor->loop);
    }
}

/* Something that is no signal but explains missing ones. KEY: of the JSON object, where it has VALUE. */
static void
print_notice(Monitor *monitor, const CbusRosterMachine *machine, const char *key, const char *text,
             GVariant *value)
{
    gint64 now = g_get_real_time();
    g_autofree char *line = NULL;

    if (monitor->options->json) {
        g_autofree char *time = cbus_signal_timestamp(now);
        GString *out = g_string_new("{\"time\":");

        cbus_json_append_string(out, time);
        g_string_append(out, ",\"nkey\":");
        cbus_json_append_string(out, machine->nkey);
        g_string_append(out, ",\"name\":");
        cbus_json_append_string(out, machine->name);
        g_string_append_printf(out, ",\"%s\":", key);
        cbus_json_append_value(out, value);
        g_string_append_c(out, '}');
        line = g_string_free(out, FALSE);
    } else {
        g_autofree char *clock = cbus_signal_clock(now);
        g_autofree char *name = cbus_text_escape(machine->pinned ? machine->name : machine->nkey, 64);
        g_autofree char *safe = cbus_text_escape(text, 256);

        line = g_strdup_printf("%s %s -- %s: %s", clock, name, key, safe);
    }
    print_line(monitor, line);
}

/* ---- the roster, anew ---- */

static void ask_roster(Monitor *monitor);

/* TRUE if a machine that is pinned, or tagged, meanwhile is one of those to be shown. */
static gboolean
is_open(const Monitor *monitor)
{
    g_autofree char *list = monitor->options->nkeys != NULL ? g_strjoinv(",", monitor->options->nkeys) : NULL;

    return list == NULL || strpbrk(list, "@*?[") != NULL;
}

static void
listen(Monitor *monitor)
{
    cbus_listening_set(monitor->listening, cbus_listen_rules_for_signals(monitor->fleet.machines,
                                                                         is_open(monitor), monitor->rules));
}

static void
take_roster(Monitor *monitor, GVariant *answer)
{
    g_autoptr(GPtrArray) roster = cbus_roster_read(answer);
    g_autofree char *list = monitor->options->nkeys != NULL ? g_strjoinv(",", monitor->options->nkeys) : NULL;
    g_autoptr(GPtrArray) machines = cbus_select_machines(roster, list, monitor->options->unpinned, NULL);

    /* A name that is no longer pinned: those chosen before are still watched. */
    if (machines == NULL)
        return;
    g_ptr_array_unref(monitor->fleet.machines);
    g_ptr_array_unref(monitor->fleet.roster);
    monitor->fleet.machines = g_steal_pointer(&machines);
    monitor->fleet.roster = g_steal_pointer(&roster);
    listen(monitor);
}

static void
on_roster(GObject *source, GAsyncResult *result, gpointer user_data)
{
    Monitor *monitor = user_data;
    g_autoptr(GVariant) answer = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, NULL);

    monitor->asking = FALSE;
    if (answer != NULL)
        take_roster(monitor, answer);
    if (monitor->again)
        ask_roster(monitor);
}

static void
ask_roster(Monitor *monitor)
{
    monitor->again = monitor->asking;
    if (monitor->asking)
        return;
    monitor->asking = TRUE;
    g_dbus_connection_call(monitor->fleet.connection, CBUS_PROXY_NAME, CBUS_PROXY_PATH,
                           "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL,
                           G_VARIANT_TYPE("(a{oa{sa{sv}}})"), G_DBUS_CALL_FLAGS_NONE, -1, NULL, on_roster,
                           monitor);
}

/* ---- what comes ---- */

static void
machine_changed(Monitor *monitor, const CbusRosterMachine *machine, GVariant *body)
{
    g_autoptr(GVariant) changed = NULL;
    g_autoptr(GVariant) state = NULL, lost = NULL;
    const char *interface;

    if (!g_variant_is_of_type(body, G_VARIANT_TYPE("(sa{sv}as)")))
        return;
    g_variant_get(body, "(&s@a{sv}as)", &interface, &changed, NULL);
    lost = g_variant_lookup_value(changed, "SignalsLost", G_VARIANT_TYPE_UINT64);
    if (lost != NULL) {
        g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT " in all", g_variant_get_uint64(lost));

        print_notice(monitor, machine, "lost", text, lost);
    }
    state = g_variant_lookup_value(changed, "State", G_VARIANT_TYPE_STRING);
    if (state != NULL)
        print_notice(monitor, machine, "state", g_variant_get_string(state, NULL), state);
    ask_roster(monitor);
}

/* TRUE if SIGNAL's BODY says that a machine is pinned or tagged otherwise than before. */
static gboolean
is_of_pins(const char *member, GVariant *body)
{
    static const char *const pins[] = {"NamePinned", "Name", "Tags"};
    g_autoptr(GVariant) changed = NULL;
    gboolean found = FALSE;

    if (strcmp(member, "PropertiesChanged") != 0 || !g_variant_is_of_type(body, G_VARIANT_TYPE("(sa{sv}as)")))
        return FALSE;
    changed = g_variant_get_child_value(body, 1);
    for (guint i = 0; i < G_N_ELEMENTS(pins) && !found; i++) {
        g_autoptr(GVariant) value = g_variant_lookup_value(changed, pins[i], NULL);

        found = value != NULL;
    }
    return found;
}

static void
on_signal(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
          const char *member, GVariant *body, gpointer user_data)
{
    Monitor *monitor = user_data;
    const char *rest = NULL;
    const CbusRosterMachine *machine = cbus_signal_machine(monitor->fleet.machines, path, &rest);
    g_auto(CbusSignal) signal = {0};
    g_autofree char *line = NULL;

    if (strcmp(path, CBUS_PROXY_PATH) == 0 ||
        (machine == NULL && strrchr(path, '/') == path + strlen(CBUS_PROXY_PATH) &&
         is_of_pins(member, body))) {
        ask_roster(monitor);
        return;
    }
    if (machine != NULL && rest[0] == '\0') {
        machine_changed(monitor, machine, body);
        return;
    }
    if (!cbus_signal_read(&signal, monitor->fleet.machines, path, interface, member, body) ||
        !cbus_signal_is_wanted(&signal, monitor->rules))
        return;
    line = monitor->options->json ? cbus_signal_json(&signal, g_get_real_time())
                                  : cbus_signal_text(&signal, g_get_real_time());
    print_line(monitor, line);
}

static void
on_owner(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
         const char *member, GVariant *body, gpointer user_data)
{
    const char *owner = NULL;

    if (!g_variant_is_of_type(body, G_VARIANT_TYPE("(sss)")))
        return;
    g_variant_get(body, "(&s&s&s)", NULL, NULL, &owner);
    if (owner[0] != '\0') {
        cbus_cli_complain("cbus-proxy is on the bus again");
        ask_roster(user_data);
    } else {
        cbus_cli_complain("cbus-proxy left the bus: no signals until it is back");
    }
}

static void
on_gone(gpointer user_data)
{
    Monitor *monitor = user_data;

    cbus_cli_complain("the bus closed the connection");
    monitor->status = CBUS_EXIT_FAILED;
    g_main_loop_quit(monitor->loop);
}

static void
on_refused(gpointer user_data)
{
    Monitor *monitor = user_data;

    monitor->status = CBUS_EXIT_FAILED;
    g_main_loop_quit(monitor->loop);
}

/* What RULE asks for that no signal here can be, or NULL: silence would look like peace. */
static const char *
impossible(const CbusMatchRule *rule)
{
    const char *type = cbus_match_rule_value(rule, "type"), *sender = cbus_match_rule_value(rule, "sender");

    if (type != NULL && strcmp(type, "signal") != 0)
        return "only signals are shown";
    if (cbus_match_rule_value(rule, "destination") != NULL || cbus_match_rule_eavesdrops(rule))
        return "signals to one receiver do not leave the machine";
    if (sender != NULL && sender[0] == ':')
        return "senders are shown by their well-known names";
    return NULL;
}

static GPtrArray *
read_rules(char **words)
{
    g_autoptr(GPtrArray) rules = g_ptr_array_new_with_free_func((GDestroyNotify)cbus_match_rule_free);

    for (; *words != NULL; words++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(CbusMatchRule) rule = cbus_match_rule_parse(cbus_span(*words), &error);
        const char *why = rule != NULL ? impossible(rule) : error->message;

        if (why != NULL) {
            cbus_cli_complain("\"%s\": %s", *words, why);
            return NULL;
        }
        g_ptr_array_add(rules, g_steal_pointer(&rule));
    }
    return g_steal_pointer(&rules);
}

static void
run(Monitor *monitor)
{
    static const CbusBusRule owner = {.sender = "org.freedesktop.DBus",
                                      .interface = "org.freedesktop.DBus",
                                      .member = "NameOwnerChanged",
                                      .arg0 = CBUS_PROXY_NAME};
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    GDBusConnection *connection = monitor->fleet.connection;
    g_autoptr(CbusBusWatch) bus = cbus_bus_watch_new(connection, on_gone, monitor);

    monitor->loop = loop;
    monitor->listening = cbus_listening_new(connection, on_signal, on_refused, monitor);
    listen(monitor);
    (void)cbus_bus_subscribe(connection, &owner, on_owner, monitor);
    ask_roster(monitor);
    g_main_loop_run(loop);
    g_clear_pointer(&monitor->listening, cbus_listening_free);
}

CbusExit
cbus_cli_monitor(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("[MATCH-RULE…] - show signals as they come");
    g_auto(CbusFleetOptions) options = {0};
    Monitor monitor = {.options = &options};
    g_autoptr(GPtrArray) rules = NULL;

    cbus_fleet_options_init(&options);
    cbus_fleet_options_add_selection(context, &options);
    if (!cbus_cli_parse(context, &argc, &argv, 0, 64))
        return CBUS_EXIT_USAGE;
    rules = read_rules(argv + 1);
    if (rules == NULL)
        return CBUS_EXIT_USAGE;
    monitor.rules = rules;
    monitor.status = cbus_fleet_open(&monitor.fleet, &options);
    if (monitor.status == CBUS_EXIT_OK)
        run(&monitor);
    cbus_fleet_clear(&monitor.fleet);
    return monitor.status;
}
