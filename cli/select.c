/* Which machines MACHINE arguments mean, and where a machine's portal is.
 *
 * What people type has to mean the same machine tomorrow: an NKey, or a name that the operator pinned. A name
 * that a machine claims selects nothing, since any machine may claim it; the error says which NKey claims it,
 * so that it can be pinned. A beginning of an NKey is a convenience for what a table just showed, and must
 * fit one machine alone. Globs, too, are of pinned names, and one that fits none is an error: a verb that did
 * nothing must not look as if it had done its work.
 *
 * The roster is the proxy's, which is trusted; an address of another form than a portal's is none. Pure. */
#include "cli/select.h"

#include <fnmatch.h>
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

static void
add_once(GPtrArray *selected, const CbusRosterMachine *machine)
{
    if (!g_ptr_array_find(selected, machine, NULL))
        g_ptr_array_add(selected, (gpointer)machine);
}

static gboolean
add_glob(GPtrArray *selected, const GPtrArray *roster, const char *glob, GError **error)
{
    gboolean found = FALSE;

    for (guint i = 0; i < roster->len; i++) {
        const CbusRosterMachine *machine = roster->pdata[i];

        if (machine->pinned && fnmatch(glob, machine->name, 0) == 0) {
            add_once(selected, machine);
            found = TRUE;
        }
    }
    if (!found)
        g_set_error(error, CBUS_SELECT_ERROR, CBUS_SELECT_ERROR_NONE,
                    "no pinned name fits %s: cbus machines lists those there are", glob);
    return found;
}

static gboolean
has_tag(const CbusRosterMachine *machine, const char *tag)
{
    g_autofree const char **tags = NULL;

    return machine->pinned && g_variant_lookup(machine->properties, "Tags", "^a&s", &tags) &&
           g_strv_contains(tags, tag);
}

static gboolean
add_tagged(GPtrArray *selected, const GPtrArray *roster, const char *tag, GError **error)
{
    gboolean found = FALSE;

    for (guint i = 0; i < roster->len; i++) {
        if (has_tag(roster->pdata[i], tag)) {
            add_once(selected, roster->pdata[i]);
            found = TRUE;
        }
    }
    if (!found)
        g_set_error(error, CBUS_SELECT_ERROR, CBUS_SELECT_ERROR_NONE,
                    "no machine has the tag %s: tags are the third word of a line in known_machines", tag);
    return found;
}

static void
add_all(GPtrArray *selected, const GPtrArray *roster, gboolean unpinned)
{
    gboolean any_pinned = FALSE;

    for (guint i = 0; i < roster->len; i++)
        any_pinned = any_pinned || ((const CbusRosterMachine *)roster->pdata[i])->pinned;
    for (guint i = 0; i < roster->len; i++) {
        const CbusRosterMachine *machine = roster->pdata[i];

        if (machine->pinned || unpinned || !any_pinned)
            g_ptr_array_add(selected, (gpointer)machine);
    }
}

GPtrArray *
cbus_select_machines(const GPtrArray *roster, const char *list, gboolean unpinned, GError **error)
{
    g_autoptr(GPtrArray) selected = g_ptr_array_new();
    g_auto(GStrv) words = NULL;

    if (list == NULL) {
        add_all(selected, roster, unpinned);
        return g_steal_pointer(&selected);
    }
    words = g_strsplit(list, ",", -1);
    for (guint i = 0; words[i] != NULL; i++) {
        const CbusRosterMachine *machine;

        if (words[i][0] == '\0')
            continue;
        if (words[i][0] == '@') {
            if (!add_tagged(selected, roster, words[i] + 1, error))
                return NULL;
            continue;
        }
        if (strpbrk(words[i], "*?[") != NULL) {
            if (!add_glob(selected, roster, words[i], error))
                return NULL;
            continue;
        }
        machine = cbus_select_machine(roster, words[i], error);
        if (machine == NULL)
            return NULL;
        add_once(selected, machine);
    }
    return g_steal_pointer(&selected);
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
