/* Which machine a MACHINE argument means, and where its portal is.
 *
 * What people type has to mean the same machine tomorrow: an NKey, or a name that the operator pinned. A name
 * that a machine claims selects nothing, since any machine may claim it; the error says which NKey claims it,
 * so that it can be pinned. A beginning of an NKey is a convenience for what a table just showed, and must
 * fit one machine alone.
 *
 * The roster is the proxy's, which is trusted; an address of another form than a portal's is none. Pure. */
#include "cli/select.h"

#include <string.h>

#define PREFIX_MIN 5

G_DEFINE_QUARK(cbus_select_error_quark, cbus_select_error)

static const CbusRosterMachine *
by_nkey_or_name(const GPtrArray *roster, const char *word)
{
    const CbusRosterMachine *named = NULL;

    for (guint i = 0; i < roster->len; i++) {
        const CbusRosterMachine *machine = roster->pdata[i];

        if (strcmp(machine->nkey, word) == 0)
            return machine;
        if (machine->pinned && strcmp(machine->name, word) == 0)
            named = machine;
    }
    return named;
}

static const CbusRosterMachine *
by_prefix(const GPtrArray *roster, const char *word, guint *fitting)
{
    const CbusRosterMachine *found = NULL;

    *fitting = 0;
    if (strlen(word) < PREFIX_MIN)
        return NULL;
    for (guint i = 0; i < roster->len; i++) {
        const CbusRosterMachine *machine = roster->pdata[i];

        if (g_str_has_prefix(machine->nkey, word)) {
            found = machine;
            (*fitting)++;
        }
    }
    return *fitting == 1 ? found : NULL;
}

static void
set_nothing_selected(const GPtrArray *roster, const char *word, guint fitting, GError **error)
{
    if (fitting > 1) {
        g_set_error(error, CBUS_SELECT_ERROR, CBUS_SELECT_ERROR_AMBIGUOUS,
                    "the NKeys of %u machines begin with %s: write more of it", fitting, word);
        return;
    }
    for (guint i = 0; i < roster->len; i++) {
        const CbusRosterMachine *machine = roster->pdata[i];

        if (strcmp(machine->name, word) == 0) {
            g_set_error(error, CBUS_SELECT_ERROR, CBUS_SELECT_ERROR_NONE,
                        "%s is a name that machine %s claims, and nobody pinned it: if it is right, cbus "
                        "trust %s %s",
                        word, machine->nkey, machine->nkey, word);
            return;
        }
    }
    g_set_error(error, CBUS_SELECT_ERROR, CBUS_SELECT_ERROR_NONE,
                "there is no machine %s: cbus machines lists those there are", word);
}

const CbusRosterMachine *
cbus_select_machine(const GPtrArray *roster, const char *word, GError **error)
{
    const CbusRosterMachine *found = by_nkey_or_name(roster, word);
    guint fitting = 0;

    if (found == NULL)
        found = by_prefix(roster, word, &fitting);
    if (found == NULL)
        set_nothing_selected(roster, word, fitting, error);
    return found;
}

char *
cbus_select_portals(const CbusRosterMachine *machine)
{
    g_autofree char *end = g_strconcat("/", machine->nkey, "/bus", NULL);
    g_autofree char *path = NULL;
    const char *address = NULL;

    if (!g_variant_lookup(machine->properties, "BusAddress", "&s", &address) ||
        !g_str_has_prefix(address, "unix:path=/") || strpbrk(address, ",;") != NULL)
        return NULL;
    path = g_uri_unescape_string(address + strlen("unix:path="), NULL);
    if (path == NULL || !g_str_has_suffix(path, end))
        return NULL;
    return g_strndup(path, strlen(path) - strlen(end));
}
