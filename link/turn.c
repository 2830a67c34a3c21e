/* The end of a turn, as a GSource that is never ready.
 *
 * A GMainContext prepares its sources, polls, and dispatches what became ready. Between a dispatch and the
 * next poll nothing of ours runs unless a source's prepare does: so prepare is where a turn ends. What was
 * gathered while dispatching (messages read from many sockets) is sealed and written there once, and the
 * poll that follows sleeps with nothing left behind.
 *
 * A context whose poller knows the turn ends it still earlier, inside the wait that brought the events
 * (poller.c); what other sources defer while they are dispatched is left to prepare.
 *
 * Promise: a function deferred while dispatching, or by another deferred function, runs before the next
 * poll; all of PACK before any of WRITE; in the order in which they were deferred within a phase. When WRITE
 * defers PACK (a write that fails and ends links), the phases run again.
 *
 * Trust: functions are ours. They must not iterate the context (GLib forbids it inside prepare), and none
 * may defer itself for ever: that would be a loop without a poll. Deferring from the prepare of another
 * source is not supported: this one runs first, having the highest priority.
 *
 * Each phase is a circular list through the embedded CbusDeferred, with the head as its sentinel: deferring,
 * cancelling and running allocate nothing, and cancelling needs no turn. One thread: the context's. */
#include "link/turn.h"
#include "link/rest.h"

struct _CbusTurn {
    GSource *source;
    CbusDeferred heads[CBUS_TURN_PHASES];
    CbusRest rest;
};

typedef struct {
    GSource base;
    CbusTurn *turn;
} TurnSource;

static void
list_init(CbusDeferred *head)
{
    head->next = head->prev = head;
}

static void
unlink_deferred(CbusDeferred *deferred)
{
    g_assert(deferred->prev != NULL && deferred->next != NULL);
    deferred->prev->next = deferred->next;
    deferred->next->prev = deferred->prev;
    deferred->next = deferred->prev = NULL;
}

/* Unlinked before it is called: the function may defer itself for later, or free its own memory. */
static gboolean
run_first(CbusDeferred *head)
{
    CbusDeferred *first = head->next;

    if (first == head)
        return FALSE;
    unlink_deferred(first);
    first->func(first->user_data);
    return TRUE;
}

void
cbus_turn_begin(CbusTurn *turn)
{
    cbus_rest_begin(&turn->rest, g_get_monotonic_time());
}

void
cbus_turn_end(CbusTurn *turn)
{
    for (guint phase = 0; phase < CBUS_TURN_PHASES;) {
        if (!run_first(&turn->heads[phase]))
            phase++;
        else if (phase > 0)
            phase = 0;
    }
}

static gboolean
turn_prepare(GSource *source, gint *timeout)
{
    cbus_turn_end(((TurnSource *)source)->turn);
    *timeout = -1;
    return FALSE;
}

static gboolean
turn_check(GSource *source)
{
    return FALSE;
}

static GSourceFuncs turn_funcs = {
    .prepare = turn_prepare,
    .check = turn_check,
};

/* The end of every turn of CONTEXT. To be made and freed by the thread that runs it. */
CbusTurn *
cbus_turn_new(GMainContext *context)
{
    CbusTurn *turn = g_new0(CbusTurn, 1);

    for (guint phase = 0; phase < CBUS_TURN_PHASES; phase++)
        list_init(&turn->heads[phase]);
    turn->source = g_source_new(&turn_funcs, sizeof(TurnSource));
    ((TurnSource *)turn->source)->turn = turn;
    g_source_set_static_name(turn->source, "cbus-turn");
    g_source_set_priority(turn->source, G_MININT);
    g_source_attach(turn->source, context);
    return turn;
}

/* What is still deferred is forgotten, and may be cancelled or freed afterwards. */
void
cbus_turn_free(CbusTurn *turn)
{
    for (guint phase = 0; phase < CBUS_TURN_PHASES; phase++) {
        while (turn->heads[phase].next != &turn->heads[phase])
            unlink_deferred(turn->heads[phase].next);
    }
    g_source_destroy(turn->source);
    g_source_unref(turn->source);
    g_free(turn);
}

/* Runs DEFERRED before the next poll. No-op while it is queued, in whichever phase. */
void
cbus_turn_defer(CbusTurn *turn, CbusTurnPhase phase, CbusDeferred *deferred)
{
    CbusDeferred *head = &turn->heads[phase];

    if (deferred->next != NULL)
        return;
    deferred->next = head;
    deferred->prev = head->prev;
    head->prev->next = deferred;
    head->prev = deferred;
}

/* No-op when DEFERRED is not queued. */
void
cbus_turn_cancel(CbusDeferred *deferred)
{
    if (deferred->next != NULL)
        unlink_deferred(deferred);
}

void
cbus_turn_count(CbusTurn *turn)
{
    turn->rest.messages++;
}

void
cbus_turn_rest(const CbusTurn *turn)
{
    if (!cbus_rest_is_deep(&turn->rest))
        return;
    guint us = cbus_rest_us(&turn->rest, g_get_monotonic_time());
    if (us > 0)
        g_usleep(us);
}
