/* Channels counted by whom they are charged to.
 *
 * dbus-daemon allows 256 connections of one uid, dbus-broker charges bytes per uid. Without a count of our
 * own one operator's channels could take the whole allowance of root, and the machine's own services would be
 * locked out of their bus. A caller is counted by identity, so that two processes of one operator share one
 * allowance; the uid is the one that the bus sees.
 *
 * Plain counters, checked when taken and when given back; a count that falls to nothing is forgotten. */
#include "agent/quota.h"

struct _CbusQuota {
    GHashTable *callers; /* CbusKey → guint */
    GHashTable *uids;    /* guint32 → guint */
};

CbusQuota *
cbus_quota_new(void)
{
    CbusQuota *self = g_new0(CbusQuota, 1);

    self->callers = g_hash_table_new_full(cbus_key_hash, cbus_key_equal, g_free, NULL);
    self->uids = g_hash_table_new(NULL, NULL);
    return self;
}

void
cbus_quota_free(CbusQuota *self)
{
    g_assert(g_hash_table_size(self->callers) == 0 && g_hash_table_size(self->uids) == 0);
    g_hash_table_unref(self->callers);
    g_hash_table_unref(self->uids);
    g_free(self);
}

gboolean
cbus_quota_take_caller(CbusQuota *self, const CbusKey *caller)
{
    guint taken = GPOINTER_TO_UINT(g_hash_table_lookup(self->callers, caller));

    if (taken >= CBUS_CHANNELS_OF_CALLER)
        return FALSE;
    g_hash_table_replace(self->callers, g_memdup2(caller, sizeof *caller), GUINT_TO_POINTER(taken + 1));
    return TRUE;
}

void
cbus_quota_give_caller(CbusQuota *self, const CbusKey *caller)
{
    guint taken = GPOINTER_TO_UINT(g_hash_table_lookup(self->callers, caller));

    g_assert(taken > 0);
    if (taken == 1)
        g_hash_table_remove(self->callers, caller);
    else
        g_hash_table_replace(self->callers, g_memdup2(caller, sizeof *caller), GUINT_TO_POINTER(taken - 1));
}

gboolean
cbus_quota_take_uid(CbusQuota *self, guint32 uid)
{
    guint taken = GPOINTER_TO_UINT(g_hash_table_lookup(self->uids, GUINT_TO_POINTER(uid)));

    if (taken >= CBUS_CHANNELS_OF_UID)
        return FALSE;
    g_hash_table_insert(self->uids, GUINT_TO_POINTER(uid), GUINT_TO_POINTER(taken + 1));
    return TRUE;
}

void
cbus_quota_give_uid(CbusQuota *self, guint32 uid)
{
    guint taken = GPOINTER_TO_UINT(g_hash_table_lookup(self->uids, GUINT_TO_POINTER(uid)));

    g_assert(taken > 0);
    if (taken == 1)
        g_hash_table_remove(self->uids, GUINT_TO_POINTER(uid));
    else
        g_hash_table_insert(self->uids, GUINT_TO_POINTER(uid), GUINT_TO_POINTER(taken - 1));
}
