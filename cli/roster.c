/* The machines as cbus-proxy lists them, as a table and as JSON.
 *
 * The proxy is trusted to be the proxy; what it passes on is not: names, versions and reasons come from
 * machines, claimed names from anybody. So a property that is missing or of another type reads as empty, and
 * cli/table.c and cli/json.c make text harmless. An object counts when its path ends in the NKey that it
 * claims.
 *
 * A name that nobody pinned is shown with a '?' behind it: it is what the machine says of itself. NKeys are
 * cut to a prefix that tells the listed machines apart, at least 8 characters, which is also what MACHINE
 * arguments take. --json holds everything whole. */
#include "cli/roster.h"

#include "cli/bus.h"
#include "cli/json.h"
#include "cli/table.h"

#include <string.h>

#define PREFIX_MIN 8

static void
machine_free(gpointer data)
{
    CbusRosterMachine *machine = data;

    g_free(machine->nkey);
    g_free(machine->name);
    g_free(machine->state);
    g_free(machine->last_error);
    g_free(machine->version);
    g_variant_unref(machine->properties);
    g_free(machine);
}

static char *
get_text(GVariant *properties, const char *name)
{
    char *text = NULL;

    return g_variant_lookup(properties, name, "s", &text) ? text : g_strdup("");
}

static gboolean
get_boolean(GVariant *properties, const char *name)
{
    gboolean value = FALSE;

    return g_variant_lookup(properties, name, "b", &value) && value;
}

static guint64
get_number(GVariant *properties, const char *name)
{
    guint64 value = 0;

    return g_variant_lookup(properties, name, "t", &value) ? value : 0;
}

static CbusRosterMachine *
machine_new(GVariant *properties)
{
    CbusRosterMachine *machine = g_new0(CbusRosterMachine, 1);

    machine->properties = g_variant_ref(properties);
    machine->nkey = get_text(properties, "NKey");
    machine->name = get_text(properties, "Name");
    machine->state = get_text(properties, "State");
    machine->last_error = get_text(properties, "LastError");
    machine->version = get_text(properties, "Version");
    machine->pinned = get_boolean(properties, "NamePinned");
    machine->online = get_boolean(properties, "Online");
    machine->last_seen = get_number(properties, "LastSeen");
    machine->round_trip = get_number(properties, "RoundTrip");
    return machine;
}

static int
compare(gconstpointer a, gconstpointer b)
{
    const CbusRosterMachine *left = *(CbusRosterMachine *const *)a, *right = *(CbusRosterMachine *const *)b;
    int order = right->pinned - left->pinned;

    if (order == 0)
        order = strcmp(left->name, right->name);
    return order != 0 ? order : strcmp(left->nkey, right->nkey);
}

GPtrArray *
cbus_roster_read(GVariant *objects)
{
    GPtrArray *roster = g_ptr_array_new_with_free_func(machine_free);
    g_autoptr(GVariantIter) iter = NULL;
    GVariant *interfaces;
    const char *path;

    g_variant_get(objects, "(a{oa{sa{sv}}})", &iter);
    while (g_variant_iter_loop(iter, "{&o@a{sa{sv}}}", &path, &interfaces)) {
        g_autoptr(GVariant) properties =
            g_variant_lookup_value(interfaces, CBUS_MACHINE_INTERFACE, G_VARIANT_TYPE_VARDICT);
        CbusRosterMachine *machine;

        if (properties == NULL || !g_str_has_prefix(path, CBUS_PROXY_PATH "/"))
            continue;
        machine = machine_new(properties);
        if (strcmp(machine->nkey, path + strlen(CBUS_PROXY_PATH "/")) == 0)
            g_ptr_array_add(roster, machine);
        else
            machine_free(machine);
    }
    g_ptr_array_sort(roster, compare);
    return roster;
}

guint
cbus_roster_online(const GPtrArray *roster)
{
    guint online = 0;

    for (guint i = 0; i < roster->len; i++)
        online += ((CbusRosterMachine *)roster->pdata[i])->online ? 1 : 0;
    return online;
}

static int
compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

guint
cbus_roster_prefix(const GPtrArray *roster)
{
    g_autoptr(GPtrArray) nkeys = g_ptr_array_new();
    guint length = PREFIX_MIN;

    for (guint i = 0; i < roster->len; i++)
        g_ptr_array_add(nkeys, ((CbusRosterMachine *)roster->pdata[i])->nkey);
    g_ptr_array_sort(nkeys, compare_texts);
    for (guint i = 1; i < nkeys->len; i++) {
        const char *a = nkeys->pdata[i - 1], *b = nkeys->pdata[i];
        guint same = 0;

        while (a[same] != '\0' && a[same] == b[same])
            same++;
        length = MAX(length, same + 1);
    }
    return length;
}

static void
append_object(GString *out, GVariant *properties)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    GVariantIter iter;
    const char *name;

    g_variant_iter_init(&iter, properties);
    while (g_variant_iter_next(&iter, "{&sv}", &name, NULL))
        g_ptr_array_add(names, (gpointer)name);
    g_ptr_array_sort(names, compare_texts);
    g_string_append_c(out, '{');
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(GVariant) value = g_variant_lookup_value(properties, names->pdata[i], NULL);

        if (i > 0)
            g_string_append_c(out, ',');
        cbus_json_append_string(out, names->pdata[i]);
        g_string_append_c(out, ':');
        cbus_json_append_value(out, value);
    }
    g_string_append_c(out, '}');
}

char *
cbus_roster_json(const GPtrArray *roster)
{
    GString *out = g_string_new("[");

    for (guint i = 0; i < roster->len; i++) {
        if (i > 0)
            g_string_append(out, ",\n ");
        append_object(out, ((CbusRosterMachine *)roster->pdata[i])->properties);
    }
    g_string_append(out, "]\n");
    return g_string_free(out, FALSE);
}

static char *
duration(guint64 us)
{
    if (us < 1000)
        return g_strdup_printf("%u µs", (guint)us);
    if (us < G_USEC_PER_SEC)
        return g_strdup_printf("%.1f ms", (double)us / 1000);
    if (us < 120 * (guint64)G_USEC_PER_SEC)
        return g_strdup_printf("%" G_GUINT64_FORMAT " s", us / G_USEC_PER_SEC);
    if (us < 7200 * (guint64)G_USEC_PER_SEC)
        return g_strdup_printf("%" G_GUINT64_FORMAT " min", us / G_USEC_PER_SEC / 60);
    if (us < 48 * 3600 * (guint64)G_USEC_PER_SEC)
        return g_strdup_printf("%" G_GUINT64_FORMAT " h", us / G_USEC_PER_SEC / 3600);
    return g_strdup_printf("%" G_GUINT64_FORMAT " days", us / G_USEC_PER_SEC / 86400);
}

static char *
age(guint64 last_seen, gint64 now)
{
    g_autofree char *ago = NULL;

    if (last_seen == 0)
        return g_strdup("never");
    if (last_seen + G_USEC_PER_SEC > (guint64)now)
        return g_strdup("now");
    ago = duration((guint64)now - last_seen);
    return g_strconcat(ago, " ago", NULL);
}

char *
cbus_roster_table(const GPtrArray *roster, gint64 now)
{
    static const char *const headings[] = {"NAME", "NKEY",    "STATE",  "ROUND TRIP",
                                           "SEEN", "VERSION", "REASON", NULL};
    g_autoptr(CbusTable) table = cbus_table_new(headings);
    guint prefix = cbus_roster_prefix(roster);

    for (guint i = 0; i < roster->len; i++) {
        const CbusRosterMachine *machine = roster->pdata[i];
        g_autofree char *name = g_strconcat(machine->name, machine->pinned ? NULL : "?", NULL);
        g_autofree char *nkey = g_strndup(machine->nkey, prefix);
        g_autofree char *round_trip = duration(machine->round_trip);
        g_autofree char *seen = age(machine->last_seen, now);

        cbus_table_add(table, name);
        cbus_table_add(table, nkey);
        cbus_table_add(table, machine->state);
        cbus_table_add(table, machine->round_trip != 0 ? round_trip : "-");
        cbus_table_add(table, seen);
        cbus_table_add(table, machine->version);
        cbus_table_add(table, machine->last_error);
    }
    return cbus_table_render(table);
}
