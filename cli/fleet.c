/* One call to many machines through the mirror, each answer as it comes.
 *
 * The proxy has ie.bmcgee.CBus1.Cluster for this, which gathers all rows into one answer: good for programs,
 * but a person wants to see what is there already. So each machine's mirrored object is called by itself, and
 * a slow machine delays nothing but its own line. An offline machine is answered at once, by the proxy.
 *
 * --batch N keeps N calls under way and no more; --fail-fast asks no further machine once one failed (one at
 * a time unless --batch says else). Machines that were left out are reported as such: nothing is silently
 * skipped. A call is never repeated: when its time is up, whether it was executed is unknown, and the message
 * says so.
 *
 * The proxy is trusted to be the proxy; values and error texts are remote and only ever printed escaped
 * (cli/value.c, cli/json.c). One thread, the default main context. */
#include "cli/fleet.h"

#include "cli/bus.h"
#include "cli/select.h"
#include "cli/value.h"

#include <math.h>
#include <string.h>

#define NO_REPLY  "org.freedesktop.DBus.Error.NoReply"
#define NOT_ASKED "ie.bmcgee.CBus1.Error.NotAsked"

typedef struct {
    GMainLoop *loop;
    GCancellable *cancellable;
    GDBusConnection *connection;
    const GPtrArray *machines;
    const CbusFleetCall *call;
    CbusFleetFunc func;
    gpointer user_data;
    guint next, under_way;
    gboolean failed, over;
} Round;

typedef struct {
    Round *round;
    guint index;
    char *prefix;
} Asked;

static void ask_more(Round *round);

char *
cbus_fleet_service_path(const CbusRosterMachine *machine, const char *destination)
{
    g_autofree char *element = g_dbus_escape_object_path(destination);

    return g_strconcat(CBUS_PROXY_PATH "/", machine->nkey, "/", element, NULL);
}

static void
report(Round *round, guint index, CbusFleetAnswer *answer)
{
    answer->machine = round->machines->pdata[index];
    round->failed = round->failed || answer->error != NULL;
    if (!round->func(index, answer, round->user_data)) {
        round->over = TRUE;
        g_cancellable_cancel(round->cancellable);
    }
    g_clear_pointer(&answer->body, g_variant_unref);
    g_free(answer->error);
    g_free(answer->message);
}

static void
take_error(const Round *round, CbusFleetAnswer *answer, GError *error)
{
    answer->error = g_dbus_error_get_remote_error(error);
    if (answer->error != NULL) {
        g_dbus_error_strip_remote_error(error);
        answer->message = g_strdup(error->message);
    } else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
        answer->error = g_strdup(NO_REPLY);
        answer->message = g_strdup_printf("no answer within %g s; whether the call was executed is unknown: "
                                          "look before you repeat it",
                                          round->call->timeout);
    } else {
        answer->error = g_strdup(NO_REPLY);
        answer->message = g_strdup(error->message);
    }
}

static void
on_answer(GObject *source, GAsyncResult *result, gpointer user_data)
{
    Asked *asked = user_data;
    Round *round = asked->round;
    CbusFleetAnswer answer = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) body = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    round->under_way--;
    if (!round->over) {
        if (body != NULL)
            answer.body = cbus_value_unmirror(body, asked->prefix);
        else
            take_error(round, &answer, error);
        report(round, asked->index, &answer);
    }
    g_free(asked->prefix);
    g_free(asked);
    ask_more(round);
    if (round->under_way == 0)
        g_main_loop_quit(round->loop);
}

static void
ask(Round *round, guint index)
{
    const CbusFleetCall *call = round->call;
    Asked *asked = g_new0(Asked, 1);
    g_autofree char *path = NULL;

    asked->round = round;
    asked->index = index;
    asked->prefix = cbus_fleet_service_path(round->machines->pdata[index], call->destination);
    path = g_strconcat(asked->prefix, strcmp(call->path, "/") == 0 ? "" : call->path, NULL);
    round->under_way++;
    g_dbus_connection_call(round->connection, CBUS_PROXY_NAME, path, call->interface, call->member,
                           call->body, NULL, G_DBUS_CALL_FLAGS_NONE, (int)ceil(call->timeout * 1000),
                           round->cancellable, on_answer, asked);
}

static void
ask_more(Round *round)
{
    const CbusFleetCall *call = round->call;
    guint limit = call->batch != 0 ? call->batch : G_MAXUINT;

    while (!round->over && round->next < round->machines->len && round->under_way < limit) {
        CbusFleetAnswer answer = {0};

        if (!call->fail_fast || !round->failed) {
            ask(round, round->next++);
            continue;
        }
        answer.error = g_strdup(NOT_ASKED);
        answer.message = g_strdup("not executed: another machine failed before");
        report(round, round->next++, &answer);
    }
}

void
cbus_fleet_call(GDBusConnection *connection, const GPtrArray *machines, const CbusFleetCall *call,
                CbusFleetFunc func, gpointer user_data)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GVariant) body = call->body != NULL ? g_variant_ref(call->body) : NULL;
    Round round = {.loop = loop,
                   .cancellable = cancellable,
                   .connection = connection,
                   .machines = machines,
                   .call = call,
                   .func = func,
                   .user_data = user_data};

    ask_more(&round);
    if (round.under_way > 0)
        g_main_loop_run(loop);
}

/* ---- which machines ---- */

static GPtrArray *
ask_roster(GDBusConnection *connection, double timeout)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) answer = g_dbus_connection_call_sync(
        connection, CBUS_PROXY_NAME, CBUS_PROXY_PATH, "org.freedesktop.DBus.ObjectManager",
        "GetManagedObjects", NULL, G_VARIANT_TYPE("(a{oa{sa{sv}}})"), G_DBUS_CALL_FLAGS_NONE,
        (int)ceil(timeout * 1000), NULL, &error);

    if (answer != NULL)
        return cbus_roster_read(answer);
    if (cbus_bus_has_no_proxy(error))
        cbus_bus_complain_no_proxy();
    else
        cbus_cli_complain("the proxy could not be asked: %s", error->message);
    return NULL;
}

CbusExit
cbus_fleet_open(CbusFleet *fleet, const CbusFleetOptions *options)
{
    g_autofree char *list = options->nkeys != NULL ? g_strjoinv(",", options->nkeys) : NULL;
    g_autoptr(GError) error = NULL;

    fleet->connection = cbus_bus_open(options->bus, &error);
    if (fleet->connection == NULL) {
        cbus_cli_complain("%s. Name the bus that cbus-proxy is on with --bus or CBUS_BUS", error->message);
        return CBUS_EXIT_NOBODY;
    }
    fleet->roster = ask_roster(fleet->connection, options->timeout);
    if (fleet->roster == NULL)
        return CBUS_EXIT_NOBODY;
    fleet->machines = cbus_select_machines(fleet->roster, list, options->unpinned, &error);
    if (fleet->machines == NULL) {
        cbus_cli_complain("%s", error->message);
        return g_error_matches(error, CBUS_SELECT_ERROR, CBUS_SELECT_ERROR_NONE) ? CBUS_EXIT_NOBODY
                                                                                 : CBUS_EXIT_USAGE;
    }
    if (fleet->machines->len > 0)
        return CBUS_EXIT_OK;
    cbus_cli_complain("no machine to ask: cbus machines lists those the proxy knows");
    return CBUS_EXIT_NOBODY;
}

void
cbus_fleet_clear(CbusFleet *fleet)
{
    g_clear_pointer(&fleet->machines, g_ptr_array_unref);
    g_clear_pointer(&fleet->roster, g_ptr_array_unref);
    g_clear_object(&fleet->connection);
}
