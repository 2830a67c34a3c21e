/* One channel on the agent: a real connection to the machine's bus, and whole messages both ways (design,
 * "One idea carries everything"). Loop thread only. */
#pragma once
#include "agent/host.h"
#include "link/link.h"

typedef struct _CbusChannel CbusChannel;

typedef struct {
    /* The channel is over, once; the owner closes it on the link with this reason and frees it, here or
     * later. DISCARD: what waits to be sent in it is to be thrown away. May come from inside
     * cbus_channel_message() and cbus_channel_tree(). */
    void (*ended)(CbusChannel *channel, const char *error_name, const char *message, gboolean discard,
                  gpointer user_data);
    /* A call without reply is pending where none was before: see cbus_channel_is_busy(). */
    void (*busy)(CbusChannel *channel, gpointer user_data);
} CbusChannelHandler;

/* Asks the connector for a connection under CALLER's line. CLAIM: the uid that OPEN told. Never ends before
 * return; NULL when the connector has too much to do. HOST, LINK and CALLER outlive it. */
CbusChannel *cbus_channel_new(const CbusHost *host, CbusLink *link, guint32 id, const CbusKey *caller,
                              const guint8 digest[32], guint32 claim, const CbusChannelHandler *handler,
                              gpointer user_data);
/* Closes the bus connection: the bus undoes what it held. Silent. Safe in the handler. */
void cbus_channel_free(CbusChannel *channel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusChannel, cbus_channel_free)

guint32 cbus_channel_id(const CbusChannel *channel);
/* A message of the link. What is no D-Bus message ends the whole link: no honest proxy sends it. */
void cbus_channel_message(CbusChannel *channel, const guint8 *message, gsize size);
gboolean cbus_channel_is_busy(const CbusChannel *channel);
/* A TREE request for DESTINATION, a valid bus name. */
void cbus_channel_tree(CbusChannel *channel, guint32 request, const char *destination);
