/* Where links come to be on an agent.
 *
 * A hello that the limits let through becomes a half-open link: key agreement, the host key's signature
 * (perhaps by another process, so it may take a while), the welcome. The first packet holds the proxy's
 * signature over the transcript; only when that is verified and the identity is authorized, now, is the link
 * handed to its owner, and an older link of the same proxy process ends. Nobody is answered but at the
 * subject of the identity and instance in the hello.
 *
 * What it promises about strangers:
 *  - who is not authorized learns it inside the sealed link (AccessDenied), and nowhere else; at most ten a
 *    second do, the rest hears nothing;
 *  - a finish that does not verify drops the half-open link without a word; a first packet that does not open
 *    changes nothing;
 *  - half-open links are bounded: 4 of one claimed identity, 256 in all, each for 10 s. When a limit is
 *    reached the oldest goes, not the newest: hellos are cheap to forge, and a genuine one needs just a round
 *    trip to be finished, while forged ones never are;
 *  - no packet can end a link but one that opens in it.
 *
 * When the NATS connection is lost every link ends here at once. What they say last, and what a link says
 * last that can not send any more for whatever reason, is kept and said on the next connection until it is
 * heard (last_words.c).
 *
 * It trusts the session and the handshake (wire/), and `authorize` for who may in. Packets find their link by
 * the random link id in them, in a table of this process's own making.
 *
 * Loop thread only.
 */
#include "agent/acceptor.h"

#include "agent/hello_limits.h"
#include "agent/last_words.h"
#include "agent/presence.h"
#include "link/link_private.h"
#include "link/log.h"
#include "wire/handshake.h"
#include "wire/subject.h"

struct _CbusAcceptor {
    CbusLoop *loop;
    CbusNats *nats;
    CbusSigner *signer;
    CbusBudget *budget;
    CbusAcceptorHandler handler;
    gpointer user_data;
    CbusInstance instance;
    CbusHelloLimits *limits;
    CbusAnnouncer *announcer;
    GHashTable *routes; /* link id → CbusRoute, which holds both */
    GQueue half_open;   /* of CbusRoute, oldest first */
    GSource *expiry;
    guint hellos, packets;
    CbusLastWords *words;
    gboolean sign_failed; /* said once until it works again */
};

/* A link in the making or made, and where its packets go. */
typedef struct {
    CbusAcceptor *acceptor; /* NULL: given up while the signature was being made */
    CbusKey proxy;
    CbusInstance proxy_instance;
    CbusHandshake *handshake; /* until the welcome is signed */
    CbusLink *link;           /* ours while half-open */
    gboolean half_open, signing;
    gint64 since;
    GList node;
    guint8 id[CBUS_LINK_ID_BYTES];
    guint8 T[CBUS_TRANSCRIPT_BYTES];
    char out[CBUS_SUBJECT_MAX];
} CbusRoute;

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

static void
route_free(gpointer data)
{
    CbusRoute *route = data;

    cbus_handshake_free(route->handshake);
    g_free(route);
}

static void
leave_half_open(CbusRoute *route)
{
    if (!route->half_open)
        return;
    route->half_open = FALSE;
    g_queue_unlink(&route->acceptor->half_open, &route->node);
}

/* Gives a half-open link up. Whoever is signing for it finds out by itself. */
static void
give_up(CbusRoute *route)
{
    CbusAcceptor *acceptor = route->acceptor;

    leave_half_open(route);
    route->acceptor = NULL;
    if (route->link != NULL) {
        g_clear_pointer(&route->link, cbus_link_free);
        g_hash_table_remove(acceptor->routes, route->id);
    } else if (!route->signing) {
        route_free(route);
    }
}

static gboolean
on_expiry(gpointer user_data)
{
    CbusAcceptor *acceptor = user_data;
    gint64 now = g_get_monotonic_time();
    GList *node;

    while ((node = g_queue_peek_head_link(&acceptor->half_open)) != NULL &&
           now - ((CbusRoute *)node->data)->since >= CBUS_HALF_OPEN_US)
        give_up(node->data);
    if (node != NULL)
        return G_SOURCE_CONTINUE;
    g_clear_pointer(&acceptor->expiry, g_source_unref);
    return G_SOURCE_REMOVE;
}

static void
make_room(CbusAcceptor *acceptor, const CbusKey *proxy)
{
    CbusRoute *oldest = NULL;
    guint theirs = 0;

    for (GList *node = acceptor->half_open.head; node != NULL; node = node->next) {
        CbusRoute *route = node->data;
        if (!cbus_key_equal(&route->proxy, proxy))
            continue;
        if (theirs++ == 0)
            oldest = route;
    }
    if (theirs >= CBUS_HALF_OPEN_EACH)
        give_up(oldest);
    if (acceptor->half_open.length >= CBUS_HALF_OPEN_ALL)
        give_up(g_queue_peek_head(&acceptor->half_open));
}

/* The word of a REFUSED is not kept: strangers would fill the memory. */
static gboolean
send_packet(const guint8 *packet, gsize len, gboolean probe, gpointer user_data)
{
    const CbusRoute *route = user_data;
    CbusAcceptor *acceptor = route->acceptor;

    if (cbus_nats_publish(acceptor->nats, route->out, NULL, packet, len))
        return TRUE;
    if (route->half_open || !cbus_link_says_last(route->link))
        return FALSE;
    cbus_last_words_keep(acceptor->words, route->out, packet, len);
    return TRUE;
}

static gsize
count_backlog(gpointer user_data)
{
    const CbusRoute *route = user_data;

    return cbus_nats_buffered(route->acceptor->nats);
}

static void
on_half_open_ended(CbusLink *link, const GError *reason, gpointer user_data)
{
    give_up(user_data);
}

/* The same process dialled anew: what it had before is over. */
static void
supersede(CbusAcceptor *acceptor, const CbusRoute *by)
{
    g_autoptr(GPtrArray) older = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, acceptor->routes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CbusRoute *route = value;
        if (route != by && !route->half_open && cbus_key_equal(&route->proxy, &by->proxy) &&
            cbus_instance_equal(&route->proxy_instance, &by->proxy_instance))
            g_ptr_array_add(older, route->link);
    }
    for (guint i = 0; i < older->len; i++)
        cbus_link_end_now(older->pdata[i], CBUS_LINK_ERROR_CLOSED,
                          "replaced by a newer link of the same proxy");
}

static void
on_finish(CbusLink *link, const guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data)
{
    CbusRoute *route = user_data;
    CbusAcceptor *acceptor = route->acceptor;
    g_autofree char *message = NULL;

    if (!cbus_transcript_verify(&route->proxy, CBUS_ROLE_PROXY, route->T, sizeof route->T, signature)) {
        give_up(route);
        return;
    }
    if (!acceptor->handler.authorize(&route->proxy, &message, acceptor->user_data)) {
        if (cbus_hello_limits_refusal(acceptor->limits, g_get_monotonic_time()))
            cbus_link_refuse(link, CBUS_DBUS_ERROR("AccessDenied"), message != NULL ? message : "");
        give_up(route);
        return;
    }
    leave_half_open(route);
    cbus_link_accept(link);
    supersede(acceptor, route);
    cbus_last_words_heard(acceptor->words, route->out);
    acceptor->handler.accepted(link, &route->proxy, &route->proxy_instance, acceptor->user_data);
}

static void
begin_link(CbusRoute *route, CbusSession *session)
{
    static const CbusLinkHandler handler = {.finish = on_finish, .ended = on_half_open_ended};
    CbusAcceptor *acceptor = route->acceptor;

    memcpy(route->id, cbus_session_link_id(session), sizeof route->id);
    route->link =
        cbus_link_new(acceptor->loop, CBUS_SIDE_AGENT, session, cbus_nats_max_payload(acceptor->nats),
                      acceptor->budget, send_packet, route, &handler, route);
    cbus_link_set_backlog(route->link, count_backlog);
    g_hash_table_insert(acceptor->routes, route->id, route);
}

static void
complain(CbusAcceptor *acceptor, const GError *error)
{
    if (!acceptor->sign_failed)
        cbus_log(G_LOG_LEVEL_WARNING, "No link can be made: the identity key does not sign", CBUS_LOG_REASON,
                 error->message, NULL);
    acceptor->sign_failed = TRUE;
}

/* Perhaps in the stack of on_hello(), perhaps much later. */
static void
on_signed(const guint8 *signature, const GError *error, gpointer user_data)
{
    CbusRoute *route = user_data;
    CbusAcceptor *acceptor = route->acceptor;
    guint8 welcome[CBUS_WELCOME_BYTES];
    g_autoptr(GError) invalid = NULL;

    route->signing = FALSE;
    if (acceptor == NULL) {
        route_free(route);
        return;
    }
    if (signature == NULL || !cbus_handshake_write_welcome(route->handshake, signature, welcome, &invalid)) {
        complain(acceptor, signature == NULL ? error : invalid);
        give_up(route);
        return;
    }
    acceptor->sign_failed = FALSE;
    memcpy(route->T, cbus_handshake_transcript(route->handshake), sizeof route->T);
    g_autoptr(CbusSession) session = cbus_handshake_take_session(route->handshake);
    g_clear_pointer(&route->handshake, cbus_handshake_free);
    /* Without a version in common there is a welcome that says so, and no session. */
    if (!cbus_nats_publish(acceptor->nats, route->out, NULL, welcome, sizeof welcome) || session == NULL) {
        give_up(route);
        return;
    }
    begin_link(route, g_steal_pointer(&session));
}

static void
on_hello(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    CbusAcceptor *acceptor = user_data;
    gint64 now = g_get_monotonic_time();
    CbusKey proxy;
    CbusInstance proxy_instance;
    guint8 th[CBUS_TRANSCRIPT_BYTES];

    if (!cbus_hello_peek(data, len, &proxy, &proxy_instance) ||
        !cbus_hello_limits_admit(acceptor->limits, &proxy, now))
        return;
    g_autoptr(CbusHandshake) handshake = cbus_handshake_new_agent(
        &acceptor->signer->public_key, &acceptor->instance, data, len, NULL, th, NULL);
    if (handshake == NULL)
        return;
    make_room(acceptor, &proxy);
    CbusRoute *route = g_new0(CbusRoute, 1);
    route->acceptor = acceptor;
    route->proxy = proxy;
    route->proxy_instance = proxy_instance;
    route->handshake = g_steal_pointer(&handshake);
    route->since = now;
    route->half_open = TRUE;
    route->signing = TRUE;
    route->node.data = route;
    cbus_subject_out(route->out, &acceptor->signer->public_key, &proxy, &proxy_instance);
    g_queue_push_tail_link(&acceptor->half_open, &route->node);
    if (acceptor->expiry == NULL) {
        acceptor->expiry = g_timeout_source_new_seconds(1);
        g_source_set_callback(acceptor->expiry, on_expiry, acceptor, NULL);
        g_source_attach(acceptor->expiry, acceptor->loop->context);
    }
    acceptor->signer->sign_transcript(acceptor->signer, th, sizeof th, on_signed, route);
}

static void
on_packet(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    CbusAcceptor *acceptor = user_data;
    const guint8 *id = cbus_packet_link_id(data, len);
    CbusRoute *route = id != NULL ? g_hash_table_lookup(acceptor->routes, id) : NULL;

    if (route != NULL)
        cbus_link_receive(route->link, data, len);
}

CbusAcceptor *
cbus_acceptor_new(CbusLoop *loop, CbusNats *nats, CbusSigner *signer, CbusBudget *budget,
                  const CbusAcceptorHandler *handler, gpointer user_data)
{
    CbusAcceptor *acceptor = g_new0(CbusAcceptor, 1);
    char subject[CBUS_SUBJECT_MAX];

    acceptor->loop = loop;
    acceptor->nats = nats;
    acceptor->signer = signer;
    acceptor->budget = budget;
    acceptor->handler = *handler;
    acceptor->user_data = user_data;
    cbus_instance_random(&acceptor->instance);
    acceptor->limits = cbus_hello_limits_new();
    acceptor->announcer = cbus_announcer_new(loop, nats, &signer->public_key, &acceptor->instance);
    acceptor->routes = g_hash_table_new_full(link_id_hash, link_id_equal, NULL, route_free);
    acceptor->words = cbus_last_words_new(loop, nats);
    g_queue_init(&acceptor->half_open);
    cbus_subject_hello(subject, &signer->public_key);
    acceptor->hellos = cbus_nats_subscribe(nats, subject, on_hello, acceptor);
    cbus_subject_in(subject, &signer->public_key, &acceptor->instance);
    acceptor->packets = cbus_nats_subscribe(nats, subject, on_packet, acceptor);
    cbus_nats_set_beat(nats, subject);
    return acceptor;
}

static void
give_up_all(CbusAcceptor *acceptor)
{
    GList *node;

    while ((node = g_queue_peek_head_link(&acceptor->half_open)) != NULL)
        give_up(node->data);
}

void
cbus_acceptor_free(CbusAcceptor *acceptor)
{
    GHashTableIter iter;
    gpointer value;

    if (acceptor == NULL)
        return;
    give_up_all(acceptor);
    g_hash_table_iter_init(&iter, acceptor->routes);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        cbus_link_cut(((CbusRoute *)value)->link);
    g_hash_table_destroy(acceptor->routes);
    cbus_last_words_free(acceptor->words);
    if (acceptor->expiry != NULL)
        g_source_destroy(acceptor->expiry);
    g_clear_pointer(&acceptor->expiry, g_source_unref);
    cbus_nats_unsubscribe(acceptor->nats, acceptor->hellos);
    cbus_nats_unsubscribe(acceptor->nats, acceptor->packets);
    cbus_announcer_free(acceptor->announcer);
    cbus_hello_limits_free(acceptor->limits);
    g_free(acceptor);
}

void
cbus_acceptor_nats_up(CbusAcceptor *acceptor)
{
    cbus_last_words_up(acceptor->words);
    cbus_announcer_start(acceptor->announcer);
}

void
cbus_acceptor_nats_down(CbusAcceptor *acceptor, const GError *reason)
{
    g_autofree char *message = g_strdup_printf("the NATS connection was lost: %s", reason->message);
    GHashTableIter iter;
    gpointer value;

    cbus_announcer_stop(acceptor->announcer);
    cbus_last_words_down(acceptor->words);
    give_up_all(acceptor);
    g_hash_table_iter_init(&iter, acceptor->routes);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        cbus_link_fail(((CbusRoute *)value)->link, CBUS_LINK_ERROR_LOST, message);
}

void
cbus_acceptor_forget(CbusAcceptor *acceptor, CbusLink *link)
{
    CbusRoute *route = g_hash_table_lookup(acceptor->routes, cbus_link_id(link));

    if (route == NULL || route->link != link)
        return;
    cbus_link_cut(link);
    g_hash_table_remove(acceptor->routes, route->id);
}

void
cbus_acceptor_farewell(CbusAcceptor *acceptor)
{
    cbus_announcer_farewell(acceptor->announcer);
}
