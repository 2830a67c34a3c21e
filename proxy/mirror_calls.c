/* Method calls through the mirror, and what comes back.
 *
 * A call leaves with its flags, its endianness and its body as they are, but for the object paths in it; the
 * sender is left out, the serial is ours. A reply or error comes back verbatim, again but for its paths, with
 * the prefix of the service that was *called*: that is where its caller looked. No deadline is added: jobs
 * take minutes, and the caller has one of its own.
 *
 * What is kept of a call that wants a reply is one CbusPending under (channel, serial), freed when the reply
 * comes or the channel ends. A caller that vanished is marked in its CbusCaller; the late reply is dropped. A
 * call with NO_REPLY_EXPECTED leaves no state at all.
 *
 * Trusts nobody with a body: it is walked in both directions, once, either by the translation or by the check
 * (a bus may pass on what a client sent unchecked, and one bad message ends a connection that many share).
 * A local body that is bad is its caller's InvalidArgs; a remote one ends the channel it came over.
 *
 * Messages are built where they will be sent from: replies in the front's outgoing buffer, calls in one
 * scratch buffer per mirror. The hot path allocates the pending entry, nothing else. Loop thread only.
 */
#include "proxy/mirror_private.h"

#define SCRATCH_KEPT (64 * 1024)

CbusCaller *
cbus_mirror_caller(CbusMirror *self, CbusSpan name)
{
    CbusCaller *caller = g_hash_table_lookup(self->callers, name.text);

    if (caller == NULL) {
        caller = g_malloc0(sizeof *caller + name.len + 1);
        memcpy(caller->name, name.text, name.len);
        caller->refs = 1;
        g_hash_table_insert(self->callers, caller->name, caller);
    }
    caller->refs++;
    return caller;
}

void
cbus_caller_unref(CbusCaller *caller)
{
    if (--caller->refs == 0)
        g_free(caller);
}

void
cbus_pending_free(CbusPending *pending)
{
    if (pending->service != NULL)
        cbus_service_unref(pending->service);
    if (pending->asked == CBUS_ASKED_CALL)
        cbus_caller_unref(pending->caller);
    else if (pending->asked == CBUS_ASKED_OBJECT)
        cbus_waiting_free(pending->waiting);
    g_slice_free(CbusPending, pending);
}

void
cbus_mirror_answer_error(CbusMirror *self, CbusCaller *caller, guint32 serial, const char *name,
                         const char *message)
{
    const CbusMessage call = {
        .endian = 'l', .type = CBUS_MESSAGE_CALL, .serial = serial, .sender = cbus_span(caller->name)};

    if (caller->gone)
        return;
    if (caller->answer != NULL)
        cbus_mirror_ask_answer_error(self, caller, name, message);
    else
        cbus_front_reply_error(self->front, &call, name, "%s", message);
}

gboolean
cbus_mirror_has_descriptors(const CbusMessage *message)
{
    return message->unix_fds != 0 || cbus_signature_has_descriptor(message->signature);
}

gboolean
cbus_mirror_append(GByteArray *out, const CbusHeader *header, const CbusMessage *message,
                   const CbusTranslation *translation, GError **error)
{
    gboolean translate = cbus_signature_may_hold_path(message->signature);
    gsize start, body_offset;

    if (!translate &&
        !cbus_body_check(message->body, message->body_len, message->endian, message->signature, error))
        return FALSE;
    start = cbus_header_append(out, header, translate ? 0 : message->body_len);
    body_offset = out->len;
    if (!translate) {
        g_byte_array_append(out, message->body, message->body_len);
    } else if (!cbus_translate_body(out, message->body, message->body_len, message->endian,
                                    message->signature, translation, CBUS_MESSAGE_MAX, error)) {
        g_byte_array_set_size(out, start);
        return FALSE;
    }
    if (!cbus_header_close(out, start, body_offset)) {
        g_set_error_literal(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT,
                            "with its paths translated the message is over 128 MiB");
        return FALSE;
    }
    return TRUE;
}

gboolean
cbus_mirror_put(CbusMirror *self, const CbusHeader *header, const CbusMessage *message,
                const CbusTranslation *translation, GError **error)
{
    gsize max = cbus_front_message_max(self->front);
    GByteArray *out = cbus_front_begin(self->front);
    guint start = out->len;
    gboolean done = cbus_mirror_append(out, header, message, translation, error);

    if (done && out->len - start > max) {
        g_byte_array_set_size(out, start);
        g_set_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT,
                    "it is larger than the %" G_GSIZE_FORMAT " MiB that the bus here takes", max >> 20);
        done = FALSE;
    }
    cbus_front_end(self->front);
    return done;
}

/* Why a local call can not be sent, told to its caller. */
static void
refuse_call(CbusMirror *self, const CbusMessage *call, const GError *error)
{
    const char *name = CBUS_DBUS_ERROR("InvalidArgs");

    if (g_error_matches(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS))
        name = CBUS_DBUS_ERROR("NotSupported");
    else if (g_error_matches(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT))
        name = CBUS_DBUS_ERROR("LimitsExceeded");
    cbus_mirror_reply_error(self, call, name, "%s: %s; the call was not executed", self->label,
                            error->message);
}

static gboolean
queue_full(const CbusMirror *self, const char **cause)
{
    guint64 calls = 0, bytes = 0;

    for (guint i = 0; i < self->channels->len; i++) {
        const CbusChannel *channel = g_ptr_array_index(self->channels, i);

        calls += cbus_link_accepted(self->link, channel->id) - cbus_link_departed(self->link, channel->id);
        bytes += cbus_link_queued(self->link, channel->id);
    }
    if (calls < CBUS_MIRROR_QUEUE_CALLS && bytes < CBUS_MIRROR_QUEUE_BYTES)
        return FALSE;
    *cause = "too much waits to be sent to this machine (4096 calls or 16 MiB)";
    return TRUE;
}

static gboolean
build_call(CbusMirror *self, const CbusChannel *channel, const CbusService *service, CbusSpan path,
           const CbusMessage *call, GError **error)
{
    const CbusTranslation translation = {.direction = CBUS_TO_REMOTE, .machine = cbus_span(self->path)};
    const CbusHeader header = {
        .endian = call->endian,
        .type = CBUS_MESSAGE_CALL,
        .flags = call->flags & (CBUS_FLAG_NO_REPLY | CBUS_FLAG_NO_AUTO_START | CBUS_FLAG_INTERACTIVE),
        .serial = channel->next_serial,
        .path = path,
        .interface = call->interface,
        .member = call->member,
        .destination = cbus_span(service->name),
        .signature = call->signature,
    };

    g_byte_array_set_size(self->scratch, 0);
    return cbus_mirror_append(self->scratch, &header, call, &translation, error);
}

/* One large call must not leave its size behind on every machine. */
static void
trim_scratch(CbusMirror *self)
{
    if (self->scratch->len <= SCRATCH_KEPT)
        return;
    g_byte_array_unref(self->scratch);
    self->scratch = g_byte_array_new();
}

void
cbus_mirror_forward(CbusMirror *self, CbusService *service, CbusSpan path, const CbusMessage *call,
                    guint32 uid)
{
    gboolean wants_reply = (call->flags & CBUS_FLAG_NO_REPLY) == 0;
    const char *error_name = CBUS_DBUS_ERROR("LimitsExceeded"), *cause = NULL;
    g_autoptr(GError) error = NULL;
    CbusChannel *channel = NULL;

    if (cbus_mirror_has_descriptors(call)) {
        error = g_error_new_literal(CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS,
                                    "file descriptors can not cross to another machine");
        refuse_call(self, call, error);
        return;
    }
    if (!queue_full(self, &cause))
        channel = cbus_mirror_pool_pick(self, uid, wants_reply, &error_name, &cause);
    if (channel == NULL) {
        cbus_mirror_reply_error(self, call, error_name, "%s: %s; the call was not executed: try again later",
                                self->label, cause);
        return;
    }
    if (!build_call(self, channel, service, path, call, &error)) {
        refuse_call(self, call, error);
    } else if (!cbus_mirror_pool_send(self, channel, self->scratch)) {
        error = g_error_new_literal(CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT,
                                    "too many bytes wait to be sent to this machine");
        refuse_call(self, call, error);
    } else if (wants_reply) {
        const CbusPending pending = {.asked = CBUS_ASKED_CALL,
                                     .service = cbus_service_ref(service),
                                     .caller = cbus_mirror_caller(self, call->sender),
                                     .caller_serial = call->serial};

        cbus_mirror_pool_expect(self, channel, &pending);
    }
    trim_scratch(self);
}

/* The call was answered, but not in a way that could be passed on. */
static void
answer_lost_reply(CbusMirror *self, CbusCaller *caller, guint32 serial, const GError *fault)
{
    const char *name = CBUS_DBUS_ERROR("NoReply");
    g_autofree char *text = g_strdup_printf("%s: %s; the call was executed, but its reply can not be shown",
                                            self->label, fault->message);

    if (g_error_matches(fault, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS))
        name = CBUS_DBUS_ERROR("NotSupported");
    else if (g_error_matches(fault, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT))
        name = CBUS_DBUS_ERROR("LimitsExceeded");
    cbus_mirror_answer_error(self, caller, serial, name, text);
}

static gboolean
relay_to_bus(CbusMirror *self, const CbusHeader *header, const CbusMessage *reply,
             const CbusTranslation *translation, GError **error)
{
    if (cbus_front_pending(self->front) + reply->size > CBUS_MIRROR_FRONT_BYTES) {
        g_set_error_literal(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT,
                            "too many bytes wait for the session bus");
        return FALSE;
    }
    return cbus_mirror_put(self, header, reply, translation, error);
}

static gboolean
relay_to_asker(CbusMirror *self, CbusCaller *caller, const CbusHeader *header, const CbusMessage *reply,
               const CbusTranslation *translation, GError **error)
{
    g_autoptr(GByteArray) message = g_byte_array_new();

    if (!cbus_mirror_append(message, header, reply, translation, error))
        return FALSE;
    cbus_mirror_ask_answer(self, caller, message);
    return TRUE;
}

gboolean
cbus_mirror_relay(CbusMirror *self, CbusCaller *caller, guint32 serial, CbusService *service,
                  const CbusMessage *reply, GError **error)
{
    const CbusTranslation translation = {.direction = CBUS_TO_LOCAL,
                                         .prefix = cbus_span(cbus_service_prefix(service))};
    const CbusHeader header = {
        .endian = reply->endian,
        .type = reply->type,
        .flags = reply->flags,
        .serial = cbus_front_serial(self->front),
        .reply_serial = serial,
        .error_name = reply->error_name,
        .destination = cbus_span(caller->answer == NULL ? caller->name : NULL),
        .signature = reply->signature,
    };
    g_autoptr(GError) fault = NULL;
    gboolean done = FALSE;

    if (caller->gone)
        return TRUE;
    if (cbus_mirror_has_descriptors(reply))
        fault = g_error_new_literal(CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS,
                                    "the reply holds file descriptors, which can not cross");
    else if (caller->answer != NULL)
        done = relay_to_asker(self, caller, &header, reply, &translation, &fault);
    else
        done = relay_to_bus(self, &header, reply, &translation, &fault);
    if (done)
        return TRUE;
    answer_lost_reply(self, caller, serial, fault);
    if (g_error_matches(fault, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID)) {
        g_propagate_error(error, g_steal_pointer(&fault));
        return FALSE;
    }
    return TRUE;
}

void
cbus_mirror_replied(CbusMirror *self, CbusChannel *channel, const CbusMessage *reply)
{
    CbusPending *pending = cbus_mirror_pool_take(self, channel, reply->reply_serial);
    g_autoptr(GError) error = NULL;
    gboolean good = TRUE;

    if (pending == NULL)
        return;
    switch (pending->asked) {
        case CBUS_ASKED_CALL:
            good = cbus_mirror_relay(self, pending->caller, pending->caller_serial, pending->service, reply,
                                     &error);
            break;
        case CBUS_ASKED_OBJECT:
            good = cbus_mirror_introspect_replied(self, pending->waiting, reply, &error);
            break;
        case CBUS_ASKED_HELLO:
            if (reply->type == CBUS_MESSAGE_ERROR) {
                g_set_error(&error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID,
                            "the bus refused Hello with %s", reply->error_name.text);
                good = FALSE;
            }
            break;
        case CBUS_ASKED_MATCH:
            cbus_mirror_pool_promote(self, channel);
            break;
        default:
            cbus_mirror_names_replied(self, channel, pending, reply);
            break;
    }
    cbus_pending_free(pending);
    if (!good)
        cbus_mirror_pool_break(self, channel, error->message);
    else if (channel->retired)
        cbus_mirror_pool_review(self);
}

void
cbus_mirror_decline(CbusMirror *self, CbusChannel *channel, const CbusMessage *call)
{
    /* A peer that asks faster than the link carries gets no answer: it is nobody's caller. */
    if ((call->flags & CBUS_FLAG_NO_REPLY) != 0 ||
        cbus_link_queued(self->link, channel->id) > CBUS_MIRROR_OWN_BYTES)
        return;
    g_byte_array_set_size(self->scratch, 0);
    cbus_message_append_error(self->scratch, channel->next_serial, call, CBUS_DBUS_ERROR("UnknownMethod"),
                              "This connection mirrors its bus and serves no objects");
    (void)!cbus_mirror_pool_send(self, channel, self->scratch);
}

static void
fail_one(CbusMirror *self, const CbusPending *pending, gboolean sent, const char *refusal, const char *cause)
{
    CbusCaller *caller = pending->asked == CBUS_ASKED_CALL ? pending->caller : pending->waiting->caller;
    guint32 serial = pending->asked == CBUS_ASKED_CALL ? pending->caller_serial : pending->waiting->serial;
    g_autofree char *text = NULL;

    if (sent)
        text = g_strdup_printf("%s: %s; the call had been sent and its outcome is unknown: look before you "
                               "repeat it",
                               self->label, cause);
    else
        text = g_strdup_printf("%s: %s; the call was not executed: try again later", self->label, cause);
    cbus_mirror_answer_error(self, caller, serial,
                             sent              ? CBUS_DBUS_ERROR("NoReply")
                             : refusal != NULL ? refusal
                                               : CBUS_ERROR_OFFLINE,
                             text);
}

void
cbus_mirror_fail_pending(CbusMirror *self, CbusChannel *channel, guint64 departed, const char *refusal,
                         const char *cause)
{
    GHashTableIter iter;
    gpointer serial, value;

    g_hash_table_iter_init(&iter, channel->pending);
    while (g_hash_table_iter_next(&iter, &serial, &value)) {
        CbusPending *pending = value;

        if (pending->asked <= CBUS_ASKED_OBJECT)
            fail_one(self, pending, GPOINTER_TO_UINT(serial) <= departed, refusal, cause);
        cbus_pending_free(pending);
        self->pending--;
        g_hash_table_iter_remove(&iter);
    }
    channel->waiting = 0;
}
