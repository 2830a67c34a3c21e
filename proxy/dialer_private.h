/* Inside the dialer: what dialer.c, dial_peer.c and dial_attempt.c share. Loop thread only. */
#pragma once
#include "link/link_private.h"
#include "proxy/dialer.h"
#include "wire/handshake.h"
#include "wire/subject.h"

#define CBUS_CANDIDATES  4 /* instances of one agent that are remembered */
#define CBUS_ATTEMPTS    256
#define CBUS_SIGNING     16 /* signatures of ours under way while no more hellos go out */
#define CBUS_PRESENCE_US (15 * G_USEC_PER_SEC)
#define CBUS_ATTEMPT_US  (5 * G_USEC_PER_SEC)

typedef struct _CbusDialPeer CbusDialPeer;
typedef struct _CbusCandidate CbusCandidate;
typedef struct _CbusAttempt CbusAttempt;

/* Where the packets of one link go; lives from the welcome until the link is forgotten. */
typedef struct {
    CbusDialer *dialer;
    CbusLink *link;
    CbusKey agent;
    guint8 id[CBUS_LINK_ID_BYTES];
    char in[CBUS_SUBJECT_MAX], gone[CBUS_SUBJECT_MAX];
} CbusRoute;

/* One process that announced itself under an agent's identity. */
struct _CbusCandidate {
    CbusDialPeer *peer;
    CbusInstance instance;
    gboolean used, tried, was_linked;
    gint64 seen_at, next_try;
    guint backoff_s;
    CbusAttempt *attempt;
};

/* A wanted agent. */
struct _CbusDialPeer {
    CbusDialer *dialer;
    CbusKey agent;
    CbusLink *link; /* the owner's */
    CbusInstance link_instance;
    gint64 linked_at, seen_at, wanted_at;
    gboolean present; /* heard within 15 s, and no farewell since */
    gboolean stopped; /* the last that was heard is a farewell */
    gboolean twins_logged;
    CbusCandidate candidates[CBUS_CANDIDATES];
    GList waiting;
    gboolean is_waiting;
    gboolean told; /* STATE and MESSAGE are what the user heard last */
    CbusDialState state;
    char *message;
};

struct _CbusDialer {
    CbusLoop *loop;
    CbusNats *nats;
    CbusSigner *signer;
    CbusBudget *budget;
    CbusDialerHandler handler;
    gpointer user_data;
    CbusInstance instance;
    gboolean up;
    char *trouble;      /* why NATS can not be reached; NULL: not known to be so */
    GHashTable *peers;  /* CbusKey in CbusDialPeer → CbusDialPeer */
    GHashTable *routes; /* link id in CbusRoute → CbusRoute */
    GQueue waiting;     /* of CbusDialPeer: something may have to be tried */
    guint attempts;     /* under way, those that nobody seems to answer not counted */
    GQueue signing;     /* signatures asked of our signer and not answered, also of attempts given up */
    GSource *tick, *pump;
    guint out, gone, here;
    gint64 asked_at;       /* when "who is there?" was published */
    gint64 strangers_from; /* the second in which STRANGERS are counted */
    guint strangers;
};

/* dialer.c */
void cbus_dialer_pump(CbusDialer *dialer, CbusDialPeer *peer); /* have PEER looked at, soon */
CbusRoute *cbus_route_new(CbusDialer *dialer, const CbusKey *agent, const CbusInstance *instance);
void cbus_route_drop(CbusRoute *route); /* cuts its link, if any */

/* dial_peer.c */
CbusDialPeer *cbus_dial_peer_new(CbusDialer *dialer, const CbusKey *agent);
void cbus_dial_peer_free(gpointer peer);
void cbus_dial_peer_tell(CbusDialPeer *peer, CbusDialState state, const char *message);
void cbus_dial_peer_heard(CbusDialPeer *peer, const CbusPresence *presence);
void cbus_dial_peer_gone(CbusDialPeer *peer);                 /* a 503 */
gboolean cbus_dial_peer_tick(CbusDialPeer *peer, gint64 now); /* TRUE: it just vanished */
gboolean cbus_dial_peer_try(CbusDialPeer *peer);              /* starts what is due; TRUE: it just vanished */
void cbus_dial_peer_link_over(CbusDialPeer *peer, const GError *reason); /* its owner forgot it */
void cbus_dial_peer_down(CbusDialPeer *peer, const char *message);       /* NATS is */
void cbus_dial_peer_up(CbusDialPeer *peer, gint64 now);                  /* all that is known is heard anew */

/* dial_attempt.c */
void cbus_attempt_start(CbusCandidate *candidate);
void cbus_attempt_drop(CbusCandidate *candidate);
void cbus_attempt_doubt(CbusAttempt *attempt); /* a 503 */
gboolean cbus_attempt_read_welcome(CbusAttempt *attempt, const guint8 *data, gsize len);
void cbus_attempt_tick(CbusAttempt *attempt, gint64 now);
void cbus_attempt_forget_signing(CbusDialer *dialer); /* it goes; signatures may still come */
/* How an attempt ends; implemented in dial_peer.c. The attempt is gone already. LINK: the user's from now on.
 */
void cbus_candidate_failed(CbusCandidate *candidate, CbusDialState state, const char *message);
void cbus_candidate_linked(CbusCandidate *candidate, CbusLink *link, const char *name, const char *machine_id,
                           const char *boot_id, const char *version);
