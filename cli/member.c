/* The interface that a method or property belongs to, when it was left out.
 *
 * `cbus get DEST PATH ActiveState` is what people type. The object says which of its interfaces has such a
 * member: exactly one, or the error lists them all, ready to be copied. What one machine says counts for
 * all: a fleet where the same object has the member on different interfaces has to be told the interface, and
 * the machines where it is another then answer UnknownInterface.
 *
 * Up to eight machines are asked at once and the first that has the member is taken, so that one that hangs
 * holds nobody up. Introspection starts no services: of one that does not run yet, the interface must be
 * given. When no machine is online, there is nothing to look up: each is reported as what it is.
 *
 * The XML is the proxy's, rebuilt from the machine's with its limits, and parsed by GIO. One thread. */
#include "cli/member.h"

#include "wire/message.h"

#include <string.h>

#define ASKED_MAX      8
#define LOOKUP_TIMEOUT 10

typedef struct {
    CbusMemberKind kind;
    CbusMember *member;
    const char *path;
    gboolean found;
    GError *error; /* why not: the first that says anything */
} Lookup;

static gboolean
on_answer(guint index, const CbusFleetAnswer *answer, gpointer user_data)
{
    Lookup *lookup = user_data;
    g_autoptr(GError) error = NULL;
    const char *xml;

    if (answer->body == NULL) {
        g_set_error(&error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_NONE, "%s", answer->message);
    } else if (!g_variant_is_of_type(answer->body, G_VARIANT_TYPE("(s)"))) {
        g_set_error(&error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_NONE, "it can not be introspected");
    } else {
        g_variant_get(answer->body, "(&s)", &xml);
        lookup->found = cbus_member_match(xml, lookup->kind, lookup->member, &error);
    }
    if (error != NULL &&
        (lookup->error == NULL || g_error_matches(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_AMBIGUOUS))) {
        g_clear_error(&lookup->error);
        lookup->error = g_steal_pointer(&error);
        g_prefix_error(&lookup->error, "%s on %s: ", lookup->path,
                       answer->machine->name[0] != '\0' ? answer->machine->name : answer->machine->nkey);
    }
    return !lookup->found && !g_error_matches(lookup->error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_AMBIGUOUS);
}

gboolean
cbus_member_look_up(const CbusFleet *fleet, const CbusFleetOptions *options, const char *destination,
                    const char *path, CbusMemberKind kind, CbusMember *member, GError **error)
{
    const CbusFleetCall call = {.destination = destination,
                                .path = path,
                                .interface = "org.freedesktop.DBus.Introspectable",
                                .member = "Introspect",
                                .timeout = MIN(options->timeout, LOOKUP_TIMEOUT)};
    g_autoptr(GPtrArray) some = g_ptr_array_new();
    Lookup lookup = {.kind = kind, .member = member, .path = path};

    for (guint i = 0; i < fleet->machines->len && some->len < ASKED_MAX; i++) {
        CbusRosterMachine *machine = fleet->machines->pdata[i];

        if (machine->online)
            g_ptr_array_add(some, machine);
    }
    if (some->len == 0) {
        g_set_error(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_NOBODY,
                    "no machine is online to say which interface %s belongs to: name it", member->name);
        return FALSE;
    }
    cbus_fleet_call(fleet->connection, some, &call, on_answer, &lookup);
    if (lookup.found) {
        g_clear_error(&lookup.error);
        return TRUE;
    }
    g_propagate_error(error, lookup.error);
    return FALSE;
}

/* Each machine is away, and named with the reason; nobody has to be asked for that. */
static CbusExit
report_away(const CbusFleet *fleet, const CbusFleetOptions *options, const char *destination,
            const char *path, CbusReportKind kind)
{
    const CbusFleetCall call = {.destination = destination, .path = path};
    g_autoptr(CbusReport) report = cbus_report_new(kind, options, fleet->machines, &call);

    for (guint i = 0; i < fleet->machines->len; i++) {
        const CbusRosterMachine *machine = fleet->machines->pdata[i];
        g_autofree char *why =
            g_strdup_printf("the machine is %s (%s); not executed", machine->state, machine->last_error);
        const CbusFleetAnswer answer = {
            .machine = machine, .error = (char *)"ie.bmcgee.CBus1.Error.Offline", .message = why};

        cbus_report_add(report, i, &answer);
    }
    return cbus_report_end(report);
}

CbusExit
cbus_member_require(const CbusFleet *fleet, const CbusFleetOptions *options, const char *destination,
                    const char *path, CbusMemberKind kind, CbusReportKind report, CbusMember *member)
{
    g_autoptr(GError) error = NULL;

    if (cbus_member_look_up(fleet, options, destination, path, kind, member, &error))
        return CBUS_EXIT_OK;
    if (g_error_matches(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_NOBODY) && report != CBUS_REPORT_WAIT)
        return report_away(fleet, options, destination, path, report);
    cbus_cli_complain("%s", error->message);
    return g_error_matches(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_AMBIGUOUS) ? CBUS_EXIT_USAGE
                                                                                  : CBUS_EXIT_FAILED;
}
