/* "I am here": an unsigned hint, so that proxies need not poll.
 *
 * While NATS is up an announcement goes out every 5 s, give or take a second, so that a fleet started by one
 * power switch does not speak in one breath. "Who is there?" moves the next one up to a random moment within
 * 500 ms, but never closer than a second to the last: whoever asks a thousand times a second gets one answer
 * a second. A farewell is the last word; nothing is announced after it until the next start.
 *
 * The hint holds the identity, this process's instance and a counter; no name, since subjects and hints are
 * public.
 *
 * Loop thread only.
 */
#include "agent/presence.h"

#include "wire/handshake.h"
#include "wire/subject.h"

#define PERIOD_MS       5000
#define JITTER_MS       1000
#define ANSWER_MAX_MS   500
#define ANSWER_PAUSE_US G_USEC_PER_SEC

struct _CbusAnnouncer {
    CbusLoop *loop;
    CbusNats *nats;
    CbusPresence presence;
    char subject[CBUS_SUBJECT_MAX];
    guint who;
    GSource *timer;
    gint64 next_at, last_at;
};

static void set_timer(CbusAnnouncer *announcer, gint64 when);

static void
publish(CbusAnnouncer *announcer)
{
    guint8 bytes[CBUS_PRESENCE_BYTES];

    announcer->presence.beat++;
    announcer->last_at = g_get_monotonic_time();
    cbus_presence_write(&announcer->presence, bytes);
    /* A hint that is lost is made up for by the next one. */
    if (!cbus_nats_publish(announcer->nats, announcer->subject, NULL, bytes, sizeof bytes))
        g_debug("presence was not published");
}

static gboolean
on_timer(gpointer user_data)
{
    CbusAnnouncer *announcer = user_data;
    gint64 pause_ms = PERIOD_MS + g_random_int_range(-JITTER_MS, JITTER_MS + 1);

    publish(announcer);
    set_timer(announcer, announcer->last_at + pause_ms * 1000);
    return G_SOURCE_REMOVE;
}

static void
clear_timer(CbusAnnouncer *announcer)
{
    if (announcer->timer == NULL)
        return;
    g_source_destroy(announcer->timer);
    g_clear_pointer(&announcer->timer, g_source_unref);
}

static void
set_timer(CbusAnnouncer *announcer, gint64 when)
{
    gint64 pause_ms = MAX(when - g_get_monotonic_time(), 0) / 1000;

    clear_timer(announcer);
    announcer->next_at = when;
    announcer->timer = g_timeout_source_new((guint)pause_ms);
    g_source_set_callback(announcer->timer, on_timer, announcer, NULL);
    g_source_attach(announcer->timer, announcer->loop->context);
}

static void
on_who(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    CbusAnnouncer *announcer = user_data;
    gint64 when = g_get_monotonic_time() + g_random_int_range(0, ANSWER_MAX_MS + 1) * 1000;

    when = MAX(when, announcer->last_at + ANSWER_PAUSE_US);
    if (announcer->timer != NULL && when < announcer->next_at)
        set_timer(announcer, when);
}

CbusAnnouncer *
cbus_announcer_new(CbusLoop *loop, CbusNats *nats, const CbusKey *agent, const CbusInstance *instance)
{
    CbusAnnouncer *announcer = g_new0(CbusAnnouncer, 1);

    announcer->loop = loop;
    announcer->nats = nats;
    announcer->presence = (CbusPresence){.agent = *agent, .instance = *instance};
    cbus_subject_here(announcer->subject, agent);
    announcer->who = cbus_nats_subscribe(nats, CBUS_SUBJECT_WHO, on_who, announcer);
    return announcer;
}

void
cbus_announcer_free(CbusAnnouncer *announcer)
{
    if (announcer == NULL)
        return;
    cbus_nats_unsubscribe(announcer->nats, announcer->who);
    clear_timer(announcer);
    g_free(announcer);
}

void
cbus_announcer_start(CbusAnnouncer *announcer)
{
    (void)on_timer(announcer);
}

void
cbus_announcer_stop(CbusAnnouncer *announcer)
{
    clear_timer(announcer);
}

void
cbus_announcer_farewell(CbusAnnouncer *announcer)
{
    clear_timer(announcer);
    announcer->presence.farewell = TRUE;
    publish(announcer);
    announcer->presence.farewell = FALSE;
}
