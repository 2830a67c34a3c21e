/* The local users behind unique names.
 *
 * On a session bus every caller is the operator. On the system bus root and the members of a group may call,
 * and each of them gets remote connections of its own, with its uid told to the agent as a claim for the
 * audit. The uid comes from the bus driver, which knows it from the kernel: it is asked at the first call of
 * a unique name, and calls of that name wait until the answer is there, in their order. A unique name is
 * never used twice and keeps its user, so that the answer holds until the name leaves the bus.
 *
 * Bounds: WAIT_BYTES wait in all, for one round trip to a daemon on this machine; a call beyond that is
 * refused. There is one entry for each connection that ever called and still is on the bus, so the bus's own
 * limits on connections bound the table.
 *
 * When the driver does not say, the call goes on without a claim rather than with somebody else's. Who leaves
 * the bus before it could say (dbus-send without --print-reply may) loses what waits: nobody could tell
 * whose act it was, and leaving at once would be a way round the audit. Loop thread only. */
#include "proxy/front_callers.h"

#include "wire/body.h"

#define WAIT_BYTES (16u * 1024 * 1024)

typedef struct {
    char *name;
    guint32 uid;
    guint32 serial; /* of the question; 0: answered */
    GQueue waiting; /* of GBytes */
} Caller;

struct _CbusFrontCallers {
    CbusFrontCallersHandler handler;
    gpointer user_data;
    GHashTable *callers; /* name → Caller */
    GHashTable *asked;   /* serial → Caller; borrowed */
    gsize bytes;         /* that wait */
};

static void
caller_free(Caller *caller)
{
    g_queue_clear_full(&caller->waiting, (GDestroyNotify)g_bytes_unref);
    g_free(caller->name);
    g_free(caller);
}

static Caller *
caller_new(CbusFrontCallers *callers, CbusSpan name)
{
    Caller *caller = g_new0(Caller, 1);
    caller->name = g_strndup(name.text, name.len);
    caller->uid = G_MAXUINT32;
    g_queue_init(&caller->waiting);
    g_hash_table_insert(callers->callers, caller->name, caller);
    caller->serial = callers->handler.ask(caller->name, callers->user_data);
    g_hash_table_insert(callers->asked, GUINT_TO_POINTER(caller->serial), caller);
    return caller;
}

gboolean
cbus_front_callers_take(CbusFrontCallers *callers, const CbusMessage *call, const guint8 *bytes)
{
    if (call->sender.text == NULL) {
        return FALSE;
    }
    Caller *caller = g_hash_table_lookup(callers->callers, call->sender.text);
    if (caller == NULL) {
        caller = caller_new(callers, call->sender);
    }
    if (caller->serial == 0) {
        return FALSE;
    }
    if (callers->bytes + call->size > WAIT_BYTES) {
        callers->handler.refuse(call, callers->user_data);
    } else {
        g_queue_push_tail(&caller->waiting, g_bytes_new(bytes, call->size));
        callers->bytes += call->size;
    }
    return TRUE;
}

gboolean
cbus_front_callers_reply(CbusFrontCallers *callers, const CbusMessage *reply)
{
    Caller *caller = g_hash_table_lookup(callers->asked, GUINT_TO_POINTER(reply->reply_serial));
    if (caller == NULL) {
        return FALSE;
    }
    CbusCursor cursor = cbus_cursor(reply);
    guint32 uid = G_MAXUINT32;
    if (reply->type == CBUS_MESSAGE_RETURN && cbus_span_is(reply->signature, "u") &&
        cbus_cursor_u32(&cursor, &uid)) {
        caller->uid = uid;
    }
    g_hash_table_remove(callers->asked, GUINT_TO_POINTER(caller->serial));
    caller->serial = 0;
    GBytes *waiting;
    while ((waiting = g_queue_pop_head(&caller->waiting)) != NULL) {
        gsize size = 0;
        const guint8 *bytes = g_bytes_get_data(waiting, &size);
        CbusMessage call;
        callers->bytes -= size;
        if (cbus_message_view(&call, bytes, size, NULL)) {
            callers->handler.deliver(&call, bytes, callers->user_data);
        }
        g_bytes_unref(waiting);
    }
    return TRUE;
}

guint
cbus_front_callers_gone(CbusFrontCallers *callers, const char *name)
{
    Caller *caller = g_hash_table_lookup(callers->callers, name);
    if (caller == NULL) {
        return 0;
    }
    guint dropped = caller->waiting.length;
    for (const GList *link = caller->waiting.head; link != NULL; link = link->next) {
        callers->bytes -= g_bytes_get_size(link->data);
    }
    if (caller->serial != 0) {
        g_hash_table_remove(callers->asked, GUINT_TO_POINTER(caller->serial));
    }
    g_hash_table_remove(callers->callers, name);
    return dropped;
}

guint32
cbus_front_callers_uid(const CbusFrontCallers *callers, CbusSpan name)
{
    const Caller *caller = name.text != NULL ? g_hash_table_lookup(callers->callers, name.text) : NULL;
    return caller != NULL ? caller->uid : G_MAXUINT32;
}

CbusFrontCallers *
cbus_front_callers_new(const CbusFrontCallersHandler *handler, gpointer user_data)
{
    CbusFrontCallers *callers = g_new0(CbusFrontCallers, 1);
    callers->handler = *handler;
    callers->user_data = user_data;
    callers->callers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)caller_free);
    callers->asked = g_hash_table_new(NULL, NULL);
    return callers;
}

void
cbus_front_callers_free(CbusFrontCallers *callers)
{
    g_hash_table_unref(callers->asked);
    g_hash_table_unref(callers->callers);
    g_free(callers);
}
