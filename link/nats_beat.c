/* The heartbeat of a NATS connection.
 *
 * Any byte from the server is life, so a busy connection costs nothing. When none has come for an interval,
 * the owner is asked to put a question: an empty message to one of its own subscriptions, which the server
 * echoes, whoever else listens. (A 503 from a subject without subscribers would do only until somebody
 * subscribes to all; a PING can be sent by nats.c only with waiting for its answer, by a clock that may be
 * set.) UNANSWERED intervals later, still without a byte, the server is silent, and the owner gives the
 * connection up. With the default interval that is twelve seconds after the first question, longer than
 * nats-server's own write deadline of ten: a slow subscriber makes the server throttle innocent publishers
 * for so long.
 *
 * nats.c's own ping timer is off because it closes the descriptor from a thread of its own. A server whose
 * permissions forbid the question answers with an error, which is a byte, too. Trust: none needed; a hostile
 * server can pretend to live. */
#include "link/nats_beat.h"

#define UNANSWERED 2

struct _CbusNatsBeat {
    GSource *timer; /* NULL: stopped */
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
        beat->handler->ask(beat->user_data);
        return G_SOURCE_CONTINUE;
    }
    beat->handler->silent(beat->interval_ms * beat->quiet, beat->user_data);
    return G_SOURCE_REMOVE;
}

CbusNatsBeat *
cbus_nats_beat_new(GMainContext *context, guint interval_ms, const CbusNatsBeatHandler *handler,
                   gpointer user_data)
{
    CbusNatsBeat *beat = g_new0(CbusNatsBeat, 1);

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
    if (beat != NULL)
        beat->alive = TRUE;
}
