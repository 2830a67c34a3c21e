/* The proxy as a whole.
 *
 * Start: the bus first, since without it there is nothing to serve: the front connects, GDBus with it. Then
 * (ready) the roster with the pinned machines and their objects, then the name is asked for; only who owns it
 * (owned) goes to NATS and dials. So a second proxy on the same bus ends without any machine having seen it.
 *
 * Stop, in order: links are closed in order (each pending call is answered, each machine told), what NATS has
 * buffered is flushed within a bound, the name is given back behind all those answers, and when the bus says
 * so, or after half a second, the end is reported.
 *
 * NATS going up and down is no reason to end: the roster shows it at each machine, the log says it once per
 * cause.
 *
 * Loop thread only; nonces for NATS logins are signed on its connecting thread. */
#include "proxy/proxy.h"

#include "link/log.h"
#include "proxy/known.h"
#include "proxy/objects.h"
#include "proxy/roster.h"
#include "proxy/router.h"

#define WELL_KNOWN_NAME "ie.bmcgee.CBus"
#define FLUSH_MS        300
#define RELEASE_MS      500

struct _CbusProxy {
    CbusLoop *loop;
    CbusSigner *signer;
    CbusProxyEnded ended;
    gpointer user_data;
    char *known_file, *runtime_dir;
    gboolean known_only, stopping, over;
    const char *const *signals;
    CbusFront *front;
    CbusNats *nats;
    CbusRoster *roster;
    CbusCluster *cluster;
    CbusRouter *router;
    CbusObjects *objects;
    CbusKnown *known;
    GSource *deadline;  /* of the bus's answer to the release */
    char *nats_trouble; /* the last cause that was logged */
};

static void
end(CbusProxy *proxy, const GError *reason)
{
    if (!proxy->over) {
        proxy->over = TRUE;
        proxy->ended(reason, proxy->user_data);
    }
}

/* ---- NATS ---- */

static void
on_nats_up(CbusNats *nats, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    g_clear_pointer(&proxy->nats_trouble, g_free);
    cbus_log(G_LOG_LEVEL_INFO, "Connected to NATS", NULL);
    if (proxy->roster != NULL) {
        cbus_roster_nats_up(proxy->roster);
    }
}

static void
on_nats_down(CbusNats *nats, const GError *reason, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    cbus_log(G_LOG_LEVEL_WARNING, "The connection to NATS is lost", CBUS_LOG_REASON, reason->message, NULL);
    if (proxy->roster != NULL) {
        cbus_roster_nats_down(proxy->roster, reason);
    }
}

static void
on_nats_failed(CbusNats *nats, const GError *reason, guint pause_ms, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    if (g_strcmp0(proxy->nats_trouble, reason->message) != 0) {
        g_free(proxy->nats_trouble);
        proxy->nats_trouble = g_strdup(reason->message);
        cbus_log(G_LOG_LEVEL_WARNING, "NATS can not be reached; trying on", CBUS_LOG_REASON, reason->message,
                 NULL);
        if (proxy->roster != NULL) {
            cbus_roster_nats_failed(proxy->roster, reason);
        }
    }
}

static gboolean
sign_nonce(const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data, GError **error)
{
    CbusSigner *signer = user_data;
    return signer->sign_nonce(signer, nonce, signature, error);
}

/* ---- the roster ---- */

static void
on_added(CbusRoster *roster, CbusMachine *machine, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    if (proxy->objects != NULL) {
        cbus_objects_added(proxy->objects, machine);
    }
}

static void
on_removed(CbusRoster *roster, CbusMachine *machine, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    if (proxy->objects != NULL) {
        cbus_objects_removed(proxy->objects, machine);
    }
}

static void
on_changed(CbusRoster *roster, CbusMachine *machine, GVariant *changed, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    if (proxy->objects != NULL) {
        cbus_objects_changed(proxy->objects, machine, changed);
    }
}

static void
on_known(CbusKnownMachines *known, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    cbus_roster_set_known(proxy->roster, known);
}

/* ---- the bus ---- */

static gboolean
on_call(CbusFront *front, const CbusMessage *call, const guint8 *bytes, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    if (proxy->router == NULL) {
        cbus_front_reply_error(front, call, CBUS_ERROR_OFFLINE,
                               "cbus-proxy is starting or stopping; nothing was executed");
        return TRUE;
    }
    return cbus_router_call(proxy->router, front, call, bytes);
}

static void
on_caller_gone(CbusFront *front, const char *unique_name, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    if (proxy->cluster != NULL) {
        cbus_cluster_caller_gone(proxy->cluster, unique_name);
    }
    if (proxy->roster != NULL) {
        cbus_roster_caller_gone(proxy->roster, unique_name);
    }
}

static void
on_ready(CbusFront *front, GDBusConnection *connection, gpointer user_data)
{
    static const CbusRosterHandler roster_handler = {
        .added = on_added, .removed = on_removed, .changed = on_changed};
    CbusProxy *proxy = user_data;
    if (proxy->stopping) {
        return;
    }
    char nkey[CBUS_NKEY_LENGTH + 1];
    g_autoptr(GError) error = NULL;
    cbus_nkey_encode(&proxy->signer->public_key, nkey);
    proxy->roster = cbus_roster_new(proxy->loop, proxy->front, proxy->nats, proxy->signer, proxy->runtime_dir,
                                    proxy->known_only, &roster_handler, proxy);
    cbus_roster_set_signals(proxy->roster, proxy->signals);
    proxy->cluster = cbus_cluster_new(proxy->loop, proxy->roster);
    proxy->known = cbus_known_new(proxy->loop, proxy->known_file, on_known, proxy, &error);
    if (proxy->known != NULL) {
        proxy->objects = cbus_objects_new(front, connection, proxy->roster, proxy->cluster, nkey, &error);
    }
    if (error != NULL) {
        end(proxy, error);
        return;
    }
    proxy->router = cbus_router_new(proxy->roster, proxy->cluster, proxy->objects);
}

static void
on_owned(CbusFront *front, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(&proxy->signer->public_key, nkey);
    cbus_log(G_LOG_LEVEL_INFO, "Serving " WELL_KNOWN_NAME " on the bus", CBUS_LOG_PROXY, nkey, NULL);
    cbus_nats_start(proxy->nats);
}

static void
on_released(CbusFront *front, gpointer user_data)
{
    end(user_data, NULL);
}

static void
on_lost(CbusFront *front, const GError *reason, gpointer user_data)
{
    CbusProxy *proxy = user_data;
    end(proxy, proxy->stopping ? NULL : reason);
}

/* ---- life ---- */

static gboolean
on_deadline(gpointer user_data)
{
    end(user_data, NULL);
    return G_SOURCE_REMOVE;
}

static void
clear_deadline(CbusProxy *proxy)
{
    if (proxy->deadline != NULL) {
        g_source_destroy(proxy->deadline);
        g_clear_pointer(&proxy->deadline, g_source_unref);
    }
}

/* Everything that the bus shows, while the bus is still there to be answered on. */
static void
take_down(CbusProxy *proxy)
{
    g_clear_pointer(&proxy->router, cbus_router_free);
    g_clear_pointer(&proxy->known, cbus_known_free);
    g_clear_pointer(&proxy->objects, cbus_objects_free);
    g_clear_pointer(&proxy->roster, cbus_roster_free);
    g_clear_pointer(&proxy->cluster, cbus_cluster_free); /* whose calls the roster has answered now */
}

void
cbus_proxy_stop(CbusProxy *proxy)
{
    if (proxy->stopping) {
        return;
    }
    proxy->stopping = TRUE;
    take_down(proxy);
    cbus_nats_flush(proxy->nats, FLUSH_MS);
    cbus_front_release(proxy->front);
    proxy->deadline = g_timeout_source_new(RELEASE_MS);
    g_source_set_callback(proxy->deadline, on_deadline, proxy, NULL);
    g_source_attach(proxy->deadline, proxy->loop->context);
}

CbusProxy *
cbus_proxy_new(CbusLoop *loop, const CbusProxyOptions *options, CbusSigner *signer, CbusProxyEnded ended,
               gpointer user_data, GError **error)
{
    static const CbusNatsHandler nats_handler = {
        .up = on_nats_up, .down = on_nats_down, .failed = on_nats_failed};
    static const CbusFrontHandler front_handler = {
        .call = on_call,
        .caller_gone = on_caller_gone,
        .ready = on_ready,
        .owned = on_owned,
        .released = on_released,
        .lost = on_lost,
    };
    g_autoptr(CbusProxy) proxy = g_new0(CbusProxy, 1);
    proxy->loop = loop;
    proxy->signer = signer;
    proxy->ended = ended;
    proxy->user_data = user_data;
    proxy->known_file = g_strdup(options->known_machines);
    proxy->runtime_dir = g_strdup(options->runtime_dir);
    proxy->known_only = options->known_only;
    proxy->signals = options->signals;

    CbusNatsOptions nats = options->nats;
    nats.signer = nats.identity != NULL ? sign_nonce : NULL;
    nats.signer_data = signer;
    proxy->nats = cbus_nats_new(loop, &nats, &nats_handler, proxy, error);
    if (proxy->nats == NULL) {
        return NULL;
    }
    proxy->front = cbus_front_new(loop, options->bus, WELL_KNOWN_NAME, &front_handler, proxy, error);
    return proxy->front != NULL ? g_steal_pointer(&proxy) : NULL;
}

void
cbus_proxy_free(CbusProxy *proxy)
{
    if (proxy == NULL) {
        return;
    }
    proxy->over = TRUE;
    clear_deadline(proxy);
    take_down(proxy);
    g_clear_pointer(&proxy->front, cbus_front_free);
    g_clear_pointer(&proxy->nats, cbus_nats_free);
    g_free(proxy->known_file);
    g_free(proxy->runtime_dir);
    g_free(proxy->nats_trouble);
    g_free(proxy);
}
