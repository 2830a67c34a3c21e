/* The gateway as a NATS service: $SRV.PING, INFO and STATS (NATS's ADR-32), so that `nats micro ls` lists the
 * machines. Loop thread only. */
#pragma once
#include "link/nats.h"

#define CBUS_GATEWAY_SERVICE "cbus"

typedef struct {
    guint64 requests, errors; /* that were answered; of these with an error */
    guint64 time_ns;          /* between request and answer, added up */
    char *last_error;         /* or NULL */
    guint64 in_flight, signals, signals_lost;
} CbusGatewayStats;

typedef struct _CbusGatewayService CbusGatewayService;

/* Subscribes. NKEY, NAME (of the machine) and STATS are borrowed and outlive it. */
CbusGatewayService *cbus_gateway_service_new(CbusNats *nats, const char *nkey, const char *name,
                                             gboolean broadcast, const CbusGatewayStats *stats);
void cbus_gateway_service_free(CbusGatewayService *service);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusGatewayService, cbus_gateway_service_free)
