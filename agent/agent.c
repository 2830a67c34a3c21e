/* The network process, put together: one NATS connection, the acceptor of hellos on it, a peer for each link
 * that was accepted, and the connector for what this process may not do itself.
 *
 * Who is let in is decided at finish, when the proxy's signature was verified, by the connector's table; and
 * again for every link when a new table comes: a line that is gone or says something else ends its links. So
 * a finish that overtakes the table is let in by the old one and told of the end a moment later; no channel
 * of it opens, since the connector has the new line by then. The gateway, which asks nobody who he is, is on
 * only where the configuration says so.
 *
 * A lost NATS connection ends all links at once (the acceptor does it), because what was in flight is lost
 * and nobody may believe otherwise. The agent itself goes on and waits for the broker.
 *
 * One log line for each thing that an operator cares about: NATS up, lost, unreachable (once a cause), a
 * link accepted, a link ended and why. What strangers cause is rationed, and what was left out is counted:
 * the journal that they could fill is the one that keeps the audit.
 *
 * Trust: as its parts. Loop thread only; nothing here blocks but cbus_agent_stop(), which has a bound. */
#include "agent/agent.h"
#include "agent/acceptor.h"
#include "agent/gateway.h"
#include "agent/peer.h"
#include "link/log.h"

#define CREDIT_BYTES  (32u * 1024 * 1024) /* design, "NATS": one budget a process */
#define REFUSED_LINES 5                   /* at once; then one each REFUSED_US */
#define REFUSED_US    (10 * G_USEC_PER_SEC)

struct _CbusAgent {
    CbusHost host;
    const CbusServerInfo *info;
    const char *authorized_keys;
    CbusBudget *budget;
    CbusNats *nats;
    CbusAcceptor *acceptor;
    CbusGateway *gateway;
    GPtrArray *peers;
    char *nats_trouble;  /* the last cause that was said */
    guint refused_lines; /* that may be logged at once */
    gint64 refused_at;   /* when there was one more, monotonic µs */
    guint64 refused;     /* refusals that were not logged */
    CbusAgentLost lost;
    gpointer user_data;
};

static void
log_peer(const char *message, const CbusKey *caller, const char *reason)
{
    char nkey[CBUS_NKEY_LENGTH + 1];

    cbus_nkey_encode(caller, nkey);
    cbus_log(G_LOG_LEVEL_INFO, message, CBUS_LOG_PROXY, nkey, CBUS_LOG_REASON, reason, NULL);
}

static void
remove_peer(CbusAgent *self, CbusPeer *peer)
{
    cbus_acceptor_forget(self->acceptor, cbus_peer_link(peer));
    g_ptr_array_remove_fast(self->peers, peer);
}

static void
close_peer(CbusAgent *self, CbusPeer *peer, const char *message)
{
    log_peer("link ended", cbus_peer_caller(peer), message);
    cbus_peer_close(peer, message);
    remove_peer(self, peer);
}

static void
peer_ended(CbusPeer *peer, const GError *reason, gpointer user_data)
{
    log_peer("link ended", cbus_peer_caller(peer), reason->message);
    remove_peer(user_data, peer);
}

static void
log_refused(CbusAgent *self, const CbusKey *proxy)
{
    g_autofree char *others = NULL;
    gint64 now = g_get_monotonic_time(), more = (now - self->refused_at) / REFUSED_US;

    if (more > 0) {
        self->refused_lines = (guint)MIN(self->refused_lines + more, REFUSED_LINES);
        self->refused_at = now;
    }
    if (self->refused_lines == 0) {
        self->refused++;
        return;
    }
    self->refused_lines--;
    if (self->refused > 0)
        others = g_strdup_printf("and %" G_GUINT64_FORMAT " others before it", self->refused);
    self->refused = 0;
    log_peer("link refused: the key is not authorized", proxy, others);
}

static gboolean
authorize(const CbusKey *proxy, char **message, gpointer user_data)
{
    CbusAgent *self = user_data;
    char nkey[CBUS_NKEY_LENGTH + 1];

    if (cbus_connector_client_lookup(self->host.connector, proxy) != NULL)
        return TRUE;
    cbus_nkey_encode(proxy, nkey);
    *message = g_strdup_printf("%s does not authorize %s: its operator has to add this key to the machine's "
                               "authorized-keys file",
                               self->info->name, nkey);
    log_refused(self, proxy);
    return FALSE;
}

/* Each link costs memory for as long as its proxy answers pings; more than this could not even have a channel
 * each. */
static gboolean
has_too_many_links(const CbusAgent *self, const CbusKey *caller)
{
    guint links = 0;

    for (guint i = 0; i < self->peers->len; i++)
        links += cbus_key_equal(cbus_peer_caller(g_ptr_array_index(self->peers, i)), caller);
    return links >= CBUS_CHANNELS_OF_CALLER;
}

static void
accepted(CbusLink *link, const CbusKey *proxy, const CbusInstance *proxy_instance, gpointer user_data)
{
    CbusAgent *self = user_data;
    const CbusTableEntry *entry = cbus_connector_client_lookup(self->host.connector, proxy);
    const char *refusal = NULL;

    if (entry == NULL)
        refusal = "the key is not authorized any more";
    else if (has_too_many_links(self, proxy))
        refusal = "too many proxies with this key have links to this machine: end some of them";
    if (refusal != NULL) {
        log_peer("link refused", proxy, refusal);
        cbus_link_close(link, refusal);
        cbus_acceptor_forget(self->acceptor, link);
        cbus_link_free(link);
        return;
    }
    g_ptr_array_add(self->peers,
                    cbus_peer_new(&self->host, self->info, link, proxy, entry, peer_ended, self));
    log_peer("link accepted", proxy, NULL);
}

static void
authorized_changed(gpointer user_data)
{
    CbusAgent *self = user_data;
    g_autofree char *message = NULL;

    for (guint i = self->peers->len; i > 0; i--) {
        CbusPeer *peer = g_ptr_array_index(self->peers, i - 1);
        const CbusTableEntry *entry =
            cbus_connector_client_lookup(self->host.connector, cbus_peer_caller(peer));
        if (!cbus_peer_is_under(peer, entry))
            close_peer(self, peer,
                       entry == NULL ? "the key is not authorized any more"
                                     : "the key's authorized-keys line was changed");
        else
            cbus_peer_renew_policy(peer);
    }
    cbus_gateway_configure(self->gateway);
    /* Not when they were read: who sees this line may rely on it. */
    message = g_strdup_printf("%s: %u authorized keys", self->authorized_keys,
                              cbus_connector_client_count(self->host.connector));
    cbus_log(G_LOG_LEVEL_INFO, message, NULL);
}

static void
connector_lost(const GError *reason, gpointer user_data)
{
    CbusAgent *self = user_data;

    cbus_log(G_LOG_LEVEL_CRITICAL, "the connector process ended, and so does the agent", CBUS_LOG_REASON,
             reason->message, NULL);
    self->lost(self->user_data);
}

static void
nats_up(CbusNats *nats, gpointer user_data)
{
    CbusAgent *self = user_data;

    g_clear_pointer(&self->nats_trouble, g_free);
    cbus_log(G_LOG_LEVEL_INFO, "NATS is up", NULL);
    cbus_acceptor_nats_up(self->acceptor);
}

static void
nats_down(CbusNats *nats, const GError *reason, gpointer user_data)
{
    CbusAgent *self = user_data;

    cbus_log(G_LOG_LEVEL_WARNING, "NATS is lost: all links end", CBUS_LOG_REASON, reason->message, NULL);
    cbus_acceptor_nats_down(self->acceptor, reason);
}

static void
nats_failed(CbusNats *nats, const GError *reason, guint pause_ms, gpointer user_data)
{
    CbusAgent *self = user_data;
    gboolean said = g_strcmp0(self->nats_trouble, reason->message) == 0;

    if (!said) {
        g_free(self->nats_trouble);
        self->nats_trouble = g_strdup(reason->message);
    }
    cbus_log(said ? G_LOG_LEVEL_DEBUG : G_LOG_LEVEL_WARNING, "NATS can not be reached: trying on",
             CBUS_LOG_REASON, reason->message, NULL);
}

static gboolean
sign_nonce(const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data, GError **error)
{
    CbusSigner *signer = user_data;

    return signer->sign_nonce(signer, nonce, signature, error);
}

static gboolean
connect_parts(CbusAgent *self, const CbusAgentOptions *options, GError **error)
{
    static const CbusNatsHandler on_nats = {.up = nats_up, .down = nats_down, .failed = nats_failed};
    static const CbusAcceptorHandler on_link = {.authorize = authorize, .accepted = accepted};
    CbusSigner *signer = cbus_connector_client_signer(self->host.connector);
    CbusNatsOptions nats = options->nats;

    nats.name = "cbus-agent";
    nats.identity = &signer->public_key;
    nats.signer = sign_nonce;
    nats.signer_data = signer;
    self->nats = cbus_nats_new(self->host.loop, &nats, &on_nats, self, error);
    if (self->nats == NULL)
        return FALSE;
    self->acceptor = cbus_acceptor_new(self->host.loop, self->nats, signer, self->budget, &on_link, self);
    self->gateway = cbus_gateway_new(&self->host, self->nats, &signer->public_key);
    cbus_nats_start(self->nats);
    return TRUE;
}

CbusAgent *
cbus_agent_new(CbusLoop *loop, const CbusConnectorEnds *ends, const CbusAgentOptions *options,
               CbusAgentLost lost, gpointer user_data, GError **error)
{
    static const CbusConnectorHandler on_connector = {.authorized_changed = authorized_changed,
                                                      .lost = connector_lost};
    g_autoptr(CbusAgent) self = g_new0(CbusAgent, 1);

    self->host.loop = loop;
    self->host.quota = cbus_quota_new();
    self->host.audit = cbus_audit_new(loop, &options->audit);
    self->host.message_limit = options->message_limit;
    self->host.name = options->info->name;
    self->info = options->info;
    self->authorized_keys = options->authorized_keys;
    self->lost = lost;
    self->user_data = user_data;
    self->refused_lines = REFUSED_LINES;
    self->refused_at = g_get_monotonic_time();
    self->budget = cbus_budget_new(CREDIT_BYTES);
    self->peers = g_ptr_array_new_with_free_func((GDestroyNotify)cbus_peer_free);
    self->host.connector = cbus_connector_client_new(loop, ends, &on_connector, self, error);
    if (self->host.connector == NULL || !connect_parts(self, options, error))
        return NULL;
    return g_steal_pointer(&self);
}

void
cbus_agent_stop(CbusAgent *self, const char *message, guint timeout_ms)
{
    while (self->peers->len > 0)
        close_peer(self, g_ptr_array_index(self->peers, self->peers->len - 1), message);
    g_clear_pointer(&self->gateway, cbus_gateway_free);
    cbus_acceptor_farewell(self->acceptor);
    cbus_nats_flush(self->nats, timeout_ms);
}

void
cbus_agent_free(CbusAgent *self)
{
    while (self->peers->len > 0)
        remove_peer(self, g_ptr_array_index(self->peers, self->peers->len - 1));
    g_ptr_array_unref(self->peers);
    g_clear_pointer(&self->gateway, cbus_gateway_free);
    g_clear_pointer(&self->acceptor, cbus_acceptor_free);
    g_clear_pointer(&self->nats, cbus_nats_free);
    g_clear_pointer(&self->host.connector, cbus_connector_client_free);
    cbus_budget_free(self->budget);
    cbus_audit_free(self->host.audit);
    cbus_quota_free(self->host.quota);
    g_free(self->nats_trouble);
    g_free(self);
}

void
cbus_agent_reload(CbusAgent *self)
{
    cbus_connector_client_reload(self->host.connector);
}
