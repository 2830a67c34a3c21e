/* What waits for a channel's connection.
 *
 * A client does not wait for OPENED: its Hello and what follows are on the way while the connector still
 * connects. They wait here in order, and so do requests for trees, which wait longer: a walk needs the Hello
 * to be answered, and under a policy the names that a filter has learned. Hence two queues; who takes decides
 * when each is due.
 *
 * Bounded, since the client is in the network: messages until EARLY_MAX bytes wait, and the one that went
 * over it (so that one large message passes); EARLY_TREES requests, whose destinations are bus names, 255
 * bytes.
 *
 * Trust: none in sizes and counts; what is inside a message is the channel's to check before it puts it here.
 * Loop thread only. */
#include "agent/early.h"

#define EARLY_MAX   (256 * 1024)
#define EARLY_TREES 8

typedef struct {
    guint32 request;
    char *destination;
} Tree;

struct _CbusEarly {
    GQueue messages; /* GBytes */
    gsize bytes;
    GQueue trees; /* Tree */
};

static void
tree_free(Tree *tree)
{
    g_free(tree->destination);
    g_free(tree);
}

CbusEarly *
cbus_early_new(void)
{
    CbusEarly *early = g_new0(CbusEarly, 1);

    g_queue_init(&early->messages);
    g_queue_init(&early->trees);
    return early;
}

void
cbus_early_free(CbusEarly *early)
{
    g_queue_clear_full(&early->messages, (GDestroyNotify)g_bytes_unref);
    g_queue_clear_full(&early->trees, (GDestroyNotify)tree_free);
    g_free(early);
}

gboolean
cbus_early_put_message(CbusEarly *early, const guint8 *message, gsize size)
{
    if (early->bytes > EARLY_MAX)
        return FALSE;
    g_queue_push_tail(&early->messages, g_bytes_new(message, size));
    early->bytes += size;
    return TRUE;
}

gboolean
cbus_early_put_tree(CbusEarly *early, guint32 request, const char *destination)
{
    Tree *tree;

    if (g_queue_get_length(&early->trees) >= EARLY_TREES)
        return FALSE;
    tree = g_new0(Tree, 1);
    tree->request = request;
    tree->destination = g_strdup(destination);
    g_queue_push_tail(&early->trees, tree);
    return TRUE;
}

GBytes *
cbus_early_take_message(CbusEarly *early)
{
    GBytes *message = g_queue_pop_head(&early->messages);

    if (message != NULL)
        early->bytes -= g_bytes_get_size(message);
    return message;
}

char *
cbus_early_take_tree(CbusEarly *early, guint32 *request)
{
    Tree *tree = g_queue_pop_head(&early->trees);
    char *destination;

    if (tree == NULL)
        return NULL;
    *request = tree->request;
    destination = g_steal_pointer(&tree->destination);
    tree_free(tree);
    return destination;
}
