/* Our own D-Bus objects, served by GDBus: the cluster on the root, and each machine. Loop thread only. */
#pragma once
#include "proxy/cluster.h"
#include "proxy/front.h"
#include "proxy/roster.h"

typedef struct _CbusObjects CbusObjects;

/* NKEY: the operator's. All pointers must outlive it. Every machine of ROSTER gets its object now. */
CbusObjects *cbus_objects_new(CbusFront *front, GDBusConnection *connection, CbusRoster *roster,
                              CbusCluster *cluster, const char *nkey,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_objects_free(CbusObjects *objects);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusObjects, cbus_objects_free)

/* Answers CALL, a GetManagedObjects on the root. */
void cbus_objects_list(CbusObjects *objects, const CbusMessage *call);
/* What the roster reports: InterfacesAdded, InterfacesRemoved, PropertiesChanged (none for NULL). */
void cbus_objects_added(CbusObjects *objects, CbusMachine *machine);
void cbus_objects_removed(CbusObjects *objects, CbusMachine *machine);
void cbus_objects_changed(CbusObjects *objects, CbusMachine *machine, GVariant *changed);
