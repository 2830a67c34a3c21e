/* Broadcast signals of the remote bus, emitted again on the session bus.
 *
 * The main channel matches every broadcast. A signal whose sender owns well-known names *now* is emitted once
 * for each of them, below that name's path, with the paths in its body translated likewise; a sender without
 * a name has no place in the mirror. The driver is the owner of its own name. Unicast signals (NameAcquired
 * and NameLost of our connections among them) concern the mirror alone and are not repeated.
 *
 * Before a signal is emitted, what it says is taken in: NameOwnerChanged moves names, and a change of objects
 * makes a tree stale, so that who hears the signal and then asks gets the new answer.
 *
 * Bounds: the front's queue. Above 32 MiB of unwritten bytes (a session bus held up by a subscriber that
 * never reads) signals are dropped and counted, calls are not; the log says so once per burst, SignalsLost at
 * most once a second. Remote bytes are hostile: the body is walked before each emission, and rubbish ends the
 * channel. Loop thread only.
 */
#include "link/log.h"
#include "proxy/mirror_private.h"

#define FRONT_HIGH (32u * 1024 * 1024)
#define FRONT_LOW  (16u * 1024 * 1024)

static gboolean
tell_lost(gpointer user_data)
{
    CbusMirror *self = user_data;

    g_clear_pointer(&self->lost_notice, g_source_unref);
    if (self->handler.signals_lost_changed != NULL)
        self->handler.signals_lost_changed(self, self->user_data);
    return G_SOURCE_REMOVE;
}

static void
count_lost(CbusMirror *self, guint count)
{
    self->signals_lost += count;
    if (self->lost_notice != NULL)
        return;
    self->lost_notice = g_timeout_source_new_seconds(1);
    g_source_set_callback(self->lost_notice, tell_lost, self, NULL);
    g_source_attach(self->lost_notice, self->loop->context);
}

void
cbus_mirror_signals_clear(CbusMirror *self)
{
    if (self->lost_notice == NULL)
        return;
    g_source_destroy(self->lost_notice);
    g_clear_pointer(&self->lost_notice, g_source_unref);
}

/* TRUE while the session bus does not take what is there. A burst ends when half of it is gone. */
static gboolean
overflows(CbusMirror *self)
{
    gsize waiting = cbus_front_pending(self->front);

    if (waiting > FRONT_HIGH && !self->overflowing) {
        self->overflowing = TRUE;
        cbus_log(G_LOG_LEVEL_WARNING,
                 "The session bus does not keep up: signals of a machine are dropped (see SignalsLost)",
                 CBUS_LOG_MACHINE, self->nkey, NULL);
    } else if (waiting < FRONT_LOW) {
        self->overflowing = FALSE;
    }
    return self->overflowing;
}

/* FALSE: the body is rubbish. */
static gboolean
emit(CbusMirror *self, const char *prefix, const CbusMessage *signal, GError **error)
{
    const CbusTranslation translation = {.direction = CBUS_TO_LOCAL, .prefix = cbus_span(prefix)};
    const CbusHeader header = {
        .endian = signal->endian,
        .type = CBUS_MESSAGE_SIGNAL,
        .flags = signal->flags,
        .serial = cbus_front_serial(self->front),
        .path_prefix = cbus_span(prefix),
        .path = signal->path,
        .interface = signal->interface,
        .member = signal->member,
        .signature = signal->signature,
    };
    g_autoptr(GError) fault = NULL;

    if (cbus_mirror_put(self, &header, signal, &translation, &fault))
        return TRUE;
    if (g_error_matches(fault, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID)) {
        g_propagate_error(error, g_steal_pointer(&fault));
        return FALSE;
    }
    count_lost(self, 1);
    return TRUE;
}

static gboolean
is_signal(const CbusMessage *signal, const char *interface, const char *member)
{
    return cbus_span_is(signal->member, member) && cbus_span_is(signal->interface, interface);
}

static gboolean
changes_objects(const CbusMessage *signal)
{
    return is_signal(signal, CBUS_OBJECT_MANAGER, "InterfacesAdded") ||
           is_signal(signal, CBUS_OBJECT_MANAGER, "InterfacesRemoved") ||
           is_signal(signal, CBUS_SYSTEMD_MANAGER, "UnitNew") ||
           is_signal(signal, CBUS_SYSTEMD_MANAGER, "UnitRemoved");
}

static void
take_driver_signal(CbusMirror *self, CbusChannel *channel, const CbusMessage *signal)
{
    if (is_signal(signal, CBUS_DRIVER_NAME, "NameOwnerChanged"))
        cbus_mirror_names_owner_changed(self, signal);
    else if (is_signal(signal, CBUS_DRIVER_NAME, "ActivatableServicesChanged"))
        cbus_mirror_names_ask_activatable(self, channel);
}

static gboolean
emit_driver_signal(CbusMirror *self, const CbusMessage *signal, GError **error)
{
    g_autoptr(CbusService) driver = cbus_mirror_service(self, CBUS_DRIVER_NAME);

    return emit(self, cbus_service_prefix(driver), signal, error);
}

void
cbus_mirror_signal(CbusMirror *self, CbusChannel *channel, const CbusMessage *signal)
{
    gboolean of_driver = cbus_span_is(signal->sender, CBUS_DRIVER_NAME);
    const GPtrArray *names = NULL;
    g_autoptr(GError) error = NULL;
    gboolean good = TRUE;

    if (channel != self->main || signal->destination.len > 0 || signal->sender.len == 0 ||
        cbus_span_is(signal->interface, CBUS_DRIVER_NAME ".Local"))
        return;
    if (of_driver)
        take_driver_signal(self, channel, signal);
    else if ((names = cbus_mirror_names_of(self, signal->sender)) == NULL)
        return;
    for (guint i = 0; names != NULL && changes_objects(signal) && i < names->len; i++)
        cbus_service_invalidate(g_ptr_array_index(names, i));
    if (overflows(self) || cbus_mirror_has_descriptors(signal)) {
        count_lost(self, of_driver ? 1 : names->len);
        return;
    }
    if (of_driver)
        good = emit_driver_signal(self, signal, &error);
    for (guint i = 0; names != NULL && good && i < names->len; i++) {
        CbusService *service = g_ptr_array_index(names, i);

        /* Again: a process may own thousands of names, and one signal of it fill any queue. */
        if (overflows(self)) {
            count_lost(self, names->len - i);
            break;
        }
        good = emit(self, cbus_service_prefix(service), signal, &error);
    }
    if (!good)
        cbus_mirror_pool_break(self, channel, error->message);
}
