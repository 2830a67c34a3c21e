/* Arguments from words and JSON, and values as text: what is printed can be given back. */
#include "cli/arguments.h"
#include "cli/value.h"

static GVariant *
parse(const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    g_autoptr(GError) error = NULL;
    GVariant *body = cbus_arguments_parse(words[0], words + 1, &error);

    g_assert_no_error(error);
    return body;
}

static void
assert_parsed(const char *line, const char *text)
{
    g_autoptr(GVariant) body = parse(line);
    g_autoptr(GVariant) expected = g_variant_parse(NULL, text, NULL, NULL, NULL);

    g_assert_nonnull(expected);
    g_assert_cmpvariant(body, expected);
}

static void
test_words_become_values_of_their_types(void)
{
    assert_parsed("s web", "('web',)");
    assert_parsed("bbbb yes off 1 F", "(true, false, true, false)");
    assert_parsed("ynqiuxt 255 -32768 0xffff -5 4294967295 -9223372036854775808 18446744073709551615",
                  "(byte 255, int16 -32768, uint16 65535, -5, uint32 4294967295, int64 -9223372036854775808, "
                  "uint64 18446744073709551615)");
    assert_parsed("dog 1.5 /a/b a{sv}", "(1.5, objectpath '/a/b', signature 'a{sv}')");
    assert_parsed("as 0", "(@as [],)");
    assert_parsed("asu 2 a b 7", "(['a', 'b'], uint32 7)");
    assert_parsed("a{sv} 2 k s v n u 3", "({'k': <'v'>, 'n': <uint32 3>},)");
    assert_parsed("(sa(ii))v x 1 1 2 as 1 y", "(('x', [(1, 2)]), <['y']>)");
}

static void
assert_refused(const char *line, int code, const char *hint)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    g_autoptr(GError) error = NULL;

    g_assert_null(cbus_arguments_parse(words[0], words + 1, &error));
    g_assert_error(error, CBUS_ARGUMENTS_ERROR, code);
    if (g_strstr_len(error->message, -1, hint) == NULL)
        g_error("\"%s\" does not say %s", error->message, hint);
}

static void
test_what_does_not_fit_is_refused_by_name(void)
{
    static const struct {
        const char *line;
        int code;
        const char *hint;
    } cases[] = {
        {"y 256", CBUS_ARGUMENTS_ERROR_VALUE, "\"256\""},
        {"u -1", CBUS_ARGUMENTS_ERROR_VALUE, "\"-1\""},
        {"i 12x", CBUS_ARGUMENTS_ERROR_VALUE, "\"12x\""},
        {"x 9223372036854775808", CBUS_ARGUMENTS_ERROR_VALUE, "64 bits"},
        {"b maybe", CBUS_ARGUMENTS_ERROR_VALUE, "boolean"},
        {"d 1.5.2", CBUS_ARGUMENTS_ERROR_VALUE, "number"},
        {"o relative", CBUS_ARGUMENTS_ERROR_VALUE, "object path"},
        {"g (", CBUS_ARGUMENTS_ERROR_VALUE, "signature"},
        {"v zz 1", CBUS_ARGUMENTS_ERROR_VALUE, "variant"},
        {"v ss a b", CBUS_ARGUMENTS_ERROR_VALUE, "variant"},
        {"v h 0", CBUS_ARGUMENTS_ERROR_VALUE, "variant"},
        {"h 0", CBUS_ARGUMENTS_ERROR_SIGNATURE, "descriptor"},
        {"()", CBUS_ARGUMENTS_ERROR_SIGNATURE, "signature"},
        {"a{vs} 0", CBUS_ARGUMENTS_ERROR_SIGNATURE, "signature"},
        {"ms x", CBUS_ARGUMENTS_ERROR_SIGNATURE, "signature"},
        {"ss a", CBUS_ARGUMENTS_ERROR_COUNT, "too few"},
        {"as 3 a b", CBUS_ARGUMENTS_ERROR_COUNT, "2 are left"},
        {"as 4294967295", CBUS_ARGUMENTS_ERROR_COUNT, "too few"},
        {"s a b", CBUS_ARGUMENTS_ERROR_COUNT, "\"b\""},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_refused(cases[i].line, cases[i].code, cases[i].hint);
}

static void
test_variants_in_variants_end_at_a_depth(void)
{
    GString *line = g_string_new("v");
    g_autofree char *text = NULL;

    for (guint i = 0; i < 200; i++)
        g_string_append(line, " v");
    g_string_append(line, " s x");
    text = g_string_free(line, FALSE);
    assert_refused(text, CBUS_ARGUMENTS_ERROR_SIGNATURE, "deeper");
}

static void
assert_json(const char *signature, const char *json, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) body = cbus_arguments_from_json(signature, json, &error);
    g_autoptr(GVariant) expected = NULL;

    if (text == NULL) {
        g_assert_nonnull(error);
        g_assert_true(error->domain == CBUS_ARGUMENTS_ERROR);
        return;
    }
    g_assert_no_error(error);
    expected = g_variant_parse(NULL, text, NULL, NULL, NULL);
    g_assert_cmpvariant(body, expected);
}

static void
test_json_becomes_values_of_the_signature(void)
{
    assert_json("su", "[\"web\", 7]", "('web', uint32 7)");
    assert_json("", "[]", "()");
    assert_json("t", "[\"18446744073709551615\"]", "(uint64 18446744073709551615,)");
    assert_json("d", "[1]", "(1.0,)");
    assert_json("a{sv}", "[{\"k\":{\"type\":\"as\",\"data\":[\"x\"]}}]", "({'k': <['x']>},)");
    assert_json("a{us}", "[{\"3\":\"x\"}]", "({uint32 3: 'x'},)");
    assert_json("(sb)ay", "[[\"x\",true],[1,2]]", "(('x', true), [byte 1, 2])");
    assert_json("u", "[-1]", NULL);
    assert_json("u", "[1.5]", NULL);
    assert_json("b", "[1]", NULL);
    assert_json("s", "[1]", NULL);
    assert_json("s", "[null]", NULL);
    assert_json("v", "[1]", NULL);
    assert_json("v", "[{\"type\":\"ss\",\"data\":\"x\"}]", NULL);
    assert_json("s", "[\"a\",\"b\"]", NULL);
    assert_json("s", "\"a\"", NULL);
    assert_json("s", "[", NULL);
    assert_json("h", "[1]", NULL);
    assert_json("v", "[{\"type\":\"h\",\"data\":1}]", NULL);
}

static void
test_values_are_printed_as_they_are_given(void)
{
    static const char *const lines[] = {
        "s \"web\"",
        "ynqiuxtd 255 -32768 65535 -5 7 -9 18446744073709551615 1.5",
        "bog true \"/a\" \"a{sv}\"",
        "as 0",
        "a{sv}(sai)v 2 \"k\" s \"v\" \"n\" u 3 \"x\" 2 1 2 v s \"deep\"",
    };

    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_auto(GStrv) parts = g_strsplit(lines[i], "\"", -1);
        g_autofree char *bare = g_strjoinv("", parts);
        g_autoptr(GVariant) body = parse(bare);
        g_autofree char *text = cbus_value_body_text(body);

        g_assert_cmpstr(text, ==, lines[i]);
    }
}

static void
test_strings_never_drive_a_terminal(void)
{
    g_autoptr(GVariant) value = g_variant_ref_sink(g_variant_new_string("a\033[2J\n\"'\\\302\233\177é"));
    g_autofree char *text = cbus_value_text(value);

    g_assert_cmpstr(text, ==, "s \"a\\033[2J\\n\\\"\\'\\\\\\302\\233\\177\\303\\251\"");
}

static void
test_paths_lose_the_mirror_and_nothing_else_does(void)
{
    g_autoptr(GVariant) value = g_variant_ref_sink(g_variant_new_parsed(
        "(objectpath '/m/s/a', objectpath '/m/s', objectpath '/m/sa', '/m/s/a', [<objectpath '/m/s/b'>], "
        "{objectpath '/m/s/k': @ao []}, @a{oas} {})"));
    g_autoptr(GVariant) expected = g_variant_ref_sink(g_variant_new_parsed(
        "(objectpath '/a', objectpath '/', objectpath '/m/sa', '/m/s/a', [<objectpath '/b'>], "
        "{objectpath '/k': @ao []}, @a{oas} {})"));
    g_autoptr(GVariant) moved = cbus_value_unmirror(value, "/m/s");

    g_assert_cmpvariant(moved, expected);
}

/* Whatever is not quite a value of its type must not become another one. */
static void
test_json_is_never_bent(void)
{
    g_autofree char *deep = g_strnfill(200000, '[');

    assert_json("x", "[9223372036854775807]", "(int64 9223372036854775807,)");
    assert_json("x", "[9223372036854775808]", NULL);
    assert_json("t", "[18446744073709551615]", "(uint64 18446744073709551615,)");
    assert_json("t", "[18446744073709551616]", NULL);
    assert_json("d", "[1e400]", NULL);
    assert_json("s", "[\"a\\u0000b\"]", NULL);
    assert_json("i", "[010]", NULL);
    assert_json("i", "[1/* one */]", NULL);
    assert_json("as", "[[]]", "(@as [],)");
    assert_json("v", deep, NULL);
    assert_json("v", "[{\"data\":[1],\"type\":\"an\"}]", "(<[int16 1]>,)");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arguments/words", test_words_become_values_of_their_types);
    g_test_add_func("/arguments/refused", test_what_does_not_fit_is_refused_by_name);
    g_test_add_func("/arguments/depth", test_variants_in_variants_end_at_a_depth);
    g_test_add_func("/arguments/json", test_json_becomes_values_of_the_signature);
    g_test_add_func("/arguments/json-exact", test_json_is_never_bent);
    g_test_add_func("/value/text", test_values_are_printed_as_they_are_given);
    g_test_add_func("/value/terminal", test_strings_never_drive_a_terminal);
    g_test_add_func("/value/unmirror", test_paths_lose_the_mirror_and_nothing_else_does);
    return g_test_run();
}
