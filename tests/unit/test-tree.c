/* Trees: what is written is read back, equal documents travel once, limits hold, and nothing malformed is
 * read. */
#include "wire/tree.h"

#include <glib.h>
#include <string.h>

#include "wire/record.h"

static CbusTree *
read_back(GByteArray *bytes, guint32 *id)
{
    g_autofree char *name = NULL, *message = NULL;
    CbusTree *tree = cbus_tree_read(bytes->data, bytes->len, id, &name, &message);
    g_assert_null(name);
    g_assert_null(message);
    return tree;
}

static void
add(CbusTree *tree, const char *path, const char *xml)
{
    g_assert_true(cbus_tree_add(tree, path, xml, strlen(xml)));
}

static void
assert_object(const CbusTree *tree, const char *path, const char *xml)
{
    gsize len;
    const char *found = cbus_tree_lookup(tree, path, &len);
    g_assert_cmpstr(found, ==, xml);
    g_assert_cmpuint(len, ==, strlen(xml));
}

static CbusTree *
small_tree(void)
{
    CbusTree *tree = cbus_tree_new();
    add(tree, "/b", "<unit/>");
    add(tree, "/", "<root/>");
    add(tree, "/a/one", "<unit/>");
    add(tree, "/a", "");
    return tree;
}

static void
collect(const char *path, const char *xml, gsize len, gpointer user_data)
{
    g_assert_cmpuint(strlen(xml), ==, len);
    g_string_append_printf(user_data, "%s=%s ", path, xml);
}

static char *
as_text(const CbusTree *tree)
{
    GString *text = g_string_new(NULL);
    cbus_tree_foreach(tree, collect, text);
    return g_string_free(text, FALSE);
}

static void
test_round_trip(void)
{
    g_autoptr(CbusTree) tree = small_tree();
    g_autoptr(GByteArray) bytes = g_byte_array_new(), again = g_byte_array_new();
    guint32 id = 0;
    cbus_tree_write(tree, 0xdeadbeef, bytes);
    g_autoptr(CbusTree) read = read_back(bytes, &id);
    g_assert_nonnull(read);
    g_assert_cmpuint(id, ==, 0xdeadbeef);
    g_assert_false(cbus_tree_is_cut(read));
    g_assert_cmpuint(cbus_tree_size(read), ==, 4);
    g_autofree char *text = as_text(read);
    g_assert_cmpstr(text, ==, "/=<root/> /a= /a/one=<unit/> /b=<unit/> ");
    cbus_tree_write(read, id, again);
    g_assert_cmpmem(again->data, again->len, bytes->data, bytes->len);
    g_assert_null(cbus_tree_lookup(read, "/c", NULL));
}

static void
test_layout_is_as_specified(void)
{
    static const guint8 expected[] = "\0\0\0\7\1\0"
                                     "\0\0\0\1\0\0\0\4<x/>"
                                     "\0\0\0\2\0\0\0\1/\0\0\0\0\0\0\0\2/a\0\0\0";
    g_autoptr(CbusTree) tree = cbus_tree_new();
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    add(tree, "/a", "<x/>");
    add(tree, "/", "<x/>");
    cbus_tree_set_cut(tree);
    cbus_tree_write(tree, 7, bytes);
    g_assert_cmpmem(bytes->data, bytes->len, expected, sizeof expected);
}

static void
test_equal_documents_travel_once(void)
{
    g_autoptr(CbusTree) tree = cbus_tree_new();
    g_autofree char *xml = g_strnfill(10000, 'x');
    for (int i = 0; i < 500; i++) {
        g_autofree char *path = g_strdup_printf("/unit/_%d", i);
        add(tree, path, xml);
    }
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    cbus_tree_write(tree, 1, bytes);
    g_assert_cmpuint(bytes->len, <, 25000);
}

static void
test_adding_again_replaces(void)
{
    g_autoptr(CbusTree) tree = small_tree();
    add(tree, "/b", "<new/>");
    add(tree, "/b", "<new/>");
    add(tree, "/", "<unit/>");
    assert_object(tree, "/b", "<new/>");
    assert_object(tree, "/", "<unit/>");
    assert_object(tree, "/a/one", "<unit/>");
    g_assert_cmpuint(cbus_tree_size(tree), ==, 4);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    guint32 id;
    cbus_tree_write(tree, 1, bytes);
    g_assert_cmpuint(bytes->data[9], ==, 3); /* "<root/>" is nobody's and does not travel */
    g_autoptr(CbusTree) read = read_back(bytes, &id);
    assert_object(read, "/b", "<new/>");
}

static void
test_what_does_not_belong_cuts(void)
{
    static const char *const paths[] = {"", "a", "/a/", "//", "/a-b", "/é"};
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autoptr(CbusTree) tree = cbus_tree_new();
        g_assert_false(cbus_tree_add(tree, paths[i], "", 0));
        g_assert_true(cbus_tree_is_cut(tree));
        g_assert_cmpuint(cbus_tree_size(tree), ==, 0);
    }
    g_autoptr(CbusTree) tree = cbus_tree_new();
    g_assert_false(cbus_tree_add(tree, "/a", "\xff", 1));
    g_assert_false(cbus_tree_add(tree, "/a", "a\0b", 3));
    g_assert_true(cbus_tree_is_cut(tree));
}

static void
test_limits(void)
{
    gsize len = CBUS_TREE_MAX_DOCUMENT;
    g_autofree char *xml = g_strnfill(len + 1, 'x');
    g_autoptr(CbusTree) large = cbus_tree_new();
    guint kept = 0;
    g_assert_false(cbus_tree_add(large, "/", xml, len + 1));
    for (guint i = 0; i < 20; i++) {
        g_autofree char *path = g_strdup_printf("/_%u", i);
        xml[0] = (char)('a' + i);
        kept += cbus_tree_add(large, path, xml, len) ? 1 : 0;
    }
    g_assert_cmpuint(kept, ==, 15);
    g_assert_true(cbus_tree_is_cut(large));
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    guint32 id;
    cbus_tree_write(large, 1, bytes);
    g_assert_cmpuint(bytes->len, <=, CBUS_TREE_MAX_BYTES + 64);
    g_autoptr(CbusTree) read = read_back(bytes, &id);
    g_assert_nonnull(read);
    g_assert_true(cbus_tree_is_cut(read));

    g_autoptr(CbusTree) wide = cbus_tree_new();
    for (guint i = 0; i < CBUS_TREE_MAX_OBJECTS; i++) {
        g_autofree char *path = g_strdup_printf("/_%u", i);
        add(wide, path, "");
    }
    g_assert_false(cbus_tree_is_cut(wide));
    g_assert_false(cbus_tree_add(wide, "/more", "", 0));
    g_assert_true(cbus_tree_is_cut(wide));
    g_assert_cmpuint(cbus_tree_size(wide), ==, CBUS_TREE_MAX_OBJECTS);
}

static void
test_errors_travel(void)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree char *name = NULL, *message = NULL, *long_text = g_strnfill(5000, 'm');
    guint32 id = 0;
    cbus_tree_write_error(9, "org.freedesktop.DBus.Error.ServiceUnknown", long_text, bytes);
    g_assert_null(cbus_tree_read(bytes->data, bytes->len, &id, &name, &message));
    g_assert_cmpuint(id, ==, 9);
    g_assert_cmpstr(name, ==, "org.freedesktop.DBus.Error.ServiceUnknown");
    g_assert_cmpuint(strlen(message), ==, 4096);

    g_autofree char *no_name = NULL, *no_message = NULL;
    for (gsize len = 0; len < bytes->len; len++) {
        g_assert_null(cbus_tree_read(bytes->data, len, &id, &no_name, &no_message));
        g_assert_true(no_name == NULL && no_message == NULL);
    }
    g_byte_array_set_size(bytes, 0);
    cbus_tree_write_error(9, "not a name", "", bytes);
    g_assert_null(cbus_tree_read(bytes->data, bytes->len, &id, &no_name, &no_message));
    g_assert_true(no_name == NULL && no_message == NULL);
}

/* What is read of any bytes writes back to just these bytes: there is one spelling. */
static void
assert_one_spelling(const guint8 *data, gsize len)
{
    g_autofree char *name = NULL, *message = NULL;
    guint32 id;
    g_autoptr(CbusTree) tree = cbus_tree_read(data, len, &id, &name, &message);
    if (tree == NULL)
        return;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    cbus_tree_write(tree, id, bytes);
    g_assert_cmpmem(bytes->data, bytes->len, data, len);
}

static void
test_hostile_bytes(void)
{
    g_autoptr(CbusTree) tree = small_tree();
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    guint32 id;
    cbus_tree_write(tree, 3, bytes);
    for (gsize len = 0; len < bytes->len; len++) {
        g_autofree guint8 *copy = g_memdup2(bytes->data, len);
        g_autofree char *name = NULL, *message = NULL;
        g_assert_null(cbus_tree_read(copy, len, &id, &name, &message));
        g_assert_true(name == NULL && message == NULL);
    }
    for (gsize bit = 0; bit < bytes->len * 8; bit++) {
        bytes->data[bit / 8] ^= (guint8)(1u << bit % 8);
        assert_one_spelling(bytes->data, bytes->len);
        bytes->data[bit / 8] ^= (guint8)(1u << bit % 8);
    }
    g_byte_array_append(bytes, (const guint8 *)"", 1);
    g_assert_null(read_back(bytes, &id));
}

#define HEAD     "\0\0\0\1\1\1"
#define DOC_X    "\0\0\0\1x"
#define DOC_Y    "\0\0\0\1y"
#define OBJECT_A "\0\0\0\2/a"
#define OBJECT_B "\0\0\0\2/b"

static void
test_malformed_trees(void)
{
    static const struct {
        const char *what, *bytes;
        gsize len;
        gboolean good;
    } cases[] = {
#define CASE(what, good, bytes) {what, bytes, sizeof(bytes) - 1, good}
        CASE("two", TRUE, HEAD "\0\0\0\2" DOC_X DOC_Y "\0\0\0\2" OBJECT_A "\0\0\0\0" OBJECT_B "\0\0\0\1"),
        CASE("empty", TRUE, HEAD "\0\0\0\0\0\0\0\0"),
        CASE("descending", FALSE, HEAD "\0\0\0\1" DOC_X "\0\0\0\2" OBJECT_B "\0\0\0\0" OBJECT_A "\0\0\0\0"),
        CASE("twice", FALSE, HEAD "\0\0\0\1" DOC_X "\0\0\0\2" OBJECT_A "\0\0\0\0" OBJECT_A "\0\0\0\0"),
        CASE("no such document", FALSE, HEAD "\0\0\0\1" DOC_X "\0\0\0\1" OBJECT_A "\0\0\0\1"),
        CASE("no documents", FALSE, HEAD "\0\0\0\0\0\0\0\1" OBJECT_A "\0\0\0\0"),
        CASE("unused document", FALSE, HEAD "\0\0\0\2" DOC_X DOC_Y "\0\0\0\1" OBJECT_A "\0\0\0\0"),
        CASE("document twice", FALSE,
             HEAD "\0\0\0\2" DOC_X DOC_X "\0\0\0\2" OBJECT_A "\0\0\0\0" OBJECT_B "\0\0\0\1"),
        CASE("other order of documents", FALSE,
             HEAD "\0\0\0\2" DOC_X DOC_Y "\0\0\0\2" OBJECT_A "\0\0\0\1" OBJECT_B "\0\0\0\0"),
        CASE("no path", FALSE, HEAD "\0\0\0\1" DOC_X "\0\0\0\1\0\0\0\2a/\0\0\0\0"),
        CASE("too many documents", FALSE, HEAD "\xff\xff\xff\xff" DOC_X),
        CASE("too many objects", FALSE, HEAD "\0\0\0\1" DOC_X "\x10\0\0\0" OBJECT_A "\0\0\0\0"),
        CASE("half complete", FALSE, "\0\0\0\1\1\2\0\0\0\0\0\0\0\0"),
        CASE("unknown status", FALSE, "\0\0\0\1\2\1\0\0\0\0\0\0\0\0"),
#undef CASE
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = NULL, *message = NULL;
        guint32 id = 0;
        g_autoptr(CbusTree) tree =
            cbus_tree_read((const guint8 *)cases[i].bytes, cases[i].len, &id, &name, &message);
        g_test_message("%s", cases[i].what);
        g_assert_cmpint(tree != NULL, ==, cases[i].good);
        g_assert_cmpuint(id, ==, 1);
        g_assert_true(name == NULL && message == NULL);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tree/round-trip", test_round_trip);
    g_test_add_func("/tree/layout-is-as-specified", test_layout_is_as_specified);
    g_test_add_func("/tree/equal-documents-travel-once", test_equal_documents_travel_once);
    g_test_add_func("/tree/adding-again-replaces", test_adding_again_replaces);
    g_test_add_func("/tree/what-does-not-belong-cuts", test_what_does_not_belong_cuts);
    g_test_add_func("/tree/limits", test_limits);
    g_test_add_func("/tree/errors-travel", test_errors_travel);
    g_test_add_func("/tree/hostile-bytes", test_hostile_bytes);
    g_test_add_func("/tree/malformed-trees", test_malformed_trees);
    return g_test_run();
}
