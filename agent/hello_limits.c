/* Counts of a second: hellos per claimed identity, hellos in all, refusals in all.
 *
 * A hello is not signed, so anybody on NATS can send one in anybody's name, and each costs a key agreement
 * and a signature of the host key. Hence limits, and since a limit per name can be filled by a forger, they
 * are counted anew each second: whoever is genuine gets in when the flood is over, or between its waves, and
 * a forger of one name does not use up what there is for all.
 *
 * Memory is bounded by what is counted: a name is remembered only for a hello that the limit for all let
 * through, hence at most 500 of them, for a second.
 *
 * Trusts the caller's clock to be monotonic. Loop thread only.
 */
#include "agent/hello_limits.h"

#define EACH_PER_SECOND     32
#define ALL_PER_SECOND      500
#define REFUSALS_PER_SECOND 10

struct _CbusHelloLimits {
    gint64 second_began;
    guint all, refusals;
    GHashTable *each; /* CbusKey, owned → count */
};

CbusHelloLimits *
cbus_hello_limits_new(void)
{
    CbusHelloLimits *limits = g_new0(CbusHelloLimits, 1);

    limits->each = g_hash_table_new_full(cbus_key_hash, cbus_key_equal, g_free, NULL);
    return limits;
}

void
cbus_hello_limits_free(CbusHelloLimits *limits)
{
    if (limits == NULL)
        return;
    g_hash_table_destroy(limits->each);
    g_free(limits);
}

static void
roll(CbusHelloLimits *limits, gint64 now)
{
    if (limits->second_began != 0 && now - limits->second_began < G_USEC_PER_SEC)
        return;
    limits->second_began = now;
    limits->all = limits->refusals = 0;
    g_hash_table_remove_all(limits->each);
}

gboolean
cbus_hello_limits_admit(CbusHelloLimits *limits, const CbusKey *proxy, gint64 now)
{
    roll(limits, now);
    if (limits->all >= ALL_PER_SECOND)
        return FALSE;
    guint count = GPOINTER_TO_UINT(g_hash_table_lookup(limits->each, proxy));
    if (count >= EACH_PER_SECOND)
        return FALSE;
    limits->all++;
    g_hash_table_insert(limits->each, g_memdup2(proxy, sizeof *proxy), GUINT_TO_POINTER(count + 1));
    return TRUE;
}

gboolean
cbus_hello_limits_refusal(CbusHelloLimits *limits, gint64 now)
{
    roll(limits, now);
    if (limits->refusals >= REFUSALS_PER_SECOND)
        return FALSE;
    limits->refusals++;
    return TRUE;
}
