/* Pings of one machine.
 *
 * However many callers wait, one measurement is on the wire, and all get its result. At most
 * CBUS_PINGS_LIMIT wait.
 *
 * When a link ends, its answer may still come (−1, when the link is freed): the measurement holds a pointer
 * to us that abandon() clears, so that it is then told to nobody and the callers are told by fail(), at the
 * moment that the machine chooses. Loop thread only. */
#include "proxy/pings.h"

typedef struct {
    CbusPingFunc func;
    gpointer user_data;
} Waiting;

struct _CbusPings {
    GArray *waiting;       /* of Waiting: for the ping on the wire */
    CbusPings **measuring; /* the ping's user data; NULL when none is on the wire */
};

CbusPings *
cbus_pings_new(void)
{
    CbusPings *pings = g_new0(CbusPings, 1);

    pings->waiting = g_array_new(FALSE, FALSE, sizeof(Waiting));
    return pings;
}

void
cbus_pings_free(CbusPings *pings)
{
    g_array_unref(pings->waiting);
    g_free(pings);
}

static void
finish(CbusPings *pings, gint64 round_trip)
{
    g_autoptr(GArray) waiting = pings->waiting;

    pings->waiting = g_array_new(FALSE, FALSE, sizeof(Waiting));
    for (guint i = 0; i < waiting->len; i++) {
        const Waiting *one = &g_array_index(waiting, Waiting, i);

        one->func(round_trip, one->user_data);
    }
}

static void
on_pong(gint64 round_trip, gpointer user_data)
{
    CbusPings **measuring = user_data;
    CbusPings *pings = *measuring;

    g_free(measuring);
    if (pings == NULL)
        return;
    pings->measuring = NULL;
    finish(pings, round_trip);
}

gboolean
cbus_pings_add(CbusPings *pings, CbusLink *link, CbusPingFunc func, gpointer user_data)
{
    Waiting one = {func, user_data};

    if (pings->waiting->len >= CBUS_PINGS_LIMIT)
        return FALSE;
    g_array_append_val(pings->waiting, one);
    if (pings->measuring == NULL) {
        pings->measuring = g_new(CbusPings *, 1);
        *pings->measuring = pings;
        cbus_link_ping(link, on_pong, pings->measuring);
    }
    return TRUE;
}

void
cbus_pings_abandon(CbusPings *pings)
{
    if (pings->measuring != NULL)
        *pings->measuring = NULL;
    pings->measuring = NULL;
}

void
cbus_pings_fail(CbusPings *pings)
{
    finish(pings, -1);
}
