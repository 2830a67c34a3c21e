/* A wanted agent: which of its announced processes to try, when, and what to say meanwhile.
 *
 * Presence is a hint that anybody can forge, so it can cause a hello, a ping, and a word to the user, no
 * more:
 *  - an instance not heard of before is tried at once, also while a link to another one lives: a restarted
 *    agent is a new instance. The old link stays until the new one told SERVERINFO, and is asked whether it
 *    still lives;
 *  - each instance has its own backoff (1 s doubling to 60 s, with jitter), so that forged ones do not slow
 *    down the genuine one; four are remembered, of which those in a handshake are not pushed out;
 *  - an instance that was tried already is left alone while a link lives: two processes with one key do not
 * take the link from each other again and again. That there are two is logged once.
 *
 * States are told only while there is no link, and only when they differ from what was told before. A machine
 * that refused us stays "unauthorized" while it is being tried again.
 *
 * The user may stop wanting an agent inside `vanished` and `announced`, not inside `state`.
 * Loop thread only.
 */
#include "link/log.h"
#include "proxy/dialer_private.h"

#define BACKOFF_MAX_S 60u
#define STABLE_US     (10 * G_USEC_PER_SEC) /* a link that lived so long is dialled again at once */
#define TWINS_US      (2 * G_USEC_PER_SEC)  /* presence that was under way when the link was made */
#define UNHEARD_US    (2 * G_USEC_PER_SEC)

CbusDialPeer *
cbus_dial_peer_new(CbusDialer *dialer, const CbusKey *agent)
{
    CbusDialPeer *peer = g_new0(CbusDialPeer, 1);

    peer->dialer = dialer;
    peer->agent = *agent;
    peer->waiting.data = peer;
    peer->wanted_at = g_get_monotonic_time();
    return peer;
}

static void
forget_candidates(CbusDialPeer *peer)
{
    for (guint i = 0; i < CBUS_CANDIDATES; i++) {
        cbus_attempt_drop(&peer->candidates[i]);
        peer->candidates[i] = (CbusCandidate){.peer = peer};
    }
}

void
cbus_dial_peer_free(gpointer data)
{
    CbusDialPeer *peer = data;

    forget_candidates(peer);
    if (peer->is_waiting)
        g_queue_unlink(&peer->dialer->waiting, &peer->waiting);
    g_free(peer->message);
    g_free(peer);
}

void
cbus_dial_peer_tell(CbusDialPeer *peer, CbusDialState state, const char *message)
{
    CbusDialer *dialer = peer->dialer;

    if (peer->link != NULL || (peer->told && peer->state == state && g_str_equal(peer->message, message)))
        return;
    peer->told = TRUE;
    peer->state = state;
    g_free(peer->message);
    peer->message = g_strdup(message);
    dialer->handler.state(&peer->agent, state, message, dialer->user_data);
}

static CbusCandidate *
find_candidate(CbusDialPeer *peer, const CbusInstance *instance)
{
    for (guint i = 0; i < CBUS_CANDIDATES; i++) {
        if (peer->candidates[i].used && cbus_instance_equal(&peer->candidates[i].instance, instance))
            return &peer->candidates[i];
    }
    return NULL;
}

/* NULL: all places are taken by handshakes under way. */
static CbusCandidate *
add_candidate(CbusDialPeer *peer, const CbusInstance *instance)
{
    CbusCandidate *oldest = NULL;

    for (guint i = 0; i < CBUS_CANDIDATES; i++) {
        CbusCandidate *candidate = &peer->candidates[i];
        gboolean linked =
            peer->link != NULL && cbus_instance_equal(&candidate->instance, &peer->link_instance);
        if (candidate->used && (candidate->attempt != NULL || linked))
            continue;
        if (oldest == NULL || !candidate->used || (oldest->used && candidate->seen_at < oldest->seen_at))
            oldest = candidate;
    }
    if (oldest != NULL)
        *oldest = (CbusCandidate){.peer = peer, .used = TRUE, .instance = *instance};
    return oldest;
}

static void
farewell(CbusDialPeer *peer, const CbusInstance *instance)
{
    CbusCandidate *candidate = find_candidate(peer, instance);

    if (candidate == NULL || candidate->attempt != NULL)
        return;
    peer->stopped = TRUE;
    if (peer->link != NULL && cbus_instance_equal(instance, &peer->link_instance)) {
        candidate->seen_at = 0;
        cbus_link_suspect(peer->link);
        return;
    }
    *candidate = (CbusCandidate){.peer = peer};
    cbus_dialer_pump(peer->dialer, peer);
}

static void
note_twins(CbusDialPeer *peer, const CbusCandidate *candidate, gint64 now)
{
    char nkey[CBUS_NKEY_LENGTH + 1];

    if (peer->twins_logged || !candidate->was_linked || now - peer->linked_at < TWINS_US)
        return;
    peer->twins_logged = TRUE;
    cbus_nkey_encode(&peer->agent, nkey);
    cbus_log(G_LOG_LEVEL_WARNING,
             "Two agents announce themselves in turn under one key: is its machine's key on two machines?",
             CBUS_LOG_MACHINE, nkey, NULL);
}

void
cbus_dial_peer_heard(CbusDialPeer *peer, const CbusPresence *presence)
{
    gint64 now = g_get_monotonic_time();

    if (presence->farewell) {
        farewell(peer, &presence->instance);
        return;
    }
    peer->seen_at = now;
    peer->present = TRUE;
    peer->stopped = FALSE;
    gboolean linked = peer->link != NULL && cbus_instance_equal(&presence->instance, &peer->link_instance);
    CbusCandidate *candidate = find_candidate(peer, &presence->instance);
    if (candidate == NULL) {
        candidate = add_candidate(peer, &presence->instance);
        if (candidate == NULL)
            return;
        if (peer->link != NULL && !linked)
            cbus_link_suspect(peer->link);
    }
    candidate->seen_at = now;
    if (linked)
        return;
    if (peer->link != NULL && candidate->tried)
        note_twins(peer, candidate, now);
    else
        cbus_dialer_pump(peer->dialer, peer);
}

static gboolean
is_due(const CbusDialPeer *peer, const CbusCandidate *candidate, gint64 now)
{
    if (!candidate->used || candidate->attempt != NULL || now < candidate->next_try ||
        now - candidate->seen_at > CBUS_PRESENCE_US)
        return FALSE;
    return peer->link == NULL || !candidate->tried;
}

gboolean
cbus_dial_peer_try(CbusDialPeer *peer)
{
    CbusDialer *dialer = peer->dialer;
    gint64 now = g_get_monotonic_time();
    gboolean hopeful = FALSE;

    for (guint i = 0; i < CBUS_CANDIDATES; i++) {
        CbusCandidate *candidate = &peer->candidates[i];
        hopeful |= candidate->used;
        if (!is_due(peer, candidate, now))
            continue;
        if (dialer->attempts >= CBUS_ATTEMPTS) {
            cbus_dialer_pump(dialer, peer);
            return FALSE;
        }
        if (!peer->told || peer->state == CBUS_DIAL_OFFLINE)
            cbus_dial_peer_tell(peer, CBUS_DIAL_CONNECTING, "");
        cbus_attempt_start(candidate);
    }
    if (hopeful || peer->link != NULL || !peer->present || !peer->stopped)
        return FALSE;
    peer->present = FALSE;
    /* Why its link ended tells more. */
    if (!peer->told || peer->state != CBUS_DIAL_OFFLINE)
        cbus_dial_peer_tell(peer, CBUS_DIAL_OFFLINE, "its agent said farewell: it was stopped");
    return TRUE;
}

static void
back_off(CbusCandidate *candidate, gint64 now)
{
    candidate->backoff_s = CLAMP(candidate->backoff_s * 2, 1, BACKOFF_MAX_S);
    candidate->next_try =
        now + (gint64)((gdouble)candidate->backoff_s * g_random_double_range(0.75, 1.25) * G_USEC_PER_SEC);
}

void
cbus_candidate_failed(CbusCandidate *candidate, CbusDialState state, const char *message)
{
    candidate->tried = TRUE;
    back_off(candidate, g_get_monotonic_time());
    cbus_dial_peer_tell(candidate->peer, state, message);
}

void
cbus_candidate_linked(CbusCandidate *candidate, CbusLink *link, const char *name, const char *machine_id,
                      const char *boot_id, const char *version)
{
    CbusDialPeer *peer = candidate->peer;
    CbusDialer *dialer = peer->dialer;
    CbusKey agent = peer->agent;
    CbusLink *older = g_steal_pointer(&peer->link);

    candidate->tried = candidate->was_linked = TRUE;
    peer->link = link;
    peer->link_instance = candidate->instance;
    peer->linked_at = g_get_monotonic_time();
    peer->told = FALSE;
    if (older != NULL)
        cbus_link_end_now(older, CBUS_LINK_ERROR_CLOSED, "replaced by a link to a newer start of the agent");
    dialer->handler.linked(&agent, link, name, machine_id, boot_id, version, dialer->user_data);
}

void
cbus_dial_peer_link_over(CbusDialPeer *peer, const GError *reason)
{
    gint64 now = g_get_monotonic_time();
    CbusCandidate *candidate = find_candidate(peer, &peer->link_instance);

    peer->link = NULL;
    if (candidate != NULL && candidate->seen_at == 0) {
        *candidate = (CbusCandidate){.peer = peer};
    } else if (candidate != NULL && now - peer->linked_at >= STABLE_US) {
        candidate->backoff_s = 0;
        candidate->next_try = now;
    } else if (candidate != NULL) {
        back_off(candidate, now);
    }
    peer->told = TRUE;
    peer->state = CBUS_DIAL_OFFLINE;
    g_free(peer->message);
    peer->message = g_strdup(reason != NULL ? reason->message : "");
    cbus_dialer_pump(peer->dialer, peer);
}

void
cbus_dial_peer_gone(CbusDialPeer *peer)
{
    gboolean trying = FALSE;

    if (peer->link != NULL)
        cbus_link_suspect(peer->link);
    for (guint i = 0; i < CBUS_CANDIDATES; i++) {
        if (peer->candidates[i].attempt == NULL)
            continue;
        cbus_attempt_doubt(peer->candidates[i].attempt);
        trying = TRUE;
    }
    if (trying && (!peer->told || peer->state <= CBUS_DIAL_CONNECTING))
        cbus_dial_peer_tell(
            peer, CBUS_DIAL_OFFLINE,
            "nobody listens for its packets: its agent is not running or lost its NATS connection");
}

gboolean
cbus_dial_peer_tick(CbusDialPeer *peer, gint64 now)
{
    gboolean due = FALSE;

    for (guint i = 0; i < CBUS_CANDIDATES; i++) {
        if (peer->candidates[i].attempt != NULL)
            cbus_attempt_tick(peer->candidates[i].attempt, now);
        due |= is_due(peer, &peer->candidates[i], now);
    }
    if (due)
        cbus_dialer_pump(peer->dialer, peer);
    if (peer->link != NULL || !peer->dialer->up)
        return FALSE;
    if (peer->seen_at == 0 && !peer->told && now - peer->wanted_at >= UNHEARD_US)
        cbus_dial_peer_tell(
            peer, CBUS_DIAL_OFFLINE,
            "no presence heard from it: is cbus-agent running there, on the same NATS server?");
    if (!peer->present || now - peer->seen_at <= CBUS_PRESENCE_US)
        return FALSE;
    peer->present = FALSE;
    forget_candidates(peer);
    cbus_dial_peer_tell(peer, CBUS_DIAL_OFFLINE, "no presence heard from it for 15 seconds");
    return TRUE;
}

void
cbus_dial_peer_down(CbusDialPeer *peer, const char *message)
{
    forget_candidates(peer);
    if (peer->link != NULL)
        cbus_link_fail(peer->link, CBUS_LINK_ERROR_LOST, message);
    else
        cbus_dial_peer_tell(peer, CBUS_DIAL_OFFLINE, message);
}

void
cbus_dial_peer_up(CbusDialPeer *peer, gint64 now)
{
    peer->wanted_at = now;
    peer->seen_at = peer->present ? now : 0;
    /* What was wrong with NATS is no reason any more: who is not heard soon is told to be away for that. */
    peer->told = FALSE;
}
