/* What all links of a process share: the budget of credit, and one timer.
 *
 * A thousand idle links must cost nothing: a GSource each would be looked at in every turn of the loop. One
 * timer runs each second while there are links, and earlier when a link asks for it (suspicion, a full
 * transport). It also notices that the machine slept, which ends all links (link/clock.h).
 *
 * The list of links is in the order in which they came; links that end during a tick stay in it until they
 * are freed, and nothing that a tick does calls a user.
 *
 * Loop thread only.
 */
#include "link/clock.h"
#include "link/link_private.h"

#define TICK_US G_USEC_PER_SEC

CbusBudget *
cbus_budget_new(gsize bytes)
{
    CbusBudget *budget = g_new0(CbusBudget, 1);

    budget->bytes = bytes;
    budget->asleep = cbus_clock_asleep();
    g_queue_init(&budget->links);
    return budget;
}

void
cbus_budget_free(CbusBudget *budget)
{
    if (budget == NULL)
        return;
    g_assert(budget->links.length == 0 && budget->used == 0 && budget->assembling == 0);
    g_free(budget);
}

static gint64
budget_now(const CbusBudget *budget)
{
    return budget->now != NULL ? budget->now(budget->now_data) : g_get_monotonic_time();
}

gint64
cbus_link_now(const CbusLink *link)
{
    return budget_now(link->budget);
}

void
cbus_budget_set_clock(CbusBudget *budget, gint64 (*now)(gpointer data), gpointer data)
{
    budget->now = now;
    budget->now_data = data;
}

void
cbus_budget_tick(CbusBudget *budget)
{
    gint64 now = budget_now(budget);
    gboolean slept = cbus_clock_jumped(&budget->asleep, cbus_clock_asleep());

    for (GList *node = budget->links.head; node != NULL; node = node->next) {
        CbusLink *link = node->data;
        if (slept) {
            cbus_link_fail(link, CBUS_LINK_ERROR_LOST, "this machine was suspended or restored");
            continue;
        }
        if (link->stalled && link->state == CBUS_LINK_OPEN)
            cbus_link_check_backlog(link);
        cbus_ping_tick(link, now);
        cbus_credit_tick(link, now);
        cbus_batch_tick(link, now);
    }
}

static gboolean
on_timer(GSource *source, GSourceFunc callback, gpointer user_data)
{
    CbusBudget *budget = *(CbusBudget **)(source + 1);

    budget->tick_at = g_get_monotonic_time() + TICK_US;
    g_source_set_ready_time(source, budget->tick_at);
    cbus_budget_tick(budget);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs timer_funcs = {.dispatch = on_timer};

void
cbus_budget_wake_at(CbusBudget *budget, gint64 when)
{
    if (budget->timer == NULL || budget->now != NULL || when >= budget->tick_at)
        return;
    budget->tick_at = when;
    g_source_set_ready_time(budget->timer, when);
}

void
cbus_budget_attach(CbusBudget *budget, CbusLink *link)
{
    g_queue_push_tail_link(&budget->links, &link->in_budget);
    if (budget->timer != NULL)
        return;
    budget->timer = g_source_new(&timer_funcs, sizeof(GSource) + sizeof(CbusBudget *));
    *(CbusBudget **)(budget->timer + 1) = budget;
    budget->tick_at = g_get_monotonic_time() + TICK_US;
    g_source_set_ready_time(budget->timer, budget->tick_at);
    g_source_attach(budget->timer, link->loop->context);
}

void
cbus_budget_detach(CbusBudget *budget, CbusLink *link)
{
    g_queue_unlink(&budget->links, &link->in_budget);
    if (budget->links.length > 0)
        return;
    g_source_destroy(budget->timer);
    g_clear_pointer(&budget->timer, g_source_unref);
}
