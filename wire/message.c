/* A D-Bus message, seen in place (D-Bus specification, "Message Format").
 *
 * What is promised: a view exists only of a message whose header keeps every rule: known byte order, type and
 * version, a serial, fields of the right types with valid values, none twice, the ones that its type
 * requires, zero padding, and sizes that fit. Fields unknown to this specification are walked as carefully
 * and then ignored, as it demands. Whoever receives such a message has no reason to hang up on us.
 *
 * The names that D-Bus reserves for a library's own use (org.freedesktop.DBus.Local and its path) are refused
 * in every message: some libraries take a signal from there for the loss of their connection.
 *
 * What is left to the caller: the body (body.h), and what to do about UNIX_FDS. Spans in a view borrow from
 * the message. Nothing is allocated on success.
 *
 * Each byte comes from outside; only the given size is trusted. Pure functions, any thread. */
#include "wire/body.h"

#define FIELDS_LENGTH_AT 12
#define FIELDS_AT        16
/* A field's value lies in the header's array, in a struct and in a variant. */
#define FIELD_DEPTH 2

static const char field_type[CBUS_FIELD_LAST + 1] = {
    [CBUS_FIELD_PATH] = 'o',       [CBUS_FIELD_INTERFACE] = 's',    [CBUS_FIELD_MEMBER] = 's',
    [CBUS_FIELD_ERROR_NAME] = 's', [CBUS_FIELD_REPLY_SERIAL] = 'u', [CBUS_FIELD_DESTINATION] = 's',
    [CBUS_FIELD_SENDER] = 's',     [CBUS_FIELD_SIGNATURE] = 'g',    [CBUS_FIELD_UNIX_FDS] = 'u',
};

G_DEFINE_QUARK(cbus_message_fault_quark, cbus_message_fault)

static gboolean
invalid(GError **error, const char *what)
{
    g_set_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID, "invalid D-Bus message: %s", what);
    return FALSE;
}

static guint32
load_u32(const guint8 *data, gsize at)
{
    guint32 value;
    memcpy(&value, data + at, sizeof value);
    return data[0] == 'l' ? GUINT32_FROM_LE(value) : GUINT32_FROM_BE(value);
}

gssize
cbus_message_frame(const guint8 *data, gsize available, gsize limit, GError **error)
{
    if (available < CBUS_MESSAGE_MIN)
        return 0;
    if (data[0] != 'l' && data[0] != 'B') {
        invalid(error, "unknown byte order");
        return -1;
    }
    if (data[3] != 1) {
        invalid(error, "unknown protocol version");
        return -1;
    }
    guint64 fields = load_u32(data, FIELDS_LENGTH_AT);
    guint64 size = FIELDS_AT + ((fields + 7) & ~G_GUINT64_CONSTANT(7)) + load_u32(data, 4);
    if (fields > CBUS_ARRAY_MAX || size > CBUS_MESSAGE_MAX) {
        invalid(error, "longer than D-Bus allows (header fields 64 MiB, message 128 MiB)");
        return -1;
    }
    if (size > limit) {
        g_set_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT,
                    "a message of %" G_GUINT64_FORMAT " bytes is over the limit of %" G_GSIZE_FORMAT, size,
                    limit);
        return -1;
    }
    return (gssize)size;
}

static gboolean
set_path(CbusMessage *out, CbusSpan text, GError **error)
{
    if (!cbus_is_object_path(text))
        return invalid(error, "PATH is no object path");
    if (cbus_span_equal(text, CBUS_SPAN_LITERAL("/org/freedesktop/DBus/Local")))
        return invalid(error, "PATH is the reserved /org/freedesktop/DBus/Local");
    out->path = text;
    return TRUE;
}

static gboolean
set_interface(CbusMessage *out, CbusSpan text, GError **error)
{
    if (!cbus_is_interface(text))
        return invalid(error, "INTERFACE is no interface name");
    if (cbus_span_equal(text, CBUS_SPAN_LITERAL("org.freedesktop.DBus.Local")))
        return invalid(error, "INTERFACE is the reserved org.freedesktop.DBus.Local");
    out->interface = text;
    return TRUE;
}

static gboolean
set_text(CbusMessage *out, guint8 code, CbusSpan text, GError **error)
{
    switch (code) {
        case CBUS_FIELD_PATH:
            return set_path(out, text, error);
        case CBUS_FIELD_INTERFACE:
            return set_interface(out, text, error);
        case CBUS_FIELD_MEMBER:
            out->member = text;
            return cbus_is_member(text) || invalid(error, "MEMBER is no member name");
        case CBUS_FIELD_ERROR_NAME:
            out->error_name = text;
            return cbus_is_interface(text) || invalid(error, "ERROR_NAME is no error name");
        case CBUS_FIELD_DESTINATION:
            out->destination = text;
            return cbus_is_bus_name(text) || invalid(error, "DESTINATION is no bus name");
        case CBUS_FIELD_SENDER:
            out->sender = text;
            return cbus_is_bus_name(text) || invalid(error, "SENDER is no bus name");
        default:
            g_assert_not_reached();
    }
}

static gboolean
read_number(CbusMessage *out, CbusCursor *cursor, guint8 code, GError **error)
{
    guint32 value;
    if (!cbus_cursor_u32(cursor, &value))
        return invalid(error, "a header field is cut off or its padding is not zero");
    if (code == CBUS_FIELD_UNIX_FDS)
        out->unix_fds = value;
    else if (value == 0)
        return invalid(error, "REPLY_SERIAL is 0");
    else
        out->reply_serial = value;
    return TRUE;
}

static gboolean
read_signature(CbusMessage *out, CbusCursor *cursor, GError **error)
{
    gsize left = cursor->len - cursor->at;
    const guint8 *bytes = cursor->body + cursor->at;
    if (left == 0 || left < bytes[0] + 2u || bytes[1 + bytes[0]] != '\0')
        return invalid(error, "SIGNATURE is cut off or does not end with NUL");
    out->signature = (CbusSpan){(const char *)bytes + 1, bytes[0]};
    cursor->at += bytes[0] + 2u;
    return cbus_signature_is_valid(out->signature) || invalid(error, "SIGNATURE is malformed");
}

/* The value of field CODE: its signature, then what the signature says. */
static gboolean
read_known_field(CbusMessage *out, CbusCursor *cursor, guint8 code, GError **error)
{
    const guint8 *signature = cursor->body + cursor->at;
    if (cursor->len - cursor->at < 3)
        return invalid(error, "a header field is cut off");
    if (signature[0] != 1 || signature[1] != (guint8)field_type[code] || signature[2] != '\0')
        return invalid(error, "a header field is not of its type");
    cursor->at += 3;
    if (field_type[code] == 'u')
        return read_number(out, cursor, code, error);
    if (field_type[code] == 'g')
        return read_signature(out, cursor, error);
    CbusSpan text;
    if (!cbus_cursor_text(cursor, &text))
        return invalid(error,
                       "a header field is cut off, its padding is not zero or it does not end with NUL");
    return set_text(out, code, text, error);
}

/* Zero bytes up to the next multiple of 8 from AT; LEN is such a multiple or where the fields end. */
static gboolean
skip_padding(const guint8 *data, gsize len, gsize *at, GError **error)
{
    for (; *at % 8 != 0; ++*at)
        if (*at == len || data[*at] != 0)
            return invalid(error, "padding in the header is not zero");
    return TRUE;
}

static gboolean
read_fields(CbusMessage *out, const guint8 *data, gsize end, GError **error)
{
    CbusCursor cursor = {data, end, FIELDS_AT, out->endian};
    guint seen = 0;
    while (cursor.at < end) {
        if (!skip_padding(data, end, &cursor.at, error))
            return FALSE;
        if (cursor.at == end)
            return invalid(error, "the header fields end with padding");
        guint8 code = data[cursor.at++];
        if (code == 0)
            return invalid(error, "a header field has the code 0");
        if (code > CBUS_FIELD_LAST) {
            if (!cbus_variant_check(data, end, out->endian, &cursor.at, FIELD_DEPTH, error))
                return FALSE;
            continue;
        }
        if (seen & (1u << code))
            return invalid(error, "a header field appears twice");
        seen |= 1u << code;
        if (!read_known_field(out, &cursor, code, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
check_required(const CbusMessage *message, GError **error)
{
    gboolean complete = FALSE;
    switch (message->type) {
        case CBUS_MESSAGE_CALL:
            complete = message->path.text != NULL && message->member.text != NULL;
            break;
        case CBUS_MESSAGE_RETURN:
            complete = message->reply_serial != 0;
            break;
        case CBUS_MESSAGE_ERROR:
            complete = message->reply_serial != 0 && message->error_name.text != NULL;
            break;
        case CBUS_MESSAGE_SIGNAL:
            complete =
                message->path.text != NULL && message->interface.text != NULL && message->member.text != NULL;
            break;
        default:
            return invalid(error, "unknown message type");
    }
    if (!complete)
        return invalid(error, "a header field that its type requires is missing");
    if (message->signature.len == 0 && message->body_len > 0)
        return invalid(error, "a body without a signature");
    return TRUE;
}

gboolean
cbus_message_view(CbusMessage *out, const guint8 *data, gsize size, GError **error)
{
    gssize framed = cbus_message_frame(data, size, CBUS_MESSAGE_MAX, error);
    if (framed < 0)
        return FALSE;
    if ((gsize)framed != size || framed == 0)
        return invalid(error, "its size is not what its header says");
    CbusMessage view = {
        .endian = data[0],
        .type = data[1],
        .flags = data[2],
        .serial = load_u32(data, 8),
        .body_len = load_u32(data, 4),
        .size = size,
    };
    if (view.serial == 0)
        return invalid(error, "serial 0");
    gsize at = FIELDS_AT + load_u32(data, FIELDS_LENGTH_AT);
    if (!read_fields(&view, data, at, error) || !skip_padding(data, size, &at, error) ||
        !check_required(&view, error))
        return FALSE;
    view.body = data + at;
    *out = view;
    return TRUE;
}
