/* The body walk against bodies that GDBus makes of random values, in both byte orders, whole and damaged, and
 * against each rule by hand. Hostile bytes lie in buffers of exactly their size. */
#include "random-variant.h"

/* The message's body, checked in a buffer of its own. */
static gboolean
check(const guint8 *body, gsize len, char endian, const char *signature, GError **error)
{
    g_autofree guint8 *exact = g_memdup2(body, len);
    return cbus_body_check(exact, len, (guint8)endian, cbus_span(signature), error);
}

static gboolean
same_path(CbusSpan path, CbusSpan *head, CbusSpan *tail, gconstpointer data, GError **error)
{
    return TRUE;
}

static void
test_what_gdbus_writes(void)
{
    for (guint i = 0; i < 4000; i++) {
        char endian = "lB"[i % 2];
        g_autoptr(GVariant) body = random_body();
        gsize size;
        g_autofree guint8 *data = message_of(body, endian, &size);
        CbusMessage view;
        g_autoptr(GError) error = NULL;
        g_assert_true(cbus_message_view(&view, data, size, &error));
        g_assert_true(cbus_body_check(view.body, view.body_len, view.endian, view.signature, &error));
        g_assert_no_error(error);
        /* Rewritten with nothing to change it is the same, wherever it is appended. */
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_byte_array_append(out, data, i % 8);
        g_assert_true(cbus_body_rewrite(out, view.body, view.body_len, view.endian, view.signature, same_path,
                                        NULL, view.body_len, &error));
        g_assert_cmpmem(out->data + i % 8, out->len - i % 8, view.body, view.body_len);
        for (gsize cut = 0; cut < view.body_len; cut++) {
            g_autofree char *signature = g_strndup(view.signature.text, view.signature.len);
            g_assert_false(check(view.body, cut, endian, signature, NULL));
        }
    }
}

/* The reference: a decoder that minds bounds only and makes GVariants; padding, booleans and the like show
 * when GDBus marshals the result. (GDBus's own decoder is no judge: 2.74 loses an array's last struct of
 * fewer than eight zero bytes.) */
typedef struct {
    const guint8 *bytes;
    gsize len, at;
    gboolean swap;
} Reference;

static GVariant *decode(Reference *reference, const GVariantType *type);

static gboolean
decode_align(Reference *reference, gsize alignment)
{
    reference->at = (reference->at + alignment - 1) / alignment * alignment;
    return reference->at <= reference->len;
}

static gboolean
decode_u32(Reference *reference, guint32 *out)
{
    if (!decode_align(reference, 4) || reference->len - reference->at < 4)
        return FALSE;
    memcpy(out, reference->bytes + reference->at, 4);
    *out = reference->swap ? GUINT32_SWAP_LE_BE(*out) : *out;
    reference->at += 4;
    return TRUE;
}

static char *
decode_text(Reference *reference, gboolean long_length)
{
    guint32 length;
    if (long_length) {
        if (!decode_u32(reference, &length))
            return NULL;
    } else {
        if (reference->at == reference->len)
            return NULL;
        length = reference->bytes[reference->at++];
    }
    if (length >= reference->len - reference->at)
        return NULL;
    const char *text = (const char *)reference->bytes + reference->at;
    reference->at += length + 1;
    return text[length] == '\0' && g_utf8_validate(text, length, NULL) ? g_strndup(text, length) : NULL;
}

/* Types of a signature, which must be one if SINGLE; as GVariant, but for what D-Bus has not. */
static gboolean
is_signature(const char *text, gboolean single)
{
    if (!g_variant_is_signature(text) || (single && !g_variant_type_string_is_valid(text)))
        return FALSE;
    for (const char *p = text; *p != '\0'; p++)
        if ((*p == '(' && p[1] == ')') || (*p == '{' && (p == text || p[-1] != 'a')))
            return FALSE;
    return TRUE;
}

static GVariant *
decode_basic(Reference *reference, const GVariantType *type)
{
    char first = *g_variant_type_peek_string(type);
    gsize size = cbus_type_alignment(first);
    if (first == 's' || first == 'o' || first == 'g') {
        g_autofree char *text = decode_text(reference, first != 'g');
        if (text == NULL || (first == 'o' && !g_variant_is_object_path(text)) ||
            (first == 'g' && !is_signature(text, FALSE)))
            return NULL;
        return g_variant_new(first == 's' ? "s" : first == 'o' ? "o" : "g", text);
    }
    if (!decode_align(reference, size) || reference->len - reference->at < size)
        return NULL;
    guint8 *bytes = g_memdup2(reference->bytes + reference->at, size);
    reference->at += size;
    for (gsize i = 0; reference->swap && i < size / 2; i++) {
        guint8 low = bytes[i];
        bytes[i] = bytes[size - 1 - i];
        bytes[size - 1 - i] = low;
    }
    if (first == 'b') {
        guint32 truth;
        memcpy(&truth, bytes, sizeof truth);
        g_free(bytes);
        return g_variant_new_boolean(truth != 0);
    }
    return g_variant_new_from_data(type, bytes, size, TRUE, g_free, bytes);
}

static gboolean
decode_into(Reference *reference, GVariantBuilder *builder, const GVariantType *type)
{
    GVariant *value = decode(reference, type);
    if (value != NULL)
        g_variant_builder_add_value(builder, value);
    return value != NULL;
}

static gboolean
decode_items(Reference *reference, GVariantBuilder *builder, const GVariantType *type)
{
    if (!g_variant_type_is_array(type)) {
        for (const GVariantType *item = g_variant_type_first(type); item != NULL;
             item = g_variant_type_next(item))
            if (!decode_into(reference, builder, item))
                return FALSE;
        return TRUE;
    }
    const GVariantType *element = g_variant_type_element(type);
    guint32 length;
    if (!decode_u32(reference, &length) || length > CBUS_ARRAY_MAX ||
        !decode_align(reference, cbus_type_alignment(*g_variant_type_peek_string(element))) ||
        length > reference->len - reference->at)
        return FALSE;
    gsize end = reference->at + length;
    while (reference->at < end)
        if (!decode_into(reference, builder, element))
            return FALSE;
    return reference->at == end;
}

/* (floating), or NULL */
static GVariant *
decode(Reference *reference, const GVariantType *type)
{
    if (g_variant_type_equal(type, G_VARIANT_TYPE_VARIANT)) {
        g_autofree char *inner = decode_text(reference, FALSE);
        if (inner == NULL || !is_signature(inner, TRUE))
            return NULL;
        GVariant *value = decode(reference, G_VARIANT_TYPE(inner));
        return value != NULL ? g_variant_new_variant(value) : NULL;
    }
    if (g_variant_type_is_basic(type))
        return decode_basic(reference, type);
    gboolean tuple = !g_variant_type_is_array(type);
    if (tuple && !decode_align(reference, 8))
        return NULL;
    GVariantBuilder builder;
    g_variant_builder_init(&builder, type);
    if (decode_items(reference, &builder, type))
        return g_variant_builder_end(&builder);
    g_variant_builder_clear(&builder);
    return NULL;
}

/* Whether VIEW's body, of the types of TUPLE, is what GDBus writes for the values in it. */
static gboolean
reference_check(const CbusMessage *view, const GVariantType *tuple)
{
    Reference reference = {view->body, view->body_len, 0, view->endian != CBUS_ENDIAN_NATIVE};
    GVariant *floating = decode(&reference, tuple);
    if (floating == NULL)
        return FALSE;
    g_autoptr(GVariant) value = g_variant_ref_sink(floating);
    gsize size;
    g_autofree guint8 *message = message_of(value, (char)view->endian, &size);
    CbusMessage again;
    g_assert_true(cbus_message_view(&again, message, size, NULL));
    return reference.at == view->body_len && again.body_len == view->body_len &&
           memcmp(again.body, view->body, view->body_len) == 0;
}

static void
test_damaged(void)
{
    guint valid = 0;
    for (guint i = 0; i < 60000; i++) {
        char endian = "lB"[i % 2];
        g_autoptr(GVariant) body = random_body();
        gsize size;
        g_autofree guint8 *data = message_of(body, endian, &size);
        CbusMessage view;
        g_assert_true(cbus_message_view(&view, data, size, NULL));
        gsize at = (gsize)(view.body - data) + random_below((guint)view.body_len);
        data[at] = random_below(2) ? (guint8)g_random_int() : data[at] ^ (guint8)(1u << random_below(8));
        g_autofree char *signature = g_strndup(view.signature.text, view.signature.len);
        g_autoptr(GError) error = NULL;
        gboolean accepted = check(view.body, view.body_len, endian, signature, &error);
        if (g_error_matches(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS))
            continue;
        if (accepted != reference_check(&view, g_variant_get_type(body)))
            g_error("%s (%s), unlike the reference: %s", accepted ? "accepted" : "refused",
                    error != NULL ? error->message : "", g_variant_print(body, TRUE));
        valid += accepted;
    }
    g_assert_cmpuint(valid, >, 1000);
}

#define BODY(signature, bytes)                                                                               \
    {                                                                                                        \
        signature, bytes, sizeof(bytes) - 1                                                                  \
    }

static const struct {
    const char *signature, *body;
    gsize len;
} good[] =
    {
        BODY("", ""),
        BODY("b", "\1\0\0\0"),
        BODY("s", "\1\0\0\0a\0"),
        BODY("o", "\1\0\0\0/\0"),
        BODY("g", "\2ay\0"),
        BODY("ax", "\0\0\0\0\0\0\0\0"),
        BODY("a(y)", "\11\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2"),
        BODY("ah", "\0\0\0\0"),
        BODY("v", "\1y\0\7"),
},
  bad[] = {
      BODY("", "a"),
      BODY("y", ""),
      BODY("y", "ab"),
      BODY("(", "a"),
      BODY("b", "\2\0\0\0"),
      BODY("ab", "\10\0\0\0\1\0\0\0\2\0\0\0"),
      BODY("s", "\1\0\0\0a"),
      BODY("s", "\1\0\0\0ab"),
      BODY("s", "\2\0\0\0a\0\0"),
      BODY("s", "\1\0\0\0\xff\0"),
      BODY("s", "\377\377\377\377a\0"),
      BODY("o", "\0\0\0\0\0"),
      BODY("o", "\2\0\0\0//\0"),
      BODY("g", "\1a\0"),
      BODY("g", "\5y\0"),
      BODY("yu", "\1\0\1\0\7\0\0\0"),
      BODY("ax", "\0\0\0\0\0\0\1\0"),
      BODY("ax", "\0\0\0\0"),
      BODY("au", "\3\0\0\0\0\0\0\0"),
      BODY("au", "\10\0\0\0\0\0\0\0"),
      BODY("as", "\5\0\0\0\1\0\0\0a\0"),
      BODY("a(y)", "\12\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2"),
      BODY("ay", "\1\0\0\4"),
      BODY("v", "\2yy\0\1\1"),
      BODY("v", "\0\0"),
      BODY("v", "\1\1\0\1"),
      BODY("v", "\1{\0\1"),
};

static void
test_by_hand(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GError) error = NULL;
        check((const guint8 *)good[i].body, good[i].len, 'l', good[i].signature, &error);
        g_assert_no_error(error);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        if (check((const guint8 *)bad[i].body, bad[i].len, 'l', bad[i].signature, &error))
            g_error("bad body %zu of signature %s was accepted", i, bad[i].signature);
        g_assert_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID);
    }
}

static void
test_descriptors(void)
{
    static const struct {
        const char *signature, *body;
        gsize len;
    } with[] = {
        BODY("h", "\0\0\0\0"),
        BODY("ah", "\4\0\0\0\0\0\0\0"),
        BODY("v", "\1h\0\0\0\0\0\0"),
        BODY("a(yv)", "\14\0\0\0\0\0\0\0\1\1h\0\0\0\0\0\0\0\0\0"),
    };
    for (gsize i = 0; i < G_N_ELEMENTS(with); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(check((const guint8 *)with[i].body, with[i].len, 'l', with[i].signature, &error));
        g_assert_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS);
    }
}

/* 64 containers may hold a value, variants counted. */
static void
test_nesting(void)
{
    for (guint depth = 1; depth < 70; depth++) {
        g_autoptr(GByteArray) body = g_byte_array_new();
        for (guint i = 0; i + 1 < depth; i++)
            g_byte_array_append(body, (const guint8 *)"\1v", 3);
        g_byte_array_append(body, (const guint8 *)"\1y\0\7", 4);
        g_assert_cmpint(check(body->data, body->len, 'l', "v", NULL), ==, depth <= 64);
    }
    /* As deep as a byte for each level allows without end: refused, not run out of stack. */
    g_autoptr(GByteArray) deep = g_byte_array_new();
    for (guint i = 0; i < 1000000; i++)
        g_byte_array_append(deep, (const guint8 *)"\1v", 3);
    g_assert_false(check(deep->data, deep->len, 'l', "v", NULL));
}

/* An array's length is bounded even where the body would hold it. */
static void
test_array_limit(void)
{
    g_autofree guint8 *body = g_malloc0(CBUS_ARRAY_MAX + 16);
    const guint32 most = GUINT32_TO_LE(CBUS_ARRAY_MAX), more = GUINT32_TO_LE(CBUS_ARRAY_MAX + 4);
    memcpy(body, &most, sizeof most);
    g_assert_true(cbus_body_check(body, CBUS_ARRAY_MAX + 4, 'l', CBUS_SPAN_LITERAL("au"), NULL));
    memcpy(body, &more, sizeof more);
    g_assert_false(cbus_body_check(body, CBUS_ARRAY_MAX + 8, 'l', CBUS_SPAN_LITERAL("au"), NULL));
}

static void
test_cursor(void)
{
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GVariant) value =
            g_variant_ref_sink(g_variant_new_parsed("(byte 1, 'text', uint64 7, [uint64 8, 9], @au [])"));
        /* The byte is skipped by hand: a cursor reads what the driver's bodies hold. */
        gsize size, end;
        g_autofree guint8 *data = message_of(value, "lB"[i], &size);
        CbusMessage view;
        g_assert_true(cbus_message_view(&view, data, size, NULL));
        CbusCursor cursor = cbus_cursor(&view);
        CbusSpan text;
        guint32 u32 = 5;
        guint64 u64;
        cursor.at = 1;
        g_assert_true(cbus_cursor_string(&cursor, &text));
        g_assert_true(cbus_span_is(text, "text"));
        g_assert_true(cbus_cursor_u64(&cursor, &u64));
        g_assert_cmpuint(u64, ==, 7);
        g_assert_true(cbus_cursor_array(&cursor, 8, &end));
        g_assert_cmpuint(end - cursor.at, ==, 16);
        g_assert_true(cbus_cursor_u64(&cursor, &u64) && cbus_cursor_u64(&cursor, &u64));
        g_assert_cmpuint(u64, ==, 9);
        g_assert_cmpuint(cursor.at, ==, end);
        g_assert_true(cbus_cursor_array(&cursor, 4, &end));
        g_assert_cmpuint(cursor.at, ==, view.body_len);
        CbusCursor before = cursor;
        g_assert_false(cbus_cursor_u32(&cursor, &u32));
        g_assert_false(cbus_cursor_string(&cursor, &text));
        g_assert_false(cbus_cursor_array(&cursor, 8, &end));
        g_assert_cmpmem(&cursor, sizeof cursor, &before, sizeof before);
        g_assert_cmpuint(u32, ==, 5);
    }
}

/* A cursor over noise, at any offset, stays inside (AddressSanitizer is the judge). */
static void
test_cursor_on_noise(void)
{
    for (guint i = 0; i < 200000; i++) {
        gsize len = random_below(24);
        g_autofree guint8 *noise = g_malloc(len);
        for (gsize j = 0; j < len; j++)
            noise[j] = (guint8)(random_below(3) ? random_below(9) : g_random_int());
        CbusCursor cursor = {noise, len, random_below((guint)len + 9), "lB"[i % 2]};
        CbusSpan text;
        guint32 u32;
        guint64 u64;
        gsize end;
        gsize before = cursor.at;
        gboolean ok = TRUE;
        switch (random_below(4)) {
            case 0:
                ok = cbus_cursor_string(&cursor, &text);
                break;
            case 1:
                ok = cbus_cursor_u32(&cursor, &u32);
                break;
            case 2:
                ok = cbus_cursor_u64(&cursor, &u64);
                break;
            case 3:
                ok = cbus_cursor_array(&cursor, 8, &end);
                break;
        }
        g_assert_true(ok ? cursor.at <= len : cursor.at == before);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/body/what-gdbus-writes", test_what_gdbus_writes);
    g_test_add_func("/body/damaged", test_damaged);
    g_test_add_func("/body/by-hand", test_by_hand);
    g_test_add_func("/body/descriptors", test_descriptors);
    g_test_add_func("/body/nesting", test_nesting);
    g_test_add_func("/body/array-limit", test_array_limit);
    g_test_add_func("/cursor/reads-known-bodies", test_cursor);
    g_test_add_func("/cursor/stays-inside", test_cursor_on_noise);
    return g_test_run();
}
