/* The connector of one agent of a swarm, in the swarm's own process. Loop thread only. */
#pragma once
#include "agent/connector.h"
#include "link/loop.h"
#include "wire/secret.h"

/* What the keyrings of a swarm share; outlives them. */
typedef struct _SwarmBus SwarmBus;
SwarmBus *swarm_bus_new(CbusLoop *loop, const char *address);
void swarm_bus_free(SwarmBus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SwarmBus, swarm_bus_free)

typedef struct _SwarmKeyring SwarmKeyring;
/* SECRET: (transfer full). OPERATOR alone is authorized. ENDS is what cbus_agent_new() takes. */
SwarmKeyring *swarm_keyring_new(SwarmBus *bus, CbusSecret *secret, const CbusKey *operator,
                                CbusConnectorEnds * ends, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void swarm_keyring_free(SwarmKeyring *keyring);
