/* The objects of one service, with their introspection XML.
 *
 * A service with hundreds of units has two or three distinct documents. Each is held and sent once; objects
 * refer to it.
 *
 * Promise: a tree never passes the limits of wire/tree.h, whoever fills it: what does not fit is left out and
 * the tree is marked as cut. Reading accepts exactly what cbus_tree_write() writes: paths valid and strictly
 * ascending, documents in the order of their first use, each used, none twice, nothing after the end. One
 * tree has one spelling, so that a peer can hide nothing in another.
 *
 * Trust: nothing about bytes that are read; XML is only checked to be UTF-8 without NUL. It comes from a
 * remote service and is parsed elsewhere, with limits (introspect/).
 *
 * Both indexes are balanced trees, since keys are chosen by strangers, who could make a hash table slow.
 * Documents are compared by length and bytes.
 *
 * Threads: any one at a time. */
#include "wire/tree.h"

#include "wire/message.h"
#include "wire/record.h"

#define STATUS_ERROR   0
#define STATUS_TREE    1
#define ERROR_NAME_MAX 255
#define ERROR_TEXT_MAX 4096
#define DOCUMENT_COST  4 /* its length on the wire */
#define OBJECT_COST    8 /* length of the path, index of the document */
#define UNNUMBERED     G_MAXUINT32

typedef struct {
    char *xml;
    gsize len;
    guint objects;  /* that have it; gone when none has */
    guint32 number; /* while writing */
} Document;

struct _CbusTree {
    GTree *objects;   /* path → Document, borrowed */
    GTree *documents; /* Document, owned → itself */
    gsize bytes;      /* on the wire, but for the fixed part */
    gboolean cut;
};

static gint
compare_paths(gconstpointer a, gconstpointer b, gpointer user_data)
{
    return strcmp(a, b);
}

static gint
compare_documents(gconstpointer a, gconstpointer b, gpointer user_data)
{
    const Document *left = a, *right = b;
    if (left->len != right->len)
        return left->len < right->len ? -1 : 1;
    return memcmp(left->xml, right->xml, left->len);
}

static void
document_free(gpointer data)
{
    Document *document = data;
    g_free(document->xml);
    g_free(document);
}

CbusTree *
cbus_tree_new(void)
{
    CbusTree *tree = g_new0(CbusTree, 1);
    tree->objects = g_tree_new_full(compare_paths, NULL, g_free, NULL);
    tree->documents = g_tree_new_full(compare_documents, NULL, document_free, NULL);
    return tree;
}

void
cbus_tree_free(CbusTree *tree)
{
    if (tree == NULL)
        return;
    g_tree_unref(tree->objects);
    g_tree_unref(tree->documents);
    g_free(tree);
}

void
cbus_tree_set_cut(CbusTree *tree)
{
    tree->cut = TRUE;
}

gboolean
cbus_tree_is_cut(const CbusTree *tree)
{
    return tree->cut;
}

guint
cbus_tree_size(const CbusTree *tree)
{
    return (guint)g_tree_nnodes(tree->objects);
}

static void
release_document(CbusTree *tree, Document *document)
{
    if (--document->objects > 0)
        return;
    tree->bytes -= DOCUMENT_COST + document->len;
    g_tree_remove(tree->documents, document);
}

/* Gives PATH to DOCUMENT, which is in the tree. */
static void
put_object(CbusTree *tree, const char *path, Document *document)
{
    Document *before = g_tree_lookup(tree->objects, path);
    document->objects++;
    g_tree_insert(tree->objects, g_strdup(path), document);
    if (before != NULL)
        release_document(tree, before);
    else
        tree->bytes += OBJECT_COST + strlen(path);
}

static Document *
put_document(CbusTree *tree, const char *xml, gsize len)
{
    Document *document = g_new0(Document, 1);
    document->xml = g_strndup(xml, len);
    document->len = len;
    tree->bytes += DOCUMENT_COST + len;
    g_tree_insert(tree->documents, document, document);
    return document;
}

gboolean
cbus_tree_add(CbusTree *tree, const char *path, const char *xml, gsize xml_len)
{
    gboolean is_new = g_tree_lookup(tree->objects, path) == NULL;
    Document *document = NULL;
    if (xml_len <= CBUS_TREE_MAX_DOCUMENT && cbus_is_object_path(cbus_span(path))) {
        /* A key to look up: compare_documents() does not write. */
        Document key = {.xml = (char *)xml, .len = xml_len};
        document = g_tree_lookup(tree->documents, &key);
        gsize bytes =
            (is_new ? OBJECT_COST + strlen(path) : 0) + (document == NULL ? DOCUMENT_COST + xml_len : 0);
        gboolean fits = bytes <= CBUS_TREE_MAX_BYTES - tree->bytes &&
                        (!is_new || cbus_tree_size(tree) < CBUS_TREE_MAX_OBJECTS);
        if (!fits)
            document = NULL;
        else if (document == NULL && g_utf8_validate(xml, (gssize)xml_len, NULL))
            document = put_document(tree, xml, xml_len);
    }
    if (document == NULL) {
        tree->cut = TRUE;
        return FALSE;
    }
    put_object(tree, path, document);
    return TRUE;
}

const char *
cbus_tree_lookup(const CbusTree *tree, const char *path, gsize *len)
{
    const Document *document = g_tree_lookup(tree->objects, path);
    if (document == NULL)
        return NULL;
    if (len != NULL)
        *len = document->len;
    return document->xml;
}

void
cbus_tree_foreach(const CbusTree *tree, CbusTreeFunc func, gpointer user_data)
{
    for (GTreeNode *node = g_tree_node_first(tree->objects); node != NULL; node = g_tree_node_next(node)) {
        const Document *document = g_tree_node_value(node);
        func(g_tree_node_key(node), document->xml, document->len, user_data);
    }
}

static void
put_u32(GByteArray *out, guint32 value)
{
    guint8 bytes[4];
    cbus_put_be32(bytes, value);
    g_byte_array_append(out, bytes, sizeof bytes);
}

static void
put_u8(GByteArray *out, guint8 value)
{
    g_byte_array_append(out, &value, 1);
}

/* Documents in the order of their first use, numbered. */
static void
write_documents(const CbusTree *tree, GByteArray *out)
{
    guint32 next = 0;
    for (GTreeNode *node = g_tree_node_first(tree->documents); node != NULL; node = g_tree_node_next(node))
        ((Document *)g_tree_node_key(node))->number = UNNUMBERED;
    for (GTreeNode *node = g_tree_node_first(tree->objects); node != NULL; node = g_tree_node_next(node)) {
        Document *document = g_tree_node_value(node);
        if (document->number != UNNUMBERED)
            continue;
        document->number = next++;
        put_u32(out, (guint32)document->len);
        if (document->len > 0)
            g_byte_array_append(out, (const guint8 *)document->xml, (guint)document->len);
    }
}

void
cbus_tree_write(const CbusTree *tree, guint32 id, GByteArray *out)
{
    put_u32(out, id);
    put_u8(out, STATUS_TREE);
    put_u8(out, tree->cut ? 0 : 1);
    put_u32(out, (guint32)g_tree_nnodes(tree->documents));
    write_documents(tree, out);
    put_u32(out, cbus_tree_size(tree));
    for (GTreeNode *node = g_tree_node_first(tree->objects); node != NULL; node = g_tree_node_next(node)) {
        const Document *document = g_tree_node_value(node);
        cbus_put_string(out, g_tree_node_key(node));
        put_u32(out, document->number);
    }
}

void
cbus_tree_write_error(guint32 id, const char *error_name, const char *message, GByteArray *out)
{
    put_u32(out, id);
    put_u8(out, STATUS_ERROR);
    cbus_put_string(out, error_name);
    cbus_put_string_cut(out, message, ERROR_TEXT_MAX);
}

typedef struct {
    const guint8 *at;
    gsize left;
} Reader;

static gboolean
take_u8(Reader *reader, guint8 *out)
{
    if (reader->left < 1)
        return FALSE;
    *out = *reader->at++;
    reader->left--;
    return TRUE;
}

static gboolean
take_u32(Reader *reader, guint32 *out)
{
    if (reader->left < 4)
        return FALSE;
    *out = cbus_be32(reader->at);
    reader->at += 4;
    reader->left -= 4;
    return TRUE;
}

static gboolean
read_documents(Reader *reader, CbusTree *tree, GPtrArray *documents)
{
    guint32 count;
    if (!take_u32(reader, &count) || count > CBUS_TREE_MAX_OBJECTS || count > reader->left / 4)
        return FALSE;
    for (guint32 i = 0; i < count; i++) {
        CbusSpan xml;
        if (!cbus_get_string(&reader->at, &reader->left, CBUS_TREE_MAX_DOCUMENT, &xml) ||
            tree->bytes + DOCUMENT_COST + xml.len > CBUS_TREE_MAX_BYTES)
            return FALSE;
        Document key = {.xml = (char *)xml.text, .len = xml.len};
        if (g_tree_lookup(tree->documents, &key) != NULL)
            return FALSE;
        g_ptr_array_add(documents, put_document(tree, xml.text, xml.len));
    }
    return TRUE;
}

static gboolean
read_objects(Reader *reader, CbusTree *tree, GPtrArray *documents)
{
    guint32 count, number, used = 0;
    g_autofree char *previous = NULL;
    if (!take_u32(reader, &count) || count > CBUS_TREE_MAX_OBJECTS || count > reader->left / OBJECT_COST)
        return FALSE;
    for (guint32 i = 0; i < count; i++) {
        CbusSpan span;
        if (!cbus_get_string(&reader->at, &reader->left, CBUS_TREE_MAX_BYTES, &span) ||
            !take_u32(reader, &number) || number > used || number >= documents->len ||
            !cbus_is_object_path(span) || tree->bytes + OBJECT_COST + span.len > CBUS_TREE_MAX_BYTES)
            return FALSE;
        g_autofree char *path = g_strndup(span.text, span.len);
        if (previous != NULL && strcmp(previous, path) >= 0)
            return FALSE;
        put_object(tree, path, documents->pdata[number]);
        if (number == used)
            used++;
        g_free(previous);
        previous = g_steal_pointer(&path);
    }
    return used == documents->len;
}

static CbusTree *
read_tree(Reader *reader)
{
    g_autoptr(CbusTree) tree = cbus_tree_new();
    g_autoptr(GPtrArray) documents = g_ptr_array_new();
    guint8 complete;
    if (!take_u8(reader, &complete) || complete > 1 || !read_documents(reader, tree, documents) ||
        !read_objects(reader, tree, documents) || reader->left != 0)
        return NULL;
    tree->cut = complete == 0;
    return g_steal_pointer(&tree);
}

static void
read_error(Reader *reader, char **error_name, char **message)
{
    CbusSpan name, text;
    /* It goes into a D-Bus error reply as it is. */
    if (!cbus_get_string(&reader->at, &reader->left, ERROR_NAME_MAX, &name) || !cbus_is_interface(name) ||
        !cbus_get_string(&reader->at, &reader->left, ERROR_TEXT_MAX, &text) || reader->left != 0)
        return;
    *error_name = g_strndup(name.text, name.len);
    *message = g_strndup(text.text, text.len);
}

CbusTree *
cbus_tree_read(const guint8 *data, gsize len, guint32 *id, char **error_name, char **message)
{
    Reader reader = {data, len};
    guint8 status;
    *error_name = *message = NULL;
    if (!take_u32(&reader, id) || !take_u8(&reader, &status))
        return NULL;
    if (status == STATUS_TREE)
        return read_tree(&reader);
    if (status == STATUS_ERROR)
        read_error(&reader, error_name, message);
    return NULL;
}
