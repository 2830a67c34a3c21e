/* The filter of one channel: what wire/policy_decide.c says, done to messages.
 *
 * It needs to know who owns which names. So behind the client's Hello it sends calls of its own on the same
 * connection: AddMatch for NameOwnerChanged, ListNames, then GetNameOwner for each name. Until the last
 * answer is there the client's messages wait. From then on the signals keep the map current, in the order in
 * which the bus routes. The signals that only we asked for do not reach the client: its own match rules are
 * kept, parsed, to know.
 *
 * A call that is denied is answered AccessDenied, with the policy and the rule that would have allowed it;
 * one to a name that may not be seen exactly as by a bus on which nobody has that name. Each call that passes
 * is remembered by its serial until its answer comes, since some answers have to be filtered. A serial that
 * waits already is refused, and an answer to no remembered call is dropped: else two calls with one serial
 * would get the answer to one of them past the filter.
 *
 * Between our judgement and the bus's routing a name may change its owner; the message then goes to the new
 * one, which a rule by that name covers as well. Who must be sure says interface and path.
 *
 * Trust: neither client nor peers; the bus's own signals are believed. Queues are bounded: 4096 calls each
 * way, 256 KiB of messages that wait, 4096 match rules. Loop thread only. The handler's functions may free
 * the filter: when one returns FALSE nothing is touched any more. */
#include "agent/filter.h"
#include "agent/census.h"
#include "agent/filter_answer.h"
#include "agent/filter_calls.h"
#include "agent/names.h"
#include "wire/body.h"
#include "wire/key.h"
#include "wire/policy_body.h"

#define DRIVER      "org.freedesktop.DBus"
#define WAITING_MAX (256 * 1024)
#define REFUSAL     G_MAXUINT32 /* serial of messages in the name of others */

typedef enum {
    STATE_NEW,      /* before Hello */
    STATE_LEARNING, /* until each name's owner is known */
    STATE_READY,    /* judging */
} State;

struct _CbusFilter {
    CbusPolicy *policy;
    const char *machine;
    CbusFilterHandler handler;
    gpointer user_data;
    State state;
    char *self; /* unique name; NULL until Hello's answer */
    CbusNames *names;
    CbusCensus *census; /* until it is done */
    GQueue waiting;     /* GBytes: messages of the client */
    gsize waiting_bytes;
    CbusFilterCalls *calls;
    GByteArray *out, *body;
};

static const char *const *
names_of(CbusSpan name, gpointer user_data)
{
    return cbus_names_of(((CbusFilter *)user_data)->names, name);
}

static CbusJudge
judge_of(const CbusFilter *self)
{
    return (CbusJudge){self->policy, names_of, (gpointer)self, cbus_span(self->self)};
}

static gboolean
is_visible(const CbusFilter *self, CbusSpan name)
{
    CbusJudge judge = judge_of(self);

    return cbus_judge_visible(&judge, name) || cbus_names_has_met(self->names, name);
}

static gboolean
from_driver(const CbusMessage *message)
{
    return cbus_span_is(message->sender, DRIVER);
}

static void
fail(CbusFilter *self, const char *error_name, const char *message)
{
    self->handler.failed(error_name, message, self->user_data);
}

/* Sends the answer to the client's CALL that was written; WANTED: there is one. */
static gboolean
deliver_answer(CbusFilter *self, gboolean wanted)
{
    return !wanted || self->handler.deliver(self->out->data, self->out->len, self->user_data);
}

static gboolean
answer_error(CbusFilter *self, const CbusMessage *call, const char *name, const char *text)
{
    return deliver_answer(self, cbus_filter_answer_error(self->out, self->self, call, name, text));
}

/* Does not forward MESSAGE. REASON is recorded; HINT (may be NULL), with arguments, is the caller's alone. */
static gboolean
refuse(CbusFilter *self, const CbusMessage *message, const char *error_name, const char *reason,
       const char *hint)
{
    g_autofree char *text = g_strconcat("Machine ", self->machine, ": ", reason,
                                        hint != NULL ? "; what would: " : NULL, hint, NULL);

    self->handler.denied(message, reason, self->user_data);
    return answer_error(self, message, error_name, text);
}

static gboolean
deny(CbusFilter *self, const CbusMessage *message, const CbusFacts *facts, const CbusDecision *decision)
{
    const char *policy = cbus_policy_name(self->policy);
    const CbusRule *rule = decision->rule;
    g_autofree char *reason = NULL, *hint = NULL;

    if (rule != NULL) {
        reason =
            g_strdup_printf("policy %s denies it: %s:%u: %s", policy, rule->file, rule->line, rule->text);
    } else {
        hint = cbus_judge_hint(facts);
        reason = g_strdup_printf("policy %s does not allow it", policy);
    }
    return refuse(self, message, CBUS_DBUS_ERROR("AccessDenied"), reason, hint);
}

/* Answers as a bus on which nobody has the name. */
static gboolean
hide(CbusFilter *self, const CbusMessage *message, const CbusFacts *facts)
{
    self->handler.denied(message, "the name may not be seen", self->user_data);
    return deliver_answer(self, cbus_filter_answer_hidden(self->out, self->self, message, facts));
}

/* The rule by which we follow owners stands on the bus once. What the client says of its like is kept here,
 * since it would take away ours. */
static gboolean
take_own_match(CbusFilter *self, const CbusMessage *message, CbusOwnMatch what)
{
    switch (what) {
        case CBUS_OWN_MATCH_FULL:
            return refuse(self, message, CBUS_DBUS_ERROR("LimitsExceeded"), "too many match rules", NULL);
        case CBUS_OWN_MATCH_MISSING:
            return answer_error(self, message, CBUS_DBUS_ERROR("MatchRuleNotFound"),
                                "The given match rule wasn't found and can't be removed");
        default:
            return deliver_answer(self, cbus_filter_answer_done(self->out, self->self, message));
    }
}

/* The client's MESSAGE may pass. FALSE when the channel ended. */
static gboolean
pass(CbusFilter *self, const CbusMessage *message, const CbusFacts *facts, const guint8 *data)
{
    CbusOwnMatch own = CBUS_OWN_MATCH_NONE;
    const char *why = NULL;
    CbusFilterSent sent;

    if (message->type == CBUS_MESSAGE_CALL)
        own = cbus_filter_calls_own_match(self->calls, facts);
    if (own != CBUS_OWN_MATCH_NONE)
        return take_own_match(self, message, own);
    if (message->type == CBUS_MESSAGE_CALL)
        why = cbus_filter_calls_sent(self->calls, facts, message->serial);
    if (why != NULL)
        return refuse(self, message, CBUS_DBUS_ERROR("LimitsExceeded"), why, NULL);
    sent = self->handler.forward(message, data, self->user_data);
    if (sent == CBUS_FILTER_REFUSED && message->type == CBUS_MESSAGE_CALL) {
        g_autoptr(CbusSentCall) call = NULL;
        (void)!cbus_filter_calls_answered(self->calls, message->serial, TRUE, &call);
    }
    return sent != CBUS_FILTER_ENDED;
}

/* FALSE when the channel ended. */
static gboolean
judge_client(CbusFilter *self, const CbusMessage *message, const guint8 *data)
{
    CbusJudge judge = judge_of(self);
    CbusDecision decision;
    CbusFacts facts;

    cbus_facts_of(message, &facts);
    if (message->type == CBUS_MESSAGE_RETURN || message->type == CBUS_MESSAGE_ERROR)
        facts.requested = cbus_filter_calls_reply(self->calls, message->destination, message->reply_serial);
    decision = cbus_judge(&judge, &facts);
    /* A stranger that called is there. */
    if (decision.verdict == CBUS_VERDICT_HIDE && cbus_names_has_met(self->names, cbus_facts_name(&facts)))
        decision =
            (CbusDecision){cbus_facts_are_lookup(&facts) ? CBUS_VERDICT_ALLOW : CBUS_VERDICT_DENY, NULL};
    switch (decision.verdict) {
        case CBUS_VERDICT_DENY:
            return deny(self, message, &facts, &decision);
        case CBUS_VERDICT_HIDE:
            return hide(self, message, &facts);
        default:
            return pass(self, message, &facts, data);
    }
}

/* The first message has to be Hello; behind it we learn who owns what. */
static gboolean
greet(CbusFilter *self, const CbusMessage *message, const guint8 *data)
{
    if (message->type != CBUS_MESSAGE_CALL || !cbus_span_is(message->destination, DRIVER) ||
        !cbus_span_is(message->member, "Hello")) {
        fail(self, CBUS_DBUS_ERROR("AccessDenied"), "the first message has to be Hello");
        return FALSE;
    }
    self->state = STATE_LEARNING;
    if (!judge_client(self, message, data))
        return FALSE;
    self->census = cbus_census_new(self->names, self->handler.ask, self->user_data);
    cbus_census_start(self->census);
    return TRUE;
}

gboolean
cbus_filter_from_client(CbusFilter *self, const CbusMessage *message, const guint8 *data)
{
    if (self->state == STATE_READY)
        return judge_client(self, message, data);
    if (self->state == STATE_NEW)
        return greet(self, message, data);
    if (self->waiting_bytes > WAITING_MAX) {
        fail(self, CBUS_DBUS_ERROR("LimitsExceeded"),
             "too many messages were sent before the bus answered Hello");
        return FALSE;
    }
    g_queue_push_tail(&self->waiting, g_bytes_new(data, message->size));
    self->waiting_bytes += message->size;
    return TRUE;
}

/* Every owner is known: what waited is judged now. */
static void
become_ready(CbusFilter *self)
{
    g_autoptr(GPtrArray) waiting = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    GBytes *next;

    while ((next = g_queue_pop_head(&self->waiting)) != NULL)
        g_ptr_array_add(waiting, next);
    self->waiting_bytes = 0;
    self->state = STATE_READY;
    for (guint i = 0; i < waiting->len; i++) {
        gsize size;
        const guint8 *data = g_bytes_get_data(g_ptr_array_index(waiting, i), &size);
        CbusMessage message;
        if (cbus_message_view(&message, data, size, NULL) && !judge_client(self, &message, data))
            return;
    }
    self->handler.ready(self->user_data);
}

static void
census_goes(CbusFilter *self, CbusCensusState state)
{
    if (state == CBUS_CENSUS_FAILED) {
        fail(self, CBUS_DBUS_ERROR("Failed"),
             "the bus does not tell who owns its names, or has too many of them");
    } else if (state == CBUS_CENSUS_DONE) {
        g_clear_pointer(&self->census, cbus_census_free);
        become_ready(self);
    }
}

/* Delivers MESSAGE without what READER may not see; FALSE when nothing is left or the shape is another. */
static gboolean
deliver_filtered(CbusFilter *self, const CbusReader *reader, const CbusMessage *message, CbusShape shape,
                 const guint8 *data)
{
    const CbusHeader header = {message->endian,     message->type,         message->flags,
                               message->serial,     message->reply_serial, {NULL, 0},
                               message->path,       message->interface,    message->member,
                               message->error_name, message->destination,  message->sender,
                               message->signature};

    g_byte_array_set_size(self->body, 0);
    if (!cbus_policy_body(reader, message, shape, self->body))
        return FALSE;
    if (self->body->len == message->body_len) {
        (void)self->handler.deliver(data, message->size, self->user_data);
        return TRUE;
    }
    g_byte_array_set_size(self->out, 0);
    (void)cbus_header_append(self->out, &header, self->body->len);
    g_byte_array_append(self->out, self->body->data, self->body->len);
    (void)self->handler.deliver(self->out->data, self->out->len, self->user_data);
    return TRUE;
}

static void
take_reply(CbusFilter *self, const CbusMessage *message, const guint8 *data)
{
    CbusJudge judge = judge_of(self);
    gboolean failed = message->type == CBUS_MESSAGE_ERROR;
    g_autoptr(CbusSentCall) call = NULL;
    CbusCursor cursor = cbus_cursor(message);
    CbusSpan unique;

    if (!cbus_filter_calls_answered(self->calls, message->reply_serial, failed, &call))
        return;
    if (call != NULL && call->is_hello && !failed && cbus_cursor_string(&cursor, &unique) &&
        self->self == NULL)
        self->self = g_strndup(unique.text, unique.len);
    if (call == NULL || call->shape == CBUS_SHAPE_NONE || failed) {
        (void)self->handler.deliver(data, message->size, self->user_data);
        return;
    }
    const CbusReader reader = {&judge, message->sender, cbus_span(call->path), cbus_span(call->interface)};
    const CbusMessage asked = {.type = CBUS_MESSAGE_CALL, .serial = message->reply_serial};
    if (!deliver_filtered(self, &reader, message, call->shape, data))
        (void)answer_error(self, &asked, CBUS_DBUS_ERROR("AccessDenied"),
                           "the answer is not of the type that this machine's policy can look into");
}

/* NameOwnerChanged: keeps the map; passes when the client asked for it and may see the name, before or after.
 */
static void
take_change(CbusFilter *self, const CbusMessage *message, const guint8 *data)
{
    CbusCursor cursor = cbus_cursor(message);
    CbusSpan arguments[3];
    gboolean visible, kept = TRUE;

    if (!cbus_span_is(message->signature, "sss"))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(arguments); i++)
        if (!cbus_cursor_string(&cursor, &arguments[i]))
            return;
    visible = is_visible(self, arguments[0]);
    if (arguments[0].len == 0 || arguments[0].text[0] != ':')
        kept = cbus_names_set_owner(self->names, arguments[0], arguments[2]);
    else if (arguments[2].len == 0)
        cbus_names_forget(self->names, arguments[0]);
    if (!kept)
        fail(self, CBUS_DBUS_ERROR("LimitsExceeded"), "the bus has more names than a policy can watch");
    else if ((visible || is_visible(self, arguments[0])) &&
             cbus_filter_calls_want_change(self->calls, arguments))
        (void)self->handler.deliver(data, message->size, self->user_data);
}

static void
take_signal(CbusFilter *self, const CbusMessage *message, const guint8 *data)
{
    CbusJudge judge = judge_of(self);
    CbusShape shape = cbus_signal_shape(message);
    const CbusReader reader = {&judge, message->sender, {NULL, 0}, {NULL, 0}};
    CbusFacts facts;

    cbus_facts_of(message, &facts);
    facts.from_bus = TRUE;
    if (cbus_judge(&judge, &facts).verdict != CBUS_VERDICT_ALLOW)
        return;
    if (shape == CBUS_SHAPE_NONE || from_driver(message))
        (void)self->handler.deliver(data, message->size, self->user_data);
    else
        (void)deliver_filtered(self, &reader, message, shape, data);
}

/* A call of somebody on the bus to the client. */
static void
take_call(CbusFilter *self, const CbusMessage *message, const guint8 *data)
{
    CbusJudge judge = judge_of(self);
    gboolean wants_reply = (message->flags & CBUS_FLAG_NO_REPLY) == 0;
    CbusFacts facts;

    cbus_facts_of(message, &facts);
    facts.from_bus = TRUE;
    if (cbus_judge(&judge, &facts).verdict == CBUS_VERDICT_ALLOW &&
        (!wants_reply || cbus_filter_calls_received(self->calls, message->sender, message->serial))) {
        cbus_names_meet(self->names, message->sender);
        (void)self->handler.deliver(data, message->size, self->user_data);
    } else if (wants_reply) {
        g_byte_array_set_size(self->out, 0);
        cbus_message_append_error(self->out, REFUSAL, message, CBUS_DBUS_ERROR("AccessDenied"),
                                  "this client may not be called");
        self->handler.ask(self->out->data, self->out->len, self->user_data);
    }
}

void
cbus_filter_from_bus(CbusFilter *self, const CbusMessage *message, const guint8 *data)
{
    gboolean is_reply = message->type == CBUS_MESSAGE_RETURN || message->type == CBUS_MESSAGE_ERROR;

    if (is_reply && message->reply_serial >= CBUS_FILTER_SERIAL) {
        if (self->census != NULL)
            census_goes(self, cbus_census_take(self->census, message));
    } else if (message->type == CBUS_MESSAGE_SIGNAL && from_driver(message) &&
               cbus_span_is(message->member, "NameOwnerChanged")) {
        take_change(self, message, data);
    } else if (cbus_filter_calls_listen(self->calls)) {
        (void)self->handler.deliver(data, message->size, self->user_data);
    } else if (is_reply) {
        take_reply(self, message, data);
    } else if (message->type == CBUS_MESSAGE_SIGNAL) {
        take_signal(self, message, data);
    } else {
        take_call(self, message, data);
    }
}

gboolean
cbus_filter_shows(const CbusFilter *self, const char *name, const char *path)
{
    const CbusFacts look = {.type = CBUS_MESSAGE_CALL,
                            .flags = CBUS_FLAG_NO_AUTO_START,
                            .destination = cbus_span(name),
                            .path = cbus_span(path),
                            .interface = CBUS_SPAN_LITERAL(DRIVER ".Introspectable"),
                            .member = CBUS_SPAN_LITERAL("Introspect")};
    CbusJudge judge = judge_of(self);

    return cbus_judge(&judge, &look).verdict == CBUS_VERDICT_ALLOW;
}

gboolean
cbus_filter_is_ready(const CbusFilter *self)
{
    return self->state == STATE_READY;
}

CbusFilter *
cbus_filter_new(const CbusPolicy *policy, const char *machine, const CbusFilterHandler *handler,
                gpointer user_data)
{
    CbusFilter *self = g_new0(CbusFilter, 1);

    self->policy = cbus_policy_ref(policy);
    self->machine = machine;
    self->handler = *handler;
    self->user_data = user_data;
    self->names = cbus_names_new();
    self->calls = cbus_filter_calls_new();
    self->out = g_byte_array_new();
    self->body = g_byte_array_new();
    g_queue_init(&self->waiting);
    return self;
}

void
cbus_filter_free(CbusFilter *self)
{
    cbus_policy_unref(self->policy);
    g_free(self->self);
    cbus_names_free(self->names);
    cbus_filter_calls_free(self->calls);
    g_clear_pointer(&self->census, cbus_census_free);
    g_byte_array_unref(self->out);
    g_byte_array_unref(self->body);
    g_queue_clear_full(&self->waiting, (GDestroyNotify)g_bytes_unref);
    g_free(self);
}

void
cbus_filter_set_policy(CbusFilter *self, const CbusPolicy *policy)
{
    CbusPolicy *old = self->policy;

    self->policy = cbus_policy_ref(policy);
    cbus_policy_unref(old);
}
