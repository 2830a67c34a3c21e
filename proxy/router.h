/* What happens with a method call: mirrored, answered here, or handed to GDBus. Loop thread only. */
#pragma once
#include "proxy/cluster.h"
#include "proxy/front.h"
#include "proxy/objects.h"
#include "proxy/roster.h"

typedef struct _CbusRouter CbusRouter;

/* All are borrowed. */
CbusRouter *cbus_router_new(CbusRoster *roster, CbusCluster *cluster, CbusObjects *objects);
void cbus_router_free(CbusRouter *router);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusRouter, cbus_router_free)

/* As CbusFrontHandler.call: TRUE when the call was answered or is being forwarded, FALSE when it is GDBus's.
 */
gboolean cbus_router_call(CbusRouter *router, CbusFront *front, const CbusMessage *call, const guint8 *bytes);
