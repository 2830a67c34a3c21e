/* Our own D-Bus objects.
 *
 * /ie/bmcgee/CBus        ie.bmcgee.CBus1.Cluster and org.freedesktop.DBus.ObjectManager (machines only)
 * /ie/bmcgee/CBus/<nkey> ie.bmcgee.CBus1.Machine
 *
 * GDBus checks signatures and answers Get, GetAll, Set and Peer from the interface descriptions; what is
 * asked of it is read from the machine at that moment. Introspect never gets here (the router answers it: a
 * machine's children are the mirror's), nor does a call for an object that does not exist. GetManagedObjects
 * goes past it, too (listing.c).
 *
 * GDBus emits nothing. Signals leave through the front's queue, where they keep their order among mirrored
 * messages and behind GDBus's own answers.
 *
 * Object registrations are made and undone on the loop's thread, so no callback meets a machine that is gone.
 * Loop thread only. */
#include "proxy/objects.h"

#include "introspect/path.h"
#include "link/log.h"
#include "proxy/interfaces.h"
#include "proxy/listing.h"
#include "wire/key.h"

#include <string.h>

struct _CbusObjects {
    CbusFront *front;
    GDBusConnection *connection;
    CbusRoster *roster;
    CbusCluster *cluster;
    CbusListing *listing;
    char *nkey;
    guint cluster_id, manager_id;
    GHashTable *ids; /* CbusMachine → its registration */
};

/* ---- the root ---- */

static GVariant *
get_cluster_property(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                     const char *name, GError **error, gpointer user_data)
{
    const CbusObjects *objects = user_data;
    return g_variant_new_string(g_str_equal(name, "NKey") ? objects->nkey : CBUS_VERSION);
}

static void
call_cluster(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
             const char *method, GVariant *arguments, GDBusMethodInvocation *invocation, gpointer user_data)
{
    const CbusObjects *objects = user_data;
    cbus_cluster_call(objects->cluster, method, arguments, invocation);
}

static GVariant *
interfaces_of(CbusMachine *machine)
{
    GVariantBuilder builder;
    g_variant_builder_init(&builder, G_VARIANT_TYPE("a{sa{sv}}"));
    g_variant_builder_add(&builder, "{s@a{sv}}", CBUS_INTERFACE_MACHINE, cbus_machine_properties(machine));
    return g_variant_builder_end(&builder);
}

/* GDBus refuses what the interface does not name, and the router answers what it does. */
static void
call_manager(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
             const char *method, GVariant *arguments, GDBusMethodInvocation *invocation, gpointer user_data)
{
    g_dbus_method_invocation_return_dbus_error(invocation, CBUS_DBUS_ERROR("UnknownMethod"),
                                               "There is no such method");
}

void
cbus_objects_list(CbusObjects *objects, const CbusMessage *call)
{
    g_autoptr(GPtrArray) machines = cbus_roster_list(objects->roster);
    cbus_listing_reply(objects->listing, machines, objects->front, call);
}

/* ---- a machine ---- */

static GVariant *
get_machine_property(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                     const char *name, GError **error, gpointer user_data)
{
    return cbus_machine_property(user_data, name);
}

static void
on_pong(gint64 round_trip, gpointer user_data)
{
    GDBusMethodInvocation *invocation = user_data;
    if (round_trip < 0) {
        const char *path = g_dbus_method_invocation_get_object_path(invocation);
        g_autofree char *message = g_strdup_printf(
            "The link to machine %s ended before it answered the ping; its LastError says why",
            strrchr(path, '/') + 1);
        g_dbus_method_invocation_return_dbus_error(invocation, CBUS_ERROR_OFFLINE, message);
        return;
    }
    g_dbus_method_invocation_return_value(invocation, g_variant_new("(t)", (guint64)round_trip));
}

/* Ping is all there is to call. */
static void
call_machine(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
             const char *method, GVariant *arguments, GDBusMethodInvocation *invocation, gpointer user_data)
{
    const char *error_name = NULL;
    g_autofree char *message = NULL;
    if (!cbus_machine_ping(user_data, on_pong, invocation, &error_name, &message)) {
        g_dbus_method_invocation_return_dbus_error(invocation, error_name, message);
    }
}

/* ---- what the roster reports ---- */

static void
serve(CbusObjects *objects, CbusMachine *machine)
{
    static const GDBusInterfaceVTable vtable = {.method_call = call_machine,
                                                .get_property = get_machine_property};
    g_autoptr(GError) error = NULL;
    guint id = g_dbus_connection_register_object(objects->connection, cbus_machine_path(machine),
                                                 cbus_interface_machine(), &vtable, machine, NULL, &error);
    if (id == 0) {
        cbus_log(G_LOG_LEVEL_WARNING, "A machine's object could not be registered", CBUS_LOG_MACHINE,
                 cbus_machine_nkey(machine), CBUS_LOG_REASON, error->message, NULL);
        return;
    }
    g_hash_table_insert(objects->ids, machine, GUINT_TO_POINTER(id));
}

void
cbus_objects_added(CbusObjects *objects, CbusMachine *machine)
{
    serve(objects, machine);
    cbus_front_emit(objects->front, CBUS_ROOT_PATH, CBUS_INTERFACE_OBJECT_MANAGER, "InterfacesAdded",
                    g_variant_new("(o@a{sa{sv}})", cbus_machine_path(machine), interfaces_of(machine)));
}

void
cbus_objects_removed(CbusObjects *objects, CbusMachine *machine)
{
    static const char *const interfaces[] = {CBUS_INTERFACE_MACHINE, NULL};
    guint id = GPOINTER_TO_UINT(g_hash_table_lookup(objects->ids, machine));
    cbus_listing_forget(objects->listing, machine);
    if (id != 0) {
        g_dbus_connection_unregister_object(objects->connection, id);
        g_hash_table_remove(objects->ids, machine);
    }
    cbus_front_emit(objects->front, CBUS_ROOT_PATH, CBUS_INTERFACE_OBJECT_MANAGER, "InterfacesRemoved",
                    g_variant_new("(o^as)", cbus_machine_path(machine), interfaces));
}

void
cbus_objects_changed(CbusObjects *objects, CbusMachine *machine, GVariant *changed)
{
    cbus_listing_forget(objects->listing, machine);
    if (changed == NULL) {
        return;
    }
    cbus_front_emit(objects->front, cbus_machine_path(machine), CBUS_INTERFACE_PROPERTIES,
                    "PropertiesChanged",
                    g_variant_new("(s@a{sv}@as)", CBUS_INTERFACE_MACHINE, changed,
                                  g_variant_new_array(G_VARIANT_TYPE_STRING, NULL, 0)));
}

CbusObjects *
cbus_objects_new(CbusFront *front, GDBusConnection *connection, CbusRoster *roster, CbusCluster *cluster,
                 const char *nkey, GError **error)
{
    static const GDBusInterfaceVTable cluster_vtable = {.method_call = call_cluster,
                                                        .get_property = get_cluster_property};
    static const GDBusInterfaceVTable manager = {.method_call = call_manager};
    g_autoptr(CbusObjects) objects = g_new0(CbusObjects, 1);
    objects->front = front;
    objects->connection = g_object_ref(connection);
    objects->roster = roster;
    objects->cluster = cluster;
    objects->listing = cbus_listing_new();
    objects->nkey = g_strdup(nkey);
    objects->ids = g_hash_table_new(NULL, NULL);
    objects->cluster_id = g_dbus_connection_register_object(
        connection, CBUS_ROOT_PATH, cbus_interface_cluster(), &cluster_vtable, objects, NULL, error);
    if (objects->cluster_id == 0) {
        return NULL;
    }
    objects->manager_id = g_dbus_connection_register_object(
        connection, CBUS_ROOT_PATH, cbus_interface_object_manager(), &manager, objects, NULL, error);
    if (objects->manager_id == 0) {
        return NULL;
    }
    g_autoptr(GPtrArray) machines = cbus_roster_list(roster);
    for (guint i = 0; i < machines->len; i++) {
        serve(objects, g_ptr_array_index(machines, i));
    }
    return g_steal_pointer(&objects);
}

void
cbus_objects_free(CbusObjects *objects)
{
    if (objects == NULL) {
        return;
    }
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, objects->ids);
    while (g_hash_table_iter_next(&iter, NULL, &id)) {
        g_dbus_connection_unregister_object(objects->connection, GPOINTER_TO_UINT(id));
    }
    if (objects->manager_id != 0) {
        g_dbus_connection_unregister_object(objects->connection, objects->manager_id);
    }
    if (objects->cluster_id != 0) {
        g_dbus_connection_unregister_object(objects->connection, objects->cluster_id);
    }
    g_hash_table_unref(objects->ids);
    cbus_listing_free(objects->listing);
    g_object_unref(objects->connection);
    g_free(objects->nkey);
    g_free(objects);
}
