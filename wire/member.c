/* Which interface of an object has a member, and which arguments a method takes: read off the object's
 * introspection data.
 *
 * Several interfaces with that member are an error that lists them, since a guess could do something else
 * than was meant.
 *
 * Trust: who calls has bounded the XML, or has it from somebody who did; GDBus parses it. Pure, any thread.
 */
#include "wire/member.h"
#include "wire/message.h"
#include <gio/gio.h>
#include <string.h>

G_DEFINE_QUARK(cbus_member_error_quark, cbus_member_error)

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
