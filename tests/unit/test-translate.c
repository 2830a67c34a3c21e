/* Translation against a reference that takes GVariants apart and builds them anew, in both directions and
 * both byte orders, on random values; the rules for single paths by hand; the limits. */
#include "introspect/path.h"
#include "introspect/translate.h"
#include "random-variant.h"

#define NKEY    "UAXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"
#define OTHER   "UAYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYY"
#define MACHINE CBUS_ROOT_PATH "/" NKEY
#define SERVICE MACHINE "/org_2eexample_2eA"

G_STATIC_ASSERT(sizeof NKEY == CBUS_NKEY_LENGTH + 1 && sizeof OTHER == sizeof NKEY);

static const CbusTranslation to_local = {.direction = CBUS_TO_LOCAL, .prefix = {SERVICE, sizeof SERVICE - 1}};
static const CbusTranslation to_remote = {.direction = CBUS_TO_REMOTE,
                                          .machine = {MACHINE, sizeof MACHINE - 1}};

/* The reference: every object path of VALUE localised. (floating) */
static GVariant *
localise(GVariant *value)
{
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_OBJECT_PATH)) {
        const char *path = g_variant_get_string(value, NULL);
        g_autofree char *local = g_strconcat(SERVICE, path, NULL);
        return g_variant_new_object_path(strcmp(path, "/") == 0 ? path : local);
    }
    if (!g_variant_is_container(value))
        return g_variant_ref(value);
    GVariantBuilder builder;
    g_variant_builder_init(&builder, g_variant_get_type(value));
    for (gsize i = 0; i < g_variant_n_children(value); i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(value, i);
        g_autoptr(GVariant) mapped = g_variant_take_ref(localise(child));
        g_variant_builder_add_value(&builder, mapped);
    }
    return g_variant_builder_end(&builder);
}

/* Translates the body of MESSAGE to the end of OUT, which is as long as ALREADY. */
static gboolean
translate(GByteArray *out, const guint8 *message, gsize size, const CbusTranslation *how, GError **error)
{
    CbusMessage view;
    g_assert_true(cbus_message_view(&view, message, size, error));
    return cbus_translate_body(out, view.body, view.body_len, view.endian, view.signature, how,
                               CBUS_MESSAGE_MAX, error);
}

static void
test_reference(void)
{
    for (guint i = 0; i < 6000; i++) {
        char endian = "lB"[i % 2];
        guint already = i % 16;
        g_autoptr(GVariant) remote = random_body();
        g_autoptr(GVariant) local = g_variant_take_ref(localise(remote));
        gsize remote_size, local_size;
        g_autofree guint8 *remote_message = message_of(remote, endian, &remote_size);
        g_autofree guint8 *local_message = message_of(local, endian, &local_size);
        CbusMessage remote_view, local_view;
        g_assert_true(cbus_message_view(&remote_view, remote_message, remote_size, NULL));
        g_assert_true(cbus_message_view(&local_view, local_message, local_size, NULL));

        g_autoptr(GError) error = NULL;
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_byte_array_append(out, remote_message, already);
        g_assert_true(translate(out, remote_message, remote_size, &to_local, &error));
        g_assert_no_error(error);
        g_assert_cmpmem(out->data + already, out->len - already, local_view.body, local_view.body_len);
        g_byte_array_set_size(out, already);
        g_assert_true(translate(out, local_message, local_size, &to_remote, &error));
        g_assert_no_error(error);
        g_assert_cmpmem(out->data + already, out->len - already, remote_view.body, remote_view.body_len);
    }
}

/* One damaged byte: translated exactly if the check accepts it, to something that it accepts; else the output
 * is as before. */
static void
test_damaged(void)
{
    for (guint i = 0; i < 40000; i++) {
        char endian = "lB"[i % 2];
        g_autoptr(GVariant) body = random_body();
        gsize size;
        g_autofree guint8 *message = message_of(body, endian, &size);
        CbusMessage view;
        g_assert_true(cbus_message_view(&view, message, size, NULL));
        g_autofree guint8 *exact = g_memdup2(view.body, view.body_len);
        exact[random_below((guint)view.body_len)] = (guint8)g_random_int();
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_byte_array_append(out, (const guint8 *)"abc", 3);
        gboolean valid = cbus_body_check(exact, view.body_len, view.endian, view.signature, NULL);
        gboolean done = cbus_translate_body(out, exact, view.body_len, view.endian, view.signature, &to_local,
                                            CBUS_MESSAGE_MAX, NULL);
        g_assert_cmpint(valid, ==, done);
        g_autofree guint8 *result = g_memdup2(out->data + 3, out->len - 3);
        if (done)
            g_assert_true(cbus_body_check(result, out->len - 3, view.endian, view.signature, NULL));
        else
            g_assert_cmpmem(out->data, out->len, "abc", 3);
    }
}

/* What the single path PATH becomes, or NULL when it is refused. */
static char *
translate_path(const char *path, const CbusTranslation *how)
{
    g_autoptr(GVariant) body = g_variant_ref_sink(g_variant_new("(o)", path));
    gsize size;
    g_autofree guint8 *message = message_of(body, 'l', &size);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    if (!translate(out, message, size, how, &error)) {
        g_assert_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_PATH);
        return NULL;
    }
    CbusCursor cursor = {out->data, out->len, 0, 'l'};
    CbusSpan text;
    g_assert_true(cbus_cursor_string(&cursor, &text));
    g_assert_cmpuint(cursor.at, ==, out->len);
    return g_strndup(text.text, text.len);
}

static void
test_rules(void)
{
    static const struct {
        const CbusTranslation *how;
        const char *from, *to;
    } rules[] = {
        {&to_local, "/", "/"},
        {&to_local, "/a", SERVICE "/a"},
        {&to_local, MACHINE "/a_2eb/c", SERVICE MACHINE "/a_2eb/c"},
        {&to_remote, "/", "/"},
        {&to_remote, "/a/b", "/a/b"},
        {&to_remote, SERVICE, "/"},
        {&to_remote, SERVICE "/a/b", "/a/b"},
        {&to_remote, MACHINE "/_3a1_2e5/x", "/x"},
        {&to_remote, CBUS_ROOT_PATH, CBUS_ROOT_PATH},
        {&to_remote, CBUS_ROOT_PATH "/other", CBUS_ROOT_PATH "/other"},
        {&to_remote, MACHINE "X", MACHINE "X"},
        {&to_remote, MACHINE, NULL},
        {&to_remote, MACHINE "/_zz/x", NULL},
        {&to_remote, MACHINE "/plain", NULL},
        {&to_remote, CBUS_ROOT_PATH "/" OTHER, NULL},
        {&to_remote, CBUS_ROOT_PATH "/" OTHER "/org_2eexample_2eA/a", NULL},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
        g_autofree char *to = translate_path(rules[i].from, rules[i].how);
        g_assert_cmpstr(to, ==, rules[i].to);
    }
}

static void
test_limits(void)
{
    g_autoptr(GVariant) body = g_variant_ref_sink(g_variant_new_parsed("([objectpath '/a', '/b'], 'text')"));
    g_autoptr(GVariant) local = g_variant_take_ref(localise(body));
    gsize size, local_size;
    g_autofree guint8 *message = message_of(body, 'B', &size);
    g_autofree guint8 *local_message = message_of(local, 'B', &local_size);
    CbusMessage view, local_view;
    g_assert_true(cbus_message_view(&view, message, size, NULL));
    g_assert_true(cbus_message_view(&local_view, local_message, local_size, NULL));
    for (gsize limit = 0; limit <= local_view.body_len; limit++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        gboolean fits = limit == local_view.body_len;
        g_assert_cmpint(
            cbus_translate_body(out, view.body, view.body_len, 'B', view.signature, &to_local, limit, &error),
            ==, fits);
        if (!fits)
            g_assert_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT);
        g_assert_cmpuint(out->len, ==, fits ? local_view.body_len : 0);
    }
}

/* An array that fits as it is and not with its paths translated. */
static void
test_array_outgrows(void)
{
    const guint count = 1000000;
    g_autofree guint8 *body = g_malloc0(4 + (gsize)count * 8);
    const guint32 length = GUINT32_TO_LE(count * 8 - 1);
    memcpy(body, &length, 4);
    for (guint i = 0; i < count; i++)
        memcpy(body + 4 + (gsize)i * 8, "\2\0\0\0/a", 7);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_assert_true(cbus_body_check(body, 3 + (gsize)count * 8, 'l', CBUS_SPAN_LITERAL("ao"), NULL));
    g_assert_false(cbus_translate_body(out, body, 3 + (gsize)count * 8, 'l', CBUS_SPAN_LITERAL("ao"),
                                       &to_local, CBUS_MESSAGE_MAX, &error));
    g_assert_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT);
    g_assert_cmpuint(out->len, ==, 0);
}

static void
test_descriptor(void)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_assert_false(cbus_translate_body(out, (const guint8 *)"\1h\0\0\0\0\0\0", 8, 'l', CBUS_SPAN_LITERAL("v"),
                                       &to_local, CBUS_MESSAGE_MAX, &error));
    g_assert_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/translate/as-the-reference", test_reference);
    g_test_add_func("/translate/damaged", test_damaged);
    g_test_add_func("/translate/rules-for-a-path", test_rules);
    g_test_add_func("/translate/limits", test_limits);
    g_test_add_func("/translate/array-outgrows", test_array_outgrows);
    g_test_add_func("/translate/descriptor", test_descriptor);
    return g_test_run();
}
