/* The interfaces that the proxy itself serves, from the installed XML. Built once; borrowed; loop thread. */
#pragma once
#include <gio/gio.h>

#define CBUS_INTERFACE_MACHINE        "ie.bmcgee.CBus1.Machine"
#define CBUS_INTERFACE_CLUSTER        "ie.bmcgee.CBus1.Cluster"
#define CBUS_INTERFACE_OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"
#define CBUS_INTERFACE_PROPERTIES     "org.freedesktop.DBus.Properties"
#define CBUS_INTERFACE_INTROSPECTABLE "org.freedesktop.DBus.Introspectable"
#define CBUS_INTERFACE_PEER           "org.freedesktop.DBus.Peer"

GDBusInterfaceInfo *cbus_interface_machine(void);
GDBusInterfaceInfo *cbus_interface_cluster(void);
GDBusInterfaceInfo *cbus_interface_object_manager(void);

/* XML of everything on a machine's node, on the root, and on the nodes above it: <interface> elements only.
 */
const char *cbus_interfaces_xml_machine(void);
const char *cbus_interfaces_xml_root(void);
const char *cbus_interfaces_xml_bare(void);
