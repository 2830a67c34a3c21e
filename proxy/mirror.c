/* The mirror of one machine: the object itself, its link coming and going, and who handles what.
 *
 * Promises (design, "The mirror, precisely"): every call given to cbus_mirror_call() is answered once, by the
 * remote's own reply or by an error that names the machine, the cause and what to do; unless it wants no
 * reply, then nothing is kept of it. Signals and replies leave in the order in which the link delivered them.
 * Nothing is ever sent twice.
 *
 * Trusts: the local bytes as far as the front viewed them, and the link for the order of what it delivers.
 * Remote bytes are hostile: each message is viewed and its body walked before a byte of it may reach the
 * session bus; who sends rubbish loses its channel.
 *
 * What is where: mirror_calls.c forwards calls and relays replies; mirror_pool.c owns the remote connections
 * (channels) and their tables of pending calls; mirror_names.c knows who is on the remote bus;
 * mirror_signals.c re-emits; mirror_driver.c decides what of the remote driver is reachable;
 * mirror_introspect.c answers browsers; mirror_ask.c lets the proxy itself be a caller. They share
 * mirror_private.h.
 *
 * A mirror outlives links. While there is none, `link` is NULL, no channel exists, the names are unknown and
 * every call is answered by the absence error that the roster set. Everything runs on the loop thread; no
 * function here is entered again from the handlers it calls, except that `services_changed` may read.
 */
#include "proxy/mirror_private.h"

CbusMirror *
cbus_mirror_new(CbusLoop *loop, CbusFront *front, CbusNodeStore *store, const CbusKey *machine,
                const CbusMirrorHandler *handler, gpointer user_data)
{
    static const char *const every_signal[] = {"type='signal'", NULL};
    CbusMirror *self = g_new0(CbusMirror, 1);
    g_autoptr(GString) path = g_string_new(NULL);

    self->loop = loop;
    self->front = front;
    self->store = store;
    self->signals = every_signal;
    self->handler = *handler;
    self->user_data = user_data;
    cbus_nkey_encode(machine, self->nkey);
    cbus_place_append_machine(path, self->nkey);
    self->path = g_string_free(g_steal_pointer(&path), FALSE);
    self->label = g_strdup(self->nkey);
    self->absence_error = g_strdup(CBUS_ERROR_OFFLINE);
    self->absence_message = g_strdup_printf("%s is not online; the call was not executed", self->nkey);
    self->scratch = g_byte_array_new();
    self->callers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)cbus_caller_unref);
    self->channels = g_ptr_array_new();
    self->services = g_hash_table_new(g_str_hash, g_str_equal);
    self->owners = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    g_queue_init(&self->waiting);
    return self;
}

void
cbus_mirror_free(CbusMirror *self)
{
    if (self == NULL)
        return;
    self->handler = (CbusMirrorHandler){0};
    if (self->link != NULL)
        cbus_mirror_pool_clear(self, "the proxy lets go of this machine", TRUE);
    self->link = NULL;
    cbus_mirror_introspect_lost(self, 0, "the proxy lets go of this machine");
    cbus_mirror_introspect_resume(self);
    cbus_mirror_names_clear(self);
    cbus_mirror_signals_clear(self);
    g_assert(g_hash_table_size(self->services) == 0);
    g_assert(self->channels->len == 0 && self->pending == 0);
    g_hash_table_unref(self->services);
    g_hash_table_unref(self->owners);
    g_hash_table_unref(self->callers);
    g_ptr_array_unref(self->channels);
    g_byte_array_unref(self->scratch);
    g_strfreev(self->names);
    g_free(self->path);
    g_free(self->label);
    g_free(self->absence_error);
    g_free(self->absence_message);
    g_free(self);
}

void
cbus_mirror_set_label(CbusMirror *self, const char *label)
{
    g_free(self->label);
    self->label = g_strdup(label);
}

void
cbus_mirror_set_clock(CbusMirror *self, gint64 (*clock)(gpointer data), gpointer data)
{
    self->clock = clock;
    self->clock_data = data;
}

void
cbus_mirror_set_signals(CbusMirror *self, const char *const *rules)
{
    self->signals = rules;
}

void
cbus_mirror_set_absence(CbusMirror *self, const char *error_name, const char *message)
{
    g_autofree char *name = g_strdup(error_name), *text = g_strdup(message);

    g_free(self->absence_error);
    g_free(self->absence_message);
    self->absence_error = g_steal_pointer(&name);
    self->absence_message = g_steal_pointer(&text);
}

void
cbus_mirror_link_up(CbusMirror *self, CbusLink *link)
{
    g_return_if_fail(self->link == NULL);
    self->link = link;
    self->reopen_ms = 0;
    cbus_mirror_pool_open_main(self);
}

void
cbus_mirror_link_down(CbusMirror *self, const GError *reason)
{
    const char *cause = reason != NULL ? reason->message : "the link ended";

    if (self->link == NULL)
        return;
    cbus_mirror_pool_clear(self, cause, FALSE);
    self->link = NULL;
    cbus_mirror_introspect_lost(self, 0, cause);
    cbus_mirror_names_forget(self);
    cbus_mirror_introspect_resume(self);
}

gboolean
cbus_mirror_opened(CbusMirror *self, guint32 id)
{
    CbusChannel *channel = cbus_mirror_pool_find(self, id);

    if (channel == NULL)
        return FALSE;
    channel->opened = TRUE;
    return TRUE;
}

gboolean
cbus_mirror_message(CbusMirror *self, guint32 id, const guint8 *bytes, gsize size)
{
    CbusChannel *channel = cbus_mirror_pool_find(self, id);
    g_autoptr(GError) error = NULL;
    CbusMessage message;

    if (channel == NULL)
        return FALSE;
    if (!cbus_message_view(&message, bytes, size, &error)) {
        cbus_mirror_pool_break(self, channel, error->message);
        return TRUE;
    }
    switch (message.type) {
        case CBUS_MESSAGE_RETURN:
        case CBUS_MESSAGE_ERROR:
            cbus_mirror_replied(self, channel, &message);
            break;
        case CBUS_MESSAGE_SIGNAL:
            cbus_mirror_signal(self, channel, &message);
            break;
        default:
            cbus_mirror_decline(self, channel, &message);
            break;
    }
    return TRUE;
}

gboolean
cbus_mirror_channel_closed(CbusMirror *self, guint32 id, const char *error_name, const char *message)
{
    CbusChannel *channel = cbus_mirror_pool_find(self, id);
    g_autofree char *cause = NULL;

    if (channel == NULL)
        return FALSE;
    cause = g_strdup_printf("its bus connection ended (%s)",
                            message != NULL && *message != '\0' ? message : "no reason given");
    cbus_mirror_pool_lost(self, channel, error_name, cause);
    return TRUE;
}

CbusService *
cbus_mirror_admit(CbusMirror *self, const CbusPlace *place, const CbusMessage *call)
{
    g_autoptr(CbusService) service = NULL;

    if (self->link == NULL) {
        cbus_mirror_reply_error(self, call, self->absence_error, "%s", self->absence_message);
        return NULL;
    }
    if (!cbus_link_is_open(self->link)) {
        cbus_mirror_reply_error(self, call, CBUS_ERROR_OFFLINE,
                                "%s: its link has just ended; the call was not executed: try again later",
                                self->label);
        return NULL;
    }
    service = cbus_mirror_service(self, place->service);
    if (cbus_mirror_names_absent(self, service)) {
        cbus_mirror_reply_error(self, call, CBUS_DBUS_ERROR("UnknownObject"),
                                "%s has no service %s, neither running nor activatable; its Services "
                                "property lists those it has",
                                self->label, place->service);
        return NULL;
    }
    if (cbus_mirror_driver_call(self, place, call) || cbus_mirror_systemd_call(self, place, call))
        return NULL;
    return g_steal_pointer(&service);
}

void
cbus_mirror_call(CbusMirror *self, const CbusPlace *place, const CbusMessage *call, const guint8 *bytes)
{
    g_autoptr(CbusService) service = cbus_mirror_admit(self, place, call);

    if (service == NULL)
        return;
    if (cbus_span_is(call->member, "Introspect") && call->signature.len == 0 &&
        (call->interface.len == 0 || cbus_span_is(call->interface, CBUS_INTROSPECTABLE))) {
        cbus_mirror_introspect(self, service, place->path, call);
        return;
    }
    cbus_mirror_forward(self, service, place->path, call, cbus_front_uid(self->front, call->sender));
}

void
cbus_mirror_caller_gone(CbusMirror *self, const char *unique_name)
{
    CbusCaller *caller = g_hash_table_lookup(self->callers, unique_name);

    if (caller == NULL)
        return;
    caller->gone = TRUE;
    g_hash_table_remove(self->callers, unique_name);
    if (self->link != NULL)
        cbus_mirror_pool_review(self);
}

guint64
cbus_mirror_signals_lost(const CbusMirror *self)
{
    return self->signals_lost;
}
