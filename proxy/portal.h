/* A machine's portal: a socket that is the machine's bus. Each connection to it is a channel of the machine's
 * link (design, "What it is"). Lives as long as the machine is in the roster; links come and go. Loop thread
 * only. */
#pragma once
#include "link/link.h"
#include "link/loop.h"

#define CBUS_PORTAL_CLIENTS 512

typedef struct _CbusPortal CbusPortal;

/* Listens below BASE, the runtime directory. */
CbusPortal *cbus_portal_new(CbusLoop *loop, const char *base, const char *nkey,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Closes its clients, removes the socket and the name. */
void cbus_portal_free(CbusPortal *portal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusPortal, cbus_portal_free)

const char *cbus_portal_address(const CbusPortal *portal); /* a D-Bus address */
/* The pinned name, or NULL; by-name/<name> follows it. */
void cbus_portal_set_name(CbusPortal *portal, const char *name);
/* Why clients are sent away while there is no link. Copied. */
void cbus_portal_set_absence(CbusPortal *portal, const char *message);

/* The roster owns the link and its handler, and passes on what concerns the portal's channels. */
void cbus_portal_link_up(CbusPortal *portal, CbusLink *link); /* borrowed until link_down */
void cbus_portal_link_down(CbusPortal *portal, const GError *reason);
/* Each returns FALSE if CHANNEL is not the portal's. */
gboolean cbus_portal_message(CbusPortal *portal, guint32 channel, const guint8 *message, gsize size);
gboolean cbus_portal_channel_closed(CbusPortal *portal, guint32 channel, const char *error_name,
                                    const char *message);
