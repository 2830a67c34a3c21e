/* Silence: pings, the round trip, suspicion.
 *
 * Each end pings: every second while the link is busy (calls pending, portals open), else every 30 s. One
 * ping is under way at a time. Whatever packet opens is a sign of life, so that a slow connection full of
 * data is not taken for a dead one; when a ping is unanswered and nothing at all opened for 10 s, the link
 * ends.
 *
 * Suspicion (a 503, a farewell: both can be forged by any NATS user) pings at once and gives max(500 ms, 4 ×
 * round trip); any packet that opens lifts it. So forging costs us a ping per forgery answered, and no link.
 *
 * cbus_link_ping() measures for a user: who asks while a ping is under way waits for the next one, so that
 * the time told is not longer than the round trip was.
 *
 * A PONG that answers nothing is ignored: it may belong to a ping that suspicion sent twice.
 *
 * Time comes from the budget's clock, which tests replace. Loop thread only.
 */
#include "link/link_private.h"

#define BUSY_US       G_USEC_PER_SEC
#define QUIET_US      (30 * G_USEC_PER_SEC)
#define SILENCE_US    (10 * G_USEC_PER_SEC)
#define DOUBT_MIN_US  (500 * 1000)
#define DOUBT_ROUNDS  4
#define SCHEDULE_SLOP (10 * G_USEC_PER_SEC) /* idle links of a fleet do not ping in one breath */

void
cbus_ping_init(CbusLink *link)
{
    gint64 now = cbus_link_now(link);

    link->last_opened = now;
    link->last_sent = now;
    link->ping_at = now + QUIET_US - g_random_int_range(0, SCHEDULE_SLOP);
    link->pingers_now = g_array_new(FALSE, FALSE, sizeof(CbusPinger));
    link->pingers_next = g_array_new(FALSE, FALSE, sizeof(CbusPinger));
}

static void
send_ping(CbusLink *link, gint64 now)
{
    guint8 payload[8];

    if (link->ping_sent == 0) {
        link->ping_cookie++;
        link->ping_sent = now;
        GArray *answered = link->pingers_now;
        link->pingers_now = link->pingers_next;
        link->pingers_next = answered;
    }
    link->ping_at = now + (link->busy ? BUSY_US : QUIET_US);
    link->probe = TRUE;
    cbus_put_be64(payload, link->ping_cookie);
    cbus_link_control(link, CBUS_RECORD_PING, 0, payload, sizeof payload);
}

static void
answer_pingers(CbusLink *link, GArray **pingers, gint64 round_trip)
{
    g_autoptr(GArray) waiting = g_steal_pointer(pingers);

    *pingers = g_array_new(FALSE, FALSE, sizeof(CbusPinger));
    for (guint i = 0; i < waiting->len; i++) {
        const CbusPinger *pinger = &g_array_index(waiting, CbusPinger, i);
        pinger->func(round_trip, pinger->user_data);
    }
}

void
cbus_ping_over(CbusLink *link)
{
    if (link->pingers_now->len > 0)
        answer_pingers(link, &link->pingers_now, -1);
    if (link->pingers_next->len > 0)
        answer_pingers(link, &link->pingers_next, -1);
}

void
cbus_ping_opened(CbusLink *link)
{
    link->last_opened = cbus_link_now(link);
    link->suspected_until = 0;
}

void
cbus_ping_pong(CbusLink *link, guint64 cookie)
{
    if (link->ping_sent == 0 || cookie != link->ping_cookie)
        return;
    link->round_trip = MAX(link->last_opened - link->ping_sent, 1);
    link->ping_sent = 0;
    if (link->pingers_next->len > 0) {
        GArray *answered = link->pingers_now;
        link->pingers_now = g_array_new(FALSE, FALSE, sizeof(CbusPinger));
        send_ping(link, link->last_opened);
        answer_pingers(link, &answered, link->round_trip);
        g_array_unref(answered);
    } else if (link->pingers_now->len > 0) {
        answer_pingers(link, &link->pingers_now, link->round_trip);
    }
}

void
cbus_ping_tick(CbusLink *link, gint64 now)
{
    if (link->state != CBUS_LINK_OPEN)
        return;
    if (link->suspected_until != 0 && now >= link->suspected_until) {
        cbus_link_fail(link, CBUS_LINK_ERROR_LOST,
                       "the other side seems to be gone, and nothing came back from it when asked");
        return;
    }
    if (link->ping_sent != 0 && now - MAX(link->ping_sent, link->last_opened) >= SILENCE_US) {
        cbus_link_fail(link, CBUS_LINK_ERROR_LOST, "the other side has not answered for 10 seconds");
        return;
    }
    if (link->ping_sent == 0 && now >= link->ping_at)
        send_ping(link, now);
}

void
cbus_link_set_busy(CbusLink *link, gboolean busy)
{
    g_return_if_fail(busy || link->busy > 0);
    link->busy += busy ? 1 : -1;
    if (link->busy == 1 && busy)
        link->ping_at = MIN(link->ping_at, cbus_link_now(link) + BUSY_US);
}

void
cbus_link_suspect(CbusLink *link)
{
    if (link->state != CBUS_LINK_OPEN || link->suspected_until != 0)
        return;
    gint64 now = cbus_link_now(link);
    link->suspected_until = now + MAX(DOUBT_MIN_US, DOUBT_ROUNDS * link->round_trip);
    send_ping(link, now);
    cbus_budget_wake_at(link->budget, link->suspected_until);
}

void
cbus_link_ping(CbusLink *link, CbusPingFunc func, gpointer user_data)
{
    CbusPinger pinger = {func, user_data};

    if (link->state != CBUS_LINK_OPEN && link->ending == NULL) {
        func(-1, user_data);
        return;
    }
    g_array_append_val(link->pingers_next, pinger);
    if (link->state == CBUS_LINK_OPEN && link->ping_sent == 0)
        send_ping(link, cbus_link_now(link));
}

gint64
cbus_link_round_trip(const CbusLink *link)
{
    return link->round_trip;
}
