/* Where links come to be on an agent: hellos in, welcomes out, finish checked, packets routed by link id
 * (design, "Identity and links"). Holds the limits on strangers. Also announces presence. Loop thread only.
 */
#pragma once
#include "link/link.h"
#include "link/nats.h"
#include "link/signer.h"

typedef struct _CbusAcceptor CbusAcceptor;

typedef struct {
    /* May this identity in? Asked at finish, after its signature was verified. FALSE: MESSAGE says why
     * (transfer full) and goes into a sealed REFUSED as AccessDenied. */
    gboolean (*authorize)(const CbusKey *proxy, char **message, gpointer user_data);
    /* A link is up (transfer full): take it over with cbus_link_set_handler(). An older link of the same
     * proxy instance was already reported through its own `ended`. */
    void (*accepted)(CbusLink *link, const CbusKey *proxy, const CbusInstance *proxy_instance,
                     gpointer user_data);
} CbusAcceptorHandler;

/* Subscribes on NATS by itself. SIGNER's public key is the agent's identity. All arguments must outlive it.
 */
CbusAcceptor *cbus_acceptor_new(CbusLoop *loop, CbusNats *nats, CbusSigner *signer, CbusBudget *budget,
                                const CbusAcceptorHandler *handler, gpointer user_data);
void cbus_acceptor_free(CbusAcceptor *acceptor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusAcceptor, cbus_acceptor_free)

/* Tell it what the NATS connection does: up announces presence, down ends every link (LOST) and half-open
 * handshake. */
void cbus_acceptor_nats_up(CbusAcceptor *acceptor);
void cbus_acceptor_nats_down(CbusAcceptor *acceptor, const GError *reason);
/* The owner is about to free LINK (or just got its `ended`): its route goes. */
void cbus_acceptor_forget(CbusAcceptor *acceptor, CbusLink *link);
/* Publishes the farewell. */
void cbus_acceptor_farewell(CbusAcceptor *acceptor);
