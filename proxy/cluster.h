/* ie.bmcgee.CBus1.Cluster.Get and Invoke: one call to many machines. Loop thread only. */
#pragma once
#include "proxy/roster.h"
#include <gio/gio.h>

#define CBUS_CLUSTER_CALLS      32    /* at once */
#define CBUS_CLUSTER_MACHINES   8192  /* in one call */
#define CBUS_CLUSTER_DEFAULT_MS 25000 /* what timeout_ms 0 means */

typedef struct _CbusCluster CbusCluster;

/* ROSTER is borrowed; free the cluster after it, so that every call that is under way is answered. */
CbusCluster *cbus_cluster_new(CbusLoop *loop, CbusRoster *roster);
void cbus_cluster_free(CbusCluster *cluster);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusCluster, cbus_cluster_free)

/* Get or Invoke with ARGUMENTS of their types. INVOCATION: (transfer full). */
void cbus_cluster_call(CbusCluster *cluster, const char *method, GVariant *arguments,
                       GDBusMethodInvocation *invocation);
/* An Invoke that wants no reply: each machine's call wants none either. Anything else is ignored. */
void cbus_cluster_send(CbusCluster *cluster, const CbusMessage *call, const guint8 *bytes);
/* Nobody waits for the calls of UNIQUE_NAME any more. */
void cbus_cluster_caller_gone(CbusCluster *cluster, const char *unique_name);
