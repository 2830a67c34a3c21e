/* The gateway's life: on and off as the configuration says, and what comes from the broker shared out.
 *
 * Whoever may publish to the broker is its caller; nobody is authenticated and nothing is sealed. Hence it is
 * off by default, its connection is that of the user whom the configuration names, every message passes the
 * policy that it names, and acts are recorded as those of "gateway". The policy may change while it runs; any
 * other change ends it and begins anew.
 *
 * Bounds: CALLS_MAX requests at once, and of these answered without the bus what comes above;
 * CBUS_GATEWAY_REQUEST_MAX bytes a request; a deadline for each. The bus allows a connection 128 calls
 * without answer, and a service that hangs keeps those that nobody waits for any more: when HUNG_MAX of them
 * are there and no request is under way the connection is made anew, and until then new requests are refused
 * once both together reach UNANSWERED_MAX.
 *
 * Signals are dropped rather than queued (agent/gateway_signals.c), and counted. systemd is asked for its
 * own.
 *
 * Trust: none in what comes from the broker. Loop thread only. */
#include "agent/gateway.h"
#include "agent/gateway_call.h"
#include "agent/gateway_service.h"
#include "agent/gateway_signals.h"
#include "link/log.h"
#include "wire/body.h"

#define DRIVER         "org.freedesktop.DBus"
#define SYSTEMD        "org.freedesktop.systemd1"
#define CALLS_MAX      48
#define HUNG_MAX       48
#define UNANSWERED_MAX 96

struct _CbusGateway {
    const CbusHost *host;
    CbusNats *nats;
    CbusKey agent;
    char nkey[CBUS_NKEY_LENGTH + 1];
    CbusGatewayConfig *config;  /* what is served; NULL: nothing */
    guint requests, broadcasts; /* subscriptions */
    CbusGatewayService *service;
    CbusGatewayCalls shared; /* with the connection */
    GHashTable *calls;       /* CbusGatewayCall */
    CbusGatewayStats stats;
    char *trouble; /* the last cause that was said */
};

static void
count(CbusGateway *self, const char *why, gint64 time_us)
{
    self->stats.requests++;
    self->stats.time_ns += (guint64)MAX(time_us, 0) * 1000;
    if (why == NULL)
        return;
    self->stats.errors++;
    g_free(self->stats.last_error);
    self->stats.last_error = cbus_gateway_header_text(why);
}

static void
renew_when_stuck(CbusGateway *self)
{
    if (g_hash_table_size(self->calls) == 0 && cbus_gateway_bus_hung(self->shared.bus) >= HUNG_MAX)
        cbus_gateway_bus_renew(self->shared.bus, "too many calls hang: the connection is made anew");
}

static void
call_done(CbusGatewayCall *call, const char *why, gpointer user_data)
{
    CbusGateway *self = user_data;

    count(self, why, g_get_monotonic_time() - cbus_gateway_call_began(call));
    g_hash_table_remove(self->calls, call);
    self->stats.in_flight = g_hash_table_size(self->calls);
    renew_when_stuck(self);
}

static void
refuse(CbusGateway *self, const char *reply, CbusGatewayCode code, const char *error_name, const char *why)
{
    cbus_gateway_refuse(self->nats, self->nkey, reply, code, error_name, why);
    count(self, why, 0);
}

static gboolean
is_full(CbusGateway *self)
{
    guint calls = g_hash_table_size(self->calls);

    return calls >= CALLS_MAX || calls + cbus_gateway_bus_hung(self->shared.bus) >= UNANSWERED_MAX;
}

static void
on_request(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    CbusGateway *self = user_data;
    CbusPlainRequest parsed;
    CbusGatewayCall *call;
    const char *why;

    if (reply != NULL && !cbus_plain_may_answer(reply)) {
        count(self, "a request whose answer would be a request itself, or has too long a subject", 0);
        return;
    }
    if (len > CBUS_GATEWAY_REQUEST_MAX) {
        refuse(self, reply, CBUS_GATEWAY_TOO_LARGE, CBUS_DBUS_ERROR("LimitsExceeded"),
               "the request is larger than 256 KiB");
        return;
    }
    if (is_full(self)) {
        refuse(self, reply, CBUS_GATEWAY_TOO_MANY, CBUS_DBUS_ERROR("LimitsExceeded"),
               "too many requests are under way on this machine: try again");
        return;
    }
    if (!cbus_plain_request_parse(subject, &self->agent, &parsed, &why)) {
        refuse(self, reply, CBUS_GATEWAY_BAD_REQUEST, CBUS_DBUS_ERROR("InvalidArgs"), why);
        return;
    }
    const CbusGatewayRequest request = {.subject = &parsed,
                                        .reply = reply,
                                        .interface = cbus_nats_header(self->nats, "Interface"),
                                        .signature = cbus_nats_header(self->nats, "Signature"),
                                        .data = data,
                                        .len = len};
    call = cbus_gateway_call_new(&self->shared, &request);
    cbus_plain_request_clear(&parsed);
    g_hash_table_add(self->calls, call);
    self->stats.in_flight = g_hash_table_size(self->calls);
    cbus_gateway_call_start(call);
}

/* systemd tells only those who asked what its units do. Whether the policy lets us ask does not matter: if
 * not, nothing comes. */
static void
subscribe_to_systemd(CbusGateway *self)
{
    const CbusHeader header = {.flags = CBUS_FLAG_NO_AUTO_START,
                               .destination = CBUS_SPAN_LITERAL(SYSTEMD),
                               .path = CBUS_SPAN_LITERAL("/org/freedesktop/systemd1"),
                               .interface = CBUS_SPAN_LITERAL(SYSTEMD ".Manager"),
                               .member = CBUS_SPAN_LITERAL("Subscribe")};
    guint32 serial;

    cbus_gateway_bus_call(self->shared.bus, &header, NULL, TRUE, &serial, NULL, NULL);
}

/* TRUE if SIGNAL says that systemd is there, or there again. */
static gboolean
is_systemd(const CbusMessage *signal)
{
    CbusCursor cursor = cbus_cursor(signal);
    CbusSpan arguments[3];

    if (!cbus_span_is(signal->sender, DRIVER) || !cbus_span_is(signal->member, "NameOwnerChanged") ||
        !cbus_span_is(signal->signature, "sss"))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(arguments); i++)
        if (!cbus_cursor_string(&cursor, &arguments[i]))
            return FALSE;
    return cbus_span_is(arguments[0], SYSTEMD) && arguments[2].len > 0;
}

static void
bus_ready(gpointer user_data)
{
    CbusGateway *self = user_data;

    subscribe_to_systemd(self);
    g_clear_pointer(&self->trouble, g_free);
    cbus_log(G_LOG_LEVEL_INFO, "the gateway is connected to the bus", NULL);
}

static void
bus_lost(const char *reason, gpointer user_data)
{
    CbusGateway *self = user_data;
    gboolean said = g_strcmp0(self->trouble, reason) == 0;

    if (!said) {
        g_free(self->trouble);
        self->trouble = g_strdup(reason);
    }
    cbus_log(said ? G_LOG_LEVEL_DEBUG : G_LOG_LEVEL_WARNING,
             "the gateway is not connected to the bus: trying on", CBUS_LOG_REASON, reason, NULL);
}

static void
bus_signal(const CbusMessage *signal, gpointer user_data)
{
    CbusGateway *self = user_data;

    /* What the bus tells this connection about itself is nobody else's news. */
    if (signal->destination.text != NULL && cbus_span_is(signal->sender, DRIVER))
        return;
    if (is_systemd(signal))
        subscribe_to_systemd(self);
    if (cbus_gateway_publish_signal(self->nats, &self->agent, self->nkey, signal))
        self->stats.signals++;
    else
        self->stats.signals_lost++;
}

static void
stop(CbusGateway *self)
{
    GHashTableIter iter;
    gpointer call;

    if (self->config == NULL)
        return;
    cbus_nats_unsubscribe(self->nats, self->requests);
    cbus_nats_unsubscribe(self->nats, self->broadcasts);
    self->requests = self->broadcasts = 0;
    g_clear_pointer(&self->service, cbus_gateway_service_free);
    while (g_hash_table_iter_init(&iter, self->calls), g_hash_table_iter_next(&iter, &call, NULL))
        cbus_gateway_call_cancel(call, "the gateway of this machine ends");
    g_clear_pointer(&self->shared.bus, cbus_gateway_bus_free);
    g_clear_pointer(&self->config, cbus_gateway_config_free);
    g_clear_pointer(&self->trouble, g_free);
}

static void
start(CbusGateway *self, const CbusGatewayConfig *config, const CbusPolicy *policy)
{
    static const CbusGatewayBusHandler on_bus = {.ready = bus_ready, .signal = bus_signal, .lost = bus_lost};
    g_autofree char *subject = cbus_plain_requests(&self->agent);
    g_autofree char *said = g_strdup_printf(
        "the gateway is on: whoever may publish to NATS may use this machine's bus as user %s "
        "under policy %s",
        config->user, config->policy);

    self->config = g_new0(CbusGatewayConfig, 1);
    *self->config = *config;
    self->config->user = g_strdup(config->user);
    self->config->policy = g_strdup(config->policy);
    self->shared = (CbusGatewayCalls){.loop = self->host->loop,
                                      .nats = self->nats,
                                      .bus = cbus_gateway_bus_new(self->host, policy, &on_bus, self),
                                      .nkey = self->nkey,
                                      .timeout_ms = config->timeout_ms,
                                      .done = call_done,
                                      .user_data = self};
    self->requests = cbus_nats_subscribe(self->nats, subject, on_request, self);
    if (config->broadcast)
        self->broadcasts = cbus_nats_subscribe(self->nats, CBUS_PLAIN_BROADCASTS, on_request, self);
    self->service =
        cbus_gateway_service_new(self->nats, self->nkey, self->host->name, config->broadcast, &self->stats);
    cbus_log(G_LOG_LEVEL_INFO, said, NULL);
}

void
cbus_gateway_configure(CbusGateway *self)
{
    const CbusGatewayConfig *config = cbus_connector_client_gateway(self->host->connector);
    const CbusPolicy *policy =
        config != NULL ? cbus_connector_client_policy(self->host->connector, config->policy) : NULL;

    if (config != NULL && policy != NULL && cbus_gateway_config_equal(config, self->config)) {
        cbus_gateway_bus_set_policy(self->shared.bus, policy);
        return;
    }
    stop(self);
    if (config != NULL && policy != NULL)
        start(self, config, policy);
}

CbusGateway *
cbus_gateway_new(const CbusHost *host, CbusNats *nats, const CbusKey *agent)
{
    CbusGateway *self = g_new0(CbusGateway, 1);

    self->host = host;
    self->nats = nats;
    self->agent = *agent;
    cbus_nkey_encode(agent, self->nkey);
    self->calls = g_hash_table_new_full(NULL, NULL, (GDestroyNotify)cbus_gateway_call_free, NULL);
    return self;
}

void
cbus_gateway_free(CbusGateway *self)
{
    stop(self);
    g_hash_table_unref(self->calls);
    g_free(self->stats.last_error);
    g_free(self);
}
