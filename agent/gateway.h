/* The gateway: this machine's bus for any NATS client, unsealed (docs/gateway.md). Off unless the
 * configuration says otherwise. Loop thread only. */
#pragma once
#include "agent/host.h"
#include "link/nats.h"

typedef struct _CbusGateway CbusGateway;

/* Nothing is served before cbus_gateway_configure(). AGENT is copied; HOST and NATS outlive it. */
CbusGateway *cbus_gateway_new(const CbusHost *host, CbusNats *nats, const CbusKey *agent);
void cbus_gateway_free(CbusGateway *gateway);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusGateway, cbus_gateway_free)

/* What the connector read: at the first time, and whenever it changed. */
void cbus_gateway_configure(CbusGateway *gateway);
