/* NATS's discovery of services (ADR-32): three verbs, each asked of everybody, of one kind of service, or of
 * one instance. The kind is "cbus", the instance the machine's NKey, and the metadata has its host name, so
 * that the list of instances is the list of machines.
 *
 *     $SRV.<verb>   $SRV.<verb>.cbus   $SRV.<verb>.cbus.<nkey>
 *
 * The endpoints are told without a queue group: a machine is no replica of another. The host name is a claim,
 * as everything here is.
 *
 * Trust: nothing is read but where the answer goes. Loop thread only. */
#include "agent/gateway_service.h"
#include "link/log.h"
#include "wire/json.h"
#include "wire/plain_subject.h"

typedef enum {
    VERB_PING,
    VERB_INFO,
    VERB_STATS,
    VERBS,
} Verb;

enum {
    SUBJECTS_OF_VERB = 3,
};

static const struct {
    const char *name, *type;
} verbs[VERBS] = {
    [VERB_PING] = {"PING", "io.nats.micro.v1.ping_response"},
    [VERB_INFO] = {"INFO", "io.nats.micro.v1.info_response"},
    [VERB_STATS] = {"STATS", "io.nats.micro.v1.stats_response"},
};

/* What a subscription's function gets. */
typedef struct {
    CbusGatewayService *service;
    Verb verb;
} Asked;

struct _CbusGatewayService {
    CbusNats *nats;
    const char *nkey, *name;
    gboolean broadcast;
    const CbusGatewayStats *stats;
    char *started; /* as RFC 3339 has it */
    Asked asked[VERBS];
    guint subscriptions[VERBS * SUBJECTS_OF_VERB];
};

static void
append_text(GString *out, const char *key, const char *value)
{
    char last = out->str[out->len - 1];

    if (last != '{')
        g_string_append_c(out, ',');
    g_string_append_printf(out, "\"%s\":", key);
    cbus_json_append_span(out, cbus_span(value));
}

static void
append_number(GString *out, const char *key, guint64 value)
{
    char last = out->str[out->len - 1];

    g_string_append_printf(out, "%s\"%s\":%" G_GUINT64_FORMAT, last != '{' ? "," : "", key, value);
}

static void
append_numbers(GString *out, const CbusGatewayStats *stats)
{
    append_number(out, "num_requests", stats->requests);
    append_number(out, "num_errors", stats->errors);
    append_text(out, "last_error", stats->last_error != NULL ? stats->last_error : "");
    append_number(out, "processing_time", stats->time_ns);
    append_number(out, "average_processing_time", stats->requests > 0 ? stats->time_ns / stats->requests : 0);
    g_string_append(out, ",\"data\":{");
    append_number(out, "in_flight", stats->in_flight);
    append_number(out, "signals", stats->signals);
    append_number(out, "signals_lost", stats->signals_lost);
    g_string_append_c(out, '}');
}

/* The numbers are those of all requests: they stand at the endpoint that is always there. */
static void
append_endpoint(GString *out, const CbusGatewayService *self, const char *name, const char *subject,
                gboolean numbers)
{
    static const CbusGatewayStats none = {0};
    Verb verb = numbers ? VERB_STATS : VERB_INFO;

    g_string_append_c(out, '{');
    append_text(out, "name", name);
    append_text(out, "subject", subject);
    append_text(out, "queue_group", "");
    if (verb == VERB_STATS)
        append_numbers(out, g_str_equal(name, "agent") ? self->stats : &none);
    g_string_append_c(out, '}');
}

static void
append_endpoints(GString *out, const CbusGatewayService *self, gboolean numbers)
{
    CbusKey key;
    g_autofree char *subject = NULL;

    if (!cbus_nkey_decode(self->nkey, -1, &key, NULL))
        return;
    subject = cbus_plain_requests(&key);
    g_string_append(out, ",\"endpoints\":[");
    append_endpoint(out, self, "agent", subject, numbers);
    if (self->broadcast) {
        g_string_append_c(out, ',');
        append_endpoint(out, self, "broadcast", CBUS_PLAIN_BROADCASTS, numbers);
    }
    g_string_append_c(out, ']');
}

static void
on_asked(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    const Asked *asked = user_data;
    const CbusGatewayService *self = asked->service;
    g_autofree char *description = g_strdup_printf("the D-Bus of %s", self->name);
    g_autoptr(GString) out = g_string_new("{");

    if (reply == NULL || !cbus_plain_may_answer(reply))
        return;
    append_text(out, "type", verbs[asked->verb].type);
    append_text(out, "name", CBUS_GATEWAY_SERVICE);
    append_text(out, "id", self->nkey);
    append_text(out, "version", CBUS_VERSION);
    g_string_append(out, ",\"metadata\":{");
    append_text(out, "host", self->name);
    append_text(out, "nkey", self->nkey);
    g_string_append_c(out, '}');
    if (asked->verb == VERB_INFO)
        append_text(out, "description", description);
    if (asked->verb == VERB_STATS)
        append_text(out, "started", self->started);
    if (asked->verb != VERB_PING)
        append_endpoints(out, self, asked->verb == VERB_STATS);
    g_string_append_c(out, '}');
    if (!cbus_nats_publish(self->nats, reply, NULL, (const guint8 *)out->str, out->len))
        cbus_log(G_LOG_LEVEL_DEBUG, "an answer to $SRV could not be sent", NULL);
}

CbusGatewayService *
cbus_gateway_service_new(CbusNats *nats, const char *nkey, const char *name, gboolean broadcast,
                         const CbusGatewayStats *stats)
{
    CbusGatewayService *self = g_new0(CbusGatewayService, 1);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    guint n = 0;

    self->nats = nats;
    self->nkey = nkey;
    self->name = name;
    self->broadcast = broadcast;
    self->stats = stats;
    self->started = g_date_time_format_iso8601(now);
    for (Verb verb = 0; verb < VERBS; verb++) {
        g_autofree char *all = g_strconcat("$SRV.", verbs[verb].name, NULL);
        g_autofree char *kind = g_strconcat(all, "." CBUS_GATEWAY_SERVICE, NULL);
        g_autofree char *one = g_strconcat(kind, ".", nkey, NULL);

        self->asked[verb] = (Asked){self, verb};
        self->subscriptions[n++] = cbus_nats_subscribe(nats, all, on_asked, &self->asked[verb]);
        self->subscriptions[n++] = cbus_nats_subscribe(nats, kind, on_asked, &self->asked[verb]);
        self->subscriptions[n++] = cbus_nats_subscribe(nats, one, on_asked, &self->asked[verb]);
    }
    return self;
}

void
cbus_gateway_service_free(CbusGatewayService *self)
{
    for (guint i = 0; i < G_N_ELEMENTS(self->subscriptions); i++)
        cbus_nats_unsubscribe(self->nats, self->subscriptions[i]);
    g_free(self->started);
    g_free(self);
}
