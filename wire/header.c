/* Headers written anew, and the small messages that CBus itself sends.
 *
 * What is promised: the bytes appended are a header as cbus_message_view() accepts it, in the byte order
 * asked for, padded so that the body follows. Alignment counts from where the message begins in the buffer,
 * so that messages can be gathered one after another. One growth of the buffer a header, no other allocation.
 *
 * What is trusted: the values, which come from a viewed message or from ourselves. What is not: their size. A
 * path that was within D-Bus's limits can be over them with a prefix; cbus_header_close() finds that, and a
 * caller who forwards foreign values calls it even when the body's length was known.
 *
 * Pure functions, any thread (each buffer in one). */
#include "wire/body.h"
#include <stdarg.h>

#define FIELDS_LENGTH_AT 12
#define FIELDS_AT        16

typedef struct {
    guint8 *begin; /* of the message */
    gsize at;
    gboolean swap;
} Writer;

static void
pad(Writer *writer, gsize alignment)
{
    while (writer->at % alignment != 0)
        writer->begin[writer->at++] = 0;
}

static void
put_u32_at(guint8 *to, guint32 value, gboolean swap)
{
    value = swap ? GUINT32_SWAP_LE_BE(value) : value;
    memcpy(to, &value, sizeof value);
}

static void
put_u32(Writer *writer, guint32 value)
{
    pad(writer, 4);
    put_u32_at(writer->begin + writer->at, value, writer->swap);
    writer->at += sizeof value;
}

static void
put_bytes(Writer *writer, CbusSpan text)
{
    if (text.len > 0)
        memcpy(writer->begin + writer->at, text.text, text.len);
    writer->at += text.len;
}

static void
begin_field(Writer *writer, guint8 code, char type)
{
    pad(writer, 8);
    guint8 *to = writer->begin + writer->at;
    to[0] = code;
    to[1] = 1;
    to[2] = (guint8)type;
    to[3] = 0;
    writer->at += 4;
}

static void
put_text_field(Writer *writer, guint8 code, char type, CbusSpan head, CbusSpan tail)
{
    if (tail.text == NULL)
        return;
    begin_field(writer, code, type);
    put_u32(writer, (guint32)(head.len + tail.len));
    put_bytes(writer, head);
    put_bytes(writer, tail);
    writer->begin[writer->at++] = 0;
}

static void
put_fields(Writer *writer, const CbusHeader *header)
{
    const CbusSpan none = {NULL, 0};
    CbusSpan path = header->path;
    if (header->path_prefix.len > 0 && path.len == 1)
        path.len = 0;
    put_text_field(writer, CBUS_FIELD_PATH, 'o', header->path_prefix, path);
    put_text_field(writer, CBUS_FIELD_INTERFACE, 's', none, header->interface);
    put_text_field(writer, CBUS_FIELD_MEMBER, 's', none, header->member);
    put_text_field(writer, CBUS_FIELD_ERROR_NAME, 's', none, header->error_name);
    if (header->reply_serial != 0) {
        begin_field(writer, CBUS_FIELD_REPLY_SERIAL, 'u');
        put_u32(writer, header->reply_serial);
    }
    put_text_field(writer, CBUS_FIELD_DESTINATION, 's', none, header->destination);
    put_text_field(writer, CBUS_FIELD_SENDER, 's', none, header->sender);
    if (header->signature.len > 0) {
        begin_field(writer, CBUS_FIELD_SIGNATURE, 'g');
        writer->begin[writer->at++] = (guint8)header->signature.len;
        put_bytes(writer, header->signature);
        writer->begin[writer->at++] = 0;
    }
}

/* At most what the header will take: each field padding 7, begin 4, length 4, NUL 1. */
static gsize
bound_size(const CbusHeader *header)
{
    gsize texts = header->path_prefix.len + header->path.len + header->interface.len + header->member.len +
                  header->error_name.len + header->destination.len + header->sender.len +
                  header->signature.len;
    return FIELDS_AT + 8 * 16 + texts + 8;
}

gsize
cbus_header_append(GByteArray *out, const CbusHeader *header, gsize body_len)
{
    gsize offset = out->len;
    g_byte_array_set_size(out, (guint)(offset + bound_size(header)));
    Writer writer = {out->data + offset, FIELDS_AT, header->endian != CBUS_ENDIAN_NATIVE};
    writer.begin[0] = header->endian;
    writer.begin[1] = header->type;
    writer.begin[2] = header->flags;
    writer.begin[3] = 1;
    put_u32_at(writer.begin + 4, (guint32)body_len, writer.swap);
    put_u32_at(writer.begin + 8, header->serial, writer.swap);
    put_fields(&writer, header);
    put_u32_at(writer.begin + FIELDS_LENGTH_AT, (guint32)(writer.at - FIELDS_AT), writer.swap);
    pad(&writer, 8);
    g_byte_array_set_size(out, (guint)(offset + writer.at));
    return offset;
}

gboolean
cbus_header_close(GByteArray *out, gsize offset, gsize body_offset)
{
    gsize body_len = out->len - body_offset;
    if (body_offset - offset > FIELDS_AT + (gsize)CBUS_ARRAY_MAX || out->len - offset > CBUS_MESSAGE_MAX) {
        g_byte_array_set_size(out, (guint)offset);
        return FALSE;
    }
    put_u32_at(out->data + offset + 4, (guint32)body_len, out->data[offset] != CBUS_ENDIAN_NATIVE);
    return TRUE;
}

static void
append_u32(GByteArray *out, gsize body_offset, guint32 value)
{
    static const guint8 zeros[3];
    g_byte_array_append(out, zeros, (guint)(-(out->len - body_offset) & 3));
    g_byte_array_append(out, (const guint8 *)&value, sizeof value);
}

static void
append_text(GByteArray *out, gsize body_offset, const char *text)
{
    gsize len = strlen(text);
    append_u32(out, body_offset, (guint32)len);
    g_byte_array_append(out, (const guint8 *)text, (guint)(len + 1));
}

void
cbus_message_append(GByteArray *out, const CbusHeader *header, const char *types, ...)
{
    CbusHeader native = *header;
    native.endian = CBUS_ENDIAN_NATIVE;
    native.signature = cbus_span(types);
    gsize offset = cbus_header_append(out, &native, 0), body_offset = out->len;
    va_list values;
    va_start(values, types);
    for (; *types != '\0'; types++) {
        if (*types == 'u')
            append_u32(out, body_offset, va_arg(values, guint32));
        else if (*types == 's' || *types == 'o')
            append_text(out, body_offset, va_arg(values, const char *));
        else
            g_assert_not_reached();
    }
    va_end(values);
    put_u32_at(out->data + offset + 4, (guint32)(out->len - body_offset), FALSE);
}

void
cbus_message_append_error(GByteArray *out, guint32 serial, const CbusMessage *call, const char *error_name,
                          const char *message)
{
    const CbusHeader header = {
        .type = CBUS_MESSAGE_ERROR,
        .flags = CBUS_FLAG_NO_REPLY,
        .serial = serial,
        .reply_serial = call->serial,
        .error_name = cbus_span(error_name),
        .destination = call->sender,
    };
    cbus_message_append(out, &header, "s", message);
}
