/* The answer of TREE: read inside its bounds, and what is read has just one spelling. */
#include "tests/fuzz/fuzz.h"
#include "wire/tree.h"

static void
visit(const char *path, const char *xml, gsize len, gpointer user_data)
{
    gsize found_len;
    FUZZ_CHECK(path[0] == '/' && g_utf8_validate(xml, (gssize)len, NULL));
    FUZZ_CHECK(cbus_tree_lookup(user_data, path, &found_len) == xml && found_len == len);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    g_autofree char *name = NULL, *message = NULL;
    g_autoptr(GByteArray) again = g_byte_array_new();
    guint32 id = 0;
    g_autoptr(CbusTree) tree = cbus_tree_read(data, len, &id, &name, &message);
    FUZZ_CHECK((name == NULL) == (message == NULL) && (tree == NULL || name == NULL));
    if (tree != NULL) {
        cbus_tree_foreach(tree, visit, tree);
        cbus_tree_write(tree, id, again);
    } else if (name != NULL) {
        cbus_tree_write_error(id, name, message, again);
    }
    if (again->len > 0)
        FUZZ_CHECK(again->len == len && memcmp(again->data, data, len) == 0);
    return 0;
}
