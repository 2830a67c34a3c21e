/* What is known of the trees of remote services.
 *
 * A document is parsed once per content (hash) for the whole process and shared by every machine that has it;
 * a tree maps the objects of one service of one machine to documents. Bounded; the least recently used trees
 * go first. */
#pragma once
#include "introspect/node.h"
#include "wire/tree.h"

#define CBUS_NODE_STORE_MAX_COST (32 * 1024 * 1024) /* bytes, of all nodes and trees together */

typedef struct _CbusNodeStore CbusNodeStore; /* content → node, one per process */
CbusNodeStore *cbus_node_store_new(void);
void cbus_node_store_free(CbusNodeStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNodeStore, cbus_node_store_free)
/* Parses or finds. The store keeps no reference: who wants it to be found again keeps one, in a tree. Errors
 * as cbus_node_parse. (transfer full) */
CbusNode *cbus_node_store_get(CbusNodeStore *store, const char *xml, gsize len,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
guint cbus_node_store_size(const CbusNodeStore *store); /* different documents in use */
gsize cbus_node_store_cost(const CbusNodeStore *store); /* bytes in use */

typedef struct _CbusServiceTree CbusServiceTree;              /* one service of one machine */
CbusServiceTree *cbus_service_tree_new(CbusNodeStore *store); /* the store must outlive it */
void cbus_service_tree_free(CbusServiceTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusServiceTree, cbus_service_tree_free)
/* Replaces all by TREE. NOW in µs, monotonic. Returns how many objects were left out: those whose documents
 * do not parse, and those for which the store has no room. */
guint cbus_service_tree_fill(CbusServiceTree *self, const CbusTree *tree, gint64 now);
/* One object seen on its own. NODE is one of the store's; a reference is taken. Does nothing if PATH is no
 * object path or the store has no room. */
void cbus_service_tree_put(CbusServiceTree *self, const char *path, CbusNode *node);
void cbus_service_tree_invalidate(CbusServiceTree *self); /* stale: kept to show while the service is away */
gint64 cbus_service_tree_filled_at(const CbusServiceTree *self); /* 0: never, or invalidated since */
gboolean cbus_service_tree_known(
    const CbusServiceTree *self); /* was filled, and not forgotten for lack of room since */
/* The document of the object at remote PATH, its children being those that the tree has and those that its
 * own XML names; NULL if neither the path nor anything below it is known. (transfer full) */
char *cbus_service_tree_document(CbusServiceTree *self, const char *path);
