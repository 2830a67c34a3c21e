/* Calls that the proxy itself makes through a mirror (Cluster's, proxy/cluster.c).
 *
 * The proxy is one more caller: its calls wait in the same tables, are bounded by the same pool and are ended
 * by the same faults, so that "each call is answered once" needs no second proof. A CbusCaller with `answer`
 * set is handed its reply in process, where others get it written to the session bus. Its name is a number,
 * which no unique name is, so that a call's sender tells the two kinds apart wherever an error is due before
 * a pending entry exists.
 *
 * Promises: the answer is given once, or never after cbus_mirror_ask_cancel(); with the bytes, checked and
 * translated, that a caller on the session bus would have been sent. Introspect goes to the remote object
 * like any other call: what browsers are told (caches, no activation) is of no use to who names one object.
 *
 * Trusts the proxy for a well-formed call; a remote reply has been walked before it gets here. Loop thread
 * only; answers are given while the mirror is at work, so they must not enter it.
 */
#include "proxy/mirror_private.h"

guint64
cbus_mirror_ask(CbusMirror *self, const CbusPlace *place, const CbusMessage *call, CbusMirrorAnswer answer,
                gpointer user_data)
{
    g_autoptr(CbusService) service = NULL;
    g_autofree char *name = g_strdup_printf("%" G_GUINT64_FORMAT, ++self->last_ask);
    CbusMessage own = *call;

    own.serial = 1;
    own.sender = cbus_span(name);
    if ((call->flags & CBUS_FLAG_NO_REPLY) == 0) {
        CbusCaller *caller = cbus_mirror_caller(self, own.sender);

        caller->answer = answer;
        caller->user_data = user_data;
        cbus_caller_unref(caller);
    }
    service = cbus_mirror_admit(self, place, &own);
    if (service != NULL)
        cbus_mirror_forward(self, service, place->path, &own, cbus_front_uid(self->front, call->sender));
    return self->last_ask;
}

void
cbus_mirror_ask_cancel(CbusMirror *self, guint64 ask)
{
    g_autofree char *name = g_strdup_printf("%" G_GUINT64_FORMAT, ask);

    cbus_mirror_caller_gone(self, name);
}

/* TRUE if CALL is the proxy's own. CALLER: who made it; NULL if it wants no reply. */
static gboolean
is_own(CbusMirror *self, const CbusMessage *call, CbusCaller **caller)
{
    if (call->sender.len == 0 || call->sender.text[0] == ':')
        return FALSE;
    *caller = g_hash_table_lookup(self->callers, call->sender.text);
    return TRUE;
}

void
cbus_mirror_ask_answer(CbusMirror *self, CbusCaller *caller, const GByteArray *message)
{
    CbusMirrorAnswer answer = caller->answer;
    gpointer user_data = caller->user_data;
    g_autoptr(GError) error = NULL;
    CbusMessage view;

    caller->gone = TRUE;
    g_hash_table_remove(self->callers, caller->name); /* CALLER may be gone with it */
    if (!cbus_message_view(&view, message->data, message->len, &error))
        g_error("a message of our own is none: %s", error->message);
    answer(&view, message->data, user_data);
}

void
cbus_mirror_ask_answer_error(CbusMirror *self, CbusCaller *caller, const char *name, const char *text)
{
    static const CbusMessage call = {.endian = CBUS_ENDIAN_NATIVE, .type = CBUS_MESSAGE_CALL, .serial = 1};
    g_autoptr(GByteArray) message = g_byte_array_new();

    cbus_message_append_error(message, 1, &call, name, text);
    cbus_mirror_ask_answer(self, caller, message);
}

void
cbus_mirror_reply_error(CbusMirror *self, const CbusMessage *call, const char *error_name, const char *format,
                        ...)
{
    CbusCaller *asker = NULL;
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (!is_own(self, call, &asker))
        cbus_front_reply_error(self->front, call, error_name, "%s", text);
    else if (asker != NULL)
        cbus_mirror_ask_answer_error(self, asker, error_name, text);
}

void
cbus_mirror_reply_empty(CbusMirror *self, const CbusMessage *call)
{
    const CbusHeader header = {
        .endian = CBUS_ENDIAN_NATIVE, .type = CBUS_MESSAGE_RETURN, .serial = 1, .reply_serial = 1};
    CbusCaller *asker = NULL;
    g_autoptr(GByteArray) message = NULL;

    if (!is_own(self, call, &asker)) {
        cbus_front_reply_empty(self->front, call);
        return;
    }
    if (asker == NULL)
        return;
    message = g_byte_array_new();
    cbus_message_append(message, &header, "");
    cbus_mirror_ask_answer(self, asker, message);
}
