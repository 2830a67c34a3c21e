/* How often something may be told.
 *
 * What a machine says of itself, and which names come and go on its bus, is told to everybody on the session
 * bus, each time as a whole. A hostile machine says it again and again: a megabyte of small records would
 * become hundreds of megabytes of signals, and cost the proxy its place on the bus. So the first A_SECOND in
 * a second are told at once, and what follows waits for the second's end and is told together: an honest
 * machine is never slowed down, and what was told last is always what holds.
 *
 * The timer exists only while something waits: a main loop looks at every timer each turn. Loop thread only.
 */
#include "proxy/pace.h"

#define A_SECOND 8

struct _CbusPace {
    CbusLoop *loop;
    void (*tell)(gpointer user_data);
    gpointer user_data;
    gint64 since; /* µs, monotonic: when the second began in which COUNT were told */
    guint count;
    GSource *due;
};

CbusPace *
cbus_pace_new(CbusLoop *loop, void (*tell)(gpointer user_data), gpointer user_data)
{
    CbusPace *pace = g_new0(CbusPace, 1);

    pace->loop = loop;
    pace->tell = tell;
    pace->user_data = user_data;
    return pace;
}

void
cbus_pace_free(CbusPace *pace)
{
    if (pace->due != NULL)
        g_source_destroy(pace->due);
    g_clear_pointer(&pace->due, g_source_unref);
    g_free(pace);
}

static gboolean
on_due(gpointer user_data)
{
    CbusPace *pace = user_data;

    g_clear_pointer(&pace->due, g_source_unref);
    pace->since = g_get_monotonic_time();
    pace->count = 1;
    pace->tell(pace->user_data);
    return G_SOURCE_REMOVE;
}

gboolean
cbus_pace_may(CbusPace *pace)
{
    gint64 now = g_get_monotonic_time();

    if (pace->due != NULL)
        return FALSE;
    if (now - pace->since >= G_USEC_PER_SEC) {
        pace->since = now;
        pace->count = 0;
    }
    if (++pace->count <= A_SECOND)
        return TRUE;
    pace->due = g_timeout_source_new((guint)((pace->since + G_USEC_PER_SEC - now) / 1000) + 1);
    g_source_set_callback(pace->due, on_due, pace, NULL);
    g_source_attach(pace->due, pace->loop->context);
    return FALSE;
}

gboolean
cbus_pace_is_due(const CbusPace *pace)
{
    return pace->due != NULL;
}
