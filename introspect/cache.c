/* The objects of one service of one machine, and the node that each of them shows.
 *
 * A tree is filled whole from one TREE answer, or learns single objects that were introspected on their own.
 * It maps paths to nodes of the store in a balanced tree ordered by path: the children of an object are the
 * next elements in the range of paths below it, found by jumping from one to the next, so that asking for "/"
 * of a service with 20 000 objects costs a search for each child, not a look at each object. (A hash table
 * would also have let a remote service choose paths that collide.)
 *
 * It promises that what it shows is what the remote side told last, validated: documents of nodes only, never
 * remote text. Invalidating keeps it, to be shown while the service is away, and only takes its date: who
 * asks is to fetch it again if it can. When the store needs the room it forgets all, and is as new.
 *
 * Objects may be named by the XML of their parents alone (those whose own introspection failed, or that a cut
 * answer left out): they are listed as children and have no document here.
 *
 * Paths are checked (wire/message.h), nodes were. Belongs to the loop thread. */
#include "introspect/cache_private.h"

#include "wire/message.h"

/* What GTree and malloc need for one object beside its path, about. */
#define OBJECT_COST 112

struct _CbusServiceTree {
    CbusNodeStore *store;
    GTree *objects; /* path → CbusNode, NULL while there are none */
    gsize cost;     /* charged for objects */
    gint64 filled_at;
    gboolean known;
    GList link;
};

typedef struct {
    CbusServiceTree *self;
    GHashTable
        *nodes; /* XML (by address: equal documents are one in a CbusTree) → node, or NULL if refused */
    guint left_out;
    gboolean full; /* what the store holds is this tree's, and no room is left */
} Filling;

CbusServiceTree *
cbus_service_tree_new(CbusNodeStore *store)
{
    CbusServiceTree *self = g_new0(CbusServiceTree, 1);

    self->store = store;
    self->link.data = self;
    cbus_node_store_enter(store, &self->link);
    return self;
}

void
cbus_service_tree_forget(CbusServiceTree *self)
{
    g_clear_pointer(&self->objects, g_tree_unref);
    cbus_node_store_discharge(self->store, self->cost);
    self->cost = 0;
    self->filled_at = 0;
    self->known = FALSE;
}

void
cbus_service_tree_free(CbusServiceTree *self)
{
    if (self == NULL)
        return;
    cbus_service_tree_forget(self);
    cbus_node_store_leave(self->store, &self->link);
    g_free(self);
}

static int
compare_paths(gconstpointer a, gconstpointer b, gpointer user_data)
{
    return strcmp(a, b);
}

static void
node_unref(gpointer node)
{
    cbus_node_unref(node);
}

/* FALSE if the store has no room for it, or for NODE. */
static gboolean
insert(CbusServiceTree *self, const char *path, CbusNode *node)
{
    gsize cost = 0;

    if (self->objects == NULL)
        self->objects = g_tree_new_full(compare_paths, NULL, g_free, node_unref);
    if (g_tree_lookup(self->objects, path) == NULL)
        cost = strlen(path) + OBJECT_COST;
    cbus_node_store_charge(self->store, cost);
    if (!cbus_node_store_make_room(self->store, &self->link)) {
        cbus_node_store_discharge(self->store, cost);
        return FALSE;
    }
    self->cost += cost;
    g_tree_insert(self->objects, g_strdup(path), cbus_node_ref(node));
    return TRUE;
}

static void
fill_object(const char *path, const char *xml, gsize xml_len, gpointer user_data)
{
    Filling *filling = user_data;
    gpointer node;

    if (filling->full) {
        filling->left_out++;
        return;
    }
    if (!g_hash_table_lookup_extended(filling->nodes, xml, NULL, &node)) {
        node = cbus_node_store_get(filling->self->store, xml, xml_len, NULL);
        g_hash_table_insert(filling->nodes, (gpointer)xml, node);
    }
    if (node != NULL)
        filling->full = !insert(filling->self, path, node);
    if (node == NULL || filling->full)
        filling->left_out++;
}

static void
clear_node(gpointer node)
{
    if (node != NULL)
        cbus_node_unref(node);
}

guint
cbus_service_tree_fill(CbusServiceTree *self, const CbusTree *tree, gint64 now)
{
    GTree *before = g_steal_pointer(&self->objects);
    g_autoptr(GHashTable) nodes = g_hash_table_new_full(NULL, NULL, NULL, clear_node);
    Filling filling = {.self = self, .nodes = nodes};

    cbus_service_tree_forget(self);
    cbus_node_store_touch(self->store, &self->link);
    cbus_tree_foreach(tree, fill_object, &filling);
    /* Not before: nodes that both have need not be parsed again. */
    g_clear_pointer(&before, g_tree_unref);
    self->filled_at = now;
    self->known = TRUE;
    return filling.left_out;
}

void
cbus_service_tree_put(CbusServiceTree *self, const char *path, CbusNode *node)
{
    if (!cbus_is_object_path(cbus_span(path)))
        return;
    cbus_node_store_touch(self->store, &self->link);
    /* One object more or less: it is shown again when it is asked for again. */
    (void)!insert(self, path, node);
}

void
cbus_service_tree_invalidate(CbusServiceTree *self)
{
    self->filled_at = 0;
}

gint64
cbus_service_tree_filled_at(const CbusServiceTree *self)
{
    return self->filled_at;
}

gboolean
cbus_service_tree_known(const CbusServiceTree *self)
{
    return self->known;
}

/* The first elements of all paths below PATH, in order. */
static GPtrArray *
children_below(const CbusServiceTree *self, const char *path)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GString) seek = g_string_new(path);
    GTreeNode *at;
    gsize prefix;

    if (!g_str_equal(path, "/"))
        g_string_append_c(seek, '/');
    prefix = seek->len;
    at = g_tree_upper_bound(self->objects, seek->str);
    while (at != NULL && strncmp(g_tree_node_key(at), seek->str, prefix) == 0) {
        const char *name = (const char *)g_tree_node_key(at) + prefix;
        gsize len = strcspn(name, "/");

        g_ptr_array_add(names, g_strndup(name, len));
        /* '0' comes right after '/': the next path that begins otherwise than "…/name/". */
        g_string_truncate(seek, prefix);
        g_string_append_len(seek, name, (gssize)len);
        g_string_append_c(seek, '0');
        at = g_tree_lower_bound(self->objects, seek->str);
    }
    return names;
}

/* Both sorted and without doubles; so is what is returned, NULL-terminated. Names are borrowed. */
static GPtrArray *
merge(const GPtrArray *a, const char *const *b)
{
    GPtrArray *out = g_ptr_array_new();
    guint i = 0;

    while (i < a->len || *b != NULL) {
        int order = i == a->len ? 1 : *b == NULL ? -1 : strcmp(a->pdata[i], *b);

        g_ptr_array_add(out, order <= 0 ? a->pdata[i] : (gpointer)*b);
        i += order <= 0;
        b += order >= 0;
    }
    g_ptr_array_add(out, NULL);
    return out;
}

char *
cbus_service_tree_document(CbusServiceTree *self, const char *path)
{
    static const char *const none[] = {NULL};
    g_autoptr(GPtrArray) below = NULL;
    g_autoptr(GPtrArray) children = NULL;
    CbusNode *node;

    cbus_node_store_touch(self->store, &self->link);
    if (self->objects == NULL)
        return NULL;
    node = g_tree_lookup(self->objects, path);
    below = children_below(self, path);
    if (node == NULL && below->len == 0)
        return NULL;
    children = merge(below, node != NULL ? cbus_node_children(node) : none);
    return cbus_node_document(node, NULL, (const char *const *)children->pdata);
}
