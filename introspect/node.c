/* One introspected object: its interfaces as rebuilt XML text, and the names of its children.
 *
 * A node promises that its text is well formed and valid: it was written by node_parse.c from values that
 * were checked one by one, and never copied from the remote document. So it can be pasted into any document
 * of ours, and a client that parses such a document meets nothing that the remote side made up.
 *
 * Nodes are kept as text, not as a tree of infos: all that the mirror ever does with them is to show them
 * again, and thousands of objects share one node. What the mirror asks beside that, whether an interface is
 * there and which children are named, is answered from two sorted vectors.
 *
 * Nodes are immutable and counted. The store of introspect/cache.c finds equal documents by their hash and
 * must not keep them alive by that: it watches each node instead, and is told when the last user is gone.
 *
 * Trusts nothing of the network: by now everything is checked. The children given to cbus_node_document() are
 * the caller's, and are escaped all the same. Belongs to the loop thread: the count is not atomic. */
#include "introspect/node_private.h"

#include <stdlib.h>

struct _CbusNode {
    grefcount references;
    char *xml;
    gsize len;
    char **interfaces;
    guint n_interfaces;
    char **children;
    gsize cost;
    CbusNodeGone gone;
    gpointer gone_data;
};

G_DEFINE_QUARK(cbus_node_error_quark, cbus_node_error)

static gsize
vector_cost(char **vector)
{
    gsize cost = sizeof(char *);

    for (guint i = 0; vector[i] != NULL; i++)
        cost += sizeof(char *) + strlen(vector[i]) + 16; /* malloc's own share, about */
    return cost;
}

CbusNode *
cbus_node_new_take(GString *xml, char **interfaces, char **children)
{
    CbusNode *node = g_new0(CbusNode, 1);

    g_ref_count_init(&node->references);
    node->len = xml->len;
    /* A GString doubles as it grows: give back what it did not use. */
    node->xml = g_realloc(g_string_free(xml, FALSE), node->len + 1);
    node->interfaces = interfaces;
    node->n_interfaces = g_strv_length(interfaces);
    node->children = children;
    node->cost = sizeof *node + node->len + 1 + vector_cost(interfaces) + vector_cost(children);
    return node;
}

CbusNode *
cbus_node_ref(CbusNode *node)
{
    g_ref_count_inc(&node->references);
    return node;
}

void
cbus_node_unref(CbusNode *node)
{
    if (!g_ref_count_dec(&node->references))
        return;
    if (node->gone != NULL)
        node->gone(node, node->gone_data);
    g_free(node->xml);
    g_strfreev(node->interfaces);
    g_strfreev(node->children);
    g_free(node);
}

void
cbus_node_watch(CbusNode *node, CbusNodeGone gone, gpointer user_data)
{
    g_return_if_fail(gone == NULL || node->gone == NULL);
    node->gone = gone;
    node->gone_data = user_data;
}

gsize
cbus_node_cost(const CbusNode *node)
{
    return node->cost;
}

const char *
cbus_node_interfaces_xml(CbusNode *node, gsize *len)
{
    if (len != NULL)
        *len = node->len;
    return node->xml;
}

const char *const *
cbus_node_children(const CbusNode *node)
{
    return (const char *const *)node->children;
}

static int
compare_to_element(const void *name, const void *element)
{
    return strcmp(name, *(char *const *)element);
}

gboolean
cbus_node_has_interface(const CbusNode *node, const char *name)
{
    return bsearch(name, node->interfaces, node->n_interfaces, sizeof(char *), compare_to_element) != NULL;
}

char *
cbus_node_document(CbusNode *interfaces, const char *extra_interfaces_xml, const char *const *children)
{
    GString *out = g_string_sized_new(512 + (interfaces != NULL ? interfaces->len : 0));

    g_string_append(out, "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n"
                         " \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n"
                         "<node>\n");
    if (interfaces != NULL)
        g_string_append_len(out, interfaces->xml, (gssize)interfaces->len);
    if (extra_interfaces_xml != NULL)
        g_string_append(out, extra_interfaces_xml);
    for (guint i = 0; children != NULL && children[i] != NULL; i++) {
        g_autofree char *name = g_markup_escape_text(children[i], -1);

        g_string_append_printf(out, " <node name=\"%s\"/>\n", name);
    }
    g_string_append(out, "</node>\n");
    return g_string_free(out, FALSE);
}
