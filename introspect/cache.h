/* What is known of the trees of remote services.
 *
 * A document is parsed once per content (hash) for the whole process and shared by every machine that has it;
 * a tree maps the objects of one service of one machine to documents. Bounded; the least recently used trees
 * go first. */
#pragma once
#include "introspect/node.h"
#include "wire/tree.h"

typedef struct _CbusNodeStore CbusNodeStore; /* content → node, one per process */
CbusNodeStore *cbus_node_store_new(void);
void cbus_node_store_free(CbusNodeStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNodeStore, cbus_node_store_free)
/* Parses or finds. (transfer full) */
CbusNode *cbus_node_store_get(CbusNodeStore *store, const char *xml, gsize len,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
guint cbus_node_store_size(const CbusNodeStore *store);

typedef struct _CbusServiceTree CbusServiceTree;              /* one service of one machine */
CbusServiceTree *cbus_service_tree_new(CbusNodeStore *store); /* the store must outlive it */
void cbus_service_tree_free(CbusServiceTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusServiceTree, cbus_service_tree_free)
/* Replaces all by TREE (documents that do not parse are left out and counted). NOW in µs, monotonic. Returns
 * how many were left out. */
guint cbus_service_tree_fill(CbusServiceTree *self, const CbusTree *tree, gint64 now);
void cbus_service_tree_put(CbusServiceTree *self, const char *path,
                           CbusNode *node);               /* one object seen on its own */
void cbus_service_tree_invalidate(CbusServiceTree *self); /* stale: kept to show while the service is away */
gint64 cbus_service_tree_filled_at(const CbusServiceTree *self); /* 0: never, or invalidated since */
gboolean cbus_service_tree_known(const CbusServiceTree *self);   /* was ever filled */
/* The document of the object at remote PATH, its children being those that the tree has and those that its
 * own XML names; NULL if neither the path nor anything below it is known. (transfer full) */
char *cbus_service_tree_document(CbusServiceTree *self, const char *path);
