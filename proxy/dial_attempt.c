/* One handshake: hello out, welcome in, finish out, SERVERINFO in.
 *
 * An attempt ends once: linked, or failed with a state and a message for an operator, or dropped by its peer
 * without a word. It takes at most five seconds, over all its flights.
 *
 * Nothing unsigned ends it: a forged or damaged welcome, or a forged 503, leaves it waiting. A 503 only
 * makes it say at once that nobody seems to listen; it is then no longer counted among those under way, so
 * that a fleet of dead machines does not keep the living ones waiting. Checking a welcome costs a signature's
 * verification; after a hundred bad ones the rest is ignored, and the attempt runs out of time.
 *
 * Who signs may be another process that answers late: the request outlives the attempt and finds it gone.
 *
 * Until SERVERINFO the link's handler is the attempt's; then the user's. Loop thread only.
 */
#include "proxy/dialer_private.h"

#define WELCOMES_MAX 100

/* What waits for a signature. */
typedef struct {
    CbusDialer *dialer;   /* NULL: gone meanwhile */
    CbusAttempt *attempt; /* NULL: given up meanwhile */
    GList node;           /* in dialer->signing */
} Request;

struct _CbusAttempt {
    CbusCandidate *candidate;
    CbusHandshake *handshake; /* until its session is taken */
    Request *request;
    CbusRoute *route;
    CbusLink *link; /* ours until linked */
    gint64 since;
    guint welcomes;
    gboolean counted;
};

static Request *
request_new(CbusAttempt *attempt)
{
    Request *request = g_new0(Request, 1);

    request->dialer = attempt->candidate->peer->dialer;
    request->attempt = attempt;
    request->node.data = request;
    g_queue_push_tail_link(&request->dialer->signing, &request->node);
    return request;
}

void
cbus_attempt_forget_signing(CbusDialer *dialer)
{
    GList *node;

    while ((node = g_queue_pop_head_link(&dialer->signing)) != NULL)
        ((Request *)node->data)->dialer = NULL;
}

static void
uncount(CbusAttempt *attempt)
{
    CbusDialer *dialer = attempt->candidate->peer->dialer;

    if (!attempt->counted)
        return;
    attempt->counted = FALSE;
    dialer->attempts--;
    cbus_dialer_pump(dialer, NULL);
}

void
cbus_attempt_drop(CbusCandidate *candidate)
{
    CbusAttempt *attempt = g_steal_pointer(&candidate->attempt);

    if (attempt == NULL)
        return;
    uncount(attempt);
    if (attempt->request != NULL)
        attempt->request->attempt = NULL;
    if (attempt->route != NULL)
        cbus_route_drop(attempt->route);
    g_clear_pointer(&attempt->link, cbus_link_free);
    cbus_handshake_free(attempt->handshake);
    g_free(attempt);
}

static void
fail(CbusAttempt *attempt, CbusDialState state, const char *message)
{
    CbusCandidate *candidate = attempt->candidate;

    cbus_attempt_drop(candidate);
    cbus_candidate_failed(candidate, state, message);
}

static gboolean
send_packet(const guint8 *packet, gsize len, gboolean probe, gpointer user_data)
{
    const CbusRoute *route = user_data;

    return cbus_nats_publish(route->dialer->nats, route->in, probe ? route->gone : NULL, packet, len);
}

static gsize
count_backlog(gpointer user_data)
{
    const CbusRoute *route = user_data;

    return cbus_nats_buffered(route->dialer->nats);
}

static void
on_server_info(CbusLink *link, const char *name, const char *machine_id, const char *boot_id,
               const char *version, gpointer user_data)
{
    CbusAttempt *attempt = user_data;
    CbusCandidate *candidate = attempt->candidate;

    attempt->link = NULL;
    attempt->route = NULL;
    cbus_attempt_drop(candidate);
    cbus_candidate_linked(candidate, link, name, machine_id, boot_id, version);
}

static void
on_ended(CbusLink *link, const GError *reason, gpointer user_data)
{
    gboolean refused = g_error_matches(reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_REFUSED);
    g_autofree char *message = g_strdup(reason->message);

    fail(user_data, refused ? CBUS_DIAL_UNAUTHORIZED : CBUS_DIAL_OFFLINE, message);
}

static void
begin_link(CbusAttempt *attempt, const guint8 *signature)
{
    static const CbusLinkHandler handler = {.server_info = on_server_info, .ended = on_ended};
    CbusDialPeer *peer = attempt->candidate->peer;
    CbusDialer *dialer = peer->dialer;
    CbusSession *session = cbus_handshake_take_session(attempt->handshake);
    CbusRoute *route = cbus_route_new(dialer, &peer->agent, &attempt->candidate->instance);

    g_clear_pointer(&attempt->handshake, cbus_handshake_free);
    attempt->route = route;
    memcpy(route->id, cbus_session_link_id(session), sizeof route->id);
    route->link = cbus_link_new(dialer->loop, CBUS_SIDE_PROXY, session, cbus_nats_max_payload(dialer->nats),
                                dialer->budget, send_packet, route, &handler, attempt);
    attempt->link = route->link;
    cbus_link_set_backlog(route->link, count_backlog);
    g_hash_table_insert(dialer->routes, route->id, route);
    cbus_link_send_finish(route->link, signature);
}

/* Perhaps in the stack of cbus_attempt_read_welcome(), perhaps much later. */
static void
on_signed(const guint8 *signature, const GError *error, gpointer user_data)
{
    g_autofree Request *request = user_data;
    CbusAttempt *attempt = request->attempt;

    if (request->dialer != NULL) {
        g_queue_unlink(&request->dialer->signing, &request->node);
        cbus_dialer_pump(request->dialer, NULL);
    }
    if (attempt == NULL)
        return;
    attempt->request = NULL;
    if (signature != NULL) {
        begin_link(attempt, signature);
        return;
    }
    g_autofree char *message =
        g_strdup_printf("our own identity key does not sign: %s; see --key", error->message);
    fail(attempt, CBUS_DIAL_OFFLINE, message);
}

gboolean
cbus_attempt_read_welcome(CbusAttempt *attempt, const guint8 *data, gsize len)
{
    CbusSigner *signer = attempt->candidate->peer->dialer->signer;
    guint8 T[CBUS_TRANSCRIPT_BYTES];
    g_autoptr(GError) error = NULL;

    if (attempt->handshake == NULL || attempt->request != NULL || attempt->welcomes >= WELCOMES_MAX)
        return FALSE;
    if (!cbus_handshake_read_welcome(attempt->handshake, data, len, T, &error)) {
        if (g_error_matches(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_NOT_OURS))
            return FALSE;
        attempt->welcomes++;
        /* Found in a signed welcome only. */
        if (g_error_matches(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_INCOMPATIBLE))
            fail(attempt, CBUS_DIAL_INCOMPATIBLE, error->message);
        return TRUE;
    }
    attempt->request = request_new(attempt);
    signer->sign_transcript(signer, T, sizeof T, on_signed, attempt->request);
    return TRUE;
}

void
cbus_attempt_doubt(CbusAttempt *attempt)
{
    uncount(attempt);
    if (attempt->link != NULL)
        cbus_link_suspect(attempt->link);
}

void
cbus_attempt_tick(CbusAttempt *attempt, gint64 now)
{
    const char *message;

    if (now - attempt->since < CBUS_ATTEMPT_US)
        return;
    if (attempt->link != NULL)
        message = "the agent did not answer our identity for 5 seconds; it may be busy, or be refusing many";
    else if (attempt->request != NULL)
        message =
            "our own identity key did not sign within 5 seconds; is the ssh-agent waiting for somebody?";
    else
        message = "its presence was heard, but no hello was answered for 5 seconds";
    fail(attempt, CBUS_DIAL_OFFLINE, message);
}

void
cbus_attempt_start(CbusCandidate *candidate)
{
    CbusDialPeer *peer = candidate->peer;
    CbusDialer *dialer = peer->dialer;
    CbusAttempt *attempt = g_new0(CbusAttempt, 1);
    char subject[CBUS_SUBJECT_MAX], gone[CBUS_SUBJECT_MAX];
    guint8 hello[CBUS_HELLO_BYTES];

    attempt->candidate = candidate;
    attempt->since = g_get_monotonic_time();
    attempt->counted = TRUE;
    dialer->attempts++;
    candidate->attempt = attempt;
    attempt->handshake = cbus_handshake_new_proxy(
        &peer->agent, &candidate->instance, &dialer->signer->public_key, &dialer->instance, NULL, hello);
    cbus_subject_hello(subject, &peer->agent);
    cbus_subject_gone(gone, &peer->agent, &dialer->signer->public_key, &dialer->instance);
    if (!cbus_nats_publish(dialer->nats, subject, gone, hello, sizeof hello))
        fail(attempt, CBUS_DIAL_OFFLINE, "a hello could not be handed to NATS");
}
