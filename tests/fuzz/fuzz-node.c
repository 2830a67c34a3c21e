/* Introspection XML: whatever is accepted is written as a document that GDBus takes without a word, and that
 * reads back as itself. */
#include "introspect/node.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusNode) node = cbus_node_parse((const char *)data, len, &error);
    if (node == NULL) {
        FUZZ_CHECK(error != NULL && error->domain == CBUS_NODE_ERROR);
        FUZZ_CHECK(g_utf8_validate(error->message, -1, NULL) && strlen(error->message) < 500);
        return 0;
    }
    FUZZ_CHECK(error == NULL);
    const char *const *children = cbus_node_children(node);
    for (guint i = 0; children[i] != NULL; i++) {
        g_autofree char *path = g_strconcat("/", children[i], NULL);
        FUZZ_CHECK(g_variant_is_object_path(path) && strchr(children[i], '/') == NULL);
        FUZZ_CHECK(i == 0 || strcmp(children[i - 1], children[i]) < 0);
    }
    g_autofree char *document = cbus_node_document(node, NULL, children);
    g_autoptr(GDBusNodeInfo) info = g_dbus_node_info_new_for_xml(document, NULL);
    FUZZ_CHECK(info != NULL && info->path == NULL);
    for (guint i = 0; info->interfaces[i] != NULL; i++)
        FUZZ_CHECK(cbus_node_has_interface(node, info->interfaces[i]->name));
    if (strlen(document) > CBUS_NODE_MAX_BYTES)
        return 0;
    g_autoptr(CbusNode) again = cbus_node_parse(document, strlen(document), NULL);
    FUZZ_CHECK(again != NULL);
    FUZZ_CHECK(g_str_equal(cbus_node_interfaces_xml(node, NULL), cbus_node_interfaces_xml(again, NULL)));
    FUZZ_CHECK(g_strv_equal(children, cbus_node_children(again)));
    return 0;
}
