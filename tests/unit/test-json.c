/* Bodies as JSON and back: against bodies that GDBus makes of random values, and each rule by hand. */
#include "random-variant.h"
#include "wire/json.h"

static void
test_round_trip(void)
{
    for (guint i = 0; i < 4000; i++) {
        g_autoptr(GVariant) value = random_body();
        g_autoptr(GString) json = g_string_new(NULL), again = g_string_new(NULL);
        g_autoptr(GByteArray) body = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        char endian = "lB"[i % 2];
        CbusMessage view;
        gsize size;
        g_autofree guint8 *data = message_of(value, endian, &size);

        g_assert_true(cbus_message_view(&view, data, size, &error));
        g_assert_true(
            cbus_json_append_body(json, view.body, view.body_len, view.endian, view.signature, G_MAXINT32));
        g_assert_true(cbus_json_read_body(body, json->str, json->len, view.signature, &error));
        g_assert_no_error(error);
        g_assert_true(cbus_body_check(body->data, body->len, CBUS_ENDIAN_NATIVE, view.signature, &error));
        g_assert_true(cbus_json_append_body(again, body->data, body->len, CBUS_ENDIAN_NATIVE, view.signature,
                                            G_MAXINT32));
        g_assert_cmpstr(json->str, ==, again->str);
        if (endian == (char)CBUS_ENDIAN_NATIVE && strstr(json->str, "NaN") == NULL)
            g_assert_cmpmem(body->data, body->len, view.body, view.body_len);
    }
}

/* What JSON becomes, and what that is as JSON. */
static char *
through(const char *signature, const char *json, GError **error)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autoptr(GString) out = g_string_new(NULL);

    if (!cbus_json_read_body(body, json, strlen(json), cbus_span(signature), error)) {
        g_assert_cmpuint(body->len, ==, 0);
        return NULL;
    }
    g_assert_true(cbus_json_append_body(out, body->data, body->len, CBUS_ENDIAN_NATIVE, cbus_span(signature),
                                        G_MAXINT32));
    return g_strdup(out->str);
}

static void
test_spellings(void)
{
    static const char *const cases[][3] = {
        {"", "", "[]"},
        {"", " [ ] ", "[]"},
        {"yynn", "[0,255,-32768,32767]", NULL},
        {"qiu", "[65535,-2147483648,4294967295]", NULL},
        {"xt", "[9007199254740992,9007199254740992]", NULL},
        {"xxt", "[\"9007199254740993\",\"-9223372036854775808\",\"18446744073709551615\"]", NULL},
        {"xt", "[-9223372036854775808,18446744073709551615]",
         "[\"-9223372036854775808\",\"18446744073709551615\"]"},
        {"yiu", "[\"7\",\"-7\",\"7\"]", "[7,-7,7]"},
        {"ddd", "[1,\"0.5\",-1e2]", "[1,0.5,-100]"},
        {"ddd", "[\"NaN\",\"Infinity\",\"-Infinity\"]", NULL},
        {"bb", "[true,false]", NULL},
        {"s", "[\"\\u00e4\\ud83d\\ude00\\\"\\/\\\\\\n\"]", "[\"ä😀\\\"/\\\\\\u000a\"]"},
        {"s", "[\"\\u001f\\u009b\\u202e\"]", "[\"\\u001f\\u009b\\u202e\"]"},
        {"og", "[\"/a/b\",\"a{sv}\"]", NULL},
        {"ay", "[[]]", NULL},
        {"ayaay", "[[1,2,3],[[],[255]]]", NULL},
        {"(s(iu))", "[[\"a\",[1,2]]]", NULL},
        {"a{sv}", "[{\"a\":{\"type\":\"u\",\"data\":7},\"b\":{\"type\":\"as\",\"data\":[\"x\"]}}]", NULL},
        {"v", "[{\"data\":[1,[\"]\"]],\"type\":\"(ias)\"}]", "[{\"type\":\"(ias)\",\"data\":[1,[\"]\"]]}]"},
        {"a{us}", "[[[1,\"a\"],[2,\"b\"]]]", NULL},
        {"a{us}", "[{\"1\":\"a\"}]", "[[[1,\"a\"]]]"},
        {"a{os}", "[{\"/a\":\"x\"}]", NULL},
        {"a{os}", "[[[\"/a\",\"x\"]]]", "[{\"/a\":\"x\"}]"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *got = through(cases[i][0], cases[i][1], &error);
        g_assert_no_error(error);
        g_assert_cmpstr(got, ==, cases[i][2] != NULL ? cases[i][2] : cases[i][1]);
    }
}

static void
test_refusals(void)
{
    static const struct {
        const char *signature, *json;
        CbusJsonError code;
        const char *word;
    } cases[] = {
        {"s", "", CBUS_JSON_ERROR_TYPE, "too few"},
        {"su", "[\"a\"]", CBUS_JSON_ERROR_TYPE, "too few values for the signature \"su\""},
        {"s", "[\"a\",1]", CBUS_JSON_ERROR_TYPE, "too many"},
        {"", "[1]", CBUS_JSON_ERROR_TYPE, "too many"},
        {"s", "\"a\"", CBUS_JSON_ERROR_SYNTAX, "array"},
        {"s", "[\"a\"", CBUS_JSON_ERROR_SYNTAX, "']' is missing"},
        {"s", "[\"a\",]", CBUS_JSON_ERROR_TYPE, "too many"},
        {"as", "[[\"a\",]]", CBUS_JSON_ERROR_TYPE, "] is no value"},
        {"s", "[\"a\"] 1", CBUS_JSON_ERROR_SYNTAX, "more than one"},
        {"s", "['a']", CBUS_JSON_ERROR_TYPE, "no value of type s"},
        {"s", "[\"a]", CBUS_JSON_ERROR_SYNTAX, "without end"},
        {"s", "[\"\\x\"]", CBUS_JSON_ERROR_SYNTAX, "escape"},
        {"s", "[\"\\ud800\"]", CBUS_JSON_ERROR_SYNTAX, "surrogate"},
        {"s", "[\"\\ud800\\u0041\"]", CBUS_JSON_ERROR_SYNTAX, "surrogate"},
        {"s", "[\"\\udc00\"]", CBUS_JSON_ERROR_SYNTAX, "surrogate"},
        {"s", "[\"\\u0000\"]", CBUS_JSON_ERROR_TYPE, "NUL"},
        {"s", "[\"\xff\"]", CBUS_JSON_ERROR_SYNTAX, "UTF-8"},
        {"s", "[null]", CBUS_JSON_ERROR_TYPE, "null] is no value of type s"},
        {"s", "[7]", CBUS_JSON_ERROR_TYPE, "7] is no value of type s"},
        {"y", "[256]", CBUS_JSON_ERROR_TYPE, "type y"},
        {"y", "[-1]", CBUS_JSON_ERROR_TYPE, "type y"},
        {"i", "[1.0]", CBUS_JSON_ERROR_TYPE, "type i"},
        {"i", "[1e2]", CBUS_JSON_ERROR_TYPE, "type i"},
        {"i", "[01]", CBUS_JSON_ERROR_SYNTAX, "no JSON value"},
        {"i", "[\" 1\"]", CBUS_JSON_ERROR_TYPE, "type i"},
        {"t", "[18446744073709551616]", CBUS_JSON_ERROR_TYPE, "type t"},
        {"d", "[1e999]", CBUS_JSON_ERROR_TYPE, "type d"},
        {"d", "[\"0x1\"]", CBUS_JSON_ERROR_TYPE, "type d"},
        {"d", "[\"-0x1\"]", CBUS_JSON_ERROR_TYPE, "type d"},
        {"b", "[1]", CBUS_JSON_ERROR_TYPE, "type b"},
        {"b", "[\"true\"]", CBUS_JSON_ERROR_TYPE, "type b"},
        {"o", "[\"a\"]", CBUS_JSON_ERROR_TYPE, "type o"},
        {"g", "[\"a{vs}\"]", CBUS_JSON_ERROR_TYPE, "type g"},
        {"h", "[0]", CBUS_JSON_ERROR_TYPE, "descriptor"},
        {"v", "[7]", CBUS_JSON_ERROR_TYPE, "type v"},
        {"v", "[{\"type\":\"h\",\"data\":0}]", CBUS_JSON_ERROR_TYPE, "type h"},
        {"v", "[{\"type\":\"ii\",\"data\":0}]", CBUS_JSON_ERROR_TYPE, "type v"},
        {"v", "[{\"type\":\"i\"}]", CBUS_JSON_ERROR_TYPE, "type v"},
        {"v", "[{\"type\":\"i\",\"data\":1,\"data\":2}]", CBUS_JSON_ERROR_TYPE, "type v"},
        {"v", "[{\"data\":1 2,\"type\":\"i\"}]", CBUS_JSON_ERROR_SYNTAX, "'}' is missing"},
        {"(ss)", "[[\"a\"]]", CBUS_JSON_ERROR_TYPE, "(ss)"},
        {"(s)", "[[\"a\",\"b\"]]", CBUS_JSON_ERROR_TYPE, "(s)"},
        {"a{us}", "[{\"x\":\"a\"}]", CBUS_JSON_ERROR_TYPE, "type u"},
        {"a{", "[]", CBUS_JSON_ERROR_TYPE, "signature is none"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(through(cases[i].signature, cases[i].json, &error));
        g_assert_error(error, CBUS_JSON_ERROR, (int)cases[i].code);
        g_assert_nonnull(strstr(error->message, cases[i].word));
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
    }
}

/* Brackets without end must cost nothing but their own length. */
static void
test_depth(void)
{
    enum { DEEP = 100000 };
    g_autoptr(GString) text = g_string_new("[{\"data\":");
    g_autoptr(GError) error = NULL, nested = NULL;

    for (guint i = 0; i < DEEP; i++)
        g_string_append_c(text, '[');
    for (guint i = 0; i < DEEP; i++)
        g_string_append_c(text, ']');
    g_string_append(text, ",\"type\":\"ai\"}]");
    g_assert_null(through("v", text->str, &error));
    g_assert_error(error, CBUS_JSON_ERROR, CBUS_JSON_ERROR_TYPE);
    g_string_assign(text, "[");
    for (guint i = 0; i < 70; i++)
        g_string_append(text, "{\"type\":\"v\",\"data\":");
    g_string_append(text, "{\"type\":\"i\",\"data\":1}");
    for (guint i = 0; i < 70; i++)
        g_string_append_c(text, '}');
    g_string_append_c(text, ']');
    g_assert_null(through("v", text->str, &nested));
    g_assert_error(nested, CBUS_JSON_ERROR, CBUS_JSON_ERROR_TYPE);
    g_assert_nonnull(strstr(nested->message, "nested"));
}

static void
test_limit_and_variant(void)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autoptr(GString) out = g_string_new("x");
    g_autoptr(GError) error = NULL;
    CbusSpan type;

    g_assert_true(cbus_json_read_body(body, "[{\"type\":\"as\",\"data\":[\"a\"]}]", 28,
                                      CBUS_SPAN_LITERAL("v"), &error));
    g_assert_false(cbus_json_append_variant(out, body->data, body->len, CBUS_ENDIAN_NATIVE, &type, 4));
    g_assert_cmpstr(out->str, ==, "x");
    g_assert_true(cbus_json_append_variant(out, body->data, body->len, CBUS_ENDIAN_NATIVE, &type, 5));
    g_assert_cmpstr(out->str, ==, "x[\"a\"]");
    g_assert_true(cbus_span_is(type, "as"));
    g_assert_false(cbus_json_append_variant(out, body->data, 1, CBUS_ENDIAN_NATIVE, &type, 50));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/round-trip", test_round_trip);
    g_test_add_func("/json/spellings", test_spellings);
    g_test_add_func("/json/refusals", test_refusals);
    g_test_add_func("/json/depth", test_depth);
    g_test_add_func("/json/limit-and-variant", test_limit_and_variant);
    return g_test_run();
}
