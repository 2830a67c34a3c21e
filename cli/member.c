/* The interface that a method or property belongs to, when it was left out.
 *
 * `cbus get DEST PATH ActiveState` is what people type. The object says which of its interfaces has such a
 * member: exactly one, or the error lists them all, ready to be copied. What one machine says counts for
 * all: a fleet where the same object has the member on different interfaces has to be told the interface, and
 * the machines where it is another then answer UnknownInterface.
 *
 * Up to eight machines are asked at once and the first that has the member is taken, so that one that hangs
 * holds nobody up. Introspection starts no services: of one that does not run yet, the interface must be
 * given.
 *
 * The XML is the proxy's, rebuilt from the machine's with its limits, and parsed by GIO. One thread. */
#include "cli/member.h"

#include "wire/message.h"

#include <string.h>

#define ASKED_MAX      8
#define LOOKUP_TIMEOUT 10

G_DEFINE_QUARK(cbus_member_error_quark, cbus_member_error)

typedef struct {
    CbusMemberKind kind;
    CbusMember *member;
    const char *path;
    gboolean found;
    GError *error; /* why not: the first that says anything */
} Lookup;

void
cbus_member_clear(CbusMember *member)
{
    g_clear_pointer(&member->interface, g_free);
    g_clear_pointer(&member->name, g_free);
    g_clear_pointer(&member->signature, g_free);
}

gboolean
cbus_member_parse(const char *word, CbusMember *out, GError **error)
{
    const char *dot = strrchr(word, '.');
    g_autofree char *interface = dot != NULL ? g_strndup(word, (gsize)(dot - word)) : NULL;
    const char *name = dot != NULL ? dot + 1 : word;

    if (!cbus_is_member(cbus_span(name)) || (interface != NULL && !cbus_is_interface(cbus_span(interface)))) {
        g_set_error(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_WORD,
                    "\"%s\" is neither a member nor INTERFACE.MEMBER", word);
        return FALSE;
    }
    *out = (CbusMember){.interface = g_steal_pointer(&interface), .name = g_strdup(name)};
    return TRUE;
}

static gboolean
has_member(GDBusInterfaceInfo *interface, CbusMemberKind kind, const char *name)
{
    return kind == CBUS_MEMBER_METHOD ? g_dbus_interface_info_lookup_method(interface, name) != NULL
                                      : g_dbus_interface_info_lookup_property(interface, name) != NULL;
}

static char *
signature_of(GDBusInterfaceInfo *interface, const char *name)
{
    const GDBusMethodInfo *method = g_dbus_interface_info_lookup_method(interface, name);
    GString *out = g_string_new(NULL);

    for (guint i = 0; method->in_args != NULL && method->in_args[i] != NULL; i++)
        g_string_append(out, method->in_args[i]->signature);
    return g_string_free(out, FALSE);
}

gboolean
cbus_member_match(const char *xml, CbusMemberKind kind, CbusMember *member, GError **error)
{
    g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(xml, error);
    g_autoptr(GString) names = g_string_new(NULL);
    GDBusInterfaceInfo *found = NULL;
    guint count = 0;

    if (node == NULL)
        return FALSE;
    for (guint i = 0; node->interfaces != NULL && node->interfaces[i] != NULL; i++) {
        GDBusInterfaceInfo *interface = node->interfaces[i];

        if ((member->interface != NULL && strcmp(member->interface, interface->name) != 0) ||
            !has_member(interface, kind, member->name))
            continue;
        g_string_append_printf(names, "%s%s.%s", count++ > 0 ? ", " : "", interface->name, member->name);
        found = interface;
    }
    if (count == 0) {
        g_set_error(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_NONE,
                    "it tells of no %s %s%s%s; if it has one, name the interface",
                    kind == CBUS_MEMBER_METHOD ? "method" : "property",
                    member->interface != NULL ? member->interface : "", member->interface != NULL ? "." : "",
                    member->name);
        return FALSE;
    }
    if (count > 1) {
        g_set_error(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_AMBIGUOUS,
                    "several interfaces have %s, name one: %s", member->name, names->str);
        return FALSE;
    }
    if (kind == CBUS_MEMBER_METHOD)
        member->signature = signature_of(found, member->name);
    if (member->interface == NULL)
        member->interface = g_strdup(found->name);
    return TRUE;
}

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
        g_set_error(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_NONE,
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
