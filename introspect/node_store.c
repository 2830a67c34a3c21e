/* Equal documents are parsed once and kept once, for however many machines show them.
 *
 * The store finds a node by a BLAKE2b hash of the remote text: a cryptographic one, since whoever could make
 * two documents collide would choose what the mirror shows of another machine. It does not keep nodes alive:
 * trees do. A node's last reference takes it out of the table, so a document that nobody has any more costs
 * nothing, and nothing has to be swept.
 *
 * What nodes and trees occupy is added up, and stays below CBUS_NODE_STORE_MAX_COST whatever the machines
 * send: the least recently used trees are emptied first, and a tree that would fill the store by itself stays
 * incomplete. An emptied tree is as one never filled; the next Introspect fetches it again. So a machine with
 * absurdly many objects can cost others a round trip, and no more than that.
 *
 * Trusts nobody with the documents (node_parse.c checks them), and its callers to free trees before the
 * store. Belongs to the loop thread. */
#include "introspect/cache_private.h"

#include <sodium.h>

#define HASH_BYTES 32

typedef struct {
    guint8 hash[HASH_BYTES]; /* the key in the table */
    CbusNodeStore *store;
    CbusNode *node; /* weak */
} Entry;

struct _CbusNodeStore {
    GHashTable *entries; /* of Entry, by hash */
    GQueue trees;        /* of CbusServiceTree, the least recently used first */
    gsize cost;
};

static guint
entry_hash(gconstpointer entry)
{
    guint h;

    memcpy(&h, ((const Entry *)entry)->hash, sizeof h);
    return h;
}

static gboolean
entry_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(((const Entry *)a)->hash, ((const Entry *)b)->hash, HASH_BYTES) == 0;
}

CbusNodeStore *
cbus_node_store_new(void)
{
    CbusNodeStore *store = g_new0(CbusNodeStore, 1);

    store->entries = g_hash_table_new_full(entry_hash, entry_equal, g_free, NULL);
    g_queue_init(&store->trees);
    return store;
}

void
cbus_node_store_free(CbusNodeStore *store)
{
    GHashTableIter iter;
    gpointer entry;

    if (store == NULL)
        return;
    g_assert(g_queue_is_empty(&store->trees));
    /* Nodes that somebody still holds live on without us. */
    g_hash_table_iter_init(&iter, store->entries);
    while (g_hash_table_iter_next(&iter, &entry, NULL))
        cbus_node_watch(((Entry *)entry)->node, NULL, NULL);
    g_hash_table_unref(store->entries);
    g_free(store);
}

static void
on_node_gone(CbusNode *node, gpointer user_data)
{
    Entry *entry = user_data;
    CbusNodeStore *store = entry->store;

    cbus_node_store_discharge(store, cbus_node_cost(node));
    g_hash_table_remove(store->entries, entry);
}

CbusNode *
cbus_node_store_get(CbusNodeStore *store, const char *xml, gsize len, GError **error)
{
    Entry probe, *entry;
    CbusNode *node;

    if (len <= CBUS_NODE_MAX_BYTES) { /* else the parser refuses it, and says so */
        crypto_generichash(probe.hash, HASH_BYTES, (const guint8 *)xml, len, NULL, 0);
        entry = g_hash_table_lookup(store->entries, &probe);
        if (entry != NULL)
            return cbus_node_ref(entry->node);
    }
    node = cbus_node_parse(xml, len, error);
    if (node == NULL)
        return NULL;
    entry = g_new0(Entry, 1);
    memcpy(entry->hash, probe.hash, HASH_BYTES);
    entry->store = store;
    entry->node = node;
    g_hash_table_add(store->entries, entry);
    cbus_node_watch(node, on_node_gone, entry);
    cbus_node_store_charge(store, cbus_node_cost(node));
    return node;
}

guint
cbus_node_store_size(const CbusNodeStore *store)
{
    return g_hash_table_size(store->entries);
}

gsize
cbus_node_store_cost(const CbusNodeStore *store)
{
    return store->cost;
}

void
cbus_node_store_enter(CbusNodeStore *store, GList *link)
{
    g_queue_push_tail_link(&store->trees, link);
}

void
cbus_node_store_leave(CbusNodeStore *store, GList *link)
{
    g_queue_unlink(&store->trees, link);
}

void
cbus_node_store_touch(CbusNodeStore *store, GList *link)
{
    cbus_node_store_leave(store, link);
    cbus_node_store_enter(store, link);
}

void
cbus_node_store_charge(CbusNodeStore *store, gsize cost)
{
    store->cost += cost;
}

void
cbus_node_store_discharge(CbusNodeStore *store, gsize cost)
{
    g_assert(store->cost >= cost);
    store->cost -= cost;
}

gboolean
cbus_node_store_make_room(CbusNodeStore *store, GList *keep)
{
    GList *link = store->trees.head, *next;

    for (guint left = store->trees.length; left > 0 && store->cost > CBUS_NODE_STORE_MAX_COST; left--) {
        next = link->next;
        if (link != keep) {
            cbus_service_tree_forget(link->data);
            /* Empty now: the next search need not pass it. */
            cbus_node_store_touch(store, link);
        }
        link = next;
    }
    return store->cost <= CBUS_NODE_STORE_MAX_COST;
}
