/* How much may be under way to us, and from us.
 *
 * nats-server drops a client that has 64 MB waiting. So whoever sends MESSAGE and TREE records needs credit
 * from the receiver; all other records are small, few, and free. Positions count the bytes of such records,
 * headers too, since the link began; the receiver tells a limit, the sender stops there and tells up to where
 * it would go (WANTED). At first, and for each link always, 32 KiB may be under way.
 *
 * The receiver renews the limit when half of the window is consumed, with the next packet it sends anyway:
 * calls and replies carry it along, where a packet of its own would cost each fourth call of 4 KiB a send
 * more. When a quarter is left it does so at once. A window grows when the sender tells that it wants more
 * than the window: it doubles, up to 4 MiB, out of one budget for all links of the process (32 MiB). An
 * exhausted budget only means that the window stays as it is: nobody waits for ever.
 *
 * It shrinks by agreement: a sender that has sent nothing for five seconds gives back what it holds beyond
 * 32 KiB (CREDIT with WANTED equal to what it sent, which an idle sender has no other use for), and the
 * receiver returns that to the budget. After fifteen silent seconds the receiver does so by itself; what it
 * once granted stays granted, though: no honest peer can be caught by a shrinking window. WANTED 0 says
 * nothing.
 *
 * Promises: a peer that sends more than it was ever granted is found at once; the budget is never overdrawn
 * by honest peers; at most one CREDIT record leaves a link per turn, and only if it says something new, so
 * two links never talk about credit alone for ever. Trusts nothing of a CREDIT record: a limit may be
 * anything (too high harms the teller only), a WANTED below what already came is no honest peer's. Loop
 * thread only.
 */
#include "link/link_private.h"

#define IDLE_US    (5 * G_USEC_PER_SEC)
#define RECLAIM_US (15 * G_USEC_PER_SEC)

void
cbus_credit_init(CbusLink *link)
{
    gint64 now = cbus_link_now(link);

    link->credit = (CbusCredit){
        .limit = CBUS_WINDOW_FIRST,
        .told = CBUS_WINDOW_FIRST,
        .hard = CBUS_WINDOW_FIRST,
        .window = CBUS_WINDOW_FIRST,
        .sent_at = now,
        .received_at = now,
    };
}

static void
shrink(CbusLink *link)
{
    link->budget->used -= link->credit.window - CBUS_WINDOW_FIRST;
    link->credit.window = CBUS_WINDOW_FIRST;
}

static void
grow(CbusLink *link)
{
    CbusCredit *credit = &link->credit;
    gsize more = MIN(credit->window, CBUS_WINDOW_MAX - credit->window);

    more = MIN(more, link->budget->bytes - link->budget->used);
    link->budget->used += more;
    credit->window += more;
}

void
cbus_credit_clear(CbusLink *link)
{
    shrink(link);
}

void
cbus_credit_spend(CbusLink *link, gsize bytes)
{
    link->credit.sent += bytes;
    link->credit.sent_at = cbus_link_now(link);
}

gboolean
cbus_credit_consume(CbusLink *link, gsize bytes)
{
    CbusCredit *credit = &link->credit;

    if (bytes > credit->hard - credit->received)
        return FALSE;
    credit->received += bytes;
    credit->received_at = link->last_opened;
    credit->rides = credit->told < credit->received + credit->window / 2;
    if (credit->told < credit->received + credit->window / 4) {
        credit->due = TRUE;
        cbus_link_wake(link);
    }
    return TRUE;
}

gboolean
cbus_credit_heard(CbusLink *link, guint64 limit, guint64 wanted)
{
    CbusCredit *credit = &link->credit;

    if (wanted != 0 && wanted < credit->received)
        return FALSE;
    if (limit > credit->limit) {
        credit->limit = limit;
        if (link->ready.length > 0)
            cbus_link_wake(link);
    }
    if (wanted == 0)
        return TRUE;
    credit->peer_wanted = wanted;
    if (wanted == credit->received) {
        shrink(link);
        credit->told = credit->received + CBUS_WINDOW_FIRST;
    } else if (wanted > credit->told) {
        credit->due = TRUE;
        cbus_link_wake(link);
    }
    return TRUE;
}

/* Whoever has a queue and stands at the limit says so once per limit. */
static guint64
wanted(CbusLink *link)
{
    CbusCredit *credit = &link->credit;

    if (link->ready.length == 0 || link->stalled || credit->asked_at == credit->limit)
        return 0;
    credit->asked_at = credit->limit;
    return credit->sent + link->queued + CBUS_RECORD_HEADER_BYTES * (1 + link->queued / 1024);
}

void
cbus_credit_pack(CbusLink *link)
{
    CbusCredit *credit = &link->credit;
    guint64 want = wanted(link);
    guint64 told = credit->told;
    guint8 payload[16];

    if (credit->due || (credit->rides && cbus_batch_room(link) < cbus_batch_capacity(link))) {
        credit->due = credit->rides = FALSE;
        if (credit->peer_wanted > credit->received + credit->window)
            grow(link);
        credit->told = MAX(told, credit->received + credit->window);
        credit->hard = MAX(credit->hard, credit->told);
    }
    if (want == 0 && credit->told == told)
        return;
    cbus_put_be64(payload, credit->told);
    cbus_put_be64(payload + 8, want);
    cbus_link_control(link, CBUS_RECORD_CREDIT, 0, payload, sizeof payload);
}

void
cbus_credit_tick(CbusLink *link, gint64 now)
{
    CbusCredit *credit = &link->credit;
    guint8 payload[16];

    if (credit->window > CBUS_WINDOW_FIRST && now - credit->received_at >= RECLAIM_US)
        shrink(link);
    if (link->state != CBUS_LINK_OPEN || link->queued > 0 || now - credit->sent_at < IDLE_US ||
        cbus_credit_left(link) <= CBUS_WINDOW_FIRST)
        return;
    credit->limit = credit->sent + CBUS_WINDOW_FIRST;
    cbus_put_be64(payload, credit->told);
    cbus_put_be64(payload + 8, credit->sent);
    cbus_link_control(link, CBUS_RECORD_CREDIT, 0, payload, sizeof payload);
}
