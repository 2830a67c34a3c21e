/* cbus get: a property, on all machines or some.
 *
 *     cbus get org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/ssh_2eservice ActiveState
 *
 * Reads by Properties.Get on each machine; nothing is changed anywhere, so nothing is asked back. The
 * interface may be left out (cli/member.c). How answers are shown is cli/report.c's, which machines and how
 * long cli/fleet.c's. Exit status: 0 all answered, 1 at least one did not, 2 usage, 3 nobody to ask. One
 * thread. */
#include "cli/cli.h"

#include "cli/member.h"
#include "cli/report.h"
#include "cli/target.h"

static gboolean
on_answer(guint index, const CbusFleetAnswer *answer, gpointer user_data)
{
    cbus_report_add(user_data, index, answer);
    return TRUE;
}

static CbusExit
get(const CbusFleet *fleet, const CbusFleetOptions *options, const char *destination, const char *path,
    const CbusMember *member)
{
    g_autoptr(GVariant) body = g_variant_ref_sink(g_variant_new("(ss)", member->interface, member->name));
    const CbusFleetCall call = {.destination = destination,
                                .path = path,
                                .interface = "org.freedesktop.DBus.Properties",
                                .member = "Get",
                                .body = body,
                                .timeout = options->timeout,
                                .batch = cbus_fleet_options_window(options),
                                .fail_fast = options->fail_fast};
    g_autoptr(CbusReport) report = cbus_report_new(CBUS_REPORT_VALUE, options, fleet->machines, &call);

    cbus_fleet_call(fleet->connection, fleet->machines, &call, on_answer, report);
    return cbus_report_end(report);
}

CbusExit
cbus_cli_get(int argc, char **argv)
{
    g_autoptr(GOptionContext) context =
        g_option_context_new("DEST PATH [INTERFACE.]PROPERTY - read a property");
    g_auto(CbusFleetOptions) options = {0};
    g_auto(CbusFleet) fleet = {0};
    g_auto(CbusMember) member = {0};
    g_autoptr(GError) error = NULL;
    CbusExit status;

    cbus_fleet_options_init(&options);
    cbus_fleet_options_add_selection(context, &options);
    cbus_fleet_options_add_calls(context, &options);
    if (!cbus_cli_parse(context, &argc, &argv, 3, 3) || !cbus_fleet_options_check(&options) ||
        !cbus_target_check(argv[1], argv[2]))
        return CBUS_EXIT_USAGE;
    if (!cbus_member_parse(argv[3], &member, &error)) {
        cbus_cli_complain("%s", error->message);
        return CBUS_EXIT_USAGE;
    }
    status = cbus_fleet_open(&fleet, &options);
    if (status != CBUS_EXIT_OK)
        return status;
    if (member.interface == NULL)
        status = cbus_member_require(&fleet, &options, argv[1], argv[2], CBUS_MEMBER_PROPERTY,
                                     CBUS_REPORT_VALUE, &member);
    if (status != CBUS_EXIT_OK)
        return status;
    return get(&fleet, &options, argv[1], argv[2], &member);
}
