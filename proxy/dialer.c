/* Where links come to be on a proxy: subjects, routes, and whose turn it is.
 *
 * Three subscriptions serve all machines: what agents send to this process, the broker's "no responders", and
 * presence. A packet finds its link by the random link id in it; a welcome, the attempt that its hello
 * belongs to. Whatever is neither is dropped unanswered.
 *
 * A peer is kept for each wanted agent (dial_peer.c decides what to try); of agents that nobody wants nothing
 * is remembered, and at most sixteen a second are offered to the user: anybody can announce fresh keys. At
 * most 256 handshakes are under way at once; the rest wait in a row, so that a fleet of thousands comes up
 * without a storm. (With 64 a thousand took twice as long on a busy computer.) None begins
 * while 16 signatures of ours are awaited: a signer on a card makes ten a second, and who waits behind too
 * many others is given up before his turn.
 *
 * Everything is tried from one idle source or from the second's tick, never from inside a call of the user.
 * The user may change what is wanted inside `announced`, `linked` and `vanished`.
 *
 * Trusts the broker with nothing: subjects and presence are hints, links are authenticated.
 * Loop thread only.
 */
#include "proxy/dialer_private.h"

#define STRANGERS_PER_SECOND 16
#define ASK_US               (60 * G_USEC_PER_SEC)

static guint
link_id_hash(gconstpointer id)
{
    guint hash;
    memcpy(&hash, id, sizeof hash);
    return hash;
}

static gboolean
link_id_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, CBUS_LINK_ID_BYTES) == 0;
}

CbusRoute *
cbus_route_new(CbusDialer *dialer, const CbusKey *agent, const CbusInstance *instance)
{
    CbusRoute *route = g_new0(CbusRoute, 1);

    route->dialer = dialer;
    route->agent = *agent;
    cbus_subject_in(route->in, agent, instance);
    cbus_subject_gone(route->gone, agent, &dialer->signer->public_key, &dialer->instance);
    return route;
}

void
cbus_route_drop(CbusRoute *route)
{
    cbus_link_cut(route->link);
    g_hash_table_remove(route->dialer->routes, route->id);
}

static void
tell_vanished(CbusDialer *dialer, const GArray *keys)
{
    for (guint i = 0; i < keys->len; i++) {
        const CbusKey *key = &g_array_index(keys, CbusKey, i);
        if (g_hash_table_contains(dialer->peers, key))
            dialer->handler.vanished(key, dialer->user_data);
    }
}

static gboolean
may_start(const CbusDialer *dialer)
{
    return dialer->up && dialer->attempts < CBUS_ATTEMPTS && dialer->signing.length < CBUS_SIGNING &&
           dialer->waiting.length > 0;
}

static gboolean
on_pump(gpointer user_data)
{
    CbusDialer *dialer = user_data;
    g_autoptr(GArray) vanished = g_array_new(FALSE, FALSE, sizeof(CbusKey));

    g_clear_pointer(&dialer->pump, g_source_unref);
    while (may_start(dialer)) {
        CbusDialPeer *peer = g_queue_pop_head_link(&dialer->waiting)->data;
        peer->is_waiting = FALSE;
        if (cbus_dial_peer_try(peer))
            g_array_append_val(vanished, peer->agent);
    }
    tell_vanished(dialer, vanished);
    return G_SOURCE_REMOVE;
}

void
cbus_dialer_pump(CbusDialer *dialer, CbusDialPeer *peer)
{
    if (peer != NULL && !peer->is_waiting) {
        peer->is_waiting = TRUE;
        g_queue_push_tail_link(&dialer->waiting, &peer->waiting);
    }
    if (dialer->pump != NULL || !may_start(dialer))
        return;
    dialer->pump = g_idle_source_new();
    g_source_set_priority(dialer->pump, G_PRIORITY_DEFAULT);
    g_source_set_callback(dialer->pump, on_pump, dialer, NULL);
    g_source_attach(dialer->pump, dialer->loop->context);
}

static void
ask_who(CbusDialer *dialer, gint64 now)
{
    dialer->asked_at = now;
    /* Whoever does not hear it is heard of in a few seconds all the same. */
    if (!cbus_nats_publish(dialer->nats, CBUS_SUBJECT_WHO, NULL, NULL, 0))
        g_debug("\"who is there?\" was not published");
}

static gboolean
on_tick(gpointer user_data)
{
    CbusDialer *dialer = user_data;
    gint64 now = g_get_monotonic_time();
    g_autoptr(GArray) vanished = g_array_new(FALSE, FALSE, sizeof(CbusKey));
    GHashTableIter iter;
    gpointer peer;

    g_hash_table_iter_init(&iter, dialer->peers);
    while (g_hash_table_iter_next(&iter, NULL, &peer)) {
        if (cbus_dial_peer_tick(peer, now))
            g_array_append_val(vanished, ((CbusDialPeer *)peer)->agent);
    }
    if (dialer->up && now - dialer->asked_at >= ASK_US)
        ask_who(dialer, now);
    tell_vanished(dialer, vanished);
    return G_SOURCE_CONTINUE;
}

static void
on_welcome(CbusDialer *dialer, const char *subject, const guint8 *data, gsize len)
{
    CbusKey agent;

    if (len != CBUS_WELCOME_BYTES || !cbus_subject_agent(subject, &agent))
        return;
    CbusDialPeer *peer = g_hash_table_lookup(dialer->peers, &agent);
    for (guint i = 0; peer != NULL && i < CBUS_CANDIDATES; i++) {
        if (peer->candidates[i].attempt != NULL &&
            cbus_attempt_read_welcome(peer->candidates[i].attempt, data, len))
            return;
    }
}

static void
on_out(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    CbusDialer *dialer = user_data;
    const guint8 *id = cbus_packet_link_id(data, len);

    if (id == NULL) {
        on_welcome(dialer, subject, data, len);
        return;
    }
    CbusRoute *route = g_hash_table_lookup(dialer->routes, id);
    if (route != NULL)
        cbus_link_receive(route->link, data, len);
}

static void
on_gone(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    CbusDialer *dialer = user_data;
    CbusKey agent;
    CbusDialPeer *peer =
        cbus_subject_agent(subject, &agent) ? g_hash_table_lookup(dialer->peers, &agent) : NULL;

    if (peer != NULL)
        cbus_dial_peer_gone(peer);
}

static gboolean
add_peer(CbusDialer *dialer, const CbusKey *agent)
{
    if (g_hash_table_contains(dialer->peers, agent))
        return FALSE;
    CbusDialPeer *peer = cbus_dial_peer_new(dialer, agent);
    return g_hash_table_insert(dialer->peers, &peer->agent, peer);
}

/* Whether one more agent that is not wanted yet can be looked at. Asked before anything that costs: whoever
 * floods the broker with fresh keys must not have the time of those who are wanted. */
static gboolean
has_time_for_strangers(CbusDialer *dialer)
{
    gint64 now = g_get_monotonic_time();

    if (now - dialer->strangers_from >= G_USEC_PER_SEC) {
        dialer->strangers_from = now;
        dialer->strangers = 0;
    }
    return dialer->strangers++ < STRANGERS_PER_SECOND;
}

static void
on_here(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    CbusDialer *dialer = user_data;
    const CbusKey *claimed = cbus_presence_peek(data, len);
    CbusDialPeer *peer = claimed != NULL ? g_hash_table_lookup(dialer->peers, claimed) : NULL;
    char expected[CBUS_SUBJECT_MAX];
    CbusPresence presence;

    if (claimed == NULL || (peer == NULL && !has_time_for_strangers(dialer)))
        return;
    if (!(peer != NULL ? cbus_presence_read_of(&peer->agent, data, len, &presence)
                       : cbus_presence_read(data, len, &presence)))
        return;
    cbus_subject_here(expected, &presence.agent);
    if (!g_str_equal(subject, expected))
        return;
    if (peer == NULL) {
        if (presence.farewell || !dialer->handler.announced(&presence.agent, dialer->user_data))
            return;
        (void)add_peer(dialer, &presence.agent);
        peer = g_hash_table_lookup(dialer->peers, &presence.agent);
    }
    cbus_dial_peer_heard(peer, &presence);
    dialer->handler.seen(&presence.agent, presence.farewell, dialer->user_data);
}

CbusDialer *
cbus_dialer_new(CbusLoop *loop, CbusNats *nats, CbusSigner *signer, CbusBudget *budget,
                const CbusDialerHandler *handler, gpointer user_data)
{
    CbusDialer *dialer = g_new0(CbusDialer, 1);
    char subject[CBUS_SUBJECT_MAX];

    dialer->loop = loop;
    dialer->nats = nats;
    dialer->signer = signer;
    dialer->budget = budget;
    dialer->handler = *handler;
    dialer->user_data = user_data;
    cbus_instance_random(&dialer->instance);
    dialer->peers = g_hash_table_new_full(cbus_key_hash, cbus_key_equal, NULL, cbus_dial_peer_free);
    dialer->routes = g_hash_table_new_full(link_id_hash, link_id_equal, NULL, g_free);
    g_queue_init(&dialer->waiting);
    g_queue_init(&dialer->signing);
    cbus_subject_out(subject, NULL, &signer->public_key, &dialer->instance);
    dialer->out = cbus_nats_subscribe(nats, subject, on_out, dialer);
    /* As if from ourselves: nobody else may or does use it. */
    cbus_subject_out(subject, &signer->public_key, &signer->public_key, &dialer->instance);
    cbus_nats_set_beat(nats, subject);
    cbus_subject_gone(subject, NULL, &signer->public_key, &dialer->instance);
    dialer->gone = cbus_nats_subscribe_no_responders(nats, subject, on_gone, dialer);
    dialer->here = cbus_nats_subscribe(nats, CBUS_SUBJECT_HERE_ALL, on_here, dialer);
    dialer->tick = g_timeout_source_new_seconds(1);
    g_source_set_callback(dialer->tick, on_tick, dialer, NULL);
    g_source_attach(dialer->tick, loop->context);
    return dialer;
}

void
cbus_dialer_free(CbusDialer *dialer)
{
    GHashTableIter iter;
    gpointer value;

    if (dialer == NULL)
        return;
    dialer->up = FALSE;
    g_hash_table_destroy(dialer->peers);
    cbus_attempt_forget_signing(dialer);
    g_hash_table_iter_init(&iter, dialer->routes);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        cbus_link_cut(((CbusRoute *)value)->link);
    g_hash_table_destroy(dialer->routes);
    cbus_nats_unsubscribe(dialer->nats, dialer->out);
    cbus_nats_unsubscribe(dialer->nats, dialer->gone);
    cbus_nats_unsubscribe(dialer->nats, dialer->here);
    g_source_destroy(dialer->tick);
    g_source_unref(dialer->tick);
    if (dialer->pump != NULL)
        g_source_destroy(dialer->pump);
    g_clear_pointer(&dialer->pump, g_source_unref);
    g_free(dialer->trouble);
    g_free(dialer);
}

void
cbus_dialer_want(CbusDialer *dialer, const CbusKey *agent)
{
    if (!add_peer(dialer, agent))
        return;
    dialer->asked_at = 0; /* it may be there for long; ask at the next tick */
    if (dialer->trouble != NULL)
        cbus_dial_peer_tell(g_hash_table_lookup(dialer->peers, agent), CBUS_DIAL_OFFLINE, dialer->trouble);
}

void
cbus_dialer_unwant(CbusDialer *dialer, const CbusKey *agent)
{
    CbusDialPeer *peer = g_hash_table_lookup(dialer->peers, agent);

    if (peer == NULL)
        return;
    CbusLink *link = g_steal_pointer(&peer->link);
    if (link != NULL) {
        cbus_link_close(link, "the proxy no longer wants this machine");
        cbus_dialer_forget(dialer, link);
    }
    g_hash_table_remove(dialer->peers, agent);
}

void
cbus_dialer_nats_up(CbusDialer *dialer)
{
    gint64 now = g_get_monotonic_time();
    GHashTableIter iter;
    gpointer peer;

    dialer->up = TRUE;
    g_clear_pointer(&dialer->trouble, g_free);
    g_hash_table_iter_init(&iter, dialer->peers);
    while (g_hash_table_iter_next(&iter, NULL, &peer))
        cbus_dial_peer_up(peer, now);
    ask_who(dialer, now);
    cbus_dialer_pump(dialer, NULL);
}

void
cbus_dialer_nats_failed(CbusDialer *dialer, const GError *reason)
{
    GHashTableIter iter;
    gpointer peer;

    g_free(dialer->trouble);
    dialer->trouble = g_strdup_printf("NATS can not be reached from here: %s", reason->message);
    g_hash_table_iter_init(&iter, dialer->peers);
    while (g_hash_table_iter_next(&iter, NULL, &peer))
        cbus_dial_peer_tell(peer, CBUS_DIAL_OFFLINE, dialer->trouble);
}

void
cbus_dialer_nats_down(CbusDialer *dialer, const GError *reason)
{
    g_autofree char *message = g_strdup_printf("the NATS connection was lost: %s", reason->message);
    GHashTableIter iter;
    gpointer peer;

    dialer->up = FALSE;
    g_hash_table_iter_init(&iter, dialer->peers);
    while (g_hash_table_iter_next(&iter, NULL, &peer))
        cbus_dial_peer_down(peer, message);
}

void
cbus_dialer_forget(CbusDialer *dialer, CbusLink *link)
{
    CbusRoute *route = g_hash_table_lookup(dialer->routes, cbus_link_id(link));

    if (route == NULL || route->link != link)
        return;
    CbusDialPeer *peer = g_hash_table_lookup(dialer->peers, &route->agent);
    cbus_route_drop(route);
    if (peer != NULL && peer->link == link)
        cbus_dial_peer_link_over(peer, link->reason);
}
