/* One channel on the agent: a real connection to the machine's bus, and whole messages both ways (design,
 * "One idea carries everything"). Loop thread only. */
#pragma once
#include "agent/host.h"
#include "link/link.h"
#include "wire/policy.h"

typedef struct _CbusAgentChannel CbusAgentChannel;

typedef struct {
    /* The channel is over, once; the owner closes it on the link with this reason and frees it, here or
     * later. DISCARD: what waits to be sent in it is to be thrown away. May come from inside
     * cbus_agent_channel_message() and cbus_agent_channel_tree(). */
    void (*ended)(CbusAgentChannel *channel, const char *error_name, const char *message, gboolean discard,
                  gpointer user_data);
    /* A call without reply is pending where none was before: see cbus_agent_channel_is_busy(). */
    void (*busy)(CbusAgentChannel *channel, gpointer user_data);
} CbusAgentChannelHandler;

/* Asks the connector for a connection under CALLER's line. CLAIM: the uid that OPEN told. Never ends before
 * return; NULL when the connector has too much to do. HOST, LINK and CALLER outlive it. */
CbusAgentChannel *cbus_agent_channel_new(const CbusHost *host, CbusLink *link, guint32 id,
                                         const CbusKey *caller, const guint8 digest[32], guint32 claim,
                                         const CbusAgentChannelHandler *handler, gpointer user_data);
/* Closes the bus connection: the bus undoes what it held. Silent. Safe in the handler. */
void cbus_agent_channel_free(CbusAgentChannel *channel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusAgentChannel, cbus_agent_channel_free)

/* Right after cbus_agent_channel_new(), and whenever the policy changed: it judges from the next message on.
 * NULL (never after another): nothing is judged. */
void cbus_agent_channel_set_policy(CbusAgentChannel *channel, const CbusPolicy *policy);
guint32 cbus_agent_channel_id(const CbusAgentChannel *channel);
/* A message of the link. What is no D-Bus message ends the whole link: no honest proxy sends it. */
void cbus_agent_channel_message(CbusAgentChannel *channel, const guint8 *message, gsize size);
gboolean cbus_agent_channel_is_busy(const CbusAgentChannel *channel);
/* A TREE request for DESTINATION, a valid bus name. */
void cbus_agent_channel_tree(CbusAgentChannel *channel, guint32 request, const char *destination);
