/* The heartbeat of a NATS connection.
 *
 * Any byte from the server is life, so a busy connection costs nothing. When none has come for an interval, a
 * message is published to a subject that nobody can know, with a reply subject of ours: the server itself
 * answers that with a 503. (An echo of our own publish would not do: with NoEcho the server sends none.)
 * UNANSWERED intervals later, still without a byte, the server is silent, and the owner gives the connection
 * up. With the default interval that is twelve seconds after the first question, longer than nats-server's
 * own write deadline of ten: a slow subscriber makes the server throttle innocent publishers for so long.
 *
 * nats.c's own ping timer is off because it closes the descriptor from a thread of its own. A server whose
 * permissions forbid inbox subjects answers with an error, which is a byte, too. Trust: none needed; a
 * hostile server can pretend to live. */
#include "link/nats_beat.h"

#define UNANSWERED 2

struct _CbusNatsBeat {
    natsConnection *connection; /* borrowed */
    natsSubscription *answers;
    char *answer_subject, *nobody_subject;
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
        natsConnection_PublishRequest(beat->connection, beat->nobody_subject, beat->answer_subject, NULL, 0);
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
    natsInbox *unique = NULL;
    CbusNatsBeat *beat;

    if (natsInbox_Create(&unique) != NATS_OK)
        return NULL;
    beat = g_new0(CbusNatsBeat, 1);
    beat->answer_subject = g_strconcat(unique, ".life", NULL);
    beat->nobody_subject = g_strconcat(unique, ".nobody", NULL);
    natsInbox_Destroy(unique);
    beat->connection = connection;
    beat->interval_ms = interval_ms;
    beat->alive = TRUE;
    beat->handler = handler;
    beat->user_data = user_data;
    if (natsConnection_SubscribeSync(&beat->answers, connection, beat->answer_subject) != NATS_OK) {
        cbus_nats_beat_free(beat);
        return NULL;
    }
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
    g_clear_pointer(&beat->answers, natsSubscription_Destroy);
    g_free(beat->answer_subject);
    g_free(beat->nobody_subject);
    g_free(beat);
}

void
cbus_nats_beat_alive(CbusNatsBeat *beat)
{
    natsMsg *answer;

    beat->alive = TRUE;
    while (natsSubscription_NextMsg(&answer, beat->answers, 0) == NATS_OK)
        natsMsg_Destroy(answer);
}
