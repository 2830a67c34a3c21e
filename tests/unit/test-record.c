/* Records: what an honest peer writes is read back, and nothing else is read. */
#include "wire/record.h"

#include <glib.h>
#include <string.h>

static const struct {
    CbusRecordType type;
    guint8 flags;
    guint32 channel;
    guint least, most; /* sizes that are taken; MOST 0: no bound of its own */
} shapes[] = {
    {CBUS_RECORD_FINISH, 0, 0, 64, 64},
    {CBUS_RECORD_OPEN, 0, 5, 8, 8},
    {CBUS_RECORD_OPENED, 0, 5, 0, 0},
    {CBUS_RECORD_REFUSED, 0, 0, 8, 8 + 255 + 4096},
    {CBUS_RECORD_REFUSED, 0, 5, 8, 8 + 255 + 4096},
    {CBUS_RECORD_CLOSE, 0, 0, 8, 8 + 255 + 4096},
    {CBUS_RECORD_CLOSE, 0, G_MAXUINT32, 8, 8 + 255 + 4096},
    {CBUS_RECORD_CREDIT, 0, 0, 16, 16},
    {CBUS_RECORD_PING, 0, 0, 8, 8},
    {CBUS_RECORD_PONG, 0, 0, 8, 8},
    {CBUS_RECORD_TREE, CBUS_RECORD_MORE | CBUS_RECORD_ANSWER, 5, 1, G_MAXUINT},
    {CBUS_RECORD_SERVERINFO, 0, 0, 16, 4096},
    {CBUS_RECORD_MESSAGE, CBUS_RECORD_MORE, 5, 1, G_MAXUINT},
};

static int
next_of(guint8 type, guint8 flags, guint32 channel, gsize len)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree guint8 *payload = g_malloc0(len + 1);
    CbusRecord record = {0};
    cbus_record_append(bytes, type, flags, channel, payload, len);
    const guint8 *data = bytes->data;
    gsize left = bytes->len;
    int result = cbus_record_next(&data, &left, &record);
    if (result == 1) {
        g_assert_cmpuint(record.type, ==, type);
        g_assert_cmpuint(record.flags, ==, flags);
        g_assert_cmpuint(record.channel, ==, channel);
        g_assert_cmpuint(record.len, ==, len);
        g_assert_cmpuint(left, ==, 0);
    } else {
        g_assert_cmpuint(left, ==, bytes->len);
        g_assert_true(data == bytes->data);
        g_assert_null(record.payload);
    }
    return result;
}

static void
test_each_type_has_its_sizes(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++) {
        guint8 type = (guint8)shapes[i].type, flags = shapes[i].flags;
        guint32 channel = shapes[i].channel;
        guint most = MIN(shapes[i].most, 100000);
        g_assert_cmpint(next_of(type, flags, channel, shapes[i].least), ==, 1);
        g_assert_cmpint(next_of(type, flags, channel, most), ==, 1);
        if (shapes[i].least > 0)
            g_assert_cmpint(next_of(type, flags, channel, shapes[i].least - 1), ==, -1);
        if (shapes[i].most < G_MAXUINT)
            g_assert_cmpint(next_of(type, flags, channel, most + 1), ==, -1);
    }
}

static void
test_flags_that_mean_nothing_are_refused(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++)
        for (guint flags = 0; flags < 256; flags++)
            g_assert_cmpint(
                next_of((guint8)shapes[i].type, (guint8)flags, shapes[i].channel, shapes[i].least), ==,
                (flags & ~(guint)shapes[i].flags) == 0 ? 1 : -1);
}

static void
test_unknown_types_are_refused(void)
{
    for (guint type = 0; type < 256; type++)
        if (type < CBUS_RECORD_FINISH || type > CBUS_RECORD_MESSAGE)
            for (gsize len = 0; len < 80; len += 8)
                g_assert_cmpint(next_of((guint8)type, 0, len % 3, len), ==, -1);
}

static void
test_records_stand_where_they_belong(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++) {
        gboolean both = shapes[i].type == CBUS_RECORD_REFUSED || shapes[i].type == CBUS_RECORD_CLOSE;
        guint32 other = shapes[i].channel == 0 ? 1 : 0;
        g_assert_cmpint(next_of((guint8)shapes[i].type, 0, other, shapes[i].least), ==, both ? 1 : -1);
    }
}

static void
test_reserved_bits_are_zero(void)
{
    static const guint8 ping[] = {7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8};
    for (gsize at = 2; at < 4; at++) {
        guint8 copy[sizeof ping];
        memcpy(copy, ping, sizeof ping);
        copy[at] = 1;
        const guint8 *data = copy;
        gsize left = sizeof copy;
        CbusRecord record;
        g_assert_cmpint(cbus_record_next(&data, &left, &record), ==, -1);
    }
    static const guint8 open[] = {2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 3, 232, 0, 0, 0, 1};
    const guint8 *data = open;
    gsize left = sizeof open;
    CbusRecord record;
    g_assert_cmpint(cbus_record_next(&data, &left, &record), ==, -1);
}

static void
test_several_in_one_packet(void)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    CbusRecord record;
    cbus_record_append(bytes, CBUS_RECORD_PING, 0, 0, (const guint8 *)"12345678", 8);
    cbus_record_append(bytes, CBUS_RECORD_OPENED, 0, 9, NULL, 0);
    cbus_record_append(bytes, CBUS_RECORD_MESSAGE, CBUS_RECORD_MORE, 9, (const guint8 *)"part", 4);
    const guint8 *data = bytes->data;
    gsize left = bytes->len;
    g_assert_cmpint(cbus_record_next(&data, &left, &record), ==, 1);
    g_assert_cmpmem(record.payload, record.len, "12345678", 8);
    g_assert_cmpint(cbus_record_next(&data, &left, &record), ==, 1);
    g_assert_cmpuint(record.type, ==, CBUS_RECORD_OPENED);
    g_assert_cmpint(cbus_record_next(&data, &left, &record), ==, 1);
    g_assert_cmpmem(record.payload, record.len, "part", 4);
    g_assert_cmpint(cbus_record_next(&data, &left, &record), ==, 0);

    /* Each cut of it ends in an error, except between records. */
    for (gsize len = 0; len < bytes->len; len++) {
        int result;
        data = bytes->data;
        left = len;
        while ((result = cbus_record_next(&data, &left, &record)) == 1)
            continue;
        g_assert_cmpint(result, ==, len == 0 || len == 20 || len == 32 ? 0 : -1);
    }
}

static gboolean
reason_of(GByteArray *payload, char **name, char **message)
{
    CbusRecord record = {CBUS_RECORD_CLOSE, 0, 1, payload->data, payload->len};
    return cbus_record_reason(&record, name, message);
}

static void
test_reasons(void)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_autofree char *name = NULL, *message = NULL;
    cbus_put_string(payload, "org.freedesktop.DBus.Error.AccessDenied");
    cbus_put_string(payload, "naïve");
    g_assert_true(reason_of(payload, &name, &message));
    g_assert_cmpstr(name, ==, "org.freedesktop.DBus.Error.AccessDenied");
    g_assert_cmpstr(message, ==, "naïve");

    static const struct {
        const char *bytes;
        gsize len;
    } bad[] = {
        {"\0\0\0\0", 4},                 /* one string */
        {"\0\0\0\0\0\0\0\1", 8},         /* over the end */
        {"\0\0\0\0\0\0\0\0x", 9},        /* more after it */
        {"\0\0\0\3a.b\0\0\0\1\xff", 12}, /* no UTF-8 */
        {"\0\0\0\3a.b\0\0\0\1\0", 12},   /* NUL */
        {"\0\0\0\2ab\0\0\0\0", 10},      /* no error name */
        {"\0\0\0\4a.b\n\0\0\0\0", 12},   /* nor this */
        {"\xff\xff\xff\xff"
         "a.b\0\0\0\0",
         11}, /* a length that wraps */
    };
    char *untouched = (char *)"untouched", *one = untouched, *two = untouched;
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_byte_array_set_size(payload, 0);
        g_byte_array_append(payload, (const guint8 *)bad[i].bytes, (guint)bad[i].len);
        g_assert_false(reason_of(payload, &one, &two));
        g_assert_true(one == untouched && two == untouched);
    }
}

static void
test_long_words_are_cut_at_a_character(void)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    for (gsize max = 0; max < 12; max++) {
        CbusSpan span;
        g_byte_array_set_size(out, 0);
        cbus_put_string_cut(out, "aé€𝄞z", max);
        const guint8 *data = out->data;
        gsize left = out->len;
        g_assert_true(cbus_get_string(&data, &left, max, &span));
        g_assert_cmpuint(left, ==, 0);
        gsize expected = max < 1 ? 0 : max < 3 ? 1 : max < 6 ? 3 : max < 10 ? 6 : max < 11 ? 10 : 11;
        g_assert_cmpuint(span.len, ==, expected);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/record/each-type-has-its-sizes", test_each_type_has_its_sizes);
    g_test_add_func("/record/flags-that-mean-nothing-are-refused", test_flags_that_mean_nothing_are_refused);
    g_test_add_func("/record/unknown-types-are-refused", test_unknown_types_are_refused);
    g_test_add_func("/record/records-stand-where-they-belong", test_records_stand_where_they_belong);
    g_test_add_func("/record/reserved-bits-are-zero", test_reserved_bits_are_zero);
    g_test_add_func("/record/several-in-one-packet", test_several_in_one_packet);
    g_test_add_func("/record/reasons", test_reasons);
    g_test_add_func("/record/long-words-are-cut-at-a-character", test_long_words_are_cut_at_a_character);
    return g_test_run();
}
