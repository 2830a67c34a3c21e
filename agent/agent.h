/* The network process: NATS, the links, the channels. Loop thread only. */
#pragma once
#include "agent/audit.h"
#include "agent/connector.h"
#include "agent/server_info.h"
#include "link/loop.h"
#include "link/nats.h"

typedef struct _CbusAgent CbusAgent;

typedef struct {
    CbusNatsOptions nats;        /* without identity and signer: they are the connector's */
    gsize message_limit;         /* bytes of the largest message that the bus takes */
    const CbusServerInfo *info;  /* outlives the agent */
    const char *authorized_keys; /* the file's name, for the log; outlives the agent */
    CbusAuditOptions audit;
} CbusAgentOptions;

/* The connector is gone; the process must end. */
typedef void (*CbusAgentLost)(gpointer user_data);

/* ENDS: its sockets are taken, also on failure. Begins to connect at once. */
CbusAgent *cbus_agent_new(CbusLoop *loop, const CbusConnectorEnds *ends, const CbusAgentOptions *options,
                          CbusAgentLost lost, gpointer user_data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ends every link in order with MESSAGE, publishes the farewell, writes it out for at most TIMEOUT_MS. */
void cbus_agent_stop(CbusAgent *agent, const char *message, guint timeout_ms);
void cbus_agent_free(CbusAgent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusAgent, cbus_agent_free)

/* authorized-keys is read again. */
void cbus_agent_reload(CbusAgent *agent);
