/* The heartbeat of a NATS connection.
 *
 * Any byte from the server is life, so a busy connection costs nothing. When none has come for an interval,
 * NATS's own PING is sent, which the server answers whatever the permissions of this user are and whoever
 * else listens. (A message to a subject without subscribers would do only until somebody subscribes to all,
 * and both its subjects would have to be permitted.) UNANSWERED intervals later, still without a byte, the
 * server is silent, and the owner gives the connection up. With the default interval that is twelve seconds
 * after the first question, longer than nats-server's own write deadline of ten: a slow subscriber makes the
 * server throttle innocent publishers for so long.
 *
 * nats.c's own ping timer is off because it closes the descriptor from a thread of its own; the one other
 * way to send a PING is a flush with a deadline. The answer can not come while the loop waits, so the
 * deadline, the least there is, always passes: a millisecond in six seconds of silence, when there is nothing
 * else to do. Trust: none needed; a hostile server can pretend to live. */
#include "link/nats_beat.h"

#define UNANSWERED 2
#define PING_MS    1

struct _CbusNatsBeat {
    natsConnection *connection; /* borrowed */
    GSource *timer;             /* NULL: stopped */
    guint interval_ms, quiet;
    gboolean alive;
    const CbusNatsBeatHandler *handler;
    gpointer user_data;
};

static gboolean
on_timer(gpointer user_data)
{
    CbusNatsBeat *beat = user_data;

    if (beat->alive) {
        beat->alive = FALSE;
        beat->quiet = 0;
        return G_SOURCE_CONTINUE;
    }
    if (beat->quiet++ < UNANSWERED) {
        (void)natsConnection_FlushTimeout(beat->connection, PING_MS);
        beat->handler->probe(beat->user_data);
        return G_SOURCE_CONTINUE;
    }
    beat->handler->silent(beat->interval_ms * beat->quiet, beat->user_data);
    return G_SOURCE_REMOVE;
}

CbusNatsBeat *
cbus_nats_beat_new(GMainContext *context, guint interval_ms, natsConnection *connection,
                   const CbusNatsBeatHandler *handler, gpointer user_data)
{
    CbusNatsBeat *beat = g_new0(CbusNatsBeat, 1);

    beat->connection = connection;
    beat->interval_ms = interval_ms;
    beat->alive = TRUE;
    beat->handler = handler;
    beat->user_data = user_data;
    beat->timer = g_timeout_source_new(interval_ms);
    g_source_set_callback(beat->timer, on_timer, beat, NULL);
    g_source_attach(beat->timer, context);
    return beat;
}

void
cbus_nats_beat_stop(CbusNatsBeat *beat)
{
    if (beat == NULL || beat->timer == NULL)
        return;
    g_source_destroy(beat->timer);
    g_clear_pointer(&beat->timer, g_source_unref);
}

void
cbus_nats_beat_free(CbusNatsBeat *beat)
{
    if (beat == NULL)
        return;
    cbus_nats_beat_stop(beat);
    g_free(beat);
}

void
cbus_nats_beat_alive(CbusNatsBeat *beat)
{
    beat->alive = TRUE;
}
