/* Where links come to be on a proxy: presence heard, hellos sent, welcomes checked, packets routed by link id
 * (design, "Identity and links"). Loop thread only. */
#pragma once
#include "link/link.h"
#include "link/nats.h"
#include "link/signer.h"

typedef struct _CbusDialer CbusDialer;

typedef enum {
    CBUS_DIAL_OFFLINE,      /* nobody answers; MESSAGE says what was tried */
    CBUS_DIAL_CONNECTING,   /* a hello is under way */
    CBUS_DIAL_UNAUTHORIZED, /* REFUSED: MESSAGE is the agent's reason; tried again with backoff 1 → 60 s */
    CBUS_DIAL_INCOMPATIBLE, /* no common version */
} CbusDialState;

typedef struct {
    /* Somebody announces AGENT (an unsigned hint). TRUE: wanted, keep a link to it. Asked at each presence of
     * an agent not yet wanted. */
    gboolean (*announced)(const CbusKey *agent, gpointer user_data);
    /* Any presence of a wanted agent (for LastSeen); FAREWELL is a hint, too. */
    void (*seen)(const CbusKey *agent, gboolean farewell, gpointer user_data);
    /* A wanted agent without link changed its state. */
    void (*state)(const CbusKey *agent, CbusDialState state, const char *message, gpointer user_data);
    /* A link is up and told SERVERINFO (link: transfer full): take it over with cbus_link_set_handler(). An
     * older link to the same agent was already reported through its own `ended`. */
    void (*linked)(const CbusKey *agent, CbusLink *link, const char *name, const char *machine_id,
                   const char *boot_id, const char *version, gpointer user_data);
    /* Presence of a wanted agent without link stopped for 15 s or it said farewell: an unpinned one may be
     * forgotten with cbus_dialer_unwant(). */
    void (*vanished)(const CbusKey *agent, gpointer user_data);
} CbusDialerHandler;

/* Subscribes on NATS by itself. SIGNER's public key is the operator's identity. All arguments must outlive
 * it. */
CbusDialer *cbus_dialer_new(CbusLoop *loop, CbusNats *nats, CbusSigner *signer, CbusBudget *budget,
                            const CbusDialerHandler *handler, gpointer user_data);
void cbus_dialer_free(CbusDialer *dialer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusDialer, cbus_dialer_free)

/* Keep a link to AGENT from now on (pinned machines, before any presence). */
void cbus_dialer_want(CbusDialer *dialer, const CbusKey *agent);
void cbus_dialer_unwant(CbusDialer *dialer, const CbusKey *agent); /* a live link of it is closed in order */
/* Tell it what the NATS connection does: up asks "who is there?", failed says why there is none yet, down
 * ends every link (LOST). */
void cbus_dialer_nats_up(CbusDialer *dialer);
void cbus_dialer_nats_failed(CbusDialer *dialer, const GError *reason);
void cbus_dialer_nats_down(CbusDialer *dialer, const GError *reason);
/* The owner is about to free LINK (or just got its `ended`): its route goes and a new one is dialled. */
void cbus_dialer_forget(CbusDialer *dialer, CbusLink *link);
