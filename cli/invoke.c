/* cbus invoke: a method call, on all machines or some.
 *
 *     cbus invoke org.freedesktop.systemd1 /org/freedesktop/systemd1 RestartUnit ss ssh.service replace
 *
 * Arguments are words as busctl takes them (cli/arguments.c) or JSON (--args-json), whose signature may be
 * left out: introspection has it. They are read before anybody is asked.
 *
 * A call that may change something, to more than one machine, from a terminal, is asked back first: a slip in
 * --nkeys can restart a fleet. Only calls that can not change anything are exempt, the same that the agents'
 * audit calls plain reads; a method's name proves nothing. --yes answers, and so does not being on a
 * terminal: scripts must not hang. --batch and --fail-fast make a careful rollout. One thread. */
#include "cli/cli.h"

#include "cli/arguments.h"
#include "cli/member.h"
#include "cli/report.h"
#include "cli/target.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAMES_SHOWN 8
#define DBUS        "org.freedesktop.DBus."

typedef struct {
    CbusFleetOptions fleet;
    char *json_arguments;
    gboolean yes;
} Options;

static void
options_clear(Options *options)
{
    cbus_fleet_options_clear(&options->fleet);
    g_free(options->json_arguments);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static gboolean
is_plain_read(const CbusMember *member)
{
    static const char *const reads[][2] = {
        {DBUS "Properties", "Get"},    {DBUS "Properties", "GetAll"},
        {DBUS "Peer", "Ping"},         {DBUS "Introspectable", "Introspect"},
        {DBUS "Peer", "GetMachineId"}, {DBUS "ObjectManager", "GetManagedObjects"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(reads); i++) {
        if (strcmp(member->interface, reads[i][0]) == 0 && strcmp(member->name, reads[i][1]) == 0)
            return TRUE;
    }
    return FALSE;
}

static char *
list_names(const GPtrArray *machines)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < MIN(machines->len, NAMES_SHOWN); i++) {
        const CbusRosterMachine *machine = machines->pdata[i];
        g_autofree char *name = cbus_text_escape(machine->pinned ? machine->name : machine->nkey, 64);

        g_string_append_printf(out, "%s%s", i > 0 ? ", " : "", name);
    }
    if (machines->len > NAMES_SHOWN)
        g_string_append_printf(out, " and %u more", machines->len - NAMES_SHOWN);
    return g_string_free(out, FALSE);
}

/* Asks on the terminal, wherever standard error goes. */
static gboolean
ask_back(const GPtrArray *machines, const CbusMember *member)
{
    FILE *terminal = isatty(STDERR_FILENO) ? stderr : fopen("/dev/tty", "we");
    g_autofree char *names = list_names(machines);
    char answer[16] = "";

    if (terminal == NULL)
        return FALSE;
    fprintf(terminal, "Call %s.%s on %u machines (%s)? [y/N] ", member->interface, member->name,
            machines->len, names);
    fflush(terminal);
    if (terminal != stderr)
        fclose(terminal);
    return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

/* TRUE: go on. */
static gboolean
confirm(const Options *options, const GPtrArray *machines, const CbusMember *member)
{
    if (options->yes || machines->len < 2 || is_plain_read(member) || !isatty(STDIN_FILENO) ||
        ask_back(machines, member))
        return TRUE;
    cbus_cli_complain("nothing was called");
    return FALSE;
}

static gboolean
on_answer(guint index, const CbusFleetAnswer *answer, gpointer user_data)
{
    cbus_report_add(user_data, index, answer);
    return TRUE;
}

static CbusExit
invoke(const CbusFleet *fleet, const CbusFleetOptions *options, char **words, const CbusMember *member,
       GVariant *body)
{
    const CbusFleetCall call = {.destination = words[1],
                                .path = words[2],
                                .interface = member->interface,
                                .member = member->name,
                                .body = body,
                                .timeout = options->timeout,
                                .batch = cbus_fleet_options_window(options),
                                .fail_fast = options->fail_fast};
    g_autoptr(CbusReport) report = cbus_report_new(CBUS_REPORT_BODY, options, fleet->machines, &call);

    cbus_fleet_call(fleet->connection, fleet->machines, &call, on_answer, report);
    return cbus_report_end(report);
}

/* BODY stays NULL for no arguments, and for JSON without a signature. */
static gboolean
read_arguments(const Options *options, int argc, char **argv, GVariant **body, GError **error)
{
    const char *signature = argc > 4 ? argv[4] : "";

    if (options->json_arguments != NULL && argc > 5) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_COUNT,
                    "arguments are given both as words and by --args-json");
        return FALSE;
    }
    if (argc > 4 && options->json_arguments != NULL)
        *body = cbus_arguments_from_json(signature, options->json_arguments, error);
    else if (argc > 4)
        *body = cbus_arguments_parse(signature, argv + 5, error);
    else
        return TRUE;
    return *body != NULL;
}

static CbusExit
look_up(const CbusFleet *fleet, const Options *options, char **argv, CbusMember *member, GVariant **body)
{
    gboolean typeless = options->json_arguments != NULL && *body == NULL;
    g_autoptr(GError) error = NULL;
    CbusExit status;

    if (member->interface != NULL && !typeless)
        return CBUS_EXIT_OK;
    status = cbus_member_require(fleet, &options->fleet, argv[1], argv[2], CBUS_MEMBER_METHOD,
                                 CBUS_REPORT_BODY, member);
    if (status != CBUS_EXIT_OK)
        return status;
    if (!typeless)
        return CBUS_EXIT_OK;
    *body = cbus_arguments_from_json(member->signature, options->json_arguments, &error);
    if (*body != NULL)
        return CBUS_EXIT_OK;
    cbus_cli_complain("%s", error->message);
    return CBUS_EXIT_USAGE;
}

CbusExit
cbus_cli_invoke(int argc, char **argv)
{
    g_auto(Options) options = {0};
    const GOptionEntry entries[] = {
        {"args-json", 0, 0, G_OPTION_ARG_STRING, &options.json_arguments, "The arguments as a JSON array",
         "JSON"},
        {"yes", 0, 0, G_OPTION_ARG_NONE, &options.yes, "Do not ask before several machines are called", NULL},
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context =
        g_option_context_new("DEST PATH [INTERFACE.]METHOD [SIGNATURE ARG…] - call a method");
    g_auto(CbusFleet) fleet = {0};
    g_auto(CbusMember) member = {0};
    g_autoptr(GVariant) body = NULL;
    g_autoptr(GError) error = NULL;
    CbusExit status;

    cbus_fleet_options_init(&options.fleet);
    cbus_fleet_options_add_selection(context, &options.fleet);
    cbus_fleet_options_add_calls(context, &options.fleet);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!cbus_cli_parse_values(context, &argc, &argv, 3) || !cbus_fleet_options_check(&options.fleet) ||
        !cbus_target_check(argv[1], argv[2]))
        return CBUS_EXIT_USAGE;
    if (!cbus_member_parse(argv[3], &member, &error) ||
        !read_arguments(&options, argc, argv, &body, &error)) {
        cbus_cli_complain("%s", error->message);
        return CBUS_EXIT_USAGE;
    }
    status = cbus_fleet_open(&fleet, &options.fleet);
    if (status == CBUS_EXIT_OK)
        status = look_up(&fleet, &options, argv, &member, &body);
    if (status != CBUS_EXIT_OK)
        return status;
    return confirm(&options, fleet.machines, &member) ? invoke(&fleet, &options.fleet, argv, &member, body)
                                                      : CBUS_EXIT_FAILED;
}
