/* What all links of an agent share. Loop thread only; owned by agent/agent.c, outlives every peer. */
#pragma once
#include "agent/audit.h"
#include "agent/connector_client.h"
#include "agent/quota.h"

typedef struct {
    CbusLoop *loop;
    CbusConnectorClient *connector;
    CbusQuota *quota;
    CbusAudit *audit;
    const char *name;    /* of this machine */
    gsize message_limit; /* bytes of the largest message that the bus takes */
} CbusHost;
