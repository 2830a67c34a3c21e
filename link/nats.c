/* One NATS connection, made again for ever.
 *
 * The life of a connection: a dial (nats_dial.c) brings it to the loop; its socket is watched
 * (nats_source.c); subscriptions are made; `up`. From then on every call into the library is made here, on
 * the loop: ProcessReadEvent when bytes have come, after which each synchronous subscription is drained at
 * once and in order; ProcessWriteEvent at the end of the turn, so that one turn's publishes leave in one
 * write. nats.c closes a connection by itself inside these two calls, and only there, since its reconnect and
 * its ping timer are off: so each is followed by a look whether it is closed, and no callback of another
 * thread is needed. A closed connection is buried from an idle source: subscriptions, connection and socket
 * source are destroyed, `down` tells the owner, and after a pause the next dial begins. The pause doubles
 * from 20 ms to 5 s, with jitter, and starts anew once a connection has held for STABLE_US.
 *
 * Traps of 3.4.1 that shape the code: ProcessWriteEvent with an empty buffer ends the connection; Destroy
 * with bytes in the buffer waits for 500 ms, so such a connection is first broken (end_quietly); messages are
 * delivered by several subscriptions of one read in the order of the subscriptions, not of the wire.
 *
 * Trust: the server is hostile: its max_payload is bounded, its error texts are only shown, its messages are
 * the caller's to judge. The user may free this, subscribe and unsubscribe inside every handler (`depth`). */
#include "link/log.h"
#include "link/nats_private.h"
#include "wire/seal.h"

#define PAUSE_FIRST_MS      20
#define PAUSE_LAST_MS       5000
#define STABLE_US           (5 * G_TIME_SPAN_SECOND)
#define BEAT_MS             6000
#define RECORDS_A_TURN      16
#define MAX_PAYLOAD_DEFAULT (1024 * 1024)
#define MAX_PAYLOAD_MOST    (8 * 1024 * 1024)

static void dial(CbusNats *nats);
static void destroy(CbusNats *nats);

static void
enter(CbusNats *nats)
{
    nats->depth++;
}

static void
leave(CbusNats *nats)
{
    if (--nats->depth == 0 && nats->freed)
        destroy(nats);
}

static void
clear_source(GSource **source)
{
    if (*source != NULL)
        g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

static GSource *
attach_timer(CbusNats *nats, GSource *timer, GSourceFunc func)
{
    g_source_set_callback(timer, func, nats, NULL);
    g_source_attach(timer, nats->loop->context);
    return timer;
}

/* Breaks an open connection, so that Destroy does not wait for a flush. */
static void
end_quietly(CbusNats *nats)
{
    if (natsConnection_IsClosed(nats->connection))
        return;
    cbus_nats_source_shutdown(nats->source);
    if (natsConnection_Buffered(nats->connection) > 0)
        natsConnection_ProcessWriteEvent(nats->connection);
}

static void
destroy_connection(CbusNats *nats)
{
    nats->up = FALSE;
    cbus_turn_cancel(&nats->write);
    cbus_nats_queue_clear(&nats->queue);
    if (nats->connection == NULL)
        return;
    end_quietly(nats);
    cbus_nats_source_stop(nats->source);
    natsConnection_Close(nats->connection);
    cbus_nats_subscriptions_unmake(nats->subscriptions);
    g_clear_pointer(&nats->beat, cbus_nats_beat_free);
    g_clear_pointer(&nats->connection, natsConnection_Destroy);
    g_clear_pointer(&nats->source, cbus_nats_source_free);
    nats->blocked = nats->denial_shown = nats->headers_missed = FALSE;
    nats->max_payload = MAX_PAYLOAD_DEFAULT;
}

static gboolean
on_pause_over(gpointer user_data)
{
    CbusNats *nats = user_data;

    clear_source(&nats->pause);
    dial(nats);
    return G_SOURCE_REMOVE;
}

/* Returns the pause, in ms, after which the next attempt comes. */
static guint
pause_then_dial(CbusNats *nats)
{
    guint pause = nats->pause_ms * 3 / 4 + g_random_int_range(0, (gint32)nats->pause_ms / 2 + 1);

    nats->pause_ms = MIN(nats->pause_ms * 2, PAUSE_LAST_MS);
    nats->pause = attach_timer(nats, g_timeout_source_new(pause), on_pause_over);
    return pause;
}

static gboolean
on_burial(gpointer user_data)
{
    CbusNats *nats = user_data;
    g_autoptr(GError) reason = g_steal_pointer(&nats->loss);

    clear_source(&nats->burial);
    destroy_connection(nats);
    if (g_get_monotonic_time() - nats->up_since >= STABLE_US)
        nats->pause_ms = PAUSE_FIRST_MS;
    pause_then_dial(nats);
    enter(nats);
    if (nats->handler.down != NULL)
        nats->handler.down(nats, reason, nats->user_data);
    leave(nats);
    return G_SOURCE_REMOVE;
}

/* WHY: NULL to ask the library. */
static void
lost(CbusNats *nats, const char *why)
{
    if (nats->loss != NULL)
        return;
    if (why == NULL)
        natsConnection_GetLastError(nats->connection, &why);
    why = cbus_nats_plain(why);
    nats->loss =
        g_error_new(CBUS_NATS_ERROR, CBUS_NATS_ERROR_LOST, "the connection to NATS at %s is lost: %s",
                    cbus_nats_login_servers(nats->login), why != NULL && *why != '\0' ? why : "closed");
    nats->up = FALSE;
    cbus_nats_beat_stop(nats->beat);
    cbus_nats_source_stop(nats->source);
    nats->burial = g_idle_source_new();
    g_source_set_priority(nats->burial, G_PRIORITY_DEFAULT);
    attach_timer(nats, nats->burial, on_burial);
}

/* Once a connection: what the server's permissions forbid would else be a silence. */
static void
show_denial(CbusNats *nats)
{
    const char *text = NULL;

    if (nats->denial_shown || natsConnection_GetLastError(nats->connection, &text) != NATS_NOT_PERMITTED)
        return;
    nats->denial_shown = TRUE;
    cbus_log(G_LOG_LEVEL_WARNING,
             "the NATS server forbids a subject: its permissions for this user are too narrow",
             CBUS_LOG_REASON, cbus_nats_plain(text), NULL);
}

static void
on_readable(gpointer user_data)
{
    CbusNats *nats = user_data;

    enter(nats);
    for (guint i = 0; i < RECORDS_A_TURN && nats->up && !nats->freed; i++) {
        natsConnection_ProcessReadEvent(nats->connection);
        show_denial(nats);
        cbus_nats_beat_alive(nats->beat);
        cbus_nats_subscriptions_drain(nats->subscriptions);
        if (nats->freed)
            break;
        if (natsConnection_IsClosed(nats->connection))
            lost(nats, NULL);
        else if (!cbus_nats_source_has_record(nats->source))
            break;
    }
    leave(nats);
}

/* Writes until all is written or the kernel takes no more. */
static void
write_out(gpointer user_data)
{
    CbusNats *nats = user_data;

    if (!nats->up)
        return;
    nats->blocked = FALSE;
    while (nats->up && !nats->blocked) {
        if (!cbus_nats_queue_move(&nats->queue, nats->connection)) {
            lost(nats, "the library refused a message");
            return;
        }
        if (natsConnection_Buffered(nats->connection) <= 0)
            break;
        natsConnection_ProcessWriteEvent(nats->connection);
        if (natsConnection_IsClosed(nats->connection)) {
            lost(nats, NULL);
            return;
        }
        nats->blocked = natsConnection_Buffered(nats->connection) > 0;
    }
    cbus_nats_source_await_write(nats->source, nats->blocked);
}

static void
on_write_turn(gpointer user_data)
{
    CbusNats *nats = user_data;

    if (nats->up && !nats->blocked)
        write_out(nats);
}

void
cbus_nats_want_write(gpointer user_data)
{
    CbusNats *nats = user_data;

    cbus_turn_defer(nats->loop->turn, CBUS_TURN_WRITE, &nats->write);
}

static const CbusNatsSourceHandler source_handler = {
    .readable = on_readable,
    .writable = write_out,
    .want_write = cbus_nats_want_write,
};

static void
on_silent(guint ms, gpointer user_data)
{
    g_autofree char *why = g_strdup_printf("the server has been silent for %u ms", ms);

    lost(user_data, why);
}

static void
on_ask(gpointer user_data)
{
    CbusNats *nats = user_data;

    (void)!cbus_nats_publish(nats, nats->beat_subject, NULL, NULL, 0); /* or there is enough to answer */
}

static const CbusNatsBeatHandler beat_handler = {.ask = on_ask, .silent = on_silent};

/* Makes a fresh connection usable. FALSE with ERROR: it is not, and is to be destroyed. */
static gboolean
set_up_connection(CbusNats *nats, GError **error)
{
    gint64 max_payload = natsConnection_GetMaxPayload(nats->connection);
    natsStatus s;

    if (max_payload < CBUS_PACKET_LEAST) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_CONNECT,
                    "the NATS server at %s allows %" G_GINT64_FORMAT
                    " bytes a message: its max_payload must be at least %d",
                    cbus_nats_login_servers(nats->login), max_payload, CBUS_PACKET_LEAST);
        return FALSE;
    }
    nats->max_payload = (gsize)MIN(max_payload, MAX_PAYLOAD_MOST);
    if (!cbus_nats_source_start(nats->source, nats->loop->poller, &source_handler, nats, error))
        return FALSE;
    if (nats->beat_subject != NULL)
        nats->beat = cbus_nats_beat_new(nats->loop->context, nats->beat_ms, &beat_handler, nats);
    s = cbus_nats_subscriptions_make(nats->subscriptions, nats->connection);
    if (s == NATS_OK)
        return TRUE;
    g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_CONNECT, "subscribing to NATS at %s failed: %s",
                cbus_nats_login_servers(nats->login), natsStatus_GetText(s));
    return FALSE;
}

static void
report_failure(CbusNats *nats, const GError *error)
{
    guint pause = pause_then_dial(nats);

    if (nats->handler.failed != NULL)
        nats->handler.failed(nats, error, pause, nats->user_data);
}

static void
on_dialed(natsConnection *connection, CbusNatsSource *source, const GError *error, gpointer user_data)
{
    CbusNats *nats = user_data;
    g_autoptr(GError) own = NULL;

    g_clear_pointer(&nats->dial, cbus_nats_dial_free);
    enter(nats);
    if (connection == NULL) {
        report_failure(nats, error);
    } else {
        nats->connection = connection;
        nats->source = source;
        if (set_up_connection(nats, &own)) {
            nats->up = TRUE;
            nats->up_since = g_get_monotonic_time();
            cbus_nats_want_write(nats);
            if (nats->handler.up != NULL)
                nats->handler.up(nats, nats->user_data);
        } else {
            destroy_connection(nats);
            report_failure(nats, own);
        }
    }
    leave(nats);
}

static void
dial(CbusNats *nats)
{
    nats->dial = cbus_nats_dial_new(nats->loop->context, nats->login, on_dialed, nats);
}

/* ERROR: CBUS_NATS_ERROR_OPTIONS. Nothing happens before cbus_nats_start(). */
CbusNats *
cbus_nats_new(CbusLoop *loop, const CbusNatsOptions *options, const CbusNatsHandler *handler,
              gpointer user_data, GError **error)
{
    g_autoptr(CbusNatsLogin) login = cbus_nats_login_new(options, error);
    CbusNats *nats;

    if (login == NULL)
        return NULL;
    nats = g_new0(CbusNats, 1);
    nats->loop = loop;
    nats->handler = *handler;
    nats->user_data = user_data;
    nats->login = g_steal_pointer(&login);
    nats->subscriptions = cbus_nats_subscriptions_new(loop->context);
    nats->pause_ms = PAUSE_FIRST_MS;
    nats->beat_ms = options->beat_ms != 0 ? options->beat_ms : BEAT_MS;
    nats->max_payload = MAX_PAYLOAD_DEFAULT;
    nats->write = (CbusDeferred){.func = on_write_turn, .user_data = nats};
    cbus_nats_queue_init(&nats->queue);
    return nats;
}

void
cbus_nats_set_beat(CbusNats *nats, const char *subject)
{
    g_free(nats->beat_subject);
    nats->beat_subject = g_strdup(subject);
}

/* Begins the first attempt. Once. */
void
cbus_nats_start(CbusNats *nats)
{
    g_return_if_fail(nats->dial == NULL && nats->connection == NULL && nats->pause == NULL);
    dial(nats);
}

static void
destroy(CbusNats *nats)
{
    destroy_connection(nats);
    cbus_nats_subscriptions_free(nats->subscriptions);
    g_clear_error(&nats->loss);
    g_free(nats->beat_subject);
    g_free(nats);
}

void
cbus_nats_free(CbusNats *nats)
{
    if (nats == NULL)
        return;
    g_clear_pointer(&nats->dial, cbus_nats_dial_free);
    clear_source(&nats->pause);
    if (nats->up) {
        cbus_nats_source_linger(nats->source);
        on_write_turn(nats);
    }
    clear_source(&nats->burial);
    cbus_nats_beat_stop(nats->beat);
    if (nats->source != NULL)
        cbus_nats_source_stop(nats->source);
    nats->up = FALSE;
    cbus_nats_subscriptions_close(nats->subscriptions);
    cbus_nats_login_disarm(nats->login);
    g_clear_pointer(&nats->login, cbus_nats_login_unref);
    nats->freed = TRUE;
    if (nats->depth == 0)
        destroy(nats);
}

void
cbus_nats_flush(CbusNats *nats, guint timeout_ms)
{
    gint64 deadline = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;

    /* Down, there is no socket to write to. */
    while (nats->up) {
        write_out(nats);
        if (!nats->blocked || !cbus_nats_source_wait_write(nats->source, deadline))
            break;
    }
}

gboolean
cbus_nats_is_up(const CbusNats *nats)
{
    return nats->up;
}

static guint
add_subscription(CbusNats *nats, const char *subject, gboolean no_responders, CbusNatsFunc func,
                 gpointer user_data)
{
    guint id = cbus_nats_subscriptions_add(nats->subscriptions, subject, no_responders, func, user_data);

    if (nats->up && cbus_nats_subscriptions_make(nats->subscriptions, nats->connection) != NATS_OK)
        lost(nats, "a subscription could not be made");
    return id;
}

guint
cbus_nats_subscribe(CbusNats *nats, const char *subject, CbusNatsFunc func, gpointer user_data)
{
    return add_subscription(nats, subject, FALSE, func, user_data);
}

guint
cbus_nats_subscribe_no_responders(CbusNats *nats, const char *subject, CbusNatsFunc func, gpointer user_data)
{
    return add_subscription(nats, subject, TRUE, func, user_data);
}

/* No-op for an id that is not subscribed. */
void
cbus_nats_unsubscribe(CbusNats *nats, guint id)
{
    cbus_nats_subscriptions_remove(nats->subscriptions, id);
}
