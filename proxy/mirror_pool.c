/* The mirror's remote bus connections: up to eight channels per link.
 *
 * A system bus refuses a connection its 129th pending reply, and one client may hold 128 calls that never
 * return. So a call goes to the main channel while fewer than 96 wait there, else to the next that has room,
 * else to a new one; with eight full, LimitsExceeded. The main channel also has the signals, so that replies
 * and signals stay in the remote bus's order for as long as there is no crowd.
 *
 * A channel has the calls of one local user, whom it names to the agent's audit: on the system bus there are
 * several, elsewhere there is one. The main channel is the proxy's own user's.
 *
 * Retiring: a channel most of whose calls nobody waits for (their callers are gone) or that are older than
 * ten minutes takes no new calls, and is closed when no living caller waits on it; the remote bus then
 * forgets those calls, as it does for any client that leaves. A main channel that retires is first succeeded
 * by an heir: a new channel that becomes main once its match is in place, so that signals do not stop.
 *
 * A main channel that the remote closes (its bus was restarted) is opened anew after 100 ms, doubling to 5 s,
 * for as long as the link lives. Until then the names are unknown and calls are answered Offline.
 *
 * Serials are consecutive per channel and begin with 1, so that the n-th message given to the link has serial
 * n: when the link is lost, a serial up to cbus_link_departed() was sent, any other was not. Serials stop
 * before 2³¹. While anything is pending or a second channel is open the roster's tick tidies up; a mirror has
 * no timer of its own for it, since a main loop looks at every timer each turn, and a call to a fleet would
 * leave a thousand. Loop thread only.
 */
#include "link/log.h"
#include "proxy/mirror_private.h"
#include <unistd.h>

#define REOPEN_FIRST_MS 100
#define REOPEN_LAST_MS  5000
#define IDLE_S          60
#define TREE_PATIENCE_S 60

static void
source_clear(GSource **source)
{
    if (*source == NULL)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

static GSource *
timer(CbusMirror *self, guint ms, GSourceFunc func)
{
    GSource *source = g_timeout_source_new(ms);

    g_source_set_callback(source, func, self, NULL);
    g_source_attach(source, self->loop->context);
    return source;
}

CbusChannel *
cbus_mirror_pool_find(const CbusMirror *self, guint32 id)
{
    for (guint i = 0; i < self->channels->len; i++) {
        CbusChannel *channel = g_ptr_array_index(self->channels, i);

        if (channel->id == id)
            return channel;
    }
    return NULL;
}

void
cbus_mirror_tick(CbusMirror *self)
{
    if (!self->sweeping)
        return;
    cbus_mirror_introspect_expire(self, cbus_mirror_now(self) - TREE_PATIENCE_S * G_USEC_PER_SEC);
    cbus_mirror_pool_review(self);
    if (self->pending == 0 && self->busy) {
        self->busy = FALSE;
        cbus_link_set_busy(self->link, FALSE);
    }
    self->sweeping = self->pending != 0 || self->channels->len > 1;
}

void
cbus_mirror_pool_wake(CbusMirror *self)
{
    if (!self->busy) {
        self->busy = TRUE;
        cbus_link_set_busy(self->link, TRUE);
    }
    self->sweeping = TRUE;
}

gboolean
cbus_mirror_pool_send(CbusMirror *self, CbusChannel *channel, const GByteArray *message)
{
    if (!cbus_link_send(self->link, channel->id, message->data, message->len))
        return FALSE;
    channel->next_serial++;
    return TRUE;
}

void
cbus_mirror_pool_expect(CbusMirror *self, CbusChannel *channel, const CbusPending *pending)
{
    CbusPending *entry = g_slice_dup(CbusPending, pending);

    entry->since = channel->used = cbus_mirror_seconds(self);
    g_hash_table_insert(channel->pending, GUINT_TO_POINTER(channel->next_serial - 1), entry);
    if (entry->asked <= CBUS_ASKED_OBJECT)
        channel->waiting++;
    self->pending++;
    if (!self->busy || !self->sweeping)
        cbus_mirror_pool_wake(self);
}

CbusPending *
cbus_mirror_pool_take(CbusMirror *self, CbusChannel *channel, guint32 serial)
{
    gpointer value = NULL;
    CbusPending *pending;

    if (!g_hash_table_steal_extended(channel->pending, GUINT_TO_POINTER(serial), NULL, &value))
        return NULL;
    pending = value;
    if (pending->asked <= CBUS_ASKED_OBJECT)
        channel->waiting--;
    self->pending--;
    return pending;
}

gboolean
cbus_mirror_pool_ask(CbusMirror *self, CbusChannel *channel, CbusHeader header, const char *arg,
                     const CbusPending *pending)
{
    header.endian = CBUS_ENDIAN_NATIVE;
    header.type = CBUS_MESSAGE_CALL;
    header.serial = channel->next_serial;
    header.signature = cbus_span(arg != NULL ? "s" : NULL);
    g_byte_array_set_size(self->scratch, 0);
    if (arg != NULL)
        cbus_message_append(self->scratch, &header, "s", arg);
    else
        cbus_message_append(self->scratch, &header, "");
    if (!cbus_mirror_pool_send(self, channel, self->scratch))
        return FALSE;
    if (pending != NULL)
        cbus_mirror_pool_expect(self, channel, pending);
    return TRUE;
}

static CbusChannel *
channel_open(CbusMirror *self, guint32 uid)
{
    static const CbusPending hello = {.asked = CBUS_ASKED_HELLO};
    const CbusHeader header = {.path = CBUS_SPAN_LITERAL(CBUS_DRIVER_PATH),
                               .interface = CBUS_SPAN_LITERAL(CBUS_DRIVER_NAME),
                               .member = CBUS_SPAN_LITERAL("Hello"),
                               .destination = CBUS_SPAN_LITERAL(CBUS_DRIVER_NAME)};
    CbusChannel *channel = g_new0(CbusChannel, 1);

    channel->id = cbus_link_open(self->link, uid);
    channel->uid = uid;
    channel->next_serial = 1;
    channel->used = cbus_mirror_seconds(self);
    channel->pending = g_hash_table_new(NULL, NULL);
    g_ptr_array_add(self->channels, channel);
    cbus_link_set_channel_quota(self->link, channel->id, CBUS_MIRROR_QUEUE_BYTES + CBUS_MESSAGE_MAX);
    /* A fresh channel's queue is empty: this can only fail on a link that is about to say that it ended. */
    (void)cbus_mirror_pool_ask(self, channel, header, NULL, &hello);
    return channel;
}

/* Takes CHANNEL out; its entries must have been answered. */
static void
channel_free(CbusMirror *self, CbusChannel *channel)
{
    g_ptr_array_remove(self->channels, channel);
    if (self->main == channel)
        self->main = NULL;
    if (self->heir == channel)
        self->heir = NULL;
    g_hash_table_unref(channel->pending);
    g_free(channel);
}

/* Hello, the matches and the questions after names leave in one packet behind OPEN. */
static CbusChannel *
open_with_matches(CbusMirror *self)
{
    static const CbusPending match = {.asked = CBUS_ASKED_MATCH};
    const CbusHeader header = {.path = CBUS_SPAN_LITERAL(CBUS_DRIVER_PATH),
                               .interface = CBUS_SPAN_LITERAL(CBUS_DRIVER_NAME),
                               .member = CBUS_SPAN_LITERAL("AddMatch"),
                               .destination = CBUS_SPAN_LITERAL(CBUS_DRIVER_NAME)};
    CbusChannel *channel = channel_open(self, (guint32)geteuid());

    for (guint i = 0; self->signals[i] != NULL; i++)
        (void)cbus_mirror_pool_ask(self, channel, header, self->signals[i], &match);
    cbus_mirror_names_ask(self, channel);
    return channel;
}

void
cbus_mirror_pool_open_main(CbusMirror *self)
{
    g_clear_pointer(&self->away, g_free);
    source_clear(&self->reopen);
    self->main = open_with_matches(self);
}

static gboolean
reopen(gpointer user_data)
{
    cbus_mirror_pool_open_main(user_data);
    return G_SOURCE_REMOVE;
}

void
cbus_mirror_pool_promote(CbusMirror *self, CbusChannel *channel)
{
    if (self->reopen_ms != 0) {
        self->reopen_ms = 0;
        cbus_log(G_LOG_LEVEL_INFO, "A machine's bus is back", CBUS_LOG_MACHINE, self->nkey, NULL);
        if (self->handler.bus_changed != NULL)
            self->handler.bus_changed(self, NULL, self->user_data);
    }
    if (channel != self->heir)
        return;
    self->heir = NULL;
    self->main = channel;
    cbus_mirror_pool_review(self);
}

static gboolean
usable(CbusChannel *channel, guint32 uid)
{
    if (channel->uid != uid)
        return FALSE;
    if (channel->next_serial >= CBUS_MIRROR_LAST_SERIAL)
        channel->retired = TRUE;
    return !channel->retired && channel->waiting < CBUS_MIRROR_PENDING;
}

/* How many of CHANNEL's calls are past hope, and how many of all have somebody waiting. */
static guint
count_stale(const CbusMirror *self, const CbusChannel *channel, guint *living)
{
    guint32 now = cbus_mirror_seconds(self);
    guint stale = 0;
    GHashTableIter iter;
    gpointer value;

    *living = channel->trees;
    g_hash_table_iter_init(&iter, channel->pending);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const CbusPending *pending = value;
        const CbusCaller *caller;

        if (pending->asked > CBUS_ASKED_OBJECT)
            continue;
        caller = pending->asked == CBUS_ASKED_CALL ? pending->caller : pending->waiting->caller;
        *living += caller->gone ? 0 : 1;
        stale += caller->gone || now - pending->since > CBUS_MIRROR_OLD_S ? 1 : 0;
    }
    return stale;
}

static void
channel_close(CbusMirror *self, CbusChannel *channel)
{
    cbus_link_close_channel(self->link, channel->id, "", "", FALSE);
    cbus_mirror_fail_pending(self, channel, G_MAXUINT64, NULL, "its bus connection was closed");
    channel_free(self, channel);
}

void
cbus_mirror_pool_review(CbusMirror *self)
{
    for (guint i = self->channels->len; i-- > 0;) {
        CbusChannel *channel = g_ptr_array_index(self->channels, i);
        gboolean keeps_names = channel == self->main || channel == self->heir;
        guint living, stale = count_stale(self, channel, &living);

        if (stale >= CBUS_MIRROR_STALE || (!keeps_names && stale > 0 && stale == channel->waiting))
            channel->retired = TRUE;
        if (!keeps_names && living == 0 &&
            (channel->retired ||
             (channel->waiting == 0 && cbus_mirror_seconds(self) - channel->used >= IDLE_S)))
            channel_close(self, channel);
    }
    if (self->main != NULL && self->main->retired && self->heir == NULL &&
        self->channels->len < CBUS_MIRROR_CHANNELS)
        self->heir = open_with_matches(self);
}

/* Room for a user without a channel: one of another user's goes that nobody waits on. */
static void
evict(CbusMirror *self)
{
    for (guint i = 0; i < self->channels->len; i++) {
        CbusChannel *channel = g_ptr_array_index(self->channels, i);

        if (channel != self->main && channel != self->heir && channel->waiting == 0 && channel->trees == 0) {
            channel_close(self, channel);
            return;
        }
    }
}

CbusChannel *
cbus_mirror_pool_pick(CbusMirror *self, guint32 uid, gboolean wants_reply, const char **error_name,
                      const char **cause)
{
    if (self->main == NULL) {
        *error_name = CBUS_ERROR_OFFLINE;
        *cause = self->away;
        return NULL;
    }
    if (usable(self->main, uid) || (self->main->uid == uid && !wants_reply && !self->main->retired))
        return self->main;
    for (guint i = 0; i < self->channels->len; i++) {
        CbusChannel *channel = g_ptr_array_index(self->channels, i);

        if (usable(channel, uid))
            return channel;
    }
    cbus_mirror_pool_review(self);
    if (self->channels->len == CBUS_MIRROR_CHANNELS)
        evict(self);
    if (self->channels->len < CBUS_MIRROR_CHANNELS)
        return channel_open(self, uid);
    *error_name = CBUS_DBUS_ERROR("LimitsExceeded");
    *cause = "768 calls to this machine have not been answered yet";
    return NULL;
}

static void
main_lost(CbusMirror *self, const char *cause)
{
    g_autofree char *away = g_strdup(cause);

    g_free(self->away);
    self->away = g_steal_pointer(&away);
    cbus_mirror_names_forget(self);
    cbus_mirror_introspect_resume(self);
    if (self->reopen_ms == 0) {
        self->reopen_ms = REOPEN_FIRST_MS;
        cbus_log(G_LOG_LEVEL_WARNING, "A machine's bus can not be reached", CBUS_LOG_MACHINE, self->nkey,
                 CBUS_LOG_REASON, cause, NULL);
    } else {
        self->reopen_ms = MIN(self->reopen_ms * 2, REOPEN_LAST_MS);
    }
    source_clear(&self->reopen);
    self->reopen = timer(self, self->reopen_ms, reopen);
    if (self->handler.bus_changed != NULL)
        self->handler.bus_changed(self, self->away, self->user_data);
}

void
cbus_mirror_pool_lost(CbusMirror *self, CbusChannel *channel, const char *error_name, const char *cause)
{
    gboolean was_main = channel == self->main;
    guint32 id = channel->id;

    /* A channel that was refused never reached the bus: nothing of it was executed. */
    if (channel->opened)
        cbus_mirror_fail_pending(self, channel, cbus_link_departed(self->link, id), NULL, cause);
    else
        cbus_mirror_fail_pending(
            self, channel, 0,
            error_name != NULL && cbus_is_interface(cbus_span(error_name)) ? error_name : NULL, cause);
    channel_free(self, channel);
    cbus_mirror_introspect_lost(self, id, cause);
    if (!was_main)
        return;
    if (self->heir != NULL) {
        self->main = g_steal_pointer(&self->heir);
        return;
    }
    main_lost(self, cause);
}

void
cbus_mirror_pool_break(CbusMirror *self, CbusChannel *channel, const char *fault)
{
    g_autofree char *cause = g_strdup_printf("its bus sent an invalid message (%s)", fault);
    guint32 id = channel->id;

    channel->opened = TRUE;
    cbus_mirror_pool_lost(self, channel, NULL, cause);
    cbus_link_close_channel(self->link, id, CBUS_DBUS_ERROR("InvalidArgs"), cause, TRUE);
}

void
cbus_mirror_pool_clear(CbusMirror *self, const char *cause, gboolean close)
{
    while (self->channels->len > 0) {
        CbusChannel *channel = g_ptr_array_index(self->channels, self->channels->len - 1);

        cbus_mirror_fail_pending(self, channel, cbus_link_departed(self->link, channel->id), NULL, cause);
        if (close)
            cbus_link_close_channel(self->link, channel->id, "", "", TRUE);
        channel_free(self, channel);
    }
    source_clear(&self->reopen);
    self->sweeping = FALSE;
    if (close && self->busy)
        cbus_link_set_busy(self->link, FALSE);
    self->busy = FALSE;
    g_clear_pointer(&self->away, g_free);
}
