/* cbus wait: until a property has a value, on all machines or on one of them.
 *
 *     cbus wait org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/ssh_2eservice ActiveState active
 *
 * By signals, not polling: it listens first and reads then, so nothing falls between (cli/listen.c). What is
 * read again, and when: the property when PropertiesChanged invalidates it, when the service has another
 * owner (what a restart changes, no signal tells) or says that the object appeared; and everything of a
 * machine that comes back or whose services change. An object that does not exist yet, or a machine that is
 * away, is no failure before the time is up: waiting for it is the point.
 *
 * VALUE is compared with a string as it is, with anything else as busctl prints it ("true", "3", or with its
 * type: "as 1 \"x\""). Machines are reported as they get there (cli/report.c); when the time is up the others
 * are failures that say what the value was. One thread, one GMainLoop. */
#include "cli/cli.h"

#include "cli/bus.h"
#include "cli/listen.h"
#include "cli/member.h"
#include "cli/remote_signal.h"
#include "cli/report.h"
#include "cli/target.h"
#include "cli/value.h"

#include <math.h>
#include <string.h>

typedef struct {
    CbusFleet fleet;
    CbusFleetOptions options;
    gboolean any;
    const char *destination, *path, *value;
    CbusMember member;
    CbusReport *report;
    GMainLoop *loop;
    char **last; /* what each machine said last; "" once it has been reported */
    gboolean *asking, *again;
    guint reached;
    const char *cut; /* why it ended before its time; NULL: it did not */
    gboolean over;
} Wait;

typedef struct {
    Wait *wait;
    guint index;
    char *prefix;
} Asked;

static void ask(Wait *wait, guint index);

static gboolean
is_reached(const Wait *wait, guint index)
{
    return wait->last[index] != NULL && wait->last[index][0] == '\0';
}

/* As many got there as were asked for. */
static gboolean
is_over(const Wait *wait)
{
    return wait->reached == wait->fleet.machines->len || (wait->any && wait->reached > 0);
}

static void
set_last(Wait *wait, guint index, char *text)
{
    g_free(wait->last[index]);
    wait->last[index] = text;
}

static gboolean
is_value(const Wait *wait, GVariant *value)
{
    g_autofree char *text = NULL;

    if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING) ||
        g_variant_is_of_type(value, G_VARIANT_TYPE_OBJECT_PATH) ||
        g_variant_is_of_type(value, G_VARIANT_TYPE_SIGNATURE)) {
        if (strcmp(g_variant_get_string(value, NULL), wait->value) == 0)
            return TRUE;
    }
    text = cbus_value_text(value);
    return strcmp(text, wait->value) == 0 ||
           strcmp(text + strlen(g_variant_get_type_string(value)) + 1, wait->value) == 0;
}

/* VALUE: what the property is on the INDEXth machine. */
static void
take_value(Wait *wait, guint index, GVariant *value)
{
    CbusFleetAnswer answer = {.machine = wait->fleet.machines->pdata[index]};
    g_autoptr(GVariant) body = NULL;

    if (!is_value(wait, value)) {
        set_last(wait, index, cbus_value_text(value));
        return;
    }
    body = g_variant_ref_sink(g_variant_new("(v)", value));
    answer.body = body;
    set_last(wait, index, g_strdup(""));
    cbus_report_add(wait->report, index, &answer);
    wait->reached++;
    if (is_over(wait))
        g_main_loop_quit(wait->loop);
}

static void
on_answer(GObject *source, GAsyncResult *result, gpointer user_data)
{
    Asked *asked = user_data;
    Wait *wait = asked->wait;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) body = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    wait->asking[asked->index] = FALSE;
    if (!wait->over && !is_reached(wait, asked->index)) {
        if (body != NULL) {
            g_autoptr(GVariant) own = cbus_value_unmirror(body, asked->prefix);
            g_autoptr(GVariant) value = NULL;

            g_variant_get(own, "(v)", &value);
            take_value(wait, asked->index, value);
        } else if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED)) {
            g_dbus_error_strip_remote_error(error);
            set_last(wait, asked->index, g_strdup_printf("not there: %s", error->message));
        }
        if (wait->again[asked->index])
            ask(wait, asked->index);
    }
    g_free(asked->prefix);
    g_free(asked);
}

static void
ask(Wait *wait, guint index)
{
    Asked *asked;
    g_autofree char *path = NULL;

    wait->again[index] = wait->asking[index];
    if (wait->asking[index] || is_reached(wait, index))
        return;
    wait->asking[index] = TRUE;
    asked = g_new0(Asked, 1);
    asked->wait = wait;
    asked->index = index;
    asked->prefix = cbus_fleet_service_path(wait->fleet.machines->pdata[index], wait->destination);
    path = g_strconcat(asked->prefix, strcmp(wait->path, "/") == 0 ? "" : wait->path, NULL);
    g_dbus_connection_call(wait->fleet.connection, CBUS_PROXY_NAME, path, "org.freedesktop.DBus.Properties",
                           "Get", g_variant_new("(ss)", wait->member.interface, wait->member.name),
                           G_VARIANT_TYPE("(v)"), G_DBUS_CALL_FLAGS_NONE, G_MAXINT, NULL, on_answer, asked);
}

static void
object_changed(Wait *wait, guint index, const CbusSignal *signal)
{
    const char *interface = NULL;
    g_autoptr(GVariant) changed = NULL, value = NULL;

    if (strcmp(signal->member, "PropertiesChanged") != 0 ||
        !g_variant_is_of_type(signal->body, G_VARIANT_TYPE("(sa{sv}as)")) ||
        strcmp(signal->path, wait->path) != 0)
        return;
    g_variant_get(signal->body, "(&s@a{sv}as)", &interface, &changed, NULL);
    if (strcmp(interface, wait->member.interface) != 0)
        return;
    value = g_variant_lookup_value(changed, wait->member.name, NULL);
    /* An answer under way may be older than this value, or newer: it is asked again behind it. */
    if (value != NULL && !wait->asking[index])
        take_value(wait, index, value);
    else
        ask(wait, index);
}

/* TRUE if the machine's bus says that the service has come. */
static gboolean
is_new_owner(const Wait *wait, const CbusSignal *signal)
{
    const char *name, *owner;

    if (strcmp(signal->sender, "org.freedesktop.DBus") != 0 ||
        strcmp(signal->member, "NameOwnerChanged") != 0 ||
        !g_variant_is_of_type(signal->body, G_VARIANT_TYPE("(sss)")))
        return FALSE;
    g_variant_get(signal->body, "(&s&s&s)", &name, NULL, &owner);
    return strcmp(name, wait->destination) == 0 && owner[0] != '\0';
}

static void
on_signal(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
          const char *member, GVariant *body, gpointer user_data)
{
    Wait *wait = user_data;
    const char *rest = NULL;
    const CbusRosterMachine *machine = cbus_signal_machine(wait->fleet.machines, path, &rest);
    g_auto(CbusSignal) signal = {0};
    guint index;

    if (machine == NULL || wait->over || !g_ptr_array_find(wait->fleet.machines, machine, &index) ||
        is_reached(wait, index))
        return;
    if (rest[0] == '\0') {
        ask(wait, index); /* it came, it went, or its services changed */
        return;
    }
    if (!cbus_signal_read(&signal, wait->fleet.machines, path, interface, member, body))
        return;
    if (is_new_owner(wait, &signal))
        ask(wait, index);
    else if (strcmp(signal.sender, wait->destination) != 0)
        return;
    else if (strcmp(member, "InterfacesAdded") == 0)
        ask(wait, index);
    else
        object_changed(wait, index, &signal);
}

static gboolean
on_timeout(gpointer user_data)
{
    g_main_loop_quit(((Wait *)user_data)->loop);
    return G_SOURCE_CONTINUE;
}

static void
on_gone(gpointer user_data)
{
    Wait *wait = user_data;

    if (is_over(wait)) /* by the bus's last message */
        return;
    wait->cut = "the bus closed the connection";
    g_main_loop_quit(wait->loop);
}

static void
on_refused(gpointer user_data)
{
    Wait *wait = user_data;

    wait->cut = "the bus does not let us listen";
    g_main_loop_quit(wait->loop);
}

static void
run(Wait *wait)
{
    GDBusConnection *connection = wait->fleet.connection;
    g_autoptr(CbusListening) listening = cbus_listening_new(connection, on_signal, on_refused, wait);
    guint timer = g_timeout_add((guint)ceil(wait->options.timeout * 1000), on_timeout, wait);
    g_autoptr(CbusBusWatch) bus = cbus_bus_watch_new(connection, on_gone, wait);

    cbus_listening_set(listening, cbus_listen_rules_for_property(wait->fleet.machines, wait->destination,
                                                                 wait->path, wait->member.interface));
    for (guint i = 0; i < wait->fleet.machines->len; i++)
        ask(wait, i);
    g_main_loop_run(wait->loop);
    wait->over = TRUE;
    g_source_remove(timer);
}

/* Those that did not get there; with --any, and one that did, they are none of our business. */
static void
report_rest(Wait *wait)
{
    for (guint i = 0; i < wait->fleet.machines->len; i++) {
        g_autofree char *message = NULL;
        CbusFleetAnswer answer = {.machine = wait->fleet.machines->pdata[i],
                                  .error = (char *)"org.freedesktop.DBus.Error.Timeout"};

        if (is_reached(wait, i) || (wait->any && wait->reached > 0))
            continue;
        const char *last = wait->last[i] != NULL ? wait->last[i] : "unknown: it did not answer";
        if (wait->cut != NULL)
            message = g_strdup_printf("waiting for %s to be %s ended early, since %s; it was %s",
                                      wait->member.name, wait->value, wait->cut, last);
        else
            message = g_strdup_printf("%s is not %s after %g s, but %s", wait->member.name, wait->value,
                                      wait->options.timeout, last);
        answer.message = message;
        if (wait->cut != NULL)
            answer.error = (char *)"org.freedesktop.DBus.Error.Disconnected";
        cbus_report_add(wait->report, i, &answer);
    }
}

static CbusExit
wait_for_value(Wait *wait)
{
    const CbusFleetCall call = {.destination = wait->destination, .path = wait->path};
    guint n = wait->fleet.machines->len;
    g_autoptr(CbusReport) report =
        cbus_report_new(CBUS_REPORT_WAIT, &wait->options, wait->fleet.machines, &call);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autofree gboolean *asking = g_new0(gboolean, n), *again = g_new0(gboolean, n);
    CbusExit status;

    wait->report = report;
    wait->loop = loop;
    wait->asking = asking;
    wait->again = again;
    wait->last = g_new0(char *, n);
    run(wait);
    report_rest(wait);
    status = cbus_report_end(report);
    /* Answers that are still under way must not find us gone. */
    g_dbus_connection_close_sync(wait->fleet.connection, NULL, NULL);
    for (guint i = 0; i < n; i++) {
        while (asking[i])
            g_main_context_iteration(NULL, TRUE);
        g_free(wait->last[i]);
    }
    g_free(wait->last);
    return status;
}

static CbusExit
start(Wait *wait)
{
    CbusExit status = cbus_fleet_open(&wait->fleet, &wait->options);

    if (status != CBUS_EXIT_OK)
        return status;
    if (wait->member.interface == NULL)
        status = cbus_member_require(&wait->fleet, &wait->options, wait->destination, wait->path,
                                     CBUS_MEMBER_PROPERTY, CBUS_REPORT_WAIT, &wait->member);
    if (status != CBUS_EXIT_OK)
        return status;
    return wait_for_value(wait);
}

CbusExit
cbus_cli_wait(int argc, char **argv)
{
    Wait wait = {0};
    const GOptionEntry entries[] = {
        {"any", 0, 0, G_OPTION_ARG_NONE, &wait.any, "One machine is enough", NULL},
        {"timeout", 0, 0, G_OPTION_ARG_DOUBLE, &wait.options.timeout, "Give up after S seconds (default: 25)",
         "S"},
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context =
        g_option_context_new("DEST PATH [INTERFACE.]PROPERTY VALUE - wait until a property has a value");
    g_autoptr(GError) error = NULL;
    CbusExit status = CBUS_EXIT_USAGE;

    cbus_fleet_options_init(&wait.options);
    cbus_fleet_options_add_selection(context, &wait.options);
    g_option_context_add_main_entries(context, entries, NULL);
    if (cbus_cli_parse_values(context, &argc, &argv, 4) && cbus_fleet_options_check(&wait.options) &&
        cbus_target_check(argv[1], argv[2])) {
        wait.destination = argv[1];
        wait.path = argv[2];
        wait.value = argv[4];
        if (argc > 5)
            cbus_cli_complain("too many arguments: \"%s\"", argv[5]);
        else if (!cbus_member_parse(argv[3], &wait.member, &error))
            cbus_cli_complain("%s", error->message);
        else
            status = start(&wait);
    }
    cbus_member_clear(&wait.member);
    cbus_fleet_clear(&wait.fleet);
    cbus_fleet_options_clear(&wait.options);
    return status;
}
