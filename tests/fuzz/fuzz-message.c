/* A D-Bus message from outside: what a view accepts lies inside the message, is written anew to a message
 * that views the same, and its body is walked and read by a cursor without a read outside.
 *
 * Each input is seen twice: as it is, and with version and sizes made to fit, since a random size hides all
 * that comes after it. */
#include "tests/fuzz/fuzz.h"
#include "wire/body.h"

static void
check_inside(CbusSpan span, const guint8 *data, gsize len)
{
    const guint8 *text = (const guint8 *)span.text;
    FUZZ_CHECK(text == NULL || (text >= data && text + span.len < data + len && text[span.len] == '\0'));
}

static void
check_same(const CbusMessage *a, const CbusMessage *b)
{
    FUZZ_CHECK(a->endian == b->endian && a->type == b->type && a->flags == b->flags);
    FUZZ_CHECK(a->serial == b->serial && a->reply_serial == b->reply_serial);
    FUZZ_CHECK(cbus_span_equal(a->path, b->path) && cbus_span_equal(a->interface, b->interface));
    FUZZ_CHECK(cbus_span_equal(a->member, b->member) && cbus_span_equal(a->error_name, b->error_name));
    FUZZ_CHECK(cbus_span_equal(a->destination, b->destination) && cbus_span_equal(a->sender, b->sender));
    FUZZ_CHECK(cbus_span_equal(a->signature, b->signature) && a->body_len == b->body_len);
    FUZZ_CHECK(memcmp(a->body, b->body, a->body_len) == 0);
}

static void
check_rebuilt(const CbusMessage *view)
{
    const CbusHeader header = {
        .endian = view->endian,
        .type = view->type,
        .flags = view->flags,
        .serial = view->serial,
        .reply_serial = view->reply_serial,
        .path = view->path,
        .interface = view->interface,
        .member = view->member,
        .error_name = view->error_name,
        .destination = view->destination,
        .sender = view->sender,
        .signature = view->signature,
    };
    g_autoptr(GByteArray) out = g_byte_array_new();
    gsize offset = cbus_header_append(out, &header, 0), body_offset = out->len;
    g_byte_array_append(out, view->body, (guint)view->body_len);
    FUZZ_CHECK(cbus_header_close(out, offset, body_offset));
    CbusMessage again;
    FUZZ_CHECK(cbus_message_view(&again, out->data, out->len, NULL));
    check_same(view, &again);
}

static void
read_body(const CbusMessage *view)
{
    CbusCursor cursor = cbus_cursor(view);
    CbusSpan text;
    guint32 u32;
    guint64 u64;
    gsize end;
    while (cbus_cursor_string(&cursor, &text))
        check_inside(text, view->body, view->body_len);
    if (cbus_cursor_array(&cursor, 8, &end))
        FUZZ_CHECK(end <= view->body_len);
    while (cbus_cursor_u32(&cursor, &u32) && cbus_cursor_u64(&cursor, &u64))
        FUZZ_CHECK(cursor.at <= view->body_len);
}

static void
check_message(const guint8 *data, gsize len)
{
    CbusMessage view;
    g_autoptr(GError) error = NULL;
    if (!cbus_message_view(&view, data, len, &error)) {
        FUZZ_CHECK(error != NULL);
        return;
    }
    FUZZ_CHECK(cbus_message_frame(data, len, CBUS_MESSAGE_MAX, NULL) == (gssize)len);
    const CbusSpan spans[] = {view.path,        view.interface, view.member,   view.error_name,
                              view.destination, view.sender,    view.signature};
    for (gsize i = 0; i < G_N_ELEMENTS(spans); i++)
        check_inside(spans[i], data, len);
    FUZZ_CHECK(view.body + view.body_len == data + len);
    check_rebuilt(&view);
    gboolean valid = cbus_body_check(view.body, view.body_len, view.endian, view.signature, &error);
    FUZZ_CHECK(valid == (error == NULL));
    read_body(&view);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    check_message(data, len);
    if (len < CBUS_MESSAGE_MIN)
        return 0;
    g_autofree guint8 *fitted = g_memdup2(data, len);
    fitted[0] = data[0] & 1 ? 'B' : 'l';
    fitted[1] = data[1] % 4 + 1;
    fitted[3] = 1;
    gsize left = len - CBUS_MESSAGE_MIN;
    guint32 fields = (guint32)(cbus_be32(data + 12) % (left + 1));
    gsize padded = ((gsize)fields + 7) & ~(gsize)7;
    if (padded > left)
        padded = fields &= ~(guint32)7;
    guint32 body = (guint32)(left - padded);
    gboolean swap = fitted[0] != CBUS_ENDIAN_NATIVE;
    fields = swap ? GUINT32_SWAP_LE_BE(fields) : fields;
    body = swap ? GUINT32_SWAP_LE_BE(body) : body;
    memcpy(fitted + 4, &body, sizeof body);
    memcpy(fitted + 12, &fields, sizeof fields);
    check_message(fitted, len);
    return 0;
}
