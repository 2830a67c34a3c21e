/* The options of verbs that go to many machines.
 *
 * They are the same everywhere, so that what was learnt with `cbus get` holds for `cbus invoke`. Selection:
 * which machines, on which bus. Calls: how long, how many at a time, and how the answers are shown.
 *
 * Numbers are checked here, before anything is asked: an exit with status 2 has done nothing. Pure. */
#include "cli/bus.h"
#include "cli/fleet.h"

#define DEFAULT_TIMEOUT   25
#define TIMEOUT_MAX       86400
#define SYSTEM_BUS_WINDOW 100 /* it refuses a connection its 129th pending reply */

void
cbus_fleet_options_init(CbusFleetOptions *options)
{
    *options = (CbusFleetOptions){.timeout = DEFAULT_TIMEOUT};
}

void
cbus_fleet_options_clear(CbusFleetOptions *options)
{
    g_clear_pointer(&options->bus, g_free);
    g_clear_pointer(&options->nkeys, g_strfreev);
}

void
cbus_fleet_options_add_selection(GOptionContext *context, CbusFleetOptions *options)
{
    const GOptionEntry entries[] = {
        {"nkeys", 0, 0, G_OPTION_ARG_STRING_ARRAY, &options->nkeys,
         "These machines: NKeys, beginnings of them, pinned names, globs of names", "A,B"},
        {"on", 0, 0, G_OPTION_ARG_STRING_ARRAY, &options->nkeys, "The same; @TAG: all with that tag", "@TAG"},
        {"unpinned", 0, 0, G_OPTION_ARG_NONE, &options->unpinned, "All machines, not only pinned ones", NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &options->json, "Print JSON", NULL},
        CBUS_BUS_OPTION(&options->bus),
        G_OPTION_ENTRY_NULL,
    };

    g_option_context_add_main_entries(context, entries, NULL);
}

void
cbus_fleet_options_add_calls(GOptionContext *context, CbusFleetOptions *options)
{
    const GOptionEntry entries[] = {
        {"timeout", 0, 0, G_OPTION_ARG_DOUBLE, &options->timeout,
         "Give up on a machine after S seconds (default: 25)", "S"},
        {"ordered", 0, 0, G_OPTION_ARG_NONE, &options->ordered,
         "Print in the order of cbus machines, not as answers come", NULL},
        {"batch", 0, 0, G_OPTION_ARG_INT, &options->batch, "Ask N machines at a time", "N"},
        {"fail-fast", 0, 0, G_OPTION_ARG_NONE, &options->fail_fast,
         "Ask no other machine when one failed; one at a time without --batch", NULL},
        G_OPTION_ENTRY_NULL,
    };

    g_option_context_add_main_entries(context, entries, NULL);
}

gboolean
cbus_fleet_options_check(const CbusFleetOptions *options)
{
    if (!(options->timeout > 0 && options->timeout <= TIMEOUT_MAX)) {
        cbus_cli_complain("--timeout takes seconds above 0 and up to %d", TIMEOUT_MAX);
        return FALSE;
    }
    if (options->batch < 0) {
        cbus_cli_complain("--batch takes a number from 1");
        return FALSE;
    }
    return TRUE;
}

guint
cbus_fleet_options_window(const CbusFleetOptions *options)
{
    const char *bus = options->bus != NULL ? options->bus : g_getenv("CBUS_BUS");

    if (options->batch > 0)
        return (guint)options->batch;
    if (options->fail_fast)
        return 1;
    return g_strcmp0(bus, "system") == 0 ? SYSTEM_BUS_WINDOW : 0;
}
