/* One client of a portal: its socket, and the channel that is its connection on the machine's bus. Loop
 * thread only. */
#pragma once
#include "link/link.h"
#include "link/loop.h"

typedef struct _CbusPortalClient CbusPortalClient;

typedef struct {
    /* The client is authenticated and has a channel. */
    void (*opened)(CbusPortalClient *client, gpointer user_data);
    /* The client is read no longer, until cbus_portal_client_resume(). */
    void (*paused)(CbusPortalClient *client, gpointer user_data);
    /* Both sides are closed already, or will be by cbus_portal_client_free(): call it here. WHY is NULL when
     * the client left as clients do. */
    void (*over)(CbusPortalClient *client, const char *why, gpointer user_data);
} CbusPortalClientHandler;

/* Takes FD. LINK is borrowed until the client is freed. */
CbusPortalClient *cbus_portal_client_new(CbusLoop *loop, int fd, CbusLink *link,
                                         const CbusPortalClientHandler *handler, gpointer user_data,
                                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Closes both; what the client sent before is still delivered, what it was sent as far as it reads. */
void cbus_portal_client_free(CbusPortalClient *client);

guint32 cbus_portal_client_channel(const CbusPortalClient *client); /* 0: none yet */
/* From the machine. */
void cbus_portal_client_message(CbusPortalClient *client, const guint8 *message, gsize size);
void cbus_portal_client_channel_closed(CbusPortalClient *client, const char *error_name, const char *message);
/* Reads on if the channel's queue has drained. FALSE: not yet. */
gboolean cbus_portal_client_resume(CbusPortalClient *client);
