/* A plain request, step by step:
 *
 * 1. The names that exist and may be activated, as the policy shows them: exactly one must be spelt as the
 *    subject has it, since "_" may have been a dot, a colon or itself.
 * 2. What the object says of itself, unless the request says all that is needed: the interface that has the
 *    member, and the types of a method's arguments. Several interfaces are an error that lists them.
 * 3. The call, its arguments made from JSON by these types; then its answer as JSON.
 *
 * All of it passes the policy. A request has one deadline for all steps; a call that was sent and not
 * answered by then may have been executed, and the error says which it is. Whatever happens, exactly one
 * answer is sent.
 *
 * Trust: the client is anybody on the broker; the object's introspection data is parsed with limits and
 * rebuilt (introspect/node.c) before GDBus sees it. Loop thread only. Each step may end the call: after a
 * step's last line nothing is touched. */
#include "agent/gateway_call.h"
#include "introspect/node.h"
#include "wire/json.h"
#include "wire/member.h"

#define DRIVER      "org.freedesktop.DBus"
#define DRIVER_PATH "/org/freedesktop/DBus"

struct _CbusGatewayCall {
    const CbusGatewayCalls *shared;
    gboolean is_property;
    char *service, *path, *reply; /* as the subject has them; REPLY NULL: none */
    CbusMember member;            /* interface and signature: NULL until known */
    GBytes *arguments;            /* JSON */
    char *destination;            /* a name; NULL until resolved */
    GPtrArray *candidates;        /* char * */
    guint lists;                  /* that are not there yet */
    const char *list_fault;
    guint32 serials[2]; /* of what is under way; 0: none */
    gboolean sent;      /* the call itself */
    GSource *timer;
    gint64 began;
};

static void
finish(CbusGatewayCall *self, const char *why)
{
    self->shared->done(self, why, self->shared->user_data);
}

static void
refuse(CbusGatewayCall *self, CbusGatewayCode code, const char *error_name, const char *message)
{
    g_autofree char *copy = g_strdup(message);

    cbus_gateway_refuse(self->shared->nats, self->shared->nkey, self->reply, code, error_name, message);
    finish(self, copy);
}

void
cbus_gateway_call_cancel(CbusGatewayCall *self, const char *message)
{
    g_autofree char *text = g_strdup_printf(
        "%s: %s", message, self->sent ? "whether the call was executed is not known" : "it was not executed");

    refuse(self, CBUS_GATEWAY_OFFLINE, self->sent ? CBUS_DBUS_ERROR("NoReply") : CBUS_ERROR_OFFLINE, text);
}

static gboolean
timed_out(gpointer user_data)
{
    CbusGatewayCall *self = user_data;
    g_autofree char *text =
        g_strdup_printf("no answer within %u s: %s", self->shared->timeout_ms / 1000,
                        self->sent ? "whether the call was executed is not known" : "it was not executed");

    refuse(self, CBUS_GATEWAY_TIMEOUT, CBUS_DBUS_ERROR("NoReply"), text);
    return G_SOURCE_REMOVE;
}

/* An error reply of the bus or of a service. HINT may be "". */
static void
pass_error(CbusGatewayCall *self, const CbusMessage *reply, const char *hint)
{
    g_autofree char *name = g_strndup(reply->error_name.text, reply->error_name.len);
    CbusCursor cursor = cbus_cursor(reply);
    CbusSpan text = {"", 0};
    g_autofree char *message = NULL;

    if (reply->signature.len > 0 && reply->signature.text[0] == 's')
        (void)!cbus_cursor_string(&cursor, &text);
    message = g_strdup_printf("%.*s%s", (int)MIN(text.len, G_MAXINT32), text.text, hint);
    refuse(self, cbus_gateway_code_of(reply->error_name), name, message);
}

/* The answer to the call itself. */
static void
answered(const CbusMessage *reply, gpointer user_data)
{
    CbusGatewayCall *self = user_data;
    gsize limit = cbus_nats_max_payload(self->shared->nats) - CBUS_GATEWAY_HEADERS_MAX;
    g_autoptr(GString) json = g_string_new(NULL);
    g_autofree char *signature = NULL;
    CbusSpan type = {NULL, 0};
    gboolean good;

    self->serials[0] = 0;
    if (reply == NULL) {
        cbus_gateway_call_cancel(self, "the connection to the bus was lost");
        return;
    }
    if (reply->type == CBUS_MESSAGE_ERROR) {
        pass_error(self, reply, "");
        return;
    }
    /* JSON is never less than a fourth of the bytes. */
    good = reply->body_len / 4 <= limit;
    if (self->is_property && !cbus_span_is(reply->signature, "v")) {
        refuse(self, CBUS_GATEWAY_FAILED, CBUS_DBUS_ERROR("InconsistentMessage"),
               "the property's value is no variant");
        return;
    }
    if (self->is_property)
        good =
            good && cbus_json_append_variant(json, reply->body, reply->body_len, reply->endian, &type, limit);
    else
        good = good && cbus_json_append_body(json, reply->body, reply->body_len, reply->endian,
                                             (type = reply->signature), limit);
    signature = g_strndup(type.text != NULL ? type.text : "", type.len);
    if (!good)
        refuse(self, CBUS_GATEWAY_TOO_LARGE, CBUS_DBUS_ERROR("LimitsExceeded"),
               "the answer is larger than a NATS message may be; the call was executed");
    else if (!cbus_gateway_answer(self->shared->nats, self->shared->nkey, self->reply, signature, json))
        refuse(self, CBUS_GATEWAY_TOO_MANY, CBUS_DBUS_ERROR("LimitsExceeded"),
               "too many answers wait for the NATS server; the call was executed");
    else
        finish(self, NULL);
}

static void
send_call(CbusGatewayCall *self, const char *interface, const char *member, const char *signature,
          const GByteArray *body)
{
    const CbusHeader header = {.destination = cbus_span(self->destination),
                               .path = cbus_span(self->path),
                               .interface = cbus_span(interface),
                               .member = cbus_span(member),
                               .signature = {signature, strlen(signature)}};

    self->sent = TRUE;
    if (self->reply != NULL) {
        cbus_gateway_bus_call(self->shared->bus, &header, body, FALSE, &self->serials[0], answered, self);
    } else {
        cbus_gateway_bus_call(self->shared->bus, &header, body, FALSE, &self->serials[0], NULL, NULL);
        finish(self, NULL);
    }
}

static void
append_string(GByteArray *body, const char *text)
{
    static const guint8 zeros[4];
    guint32 len = (guint32)strlen(text);

    g_byte_array_append(body, zeros, -body->len & 3);
    g_byte_array_append(body, (const guint8 *)&len, sizeof len);
    g_byte_array_append(body, (const guint8 *)text, len + 1);
}

/* Everything is known. */
static void
invoke(CbusGatewayCall *self)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    const char *signature = self->member.signature != NULL ? self->member.signature : "";
    const char *json;
    gsize len;

    if (self->is_property) {
        append_string(body, self->member.interface);
        append_string(body, self->member.name);
        send_call(self, DRIVER ".Properties", "Get", "ss", body);
        return;
    }
    json = g_bytes_get_data(self->arguments, &len);
    if (!cbus_json_read_body(body, json != NULL ? json : "", len, cbus_span(signature), &error))
        refuse(self, CBUS_GATEWAY_BAD_REQUEST, CBUS_DBUS_ERROR("InvalidArgs"), error->message);
    else
        send_call(self, self->member.interface, self->member.name, signature, body);
}

static gboolean
match(CbusGatewayCall *self, CbusSpan xml, GError **error)
{
    CbusMemberKind kind = self->is_property ? CBUS_MEMBER_PROPERTY : CBUS_MEMBER_METHOD;
    g_autofree char *given = g_steal_pointer(&self->member.signature); /* beats what the object says */
    g_autoptr(CbusNode) node = cbus_node_parse(xml.text, xml.len, error);
    g_autofree char *rebuilt = NULL;

    if (node == NULL)
        return FALSE;
    rebuilt = cbus_node_document(node, NULL, NULL);
    if (!cbus_member_match(rebuilt, kind, &self->member, error)) {
        g_prefix_error(error, "%s of %s: ", self->path, self->destination);
        return FALSE;
    }
    if (given != NULL) {
        g_free(self->member.signature);
        self->member.signature = g_steal_pointer(&given);
    }
    return TRUE;
}

static void
refuse_unknown(CbusGatewayCall *self, const char *message, const char *hint)
{
    g_autofree char *text = g_strconcat(message, hint, NULL);

    refuse(self, CBUS_GATEWAY_UNKNOWN,
           self->is_property ? CBUS_DBUS_ERROR("UnknownProperty") : CBUS_DBUS_ERROR("UnknownMethod"), text);
}

static void
introspected(const CbusMessage *reply, gpointer user_data)
{
    CbusGatewayCall *self = user_data;
    g_autoptr(GError) error = NULL;
    CbusSpan xml = {"", 0};
    CbusCursor cursor;

    self->serials[0] = 0;
    if (reply == NULL) {
        cbus_gateway_call_cancel(self, "the connection to the bus was lost");
        return;
    }
    if (reply->type == CBUS_MESSAGE_ERROR) {
        pass_error(self, reply,
                   " (the object was asked for its members: with the headers Interface and, for arguments, "
                   "Signature it need not be)");
        return;
    }
    cursor = cbus_cursor(reply);
    if (!cbus_span_is(reply->signature, "s") || !cbus_cursor_string(&cursor, &xml))
        xml = (CbusSpan){"", 0};
    if (match(self, xml, &error))
        invoke(self);
    else if (g_error_matches(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_AMBIGUOUS))
        refuse(self, CBUS_GATEWAY_AMBIGUOUS, CBUS_DBUS_ERROR("InvalidArgs"), error->message);
    else if (g_error_matches(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_NONE) &&
             self->member.interface == NULL)
        refuse_unknown(self, error->message, " by the header Interface");
    else
        refuse_unknown(self, error->message, "");
}

static gboolean
has_arguments(const CbusGatewayCall *self)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    gsize len;
    const char *json = g_bytes_get_data(self->arguments, &len);

    return !cbus_json_read_body(body, json != NULL ? json : "", len, CBUS_SPAN_LITERAL(""), NULL);
}

static void
look_up_member(CbusGatewayCall *self)
{
    const CbusHeader header = {.destination = cbus_span(self->destination),
                               .path = cbus_span(self->path),
                               .interface = CBUS_SPAN_LITERAL(DRIVER ".Introspectable"),
                               .member = CBUS_SPAN_LITERAL("Introspect")};

    if (self->member.interface != NULL &&
        (self->is_property || self->member.signature != NULL || !has_arguments(self)))
        invoke(self);
    else
        cbus_gateway_bus_call(self->shared->bus, &header, NULL, FALSE, &self->serials[0], introspected, self);
}

/* Both lists are there. */
static void
resolve(CbusGatewayCall *self)
{
    g_autofree char *text = NULL;

    if (self->list_fault != NULL) {
        cbus_gateway_call_cancel(self, self->list_fault);
    } else if (self->candidates->len == 1) {
        self->destination = g_strdup(self->candidates->pdata[0]);
        look_up_member(self);
    } else if (self->candidates->len == 0) {
        text = g_strdup_printf("no name is spelt %s in a subject ('.' and ':' as '_')", self->service);
        refuse(self, CBUS_GATEWAY_UNKNOWN, CBUS_DBUS_ERROR("ServiceUnknown"), text);
    } else {
        g_ptr_array_add(self->candidates, NULL);
        g_autofree char *names = g_strjoinv(", ", (char **)self->candidates->pdata);
        text =
            g_strdup_printf("%s may be any of %s: a subject can not tell them apart", self->service, names);
        refuse(self, CBUS_GATEWAY_AMBIGUOUS, CBUS_DBUS_ERROR("InvalidArgs"), text);
    }
}

static void
add_candidate(CbusGatewayCall *self, CbusSpan name)
{
    for (guint i = 0; i < self->candidates->len; i++)
        if (cbus_span_is(name, self->candidates->pdata[i]))
            return;
    g_ptr_array_add(self->candidates, g_strndup(name.text, name.len));
}

static void
take_list(CbusGatewayCall *self, const CbusMessage *reply)
{
    CbusSpan name;
    gsize end;

    self->lists--;
    if (reply == NULL || reply->type != CBUS_MESSAGE_RETURN || !cbus_span_is(reply->signature, "as")) {
        self->list_fault = "the bus does not tell which names there are";
    } else {
        CbusCursor cursor = cbus_cursor(reply);
        if (cbus_cursor_array(&cursor, 4, &end))
            while (cursor.at < end && cbus_cursor_string(&cursor, &name))
                if (cbus_plain_is_spelling(cbus_span(self->service), name))
                    add_candidate(self, name);
    }
    if (self->lists == 0)
        resolve(self);
}

static void
names_came(const CbusMessage *reply, gpointer user_data)
{
    ((CbusGatewayCall *)user_data)->serials[0] = 0;
    take_list(user_data, reply);
}

static void
activatable_came(const CbusMessage *reply, gpointer user_data)
{
    ((CbusGatewayCall *)user_data)->serials[1] = 0;
    take_list(user_data, reply);
}

static void
ask_lists(CbusGatewayCall *self)
{
    CbusHeader header = {.destination = CBUS_SPAN_LITERAL(DRIVER),
                         .path = CBUS_SPAN_LITERAL(DRIVER_PATH),
                         .interface = CBUS_SPAN_LITERAL(DRIVER),
                         .member = CBUS_SPAN_LITERAL("ListNames")};

    self->lists = 2;
    cbus_gateway_bus_call(self->shared->bus, &header, NULL, TRUE, &self->serials[0], names_came, self);
    header.member = CBUS_SPAN_LITERAL("ListActivatableNames");
    cbus_gateway_bus_call(self->shared->bus, &header, NULL, TRUE, &self->serials[1], activatable_came, self);
}

/* NULL, or what is wrong with the request itself. */
static const char *
fault_of(const CbusGatewayCall *self)
{
    CbusSpan signature = cbus_span(self->member.signature);

    if (self->member.interface != NULL && !cbus_is_interface(cbus_span(self->member.interface)))
        return "the header Interface is no name of an interface";
    if (signature.text != NULL &&
        (!cbus_signature_is_valid(signature) || cbus_signature_has_descriptor(signature)))
        return "the header Signature is no signature, or has a descriptor in it";
    if (self->is_property && has_arguments(self))
        return "reading a property takes no arguments; to set one, call Set of " DRIVER ".Properties";
    return NULL;
}

void
cbus_gateway_call_start(CbusGatewayCall *self)
{
    const char *fault = fault_of(self);

    if (fault != NULL) {
        refuse(self, CBUS_GATEWAY_BAD_REQUEST, CBUS_DBUS_ERROR("InvalidArgs"), fault);
        return;
    }
    if (!cbus_gateway_bus_is_ready(self->shared->bus)) {
        cbus_gateway_call_cancel(self, "the machine's bus is not connected now");
        return;
    }
    self->timer = g_timeout_source_new(self->shared->timeout_ms);
    g_source_set_callback(self->timer, timed_out, self, NULL);
    g_source_attach(self->timer, self->shared->loop->context);
    ask_lists(self);
}

CbusGatewayCall *
cbus_gateway_call_new(const CbusGatewayCalls *shared, const CbusGatewayRequest *request)
{
    CbusGatewayCall *self = g_new0(CbusGatewayCall, 1);
    const CbusPlainRequest *subject = request->subject;

    self->shared = shared;
    self->is_property = subject->is_property;
    self->service = g_strndup(subject->service.text, subject->service.len);
    self->path = g_strdup(subject->path);
    self->reply = g_strdup(request->reply);
    self->member.name = g_strndup(subject->member.text, subject->member.len);
    self->member.interface = g_strdup(request->interface);
    self->member.signature = g_strdup(request->signature);
    self->arguments = g_bytes_new(request->data, request->len);
    self->candidates = g_ptr_array_new_with_free_func(g_free);
    self->began = g_get_monotonic_time();
    return self;
}

gint64
cbus_gateway_call_began(const CbusGatewayCall *self)
{
    return self->began;
}

void
cbus_gateway_call_free(CbusGatewayCall *self)
{
    for (guint i = 0; i < G_N_ELEMENTS(self->serials); i++)
        if (self->serials[i] != 0)
            cbus_gateway_bus_forget(self->shared->bus, self->serials[i]);
    if (self->timer != NULL)
        g_source_destroy(self->timer);
    g_clear_pointer(&self->timer, g_source_unref);
    g_free(self->service);
    g_free(self->path);
    g_free(self->reply);
    g_free(self->destination);
    cbus_member_clear(&self->member);
    g_bytes_unref(self->arguments);
    g_ptr_array_unref(self->candidates);
    g_free(self);
}
