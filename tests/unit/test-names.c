/* Names, paths, strings and signatures against GLib's own checks, by hand and by chance. */
#include "wire/body.h"
#include <gio/gio.h>

static void
test_paths(void)
{
    static const char *const good[] = {"/", "/a", "/a/b", "/_", "/0/1_2/Z"};
    static const char *const bad[] = {"",     "a",    "//",        "/a/", "/a//b",
                                      "/a-b", "/a.b", "/\xc3\xa4", " /a", "/a "};
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_true(cbus_is_object_path(cbus_span(good[i])));
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(cbus_is_object_path(cbus_span(bad[i])));
    g_assert_false(cbus_is_object_path((CbusSpan){"/a\0b", 4}));
    g_assert_false(cbus_is_object_path((CbusSpan){NULL, 0}));
}

/* Random words of an alphabet that holds what matters: agreement with GLib on each. */
static void
test_agree_with_glib(void)
{
    static const char alphabet[] = "aZ09_-.:/ \xc3";
    for (guint i = 0; i < 300000; i++) {
        char word[12];
        guint len = (guint)g_random_int_range(0, sizeof word);
        for (guint j = 0; j < len; j++)
            word[j] = alphabet[g_random_int_range(0, sizeof alphabet - 1)];
        word[len] = '\0';
        CbusSpan span = cbus_span(word);
        g_assert_cmpint(cbus_is_object_path(span), ==, g_variant_is_object_path(word));
        /* GLib lets a unique name's first element be empty; the specification does not. */
        g_assert_cmpint(cbus_is_bus_name(span), ==, g_dbus_is_name(word) && !g_str_has_prefix(word, ":."));
        g_assert_cmpint(cbus_is_interface(span), ==, g_dbus_is_interface_name(word));
        g_assert_cmpint(cbus_is_member(span), ==, g_dbus_is_member_name(word));
        g_assert_cmpint(cbus_is_string(span), ==, g_utf8_validate(word, len, NULL));
    }
}

static void
test_lengths(void)
{
    g_autoptr(GString) name = g_string_new("a.");
    while (name->len < 255)
        g_string_append_c(name, 'b');
    g_assert_true(cbus_is_bus_name((CbusSpan){name->str, name->len}));
    g_assert_true(cbus_is_interface((CbusSpan){name->str, name->len}));
    g_assert_true(cbus_is_member((CbusSpan){name->str + 2, 253}));
    g_string_append(name, "ccc");
    g_assert_false(cbus_is_bus_name((CbusSpan){name->str, name->len}));
    g_assert_false(cbus_is_interface((CbusSpan){name->str, name->len}));
    g_assert_false(cbus_is_member((CbusSpan){name->str + 2, 256}));
}

/* A fault at each offset of a string longer than the words it is looked at in. */
static void
test_strings(void)
{
    char text[40];
    for (guint len = 0; len < sizeof text; len++) {
        memset(text, 'x', sizeof text);
        g_assert_true(cbus_is_string((CbusSpan){text, len}));
        for (guint at = 0; at < len; at++) {
            text[at] = '\0';
            g_assert_false(cbus_is_string((CbusSpan){text, len}));
            text[at] = '\xff';
            g_assert_false(cbus_is_string((CbusSpan){text, len}));
            text[at] = 'x';
            if (at + 1 >= len)
                continue;
            memcpy(text + at, "\xc3\xa4", 2);
            g_assert_true(cbus_is_string((CbusSpan){text, len}));
            memcpy(text + at, "xx", 2);
        }
    }
}

/* As GVariant, but for what D-Bus has not: the empty struct, and dict entries outside arrays. */
static gboolean
reference(const char *text)
{
    if (!g_variant_is_signature(text))
        return FALSE;
    for (const char *p = text; *p != '\0'; p++)
        if ((*p == '(' && p[1] == ')') || (*p == '{' && (p == text || p[-1] != 'a')))
            return FALSE;
    return TRUE;
}

static void
test_signatures(void)
{
    static const char alphabet[] = "aaaysovh(){}{}mr*?\x01";
    guint valid = 0;
    for (guint i = 0; i < 2000000; i++) {
        char word[9];
        guint len = (guint)g_random_int_range(0, sizeof word);
        for (guint j = 0; j < len; j++)
            word[j] = alphabet[g_random_int_range(0, sizeof alphabet - 1)];
        word[len] = '\0';
        g_assert_cmpint(cbus_signature_is_valid(cbus_span(word)), ==, reference(word));
        CbusSignature parsed;
        if (!cbus_signature_parse(cbus_span(word), &parsed))
            continue;
        valid++;
        for (guint at = 0; at < parsed.len; at = parsed.ends[at]) {
            g_assert_cmpuint(parsed.ends[at] - at, ==, cbus_signature_next(word + at, len - at));
            const char *end;
            g_assert_true(g_variant_type_string_scan(word + at, NULL, &end));
            g_assert_true(end == word + parsed.ends[at]);
        }
    }
    g_assert_cmpuint(valid, >, 1000);
}

static void
test_signature_depth(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < 32; i++)
        g_string_append(text, "a(");
    g_string_append_c(text, 'y');
    for (guint i = 0; i < 32; i++)
        g_string_append_c(text, ')');
    g_assert_true(cbus_signature_is_valid(cbus_span(text->str)));
    g_string_prepend(text, "(");
    g_string_append(text, ")");
    g_assert_false(cbus_signature_is_valid(cbus_span(text->str)));
    g_autofree char *arrays = g_strnfill(34, 'a');
    arrays[33] = 'y';
    g_assert_false(cbus_signature_is_valid(cbus_span(arrays)));
    g_assert_true(cbus_signature_is_valid(cbus_span(arrays + 1)));
    g_autofree char *bytes = g_strnfill(256, 'y');
    g_assert_false(cbus_signature_is_valid(cbus_span(bytes)));
    g_assert_true(cbus_signature_is_valid(cbus_span(bytes + 1)));
}

static void
test_signature_content(void)
{
    g_assert_true(cbus_signature_may_hold_path(CBUS_SPAN_LITERAL("sa{sv}")));
    g_assert_true(cbus_signature_may_hold_path(CBUS_SPAN_LITERAL("ao")));
    g_assert_false(cbus_signature_may_hold_path(CBUS_SPAN_LITERAL("a{ss}u")));
    g_assert_true(cbus_signature_has_descriptor(CBUS_SPAN_LITERAL("s(ih)")));
    g_assert_false(cbus_signature_has_descriptor(CBUS_SPAN_LITERAL("sv")));
    g_assert_false(cbus_signature_has_descriptor((CbusSpan){NULL, 0}));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/names/paths", test_paths);
    g_test_add_func("/names/agree-with-glib", test_agree_with_glib);
    g_test_add_func("/names/lengths", test_lengths);
    g_test_add_func("/names/strings", test_strings);
    g_test_add_func("/signature/agrees-with-gvariant", test_signatures);
    g_test_add_func("/signature/depth-and-length", test_signature_depth);
    g_test_add_func("/signature/content", test_signature_content);
    return g_test_run();
}
