/* TREE: walks one service by Introspect calls on a channel's own bus connection and answers with all of it
 * (wire/tree.h). Loop thread only. */
#pragma once
#include "link/bus.h"

/* Serials from here on are the walker's; a client of the channel must not use them. */
#define CBUS_WALKER_SERIAL 0xC0000000u

typedef struct _CbusWalker CbusWalker;
/* Whether the object at PATH of DESTINATION may be looked at. */
typedef gboolean (*CbusWalkerMay)(const char *destination, const char *path, gpointer user_data);
/* ANSWER: as cbus_link_send_tree_answer() takes it; borrowed. */
typedef void (*CbusWalkerFunc)(const guint8 *answer, gsize len, gpointer user_data);

/* Walks on BUS, which must outlive it and have said Hello before the first walk. MAY is asked for each object
 * but the root. */
CbusWalker *cbus_walker_new(CbusLoop *loop, CbusBus *bus, CbusWalkerMay may, CbusWalkerFunc func,
                            gpointer user_data);
void cbus_walker_free(CbusWalker *walker); /* walks that are not done end unanswered */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusWalker, cbus_walker_free)

/* Begins the walk of request ID over DESTINATION, a valid bus name. It is answered exactly once, within ten
 * seconds, possibly before return; never starts a service. */
void cbus_walker_start(CbusWalker *walker, guint32 id, const char *destination);
/* A message of the bus. TRUE: it was a reply to the walker and is used up. */
gboolean cbus_walker_take(CbusWalker *walker, const CbusMessage *message);
