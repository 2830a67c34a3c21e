/* What the store and its trees know of each other; for introspect/node_store.c and cache.c alone. */
#pragma once
#include "introspect/cache.h"

/* A tree enters the store's list with its own link (data: the tree) and leaves before it is freed. */
void cbus_node_store_enter(CbusNodeStore *store, GList *link);
void cbus_node_store_leave(CbusNodeStore *store, GList *link);
void cbus_node_store_touch(CbusNodeStore *store, GList *link); /* used now: goes last */

/* Charges COST bytes of tree memory, or takes them back. */
void cbus_node_store_charge(CbusNodeStore *store, gsize cost);
void cbus_node_store_discharge(CbusNodeStore *store, gsize cost);
/* Empties other trees, the least recently used first, until the store is within its bound. FALSE if KEEP
 * alone is over it. */
gboolean cbus_node_store_make_room(CbusNodeStore *store, GList *keep) G_GNUC_WARN_UNUSED_RESULT;

/* Forgets everything, as if it had never been filled. */
void cbus_service_tree_forget(CbusServiceTree *self);
