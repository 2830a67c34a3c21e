/* Candidates for a command line that only the fleet knows: machines, tags, services, objects, members.
 *
 * Machines, tags and services are the proxy's to tell, at once and for all machines. Objects and members are
 * introspected on a few machines that are online, and the first that answers counts: a fleet is much alike,
 * and who types waits. --nkeys that stand before choose others to ask.
 *
 * Paths come as files do, a level at a time, but where there is no choice the levels below come, too: at the
 * first Tab stands /org/freedesktop/systemd1 and not /org. A node without interfaces of its own is a way
 * and no candidate, unless nothing is below it.
 *
 * Trusts what the proxy trusts; what it passes on is checked to be a name or a path before it is offered.
 * Complaints on standard error are the shell's to hide. One thread. */
#include "cli/complete.h"

#include "wire/message.h"

#include <string.h>

#define ASKED_MAX  3
#define TIMEOUT_S  2
#define LEVELS_MAX 16
#define STANDARD   "org.freedesktop.DBus."

/* FALSE: there is nobody to ask. With ALL, lists do not choose. */
static gboolean
open_fleet(CbusFleet *fleet, const CbusFleetOptions *options, gboolean all)
{
    CbusFleetOptions own = *options;

    own.timeout = TIMEOUT_S;
    if (all) {
        own.nkeys = NULL;
        own.unpinned = TRUE;
    }
    return cbus_fleet_open(fleet, &own) == CBUS_EXIT_OK;
}

/* ---- what the proxy tells ---- */

void
cbus_complete_machines(const CbusTyping *typing, const CbusFleetOptions *options)
{
    g_auto(CbusFleet) fleet = {0};

    if (!open_fleet(&fleet, options, TRUE))
        return;
    for (guint i = 0; i < fleet.roster->len; i++) {
        const CbusRosterMachine *machine = fleet.roster->pdata[i];

        if (machine->pinned)
            cbus_complete_offer(typing, machine->name, machine->state);
        /* A pinned one by its key only for who began to type one. */
        if (!machine->pinned || typing->typed[0] != '\0')
            cbus_complete_offer(typing, machine->nkey, machine->name);
    }
}

void
cbus_complete_strangers(const CbusTyping *typing, const CbusFleetOptions *options)
{
    g_auto(CbusFleet) fleet = {0};

    if (!open_fleet(&fleet, options, TRUE))
        return;
    for (guint i = 0; i < fleet.roster->len; i++) {
        const CbusRosterMachine *machine = fleet.roster->pdata[i];

        if (!machine->pinned)
            cbus_complete_offer(typing, machine->nkey, machine->name);
    }
}

/* Adds ITEM to SEEN; FALSE if it was there. */
static gboolean
is_new(GHashTable *seen, const char *item)
{
    return g_hash_table_add(seen, g_strdup(item));
}

void
cbus_complete_tags(const CbusTyping *typing, const CbusFleetOptions *options)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(CbusFleet) fleet = {0};

    if (!open_fleet(&fleet, options, TRUE))
        return;
    for (guint i = 0; i < fleet.roster->len; i++) {
        const CbusRosterMachine *machine = fleet.roster->pdata[i];
        g_autofree const char **tags = NULL;

        if (!g_variant_lookup(machine->properties, "Tags", "^a&s", &tags))
            continue;
        for (guint tag = 0; tags[tag] != NULL; tag++) {
            g_autofree char *word = g_strconcat("@", tags[tag], NULL);

            if (is_new(seen, word))
                cbus_complete_offer(typing, word, "machines with this tag");
        }
    }
}

void
cbus_complete_services(const CbusTyping *typing, const CbusFleetOptions *options)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(CbusFleet) fleet = {0};

    if (!open_fleet(&fleet, options, FALSE))
        return;
    for (guint i = 0; i < fleet.machines->len; i++) {
        const CbusRosterMachine *machine = fleet.machines->pdata[i];
        g_autofree const char **services = NULL;

        if (!g_variant_lookup(machine->properties, "Services", "^a&s", &services))
            continue;
        for (guint name = 0; services[name] != NULL; name++) {
            if (cbus_is_bus_name(cbus_span(services[name])) && is_new(seen, services[name]))
                cbus_complete_offer(typing, services[name], NULL);
        }
    }
}

/* ---- what machines tell ---- */

static gboolean
on_answer(guint index, const CbusFleetAnswer *answer, gpointer user_data)
{
    GDBusNodeInfo **node = user_data;
    const char *xml;

    if (answer->body == NULL || !g_variant_is_of_type(answer->body, G_VARIANT_TYPE("(s)")))
        return TRUE;
    g_variant_get(answer->body, "(&s)", &xml);
    *node = g_dbus_node_info_new_for_xml(xml, NULL);
    return *node == NULL;
}

static GPtrArray *
choose(const CbusFleet *fleet)
{
    GPtrArray *some = g_ptr_array_new();

    for (guint i = 0; i < fleet->machines->len && some->len < ASKED_MAX; i++) {
        CbusRosterMachine *machine = fleet->machines->pdata[i];

        if (machine->online)
            g_ptr_array_add(some, machine);
    }
    return some;
}

/* What the first of SOME machines says of an object, or NULL. */
static GDBusNodeInfo *
introspect(const CbusFleet *fleet, const GPtrArray *some, const char *destination, const char *path)
{
    const CbusFleetCall call = {.destination = destination,
                                .path = path,
                                .interface = STANDARD "Introspectable",
                                .member = "Introspect",
                                .timeout = TIMEOUT_S};
    GDBusNodeInfo *node = NULL;

    if (!cbus_is_bus_name(cbus_span(destination)) || !cbus_is_object_path(cbus_span(path)))
        return NULL;
    cbus_fleet_call(fleet->connection, some, &call, on_answer, &node);
    return node;
}

static gboolean
has_own_interface(const GDBusNodeInfo *node)
{
    for (guint i = 0; node->interfaces != NULL && node->interfaces[i] != NULL; i++) {
        if (!g_str_has_prefix(node->interfaces[i]->name, STANDARD))
            return TRUE;
    }
    return FALSE;
}

/* The paths of NODE's children that begin as what was typed. */
static GPtrArray *
children_of(const GDBusNodeInfo *node, const char *path, const char *typed)
{
    GPtrArray *children = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; node->nodes != NULL && node->nodes[i] != NULL; i++) {
        g_autofree char *child =
            g_strconcat(path, strcmp(path, "/") == 0 ? "" : "/", node->nodes[i]->path, NULL);

        if (node->nodes[i]->path != NULL && g_str_has_prefix(child, typed) &&
            cbus_is_object_path(cbus_span(child)))
            g_ptr_array_add(children, g_steal_pointer(&child));
    }
    return children;
}

void
cbus_complete_paths(const CbusTyping *typing, const CbusFleetOptions *options, const char *destination)
{
    const char *slash = strrchr(typing->typed, '/');
    g_autofree char *path = slash == NULL || slash == typing->typed
                                ? g_strdup("/")
                                : g_strndup(typing->typed, (gsize)(slash - typing->typed));
    g_auto(CbusFleet) fleet = {0};
    g_autoptr(GPtrArray) some = NULL;

    if ((typing->typed[0] != '\0' && typing->typed[0] != '/') || !open_fleet(&fleet, options, FALSE))
        return;
    some = choose(&fleet);
    for (guint level = 0; level < LEVELS_MAX; level++) {
        GDBusNodeInfo *node = introspect(&fleet, some, destination, path);
        g_autoptr(GPtrArray) children = node != NULL ? children_of(node, path, typing->typed) : NULL;

        if (node != NULL && (has_own_interface(node) || (level > 0 && children->len == 0)))
            cbus_complete_offer(typing, path, NULL);
        g_clear_pointer(&node, g_dbus_node_info_unref);
        if (children == NULL)
            return;
        for (guint i = 0; children->len > 1 && i < children->len; i++)
            cbus_complete_offer(typing, children->pdata[i], NULL);
        if (children->len != 1)
            return;
        g_free(path);
        path = g_strdup(children->pdata[0]);
    }
}

/* Called for each member of an object. */
typedef void (*MemberFunc)(const char *interface, const char *name, gpointer user_data);

static void
walk_members(const GDBusNodeInfo *node, CbusMemberKind kind, MemberFunc func, gpointer user_data)
{
    for (guint i = 0; node->interfaces != NULL && node->interfaces[i] != NULL; i++) {
        const GDBusInterfaceInfo *at = node->interfaces[i];

        for (guint j = 0; kind == CBUS_MEMBER_METHOD && at->methods != NULL && at->methods[j] != NULL; j++)
            func(at->name, at->methods[j]->name, user_data);
        for (guint j = 0; kind == CBUS_MEMBER_PROPERTY && at->properties != NULL && at->properties[j] != NULL;
             j++)
            func(at->name, at->properties[j]->name, user_data);
    }
}

typedef struct {
    const CbusTyping *typing;
    GHashTable *once, *twice; /* names of members */
} Members;

static void
count_member(const char *interface, const char *name, gpointer user_data)
{
    const Members *members = user_data;

    if (!is_new(members->once, name))
        (void)is_new(members->twice, name);
}

static void
offer_member(const char *interface, const char *name, gpointer user_data)
{
    const Members *members = user_data;
    gboolean several = g_hash_table_contains(members->twice, name);
    g_autofree char *whole = g_strconcat(interface, ".", name, NULL);

    if (!cbus_is_interface(cbus_span(interface)) || !cbus_is_member(cbus_span(name)))
        return;
    if (!several)
        cbus_complete_offer(members->typing, name, interface);
    if (several || members->typing->typed[0] != '\0')
        cbus_complete_offer(members->typing, whole, NULL);
}

void
cbus_complete_members(const CbusTyping *typing, const CbusFleetOptions *options, const char *destination,
                      const char *path, CbusMemberKind kind)
{
    g_autoptr(GHashTable) once = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) twice = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Members members = {.typing = typing, .once = once, .twice = twice};
    g_auto(CbusFleet) fleet = {0};
    g_autoptr(GPtrArray) some = NULL;
    GDBusNodeInfo *node;

    if (!open_fleet(&fleet, options, FALSE))
        return;
    some = choose(&fleet);
    node = introspect(&fleet, some, destination, path);
    if (node == NULL)
        return;
    walk_members(node, kind, count_member, &members);
    walk_members(node, kind, offer_member, &members);
    g_dbus_node_info_unref(node);
}

void
cbus_complete_signature(const CbusTyping *typing, const CbusFleetOptions *options, const char *destination,
                        const char *path, const char *method)
{
    CbusFleetOptions own = *options;
    g_auto(CbusFleet) fleet = {0};
    g_auto(CbusMember) member = {0};

    own.timeout = TIMEOUT_S;
    if (!cbus_is_bus_name(cbus_span(destination)) || !cbus_is_object_path(cbus_span(path)) ||
        !cbus_member_parse(method, &member, NULL) || !open_fleet(&fleet, options, FALSE))
        return;
    if (cbus_member_look_up(&fleet, &own, destination, path, CBUS_MEMBER_METHOD, &member, NULL) &&
        member.signature[0] != '\0')
        cbus_complete_offer(typing, member.signature, "signature of the arguments");
}
