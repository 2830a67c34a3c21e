/* What happens with a method call.
 *
 *     /, /ie, /ie/bmcgee            Introspect, so that a tree walk finds the root; nothing else lives there
 *     /ie/bmcgee/CBus               Introspect and GetManagedObjects list the machines; the rest is GDBus's
 *     …/<nkey>                      Introspect lists the services (the mirror knows); the rest is GDBus's
 *     …/<nkey>/<service>[/…]        the mirror's, whatever it is, Peer and Introspect included
 *     anything else                 UnknownObject, saying which part of the path is unknown
 *
 * GDBus answers Peer and Introspect at any path, existing or not, so it only sees calls for objects that
 * exist and, of a machine, for methods that it has, and Peer outside our tree (which the specification binds
 * to no object). A call to our own objects that wants no reply is not GDBus's: it would cost memory that
 * nobody counts. Cluster's Invoke is passed on by itself; all else changes nothing and is dropped.
 *
 * Paths come from any program on the bus: they are valid object paths (checked in the view) and else
 * anything. Loop thread only. */
#include "proxy/router.h"

#include "introspect/node.h"
#include "introspect/path.h"
#include "proxy/interfaces.h"
#include "wire/body.h"

struct _CbusRouter {
    CbusRoster *roster;
    CbusCluster *cluster;
    CbusObjects *objects;
};

/* The nodes above the root, and the child of each on the way to it. */
static const struct {
    const char *path, *child;
} way[] = {
    {"/", "ie"},
    {"/ie", "bmcgee"},
    {"/ie/bmcgee", "CBus"},
};

static gboolean
is_introspect(const CbusMessage *call)
{
    return cbus_span_is(call->member, "Introspect") &&
           (call->interface.text == NULL || cbus_span_is(call->interface, CBUS_INTERFACE_INTROSPECTABLE));
}

/* FALSE, and answered, if CALL brings arguments that Introspect does not take. */
static gboolean
check_introspect(CbusFront *front, const CbusMessage *call)
{
    if (call->signature.len == 0) {
        return TRUE;
    }
    cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("InvalidArgs"),
                           "Introspect takes no arguments, not (%.*s)", (int)call->signature.len,
                           call->signature.text);
    return FALSE;
}

/* Arguments that it does not take are GDBus's to refuse. */
static gboolean
is_get_managed_objects(const CbusMessage *call)
{
    return cbus_span_is(call->member, "GetManagedObjects") && call->signature.len == 0 &&
           (call->interface.text == NULL || cbus_span_is(call->interface, CBUS_INTERFACE_OBJECT_MANAGER));
}

static void
introspect(CbusFront *front, const CbusMessage *call, const char *interfaces, const char *const *children)
{
    if ((call->flags & CBUS_FLAG_NO_REPLY) != 0 || !check_introspect(front, call)) {
        return;
    }
    g_autofree char *document = cbus_node_document(NULL, interfaces, children);
    cbus_front_reply_string(front, call, document);
}

/* TRUE: dropped, being for GDBus but wanting no reply. */
static gboolean
drop_silent(const CbusMessage *call)
{
    return (call->flags & CBUS_FLAG_NO_REPLY) != 0;
}

static gboolean
call_outside(CbusFront *front, const CbusMessage *call)
{
    if (cbus_span_is(call->interface, CBUS_INTERFACE_PEER)) {
        return drop_silent(call);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(way); i++) {
        if (!cbus_span_is(call->path, way[i].path)) {
            continue;
        }
        if (is_introspect(call)) {
            const char *const children[] = {way[i].child, NULL};
            introspect(front, call, cbus_interfaces_xml_bare(), children);
        } else {
            cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("UnknownMethod"),
                                   "The object %s has no method %.*s: it only leads to " CBUS_ROOT_PATH,
                                   way[i].path, (int)call->member.len, call->member.text);
        }
        return TRUE;
    }
    cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("UnknownObject"),
                           "There is no object %.*s: CBus's objects are " CBUS_ROOT_PATH
                           " and those below it",
                           (int)call->path.len, call->path.text);
    return TRUE;
}

static gboolean
call_root(CbusRouter *router, CbusFront *front, const CbusMessage *call, const guint8 *bytes)
{
    if (!is_introspect(call)) {
        if (!drop_silent(call)) {
            if (!is_get_managed_objects(call)) {
                return FALSE;
            }
            cbus_objects_list(router->objects, call);
            return TRUE;
        }
        if ((call->interface.text == NULL || cbus_span_is(call->interface, CBUS_INTERFACE_CLUSTER)) &&
            cbus_body_check(call->body, call->body_len, call->endian, call->signature, NULL)) {
            cbus_cluster_send(router->cluster, call, bytes);
        }
        return TRUE;
    }
    g_autoptr(GPtrArray) machines = cbus_roster_list(router->roster);
    g_autofree const char **children = g_new0(const char *, machines->len + 1);
    for (guint i = 0; i < machines->len; i++) {
        children[i] = cbus_machine_nkey(g_ptr_array_index(machines, i));
    }
    introspect(front, call, cbus_interfaces_xml_root(), children);
    return TRUE;
}

/* All that a machine's own node has to call beside Introspect. */
static const struct {
    const char *interface, *member, *signature;
} machine_methods[] = {
    {CBUS_INTERFACE_MACHINE, "Ping", ""},       {CBUS_INTERFACE_PROPERTIES, "Get", "ss"},
    {CBUS_INTERFACE_PROPERTIES, "GetAll", "s"}, {CBUS_INTERFACE_PROPERTIES, "Set", "ssv"},
    {CBUS_INTERFACE_PEER, "Ping", ""},          {CBUS_INTERFACE_PEER, "GetMachineId", ""},
};

/* What GDBus would refuse without a word about which machine it is, or where else to look. FALSE: nothing. */
static gboolean
refuse_member(CbusMachine *machine, CbusFront *front, const CbusMessage *call)
{
    const char *wanted = NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(machine_methods); i++) {
        if (!cbus_span_is(call->member, machine_methods[i].member) ||
            (call->interface.text != NULL && !cbus_span_is(call->interface, machine_methods[i].interface))) {
            continue;
        }
        if (cbus_span_is(call->signature, machine_methods[i].signature)) {
            return FALSE;
        }
        wanted = machine_methods[i].signature;
    }
    const char *name = cbus_machine_name(machine), *nkey = cbus_machine_nkey(machine);
    g_autofree char *method = g_strdup_printf(
        "%.*s%s%.*s", (int)call->interface.len, call->interface.len > 0 ? call->interface.text : "",
        call->interface.len > 0 ? "." : "", (int)call->member.len, call->member.text);
    if (name[0] == '\0') {
        name = "without a name";
    }
    if (wanted != NULL) {
        cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("InvalidArgs"),
                               "Machine %s (%s): %s takes (%s), not (%.*s)", name, nkey, method, wanted,
                               (int)call->signature.len, call->signature.len > 0 ? call->signature.text : "");
    } else {
        cbus_front_reply_error(
            front, call, CBUS_DBUS_ERROR("UnknownMethod"),
            "Machine %s (%s): its own node has no method %s; the objects of its services are at "
            "%s/<service> and below, and its Services property lists those",
            name, nkey, method, cbus_machine_path(machine));
    }
    return TRUE;
}

static gboolean
call_machine(CbusMachine *machine, CbusFront *front, const CbusMessage *call)
{
    if (!is_introspect(call)) {
        return drop_silent(call) || refuse_member(machine, front, call);
    }
    if (check_introspect(front, call)) {
        cbus_mirror_introspect_machine(cbus_machine_mirror(machine), call, cbus_interfaces_xml_machine());
    }
    return TRUE;
}

static void
refuse_machine(CbusFront *front, const CbusMessage *call, CbusSpan nkey)
{
    cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("UnknownObject"),
                           "There is no machine %.*s: it is neither pinned in known_machines nor there; "
                           "`cbus machines` lists those that are, `cbus trust` pins one",
                           (int)nkey.len, nkey.text);
}

static CbusSpan
element_of(CbusSpan path)
{
    const char *slash = path.len > 0 ? memchr(path.text, '/', path.len) : NULL;
    return (CbusSpan){path.text, slash != NULL ? (gsize)(slash - path.text) : path.len};
}

/* Which of the two elements below the root can not be. */
static void
refuse_unknown(CbusRouter *router, CbusFront *front, const CbusMessage *call)
{
    CbusSpan below = {call->path.text + CBUS_ROOT_PATH_LEN + 1, call->path.len - CBUS_ROOT_PATH_LEN - 1};
    CbusSpan nkey = element_of(below);
    g_autoptr(GError) error = NULL;
    CbusKey key;
    if (!cbus_nkey_decode(nkey.text, (gssize)nkey.len, &key, &error)) {
        cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("UnknownObject"),
                               "There is no machine %.*s: a machine's path ends in its NKey (%s); "
                               "`cbus machines` lists them",
                               (int)nkey.len, nkey.text, error->message);
        return;
    }
    CbusMachine *machine = cbus_roster_lookup(router->roster, &key);
    if (machine == NULL) {
        refuse_machine(front, call, nkey);
        return;
    }
    gsize skipped = MIN(nkey.len + 1, below.len);
    CbusSpan service = element_of((CbusSpan){below.text + skipped, below.len - skipped});
    const char *name = cbus_machine_name(machine);
    cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("UnknownObject"),
                           "Machine %s (%.*s) has no service %.*s: a service's element is its bus name with "
                           "each character but letters and digits written as _ and two hexadecimal digits "
                           "(org.freedesktop.systemd1 is org_2efreedesktop_2esystemd1)",
                           name[0] != '\0' ? name : "without a name", (int)nkey.len, nkey.text,
                           (int)service.len, service.text);
}

gboolean
cbus_router_call(CbusRouter *router, CbusFront *front, const CbusMessage *call, const guint8 *bytes)
{
    CbusPlace place;
    cbus_place_parse(call->path, &place);
    if (place.kind == CBUS_PLACE_OUTSIDE) {
        return call_outside(front, call);
    }
    if (place.kind == CBUS_PLACE_ROOT) {
        return call_root(router, front, call, bytes);
    }
    if (place.kind == CBUS_PLACE_UNKNOWN) {
        refuse_unknown(router, front, call);
        return TRUE;
    }
    CbusMachine *machine = cbus_roster_lookup(router->roster, &place.machine);
    if (machine == NULL) {
        refuse_machine(front, call, place.nkey);
        return TRUE;
    }
    if (place.kind == CBUS_PLACE_MACHINE) {
        return call_machine(machine, front, call);
    }
    cbus_mirror_call(cbus_machine_mirror(machine), &place, call, bytes);
    return TRUE;
}

CbusRouter *
cbus_router_new(CbusRoster *roster, CbusCluster *cluster, CbusObjects *objects)
{
    CbusRouter *router = g_new0(CbusRouter, 1);
    router->roster = roster;
    router->cluster = cluster;
    router->objects = objects;
    return router;
}

void
cbus_router_free(CbusRouter *router)
{
    g_free(router);
}
