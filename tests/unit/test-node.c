/* Introspection XML: what real services say survives, what hostile ones say does not. */
#include "introspect/node.h"

#define DOCTYPE                                                                                              \
    "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n"                     \
    "\"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n"

static CbusNode *
parse(const char *xml)
{
    g_autoptr(GError) error = NULL;
    CbusNode *node = cbus_node_parse(xml, strlen(xml), &error);

    g_assert_no_error(error);
    g_assert_nonnull(node);
    return node;
}

static void
assert_refused(const char *xml, gsize len, CbusNodeError code, const char *reason)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusNode) node = cbus_node_parse(xml, len, &error);

    g_assert_null(node);
    g_assert_error(error, CBUS_NODE_ERROR, (int)code);
    if (reason != NULL && g_strstr_len(error->message, -1, reason) == NULL)
        g_error("\"%s\" is not in \"%s\"", reason, error->message);
    g_assert_cmpuint(strlen(error->message), <, 500);
}

static void
assert_invalid(const char *xml, const char *reason)
{
    assert_refused(xml, strlen(xml), CBUS_NODE_ERROR_INVALID, reason);
}

/* How GDBus writes all interfaces of a document: the common measure of two spellings. */
static char *
canonical(const char *document)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusNodeInfo) info = g_dbus_node_info_new_for_xml(document, &error);
    GString *out = g_string_new(NULL);

    g_assert_no_error(error);
    for (guint i = 0; info->interfaces[i] != NULL; i++)
        g_dbus_interface_info_generate_xml(info->interfaces[i], 0, out);
    for (guint i = 0; info->nodes[i] != NULL; i++)
        g_string_append_printf(out, "child %s\n", info->nodes[i]->path);
    return g_string_free(out, FALSE);
}

static void
assert_same_interfaces(const char *original)
{
    g_autoptr(CbusNode) node = parse(original);
    g_autofree char *rebuilt = cbus_node_document(node, NULL, cbus_node_children(node));
    g_autoptr(CbusNode) again = parse(rebuilt);
    g_autofree char *twice = cbus_node_document(again, NULL, cbus_node_children(again));
    g_autofree char *expected = canonical(original);
    g_autofree char *seen = canonical(rebuilt);

    g_assert_cmpstr(seen, ==, expected);
    g_assert_cmpstr(twice, ==, rebuilt);
}

static void
test_real_documents(void)
{
    static const char *const files[] = {"introspect-dbus-daemon.xml", "introspect-systemd-manager.xml",
                                        "introspect-systemd-unit.xml"};

    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_test_build_filename(G_TEST_DIST, "data", files[i], NULL);
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;

        g_file_get_contents(path, &text, NULL, &error);
        g_assert_no_error(error);
        assert_same_interfaces(text);
    }
}

static void
test_everything_that_gdbus_knows(void)
{
    assert_same_interfaces(
        DOCTYPE "<node>\n"
                "<interface name='a.b'>"
                " <annotation name='org.freedesktop.DBus.Deprecated' value='true'/>"
                " <method name='M'><annotation name='a.n' value='1 &lt; 2 &amp; &quot;&#39;'/>"
                "  <arg name='x' type='a{sv}' direction='in'><annotation name='a.o' value=''/></arg>"
                "  <arg type='(iiav)' direction='out'/></method>"
                " <method name='Empty'></method>"
                " <signal name='S'><arg name='n' type='h'/><arg type='s' direction='out'/></signal>"
                " <property name='gtk-like-name' type='t' access='readwrite'/>"
                " <property name='P' type='ay' access='write'><annotation name='a.p' value='q'/></property>"
                "</interface><node name='kid'/><node name='other'/></node>");
}

static void
test_asks_about_a_node(void)
{
    g_autoptr(CbusNode) node = parse("<node name='/ignored'><node name='b'/><interface name='z.z'/>"
                                     "<node name='a'/><node name='b'/><interface name='a.a'/></node>");
    gsize len;

    g_assert_true(cbus_node_has_interface(node, "z.z"));
    g_assert_true(cbus_node_has_interface(node, "a.a"));
    g_assert_false(cbus_node_has_interface(node, "a"));
    g_assert_cmpstr(cbus_node_interfaces_xml(node, &len), ==,
                    " <interface name=\"z.z\"/>\n <interface name=\"a.a\"/>\n");
    g_assert_cmpuint(len, ==, strlen(cbus_node_interfaces_xml(node, NULL)));
    g_assert_true(g_strv_equal(cbus_node_children(node), (const char *const[]){"a", "b", NULL}));
}

static void
test_keeps_relative_children_only(void)
{
    g_autoptr(CbusNode) node =
        parse("<node><node name='/abs/olute'/><node name='../x'/><node name='..'/><node name=''/><node/>"
              "<node name='a/b'/><node name='a/c/'/><node name='d-e'/><node name='f&#10;'/><node name='ok_1'>"
              "<interface name='not.ours'/><node name='nor_this'/></node><node name='&#xe9;'/></node>");

    g_assert_true(g_strv_equal(cbus_node_children(node), (const char *const[]){"a", "ok_1", NULL}));
    g_assert_false(cbus_node_has_interface(node, "not.ours"));
}

static void
test_drops_what_it_does_not_know(void)
{
    g_autoptr(CbusNode) node = parse(
        "<?xml version='1.0'?><!-- <node> --><node xmlns:tp='urn:x'><tp:docstring><p>text<node name='no'/>"
        "</p></tp:docstring><method name='outside'/><annotation name='a.b' value='c'/>"
        "<interface name='a.b' tp:x='y'>text<![CDATA[<interface name='c.d'/>]]><doc><arg/></doc>"
        "<method name='M' foo='bar'><interface name='in.side'/></method><arg type='s'/></interface></node>");

    g_assert_cmpstr(cbus_node_interfaces_xml(node, NULL), ==,
                    " <interface name=\"a.b\">\n  <method name=\"M\"/>\n </interface>\n");
    g_assert_cmpstr(cbus_node_children(node)[0], ==, NULL);
}

static void
test_drops_odd_adornments(void)
{
    g_autofree char *long_value = g_strnfill(CBUS_NODE_MAX_ANNOTATION + 1, 'v');
    g_autofree char *xml = g_strdup_printf(
        "<node><interface name='a.b'><annotation name='odd name' value='x'/><annotation name='a.b'/>"
        "<annotation name='a.c' value='%s'/><annotation name='a.d' value='&#27;[2J'/>"
        "<annotation name='a.e' value='%s'/><signal name='S'><arg name='&#7;' type='s'/></signal>"
        "</interface></node>",
        long_value, long_value + 1);
    g_autofree char *expected = g_strdup_printf(
        " <interface name=\"a.b\">\n  <annotation name=\"a.e\" value=\"%s\"/>\n  <signal name=\"S\">\n"
        "   <arg type=\"s\"/>\n  </signal>\n </interface>\n",
        long_value + 1);
    g_autoptr(CbusNode) node = parse(xml);

    g_assert_cmpstr(cbus_node_interfaces_xml(node, NULL), ==, expected);
}

static void
test_keeps_the_first_of_two_interfaces(void)
{
    g_autoptr(CbusNode) node =
        parse("<node><interface name='a.b'><method name='First'/></interface>"
              "<interface name='a.b'><method name='Second'/><method name='0bad'/></interface></node>");

    g_assert_cmpstr(cbus_node_interfaces_xml(node, NULL), ==,
                    " <interface name=\"a.b\">\n  <method name=\"First\"/>\n </interface>\n");
}

static void
test_refuses_what_is_invalid(void)
{
#define IN(member) "<node><interface name='a.b'>" member "</interface></node>"
    static const struct {
        const char *xml, *reason;
    } cases[] = {
        {"", "empty"},
        {" \n ", "empty"},
        {"hello", "XML"},
        {"<node>", "XML"},
        {"<node></nod>", "XML"},
        {"<node/><node/>", "root"},
        {"<interface name='a.b'/>", "root"},
        {"<node><interface/></node>", "interface name"},
        {"<node><interface name='nodot'/></node>", "\"nodot\""},
        {"<node><interface name='a.b&#10;c.d'/></node>", "\"a.b\\nc.d\""},
        {"<node><interface name='a..b'/></node>", "interface name"},
        {IN("<method/>"), "member name"},
        {IN("<method name='a.b'/>"), "member name"},
        {IN("<method name='\">&lt;x'/>"), "member name"},
        {IN("<signal name='0'/>"), "member name"},
        {IN("<property name='' type='s' access='read'/>"), "member name"},
        {IN("<property name='a b' type='s' access='read'/>"), "member name"},
        {IN("<property name='P' access='read'/>"), "complete type"},
        {IN("<property name='P' type='' access='read'/>"), "complete type"},
        {IN("<property name='P' type='ss' access='read'/>"), "complete type"},
        {IN("<property name='P' type='a' access='read'/>"), "complete type"},
        {IN("<property name='P' type='s'/>"), "access"},
        {IN("<property name='P' type='s' access='Read'/>"), "access"},
        {IN("<method name='M'><arg/></method>"), "complete type"},
        {IN("<method name='M'><arg type='{sv}'/></method>"), "complete type"},
        {IN("<method name='M'><arg type='()'/></method>"), "complete type"},
        {IN("<method name='M'><arg type='m&#115;'/></method>"), "complete type"},
        {IN("<method name='M'><arg type='s' direction='inout'/></method>"), "direction"},
        {IN("<signal name='S'><arg type='s' direction='up'/></signal>"), "direction"},
        {"<node>\n\n<interface name='-'/></node>", "line 3"},
        {"<node>&unknown;</node>", "XML"},
        {"<node>\xff</node>", "UTF-8"},
        {"<node><interface name='a.b\xc3'/></node>", "UTF-8"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_invalid(cases[i].xml, cases[i].reason);
    assert_refused("<node/>\0<x", 10, CBUS_NODE_ERROR_INVALID, "UTF-8");
}

static void
test_refuses_entities(void)
{
    g_autoptr(CbusNode) harmless = parse("<!DOCTYPE node [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><node/>");

    g_assert_cmpstr(cbus_node_interfaces_xml(harmless, NULL), ==, "");
    assert_invalid("<!DOCTYPE node [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;'>]>"
                   "<node><interface name='&c;'/></node>",
                   "XML");
    assert_invalid("<!DOCTYPE node [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><node>&x;</node>", "XML");
}

/* "<node>" HEAD PIECE×TIMES TAIL "</node>", where %u in PIECE is the number. */
static GString *
repeat(const char *head, const char *piece, guint times, const char *tail)
{
    GString *xml = g_string_new("<node>");
    g_auto(GStrv) halves = g_strsplit(piece, "%u", 2);

    g_string_append(xml, head);
    for (guint i = 0; i < times; i++) {
        g_string_append(xml, halves[0]);
        if (halves[1] != NULL)
            g_string_append_printf(xml, "%u%s", i, halves[1]);
    }
    g_string_append(xml, tail);
    g_string_append(xml, "</node>");
    return xml;
}

static void
assert_limit(const char *head, const char *piece, guint most, const char *tail)
{
    GString *fits = repeat(head, piece, most, tail), *over = repeat(head, piece, most + 1, tail);
    g_autoptr(CbusNode) node = parse(fits->str);

    assert_refused(over->str, over->len, CBUS_NODE_ERROR_LIMIT, NULL);
    g_string_free(fits, TRUE);
    g_string_free(over, TRUE);
}

static void
test_limits(void)
{
    assert_limit("", "<interface name='a.b%u'/>", CBUS_NODE_MAX_INTERFACES, "");
    assert_limit("<interface name='a.b'>", "<method name='M%u'/>", CBUS_NODE_MAX_MEMBERS, "</interface>");
    assert_limit("", "<node name='n%u'/>", CBUS_NODE_MAX_CHILDREN, "");
    /* What all arguments have together must fit one signature. */
    assert_limit("<interface name='a.b'><method name='M'>", "<arg type='(iii)'/>", 51,
                 "</method></interface>");
}

static void
test_limit_of_depth(void)
{
    GString *xml = g_string_new(NULL);

    for (guint i = 0; i < 100000; i++)
        g_string_append(xml, "<node>");
    assert_refused(xml->str, xml->len, CBUS_NODE_ERROR_LIMIT, "deep");
    g_string_free(xml, TRUE);
}

static void
test_limit_of_length(void)
{
    g_autofree char *pad = g_strnfill(CBUS_NODE_MAX_BYTES + 1, ' ');
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusNode) node = NULL;

    memcpy(pad, "<node/>", 7);
    node = cbus_node_parse(pad, CBUS_NODE_MAX_BYTES, &error);
    g_assert_no_error(error);
    g_assert_nonnull(node);
    assert_refused(pad, CBUS_NODE_MAX_BYTES + 1, CBUS_NODE_ERROR_LIMIT, NULL);
}

/* Escaping makes text longer: a small document must not become a large one. */
static void
test_limit_of_what_is_written(void)
{
    g_autofree char *quotes = g_strnfill(CBUS_NODE_MAX_ANNOTATION, '\'');
    g_autofree char *piece = g_strdup_printf("<annotation name='a.b' value=\"%s\"/>", quotes);
    GString *xml = repeat("<interface name='a.b'>", piece, 900, "</interface>");

    assert_refused(xml->str, xml->len, CBUS_NODE_ERROR_LIMIT, "too much");
    g_string_free(xml, TRUE);
}

/* Inputs that make careless parsers quadratic: each must take less than two seconds under a sanitizer. */
static void
test_bounded_time(void)
{
    static const char *const pieces[] = {"<",    ">",      "<!--",         "<![CDATA[",
                                         "&#9;", " a='b'", "<!DOCTYPE a[", "]]"};

    for (guint i = 0; i < G_N_ELEMENTS(pieces); i++) {
        static const char *const heads[] = {"<node>", "<node", "<!DOCTYPE ", "<!-- ", "<node a='"};

        for (guint j = 0; j < G_N_ELEMENTS(heads); j++) {
            GString *xml = g_string_new(heads[j]);
            gint64 before = g_get_monotonic_time();

            while (xml->len + strlen(pieces[i]) <= CBUS_NODE_MAX_BYTES)
                g_string_append(xml, pieces[i]);
            g_autoptr(CbusNode) node = cbus_node_parse(xml->str, xml->len, NULL);

            g_assert_cmpint(g_get_monotonic_time() - before, <, 2 * G_USEC_PER_SEC);
            g_string_free(xml, TRUE);
        }
    }
}

static void
test_document(void)
{
    g_autoptr(CbusNode) node = parse("<node><interface name='a.b'/></node>");
    g_autofree char *all =
        cbus_node_document(node, " <interface name=\"c.d\"/>\n", (const char *const[]){"x", "<&\">", NULL});
    g_autofree char *none = cbus_node_document(NULL, NULL, NULL);
    g_autofree char *seen = canonical(all);

    g_assert_true(g_str_has_prefix(all, "<!DOCTYPE node PUBLIC"));
    g_assert_cmpstr(seen, ==,
                    "<interface name=\"a.b\">\n</interface>\n<interface name=\"c.d\">\n</interface>\n"
                    "child x\nchild <&\">\n");
    g_assert_true(g_str_has_suffix(none, "<node>\n</node>\n"));
}

static void
count_gone(CbusNode *node, gpointer user_data)
{
    g_assert_cmpuint(cbus_node_cost(node), >, 0);
    ++*(guint *)user_data;
}

static void
test_watch_tells_of_the_last_reference(void)
{
    CbusNode *node = parse("<node/>");
    guint gone = 0;

    cbus_node_watch(node, count_gone, &gone);
    cbus_node_unref(cbus_node_ref(node));
    g_assert_cmpuint(gone, ==, 0);
    cbus_node_unref(node);
    g_assert_cmpuint(gone, ==, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/node/real-documents-keep-their-interfaces", test_real_documents);
    g_test_add_func("/node/all-that-gdbus-knows-is-kept", test_everything_that_gdbus_knows);
    g_test_add_func("/node/interfaces-and-children", test_asks_about_a_node);
    g_test_add_func("/node/relative-children-only", test_keeps_relative_children_only);
    g_test_add_func("/node/unknown-elements-are-dropped", test_drops_what_it_does_not_know);
    g_test_add_func("/node/odd-adornments-are-dropped", test_drops_odd_adornments);
    g_test_add_func("/node/first-of-two-interfaces", test_keeps_the_first_of_two_interfaces);
    g_test_add_func("/node/invalid-is-refused", test_refuses_what_is_invalid);
    g_test_add_func("/node/entities-are-refused", test_refuses_entities);
    g_test_add_func("/node/limits", test_limits);
    g_test_add_func("/node/limit-of-depth", test_limit_of_depth);
    g_test_add_func("/node/limit-of-length", test_limit_of_length);
    g_test_add_func("/node/limit-of-what-is-written", test_limit_of_what_is_written);
    g_test_add_func("/node/bounded-time", test_bounded_time);
    g_test_add_func("/node/document", test_document);
    g_test_add_func("/node/watch", test_watch_tells_of_the_last_reference);
    return g_test_run();
}
