/* The interfaces that the proxy itself serves.
 *
 * Ours are written once, in data/ie.bmcgee.CBus1.*.xml: that text is installed for others to generate code
 * from, compiled in as a resource, and parsed here, so what Introspect says, what GDBus checks and what is
 * documented can not differ. The standard interfaces stand below, since the specification fixes them.
 *
 * Trusts its own text: a fault in it is a fault of the build and ends the process at start. Built on first
 * use, kept for the life of the process. Loop thread only. */
#include "proxy/interfaces.h"

#include "proxy/cbus-resources.h"

static const char object_manager_xml[] =
    "<node><interface name='org.freedesktop.DBus.ObjectManager'>"
    "<method name='GetManagedObjects'><arg name='objects' type='a{oa{sa{sv}}}' direction='out'/></method>"
    "<signal name='InterfacesAdded'><arg name='object' type='o'/><arg name='interfaces' "
    "type='a{sa{sv}}'/></signal>"
    "<signal name='InterfacesRemoved'><arg name='object' type='o'/><arg name='interfaces' "
    "type='as'/></signal>"
    "</interface></node>";

static const char bare_xml[] = "  <interface name=\"org.freedesktop.DBus.Peer\">\n"
                               "    <method name=\"Ping\"/>\n"
                               "    <method name=\"GetMachineId\">\n"
                               "      <arg name=\"machine_uuid\" type=\"s\" direction=\"out\"/>\n"
                               "    </method>\n"
                               "  </interface>\n"
                               "  <interface name=\"org.freedesktop.DBus.Introspectable\">\n"
                               "    <method name=\"Introspect\">\n"
                               "      <arg name=\"xml_data\" type=\"s\" direction=\"out\"/>\n"
                               "    </method>\n"
                               "  </interface>\n";

static const char properties_xml[] = "  <interface name=\"org.freedesktop.DBus.Properties\">\n"
                                     "    <method name=\"Get\">\n"
                                     "      <arg name=\"interface_name\" type=\"s\" direction=\"in\"/>\n"
                                     "      <arg name=\"property_name\" type=\"s\" direction=\"in\"/>\n"
                                     "      <arg name=\"value\" type=\"v\" direction=\"out\"/>\n"
                                     "    </method>\n"
                                     "    <method name=\"GetAll\">\n"
                                     "      <arg name=\"interface_name\" type=\"s\" direction=\"in\"/>\n"
                                     "      <arg name=\"properties\" type=\"a{sv}\" direction=\"out\"/>\n"
                                     "    </method>\n"
                                     "    <method name=\"Set\">\n"
                                     "      <arg name=\"interface_name\" type=\"s\" direction=\"in\"/>\n"
                                     "      <arg name=\"property_name\" type=\"s\" direction=\"in\"/>\n"
                                     "      <arg name=\"value\" type=\"v\" direction=\"in\"/>\n"
                                     "    </method>\n"
                                     "    <signal name=\"PropertiesChanged\">\n"
                                     "      <arg name=\"interface_name\" type=\"s\"/>\n"
                                     "      <arg name=\"changed_properties\" type=\"a{sv}\"/>\n"
                                     "      <arg name=\"invalidated_properties\" type=\"as\"/>\n"
                                     "    </signal>\n"
                                     "  </interface>\n";

static GDBusInterfaceInfo *
parse(const char *xml, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(xml, &error);
    g_assert_no_error(error);
    GDBusInterfaceInfo *info = g_dbus_node_info_lookup_interface(node, name);
    g_assert(info != NULL);
    return g_dbus_interface_info_ref(info);
}

static GDBusInterfaceInfo *
load(const char *name)
{
    g_autofree char *path = g_strconcat("/ie/bmcgee/CBus1/", name, ".xml", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) xml =
        g_resource_lookup_data(cbus_data_get_resource(), path, G_RESOURCE_LOOKUP_FLAGS_NONE, &error);
    g_assert_no_error(error);
    g_autofree char *text = g_strndup(g_bytes_get_data(xml, NULL), g_bytes_get_size(xml));
    return parse(text, name);
}

GDBusInterfaceInfo *
cbus_interface_machine(void)
{
    static GDBusInterfaceInfo *info;
    if (info == NULL) {
        info = load(CBUS_INTERFACE_MACHINE);
    }
    return info;
}

GDBusInterfaceInfo *
cbus_interface_cluster(void)
{
    static GDBusInterfaceInfo *info;
    if (info == NULL) {
        info = load(CBUS_INTERFACE_CLUSTER);
    }
    return info;
}

GDBusInterfaceInfo *
cbus_interface_object_manager(void)
{
    static GDBusInterfaceInfo *info;
    if (info == NULL) {
        info = parse(object_manager_xml, CBUS_INTERFACE_OBJECT_MANAGER);
    }
    return info;
}

const char *
cbus_interfaces_xml_machine(void)
{
    static char *xml;
    if (xml == NULL) {
        GString *text = g_string_new(bare_xml);
        g_string_append(text, properties_xml);
        g_dbus_interface_info_generate_xml(cbus_interface_machine(), 2, text);
        xml = g_string_free(text, FALSE);
    }
    return xml;
}

const char *
cbus_interfaces_xml_root(void)
{
    static char *xml;
    if (xml == NULL) {
        GString *text = g_string_new(bare_xml);
        g_string_append(text, properties_xml);
        g_dbus_interface_info_generate_xml(cbus_interface_object_manager(), 2, text);
        g_dbus_interface_info_generate_xml(cbus_interface_cluster(), 2, text);
        xml = g_string_free(text, FALSE);
    }
    return xml;
}

const char *
cbus_interfaces_xml_bare(void)
{
    return bare_xml;
}
