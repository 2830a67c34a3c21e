/* What is known of remote trees: shared, bounded, and shown as the bus would show it. */
#include "introspect/cache.h"

#include <time.h>

#define XML_A "<node><interface name='a.a'/></node>"
#define XML_B "<node><interface name='b.b'/><node name='named_only'/></node>"

static void
add(CbusTree *tree, const char *path, const char *xml)
{
    g_assert_true(cbus_tree_add(tree, path, xml, strlen(xml)));
}

/* "interface… | child…" of the document at PATH, "none" without one. */
static char *
shown(CbusServiceTree *tree, const char *path)
{
    g_autofree char *xml = cbus_service_tree_document(tree, path);
    g_autoptr(GDBusNodeInfo) info = NULL;
    g_autoptr(GError) error = NULL;
    GString *out = g_string_new(NULL);

    if (xml == NULL)
        return g_string_free(g_string_assign(out, "none"), FALSE);
    info = g_dbus_node_info_new_for_xml(xml, &error);
    g_assert_no_error(error);
    for (guint i = 0; info->interfaces[i] != NULL; i++)
        g_string_append_printf(out, "%s ", info->interfaces[i]->name);
    g_string_append_c(out, '|');
    for (guint i = 0; info->nodes[i] != NULL; i++)
        g_string_append_printf(out, " %s", info->nodes[i]->path);
    return g_string_free(out, FALSE);
}

static void
assert_shown(CbusServiceTree *tree, const char *path, const char *expected)
{
    g_autofree char *text = shown(tree, path);

    g_assert_cmpstr(text, ==, expected);
}

static void
test_store_parses_equal_documents_once(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(GError) error = NULL;
    CbusNode *first = cbus_node_store_get(store, XML_A, strlen(XML_A), &error);
    CbusNode *second = cbus_node_store_get(store, XML_A, strlen(XML_A), &error);
    CbusNode *other = cbus_node_store_get(store, XML_B, strlen(XML_B), &error);

    g_assert_no_error(error);
    g_assert_true(first == second);
    g_assert_true(first != other);
    g_assert_cmpuint(cbus_node_store_size(store), ==, 2);
    g_assert_null(cbus_node_store_get(store, "<x/>", 4, &error));
    g_assert_error(error, CBUS_NODE_ERROR, CBUS_NODE_ERROR_INVALID);
    cbus_node_unref(first);
    cbus_node_unref(other);
    g_assert_cmpuint(cbus_node_store_size(store), ==, 1);
    cbus_node_unref(second);
    g_assert_cmpuint(cbus_node_store_size(store), ==, 0);
    g_assert_cmpuint(cbus_node_store_cost(store), ==, 0);
}

static void
test_node_outlives_the_store(void)
{
    CbusNodeStore *store = cbus_node_store_new();
    g_autoptr(CbusNode) node = cbus_node_store_get(store, XML_A, strlen(XML_A), NULL);

    cbus_node_store_free(store);
    g_assert_true(cbus_node_has_interface(node, "a.a"));
}

static void
test_shows_objects_and_their_children(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(CbusServiceTree) known = cbus_service_tree_new(store);
    g_autoptr(CbusTree) tree = cbus_tree_new();

    assert_shown(known, "/", "none");
    g_assert_false(cbus_service_tree_known(known));
    add(tree, "/a/b/c", XML_A);
    add(tree, "/a/b", XML_B);
    add(tree, "/a/b0", XML_A);
    add(tree, "/a/b_x/y", XML_A);
    add(tree, "/a/bB/z", XML_A);
    add(tree, "/q", XML_A);
    g_assert_cmpuint(cbus_service_tree_fill(known, tree, 42), ==, 0);
    g_assert_true(cbus_service_tree_known(known));
    g_assert_cmpint(cbus_service_tree_filled_at(known), ==, 42);
    g_assert_cmpuint(cbus_node_store_size(store), ==, 2);

    assert_shown(known, "/", "| a q");
    assert_shown(known, "/a", "| b b0 bB b_x");
    assert_shown(known, "/a/b", "b.b | c named_only");
    assert_shown(known, "/a/b/c", "a.a |");
    assert_shown(known, "/a/b_x", "| y");
    assert_shown(known, "/a/b/named_only", "none");
    assert_shown(known, "/a/", "none");
    assert_shown(known, "/nowhere", "none");
}

static void
test_root_object(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(CbusServiceTree) known = cbus_service_tree_new(store);
    g_autoptr(CbusTree) tree = cbus_tree_new();

    add(tree, "/", XML_B);
    g_assert_cmpuint(cbus_service_tree_fill(known, tree, 1), ==, 0);
    assert_shown(known, "/", "b.b | named_only");
}

static void
test_leaves_out_what_does_not_parse(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(CbusServiceTree) known = cbus_service_tree_new(store);
    g_autoptr(CbusTree) tree = cbus_tree_new();

    add(tree, "/bad", "<node><interface name='bad'/></node>");
    add(tree, "/bad/too", "<node><interface name='bad'/></node>");
    add(tree, "/good", XML_A);
    g_assert_cmpuint(cbus_service_tree_fill(known, tree, 1), ==, 2);
    assert_shown(known, "/", "| good");
    assert_shown(known, "/bad", "none");
}

static void
test_filling_replaces(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(CbusServiceTree) known = cbus_service_tree_new(store);
    g_autoptr(CbusTree) before = cbus_tree_new();
    g_autoptr(CbusTree) after = cbus_tree_new();

    add(before, "/old", XML_A);
    add(after, "/new", XML_B);
    g_assert_cmpuint(cbus_service_tree_fill(known, before, 1), ==, 0);
    g_assert_cmpuint(cbus_service_tree_fill(known, after, 2), ==, 0);
    assert_shown(known, "/", "| new");
    g_assert_cmpuint(cbus_node_store_size(store), ==, 1);
}

static void
test_single_objects(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(CbusServiceTree) known = cbus_service_tree_new(store);
    g_autoptr(CbusNode) a = cbus_node_store_get(store, XML_A, strlen(XML_A), NULL);
    g_autoptr(CbusNode) b = cbus_node_store_get(store, XML_B, strlen(XML_B), NULL);

    cbus_service_tree_put(known, "/one", a);
    cbus_service_tree_put(known, "no/path", a);
    g_assert_false(cbus_service_tree_known(known));
    g_assert_cmpint(cbus_service_tree_filled_at(known), ==, 0);
    assert_shown(known, "/one", "a.a |");
    cbus_service_tree_put(known, "/one", b);
    assert_shown(known, "/one", "b.b | named_only");
    assert_shown(known, "/", "| one");
}

static void
test_invalidated_is_still_shown(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(CbusServiceTree) known = cbus_service_tree_new(store);
    g_autoptr(CbusTree) tree = cbus_tree_new();

    add(tree, "/a", XML_A);
    g_assert_cmpuint(cbus_service_tree_fill(known, tree, 7), ==, 0);
    cbus_service_tree_invalidate(known);
    g_assert_cmpint(cbus_service_tree_filled_at(known), ==, 0);
    g_assert_true(cbus_service_tree_known(known));
    assert_shown(known, "/a", "a.a |");
}

/* Documents of about half a megabyte each, all different. */
static CbusTree *
large_tree(const char *mark, guint documents)
{
    CbusTree *tree = cbus_tree_new();
    GString *xml = g_string_new(NULL);

    for (guint i = 0; i < documents; i++) {
        g_autofree char *path = g_strdup_printf("/%s%u", mark, i);

        g_string_printf(xml, "<node><interface name='%s.i%u'>", mark, i);
        for (guint j = 0; j < 4000; j++)
            g_string_append_printf(xml, "<property name='Property_%060u_%u' type='s' access='read'/>", j, i);
        g_string_append(xml, "</interface></node>");
        g_assert_true(cbus_tree_add(tree, path, xml->str, xml->len));
    }
    g_string_free(xml, TRUE);
    return tree;
}

static void
test_least_recently_used_tree_goes_first(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(CbusServiceTree) used = cbus_service_tree_new(store);
    g_autoptr(CbusServiceTree) unused = cbus_service_tree_new(store);
    g_autoptr(CbusServiceTree) newcomer = cbus_service_tree_new(store);
    g_autoptr(CbusTree) small = cbus_tree_new();
    g_autoptr(CbusTree) first = large_tree("first", 26);
    g_autoptr(CbusTree) second = large_tree("second", 26);
    g_autoptr(CbusTree) third = large_tree("third", 26);

    add(small, "/small", XML_A);
    g_assert_cmpuint(cbus_service_tree_fill(used, small, 1), ==, 0);
    g_assert_cmpuint(cbus_service_tree_fill(unused, first, 1), ==, 0);
    for (guint i = 0; i < 2; i++) {
        assert_shown(used, "/small", "a.a |");
        g_assert_cmpuint(cbus_service_tree_fill(newcomer, i == 0 ? second : third, 1), ==, 0);
        g_assert_cmpuint(cbus_node_store_cost(store), <=, CBUS_NODE_STORE_MAX_COST);
    }
    g_assert_true(cbus_service_tree_known(used));
    g_assert_true(cbus_service_tree_known(newcomer));
    g_assert_false(cbus_service_tree_known(unused));
    g_assert_cmpint(cbus_service_tree_filled_at(unused), ==, 0);
    assert_shown(unused, "/", "none");
}

static void
test_many_objects_do_not_take_long(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(CbusServiceTree) known = cbus_service_tree_new(store);
    g_autoptr(CbusTree) tree = cbus_tree_new();
    gint64 before;

    for (guint i = 0; i < CBUS_TREE_MAX_OBJECTS; i++) {
        g_autofree char *path = g_strdup_printf("/deep/%02u/object%u", i % 10, i);

        add(tree, path, XML_A);
    }
    before = g_get_monotonic_time();
    g_assert_cmpuint(cbus_service_tree_fill(known, tree, 1), ==, 0);
    for (guint i = 0; i < 1000; i++)
        assert_shown(known, "/deep", "| 00 01 02 03 04 05 06 07 08 09");
    g_assert_cmpint(g_get_monotonic_time() - before, <, 5 * G_USEC_PER_SEC);
}

/* A machine chooses how much it tells; how many trees there are is everybody's. */
static void
test_overfilling_does_not_take_long(void)
{
    g_autoptr(CbusNodeStore) store = cbus_node_store_new();
    g_autoptr(GPtrArray) others =
        g_ptr_array_new_with_free_func((GDestroyNotify)(void (*)(void))cbus_service_tree_free);
    g_autoptr(CbusServiceTree) known = cbus_service_tree_new(store);
    g_autoptr(CbusTree) tree = cbus_tree_new();
    g_autofree char *quotes = g_strnfill(1000, '"');
    clock_t before;

    for (guint i = 0; i < 50000; i++)
        g_ptr_array_add(others, cbus_service_tree_new(store));
    for (guint i = 0; i < 20; i++) { /* a quote is six bytes in what is kept */
        g_autofree char *path = g_strdup_printf("/a%02u", i);
        g_autoptr(GString) xml = g_string_new(NULL);

        g_string_printf(xml, "<node><interface name='a.i%u'>", i);
        for (guint j = 0; j < 330; j++)
            g_string_append_printf(xml, "<annotation name='a.b' value='%s'/>", quotes);
        add(tree, path, g_string_append(xml, "</interface></node>")->str);
    }
    for (guint i = 0; i < 19000; i++) {
        g_autofree char *path = g_strdup_printf("/b%05u", i);

        add(tree, path, XML_A);
    }
    before = clock();
    g_assert_cmpuint(cbus_service_tree_fill(known, tree, 1), >=, 19000);
    g_assert_cmpint(clock() - before, <, 2 * CLOCKS_PER_SEC);
    assert_shown(known, "/a00", "a.i0 |");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/node-cache/equal-documents-once", test_store_parses_equal_documents_once);
    g_test_add_func("/node-cache/node-outlives-store", test_node_outlives_the_store);
    g_test_add_func("/node-cache/objects-and-children", test_shows_objects_and_their_children);
    g_test_add_func("/node-cache/root-object", test_root_object);
    g_test_add_func("/node-cache/unparsable-left-out", test_leaves_out_what_does_not_parse);
    g_test_add_func("/node-cache/filling-replaces", test_filling_replaces);
    g_test_add_func("/node-cache/single-objects", test_single_objects);
    g_test_add_func("/node-cache/invalidated-still-shown", test_invalidated_is_still_shown);
    g_test_add_func("/node-cache/overfilling", test_overfilling_does_not_take_long);
    g_test_add_func("/node-cache/least-recently-used-goes-first", test_least_recently_used_tree_goes_first);
    g_test_add_func("/node-cache/many-objects-in-time", test_many_objects_do_not_take_long);
    return g_test_run();
}
