/* What a filter has to remember.
 *
 * Of each call of the client its serial, so that an answer is known to be one, and of those whose answers
 * tell more than a policy may allow, what they asked for. A serial that waits for an answer can not be used
 * again: two calls with one serial would get each other's answers judged.
 *
 * Match rules are kept to know whether the client asked for NameOwnerChanged: the bus sends it for our own
 * rule in any case. A rule counts from AddMatch on, and no more when the bus refused it. One that equals our
 * own stays here: a bus that removed it would remove ours, and owners would be followed no more. A monitor
 * hears what is meant for others, and is filtered no more; but only once the bus made it one.
 *
 * Calls of others to the client are kept by sender and serial, so that it can not send replies to nothing.
 *
 * Bounds: 4096 of each. Loop thread only. */
#include "agent/filter_calls.h"
#include "agent/census.h"
#include "wire/match_rule.h"

#define CALLS_MAX   4096
#define MATCHES_MAX 4096
#define DRIVER      "org.freedesktop.DBus"

typedef struct {
    char *sender;
    guint32 serial;
} Received;

struct _CbusFilterCalls {
    GHashTable *sent;     /* serial → CbusSentCall, or &plain */
    GHashTable *received; /* Received */
    GPtrArray *matches;   /* CbusMatchRule */
    gboolean listen;
};

/* Stands for every call whose answer passes as it is. */
static CbusSentCall plain;

void
cbus_sent_call_free(CbusSentCall *call)
{
    if (call == &plain)
        return;
    g_free(call->path);
    g_free(call->interface);
    g_free(call->match);
    g_free(call);
}

static guint
received_hash(gconstpointer key)
{
    const Received *received = key;

    return g_str_hash(received->sender) ^ received->serial;
}

static gboolean
received_equal(gconstpointer a, gconstpointer b)
{
    const Received *left = a, *right = b;

    return left->serial == right->serial && g_str_equal(left->sender, right->sender);
}

static void
received_free(gpointer key)
{
    Received *received = key;

    g_free(received->sender);
    g_free(received);
}

CbusFilterCalls *
cbus_filter_calls_new(void)
{
    CbusFilterCalls *self = g_new0(CbusFilterCalls, 1);

    self->sent = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)cbus_sent_call_free);
    self->received = g_hash_table_new_full(received_hash, received_equal, received_free, NULL);
    self->matches = g_ptr_array_new_with_free_func((GDestroyNotify)cbus_match_rule_free);
    return self;
}

void
cbus_filter_calls_free(CbusFilterCalls *self)
{
    g_hash_table_unref(self->sent);
    g_hash_table_unref(self->received);
    g_ptr_array_unref(self->matches);
    g_free(self);
}

static char *
copy(CbusSpan span)
{
    return g_strndup(span.text, span.len);
}

/* A call of the bus's INTERFACE.MEMBER. The same member of another interface is another method. */
static gboolean
is_driver_call(const CbusFacts *facts, const char *interface, const char *member)
{
    return cbus_span_is(facts->member, member) &&
           (facts->interface.text == NULL || cbus_span_is(facts->interface, interface));
}

/* Of a call of the bus itself. */
static CbusSentCall *
of_driver(const CbusFacts *facts, gboolean listens)
{
    CbusSentCall *call;
    gboolean lists = is_driver_call(facts, DRIVER, "ListNames") ||
                     is_driver_call(facts, DRIVER, "ListActivatableNames") ||
                     is_driver_call(facts, DRIVER, "ListQueuedOwners");
    gboolean is_hello = is_driver_call(facts, DRIVER, "Hello");
    gboolean adds = is_driver_call(facts, DRIVER, "AddMatch");

    if (!lists && !is_hello && !adds && !listens)
        return &plain;
    call = g_new0(CbusSentCall, 1);
    call->is_hello = is_hello;
    call->listens = listens;
    call->shape = lists ? CBUS_SHAPE_NAMES : CBUS_SHAPE_NONE;
    call->match = adds ? copy(facts->arguments[0]) : NULL;
    return call;
}

static CbusSentCall *
of_service(const CbusFacts *facts)
{
    CbusSentCall *call;
    gboolean objects = cbus_span_is(facts->interface, DRIVER ".ObjectManager") &&
                       cbus_span_is(facts->member, "GetManagedObjects");
    gboolean properties = cbus_span_is(facts->interface, DRIVER ".Properties") &&
                          cbus_span_is(facts->member, "GetAll") && facts->is_regular;

    if (!objects && !properties)
        return &plain;
    call = g_new0(CbusSentCall, 1);
    call->shape = objects ? CBUS_SHAPE_OBJECTS : CBUS_SHAPE_PROPERTIES;
    if (properties) {
        call->path = copy(facts->path);
        call->interface = copy(facts->arguments[0]);
    }
    return call;
}

static gboolean
remove_match(CbusFilterCalls *self, CbusSpan text)
{
    g_autoptr(CbusMatchRule) rule = cbus_match_rule_parse(text, NULL);

    for (guint i = 0; rule != NULL && i < self->matches->len; i++)
        if (cbus_match_rule_equal(rule, g_ptr_array_index(self->matches, i))) {
            g_ptr_array_remove_index_fast(self->matches, i);
            return TRUE;
        }
    return FALSE;
}

CbusOwnMatch
cbus_filter_calls_own_match(CbusFilterCalls *self, const CbusFacts *facts)
{
    g_autoptr(CbusMatchRule) own = NULL, rule = NULL;
    gboolean adds = is_driver_call(facts, DRIVER, "AddMatch");

    if (!cbus_span_is(facts->destination, DRIVER) ||
        !(adds || is_driver_call(facts, DRIVER, "RemoveMatch")) || facts->arguments[0].text == NULL)
        return CBUS_OWN_MATCH_NONE;
    own = cbus_match_rule_parse(CBUS_SPAN_LITERAL(CBUS_CENSUS_MATCH), NULL);
    rule = cbus_match_rule_parse(facts->arguments[0], NULL);
    if (rule == NULL || !cbus_match_rule_equal(own, rule))
        return CBUS_OWN_MATCH_NONE;
    if (!adds)
        return remove_match(self, facts->arguments[0]) ? CBUS_OWN_MATCH_DONE : CBUS_OWN_MATCH_MISSING;
    if (self->matches->len >= MATCHES_MAX)
        return CBUS_OWN_MATCH_FULL;
    g_ptr_array_add(self->matches, g_steal_pointer(&rule));
    return CBUS_OWN_MATCH_DONE;
}

/* What the call changes here. LISTENS: as in CbusSentCall. Returns NULL, or why it must not be forwarded. */
static const char *
note_driver(CbusFilterCalls *self, const CbusFacts *facts, gboolean *listens)
{
    *listens = is_driver_call(facts, DRIVER ".Monitoring", "BecomeMonitor");
    if (is_driver_call(facts, DRIVER, "RemoveMatch") && facts->arguments[0].text != NULL)
        (void)remove_match(self, facts->arguments[0]);
    if (!is_driver_call(facts, DRIVER, "AddMatch"))
        return NULL;
    g_autoptr(CbusMatchRule) rule = cbus_match_rule_parse(facts->arguments[0], NULL);
    if (self->matches->len >= MATCHES_MAX || rule == NULL)
        return "too many match rules";
    *listens = cbus_match_rule_eavesdrops(rule);
    g_ptr_array_add(self->matches, g_steal_pointer(&rule));
    return NULL;
}

const char *
cbus_filter_calls_sent(CbusFilterCalls *self, const CbusFacts *facts, guint32 serial)
{
    gboolean to_driver = cbus_span_is(facts->destination, DRIVER), listens = FALSE;
    const char *why;

    if (g_hash_table_contains(self->sent, GUINT_TO_POINTER(serial)))
        return "a call with this serial is without answer yet";
    if (g_hash_table_size(self->sent) >= CALLS_MAX)
        return "too many calls are without answer";
    if (to_driver && (why = note_driver(self, facts, &listens)) != NULL)
        return why;
    if ((facts->flags & CBUS_FLAG_NO_REPLY) == 0)
        g_hash_table_insert(self->sent, GUINT_TO_POINTER(serial),
                            to_driver ? of_driver(facts, listens) : of_service(facts));
    return NULL;
}

gboolean
cbus_filter_calls_answered(CbusFilterCalls *self, guint32 serial, gboolean failed, CbusSentCall **out)
{
    gpointer call;

    if (!g_hash_table_steal_extended(self->sent, GUINT_TO_POINTER(serial), NULL, &call))
        return FALSE;
    *out = call != &plain ? call : NULL;
    self->listen |= *out != NULL && (*out)->listens && !failed;
    if (*out != NULL && (*out)->match != NULL && failed)
        (void)remove_match(self, cbus_span((*out)->match));
    return TRUE;
}

gboolean
cbus_filter_calls_listen(const CbusFilterCalls *self)
{
    return self->listen;
}

gboolean
cbus_filter_calls_want_change(const CbusFilterCalls *self, const CbusSpan arguments[3])
{
    const CbusSpan member = CBUS_SPAN_LITERAL("NameOwnerChanged");

    for (guint i = 0; i < self->matches->len; i++)
        if (cbus_match_rule_wants_driver_signal(g_ptr_array_index(self->matches, i), member, arguments))
            return TRUE;
    return FALSE;
}

gboolean
cbus_filter_calls_received(CbusFilterCalls *self, CbusSpan sender, guint32 serial)
{
    Received *received;

    if (g_hash_table_size(self->received) >= CALLS_MAX)
        return FALSE;
    received = g_new(Received, 1);
    *received = (Received){copy(sender), serial};
    g_hash_table_add(self->received, received);
    return TRUE;
}

gboolean
cbus_filter_calls_reply(CbusFilterCalls *self, CbusSpan sender, guint32 serial)
{
    g_autofree char *text = sender.text != NULL ? copy(sender) : NULL;
    const Received key = {text, serial};

    return text != NULL && g_hash_table_remove(self->received, &key);
}
