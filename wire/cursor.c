/* A cursor: reads the few bodies whose shape is known in advance (the bus driver's signals and replies, a
 * Properties.Get) without building values.
 *
 * What is promised: no read outside the body, whatever is in it; FALSE past the end, and for padding that is
 * not zero, a string that is not UTF-8 or does not end with NUL, an array past its bounds. A call that fails
 * leaves cursor and output as they were.
 *
 * What is trusted: the caller knows the signature. A cursor sees bytes, not types: compare the message's
 * signature first. Offsets count from the body's begin, which D-Bus aligns to eight.
 *
 * Pure functions, any thread. */
#include "wire/body.h"

CbusCursor
cbus_cursor(const CbusMessage *message)
{
    return (CbusCursor){message->body, message->body_len, 0, message->endian};
}

static gboolean
cursor_align(const CbusCursor *cursor, gsize *at, gsize alignment)
{
    gsize padding = -*at & (alignment - 1);
    if (padding > cursor->len - *at)
        return FALSE;
    for (gsize i = 0; i < padding; i++)
        if (cursor->body[*at + i] != 0)
            return FALSE;
    *at += padding;
    return TRUE;
}

static const guint8 *
cursor_fixed(CbusCursor *cursor, gsize size)
{
    gsize at = cursor->at;
    if (at > cursor->len || !cursor_align(cursor, &at, size) || size > cursor->len - at)
        return NULL;
    cursor->at = at + size;
    return cursor->body + at;
}

gboolean
cbus_cursor_u32(CbusCursor *cursor, guint32 *out)
{
    const guint8 *bytes = cursor_fixed(cursor, 4);
    if (bytes == NULL)
        return FALSE;
    guint32 value;
    memcpy(&value, bytes, sizeof value);
    *out = cursor->endian == 'l' ? GUINT32_FROM_LE(value) : GUINT32_FROM_BE(value);
    return TRUE;
}

gboolean
cbus_cursor_u64(CbusCursor *cursor, guint64 *out)
{
    const guint8 *bytes = cursor_fixed(cursor, 8);
    if (bytes == NULL)
        return FALSE;
    guint64 value;
    memcpy(&value, bytes, sizeof value);
    *out = cursor->endian == 'l' ? GUINT64_FROM_LE(value) : GUINT64_FROM_BE(value);
    return TRUE;
}

gboolean
cbus_cursor_text(CbusCursor *cursor, CbusSpan *out)
{
    CbusCursor next = *cursor;
    guint32 length;
    if (!cbus_cursor_u32(&next, &length) || length >= next.len - next.at)
        return FALSE;
    if (next.body[next.at + length] != '\0')
        return FALSE;
    *out = (CbusSpan){(const char *)next.body + next.at, length};
    next.at += (gsize)length + 1;
    *cursor = next;
    return TRUE;
}

gboolean
cbus_cursor_string(CbusCursor *cursor, CbusSpan *out)
{
    CbusCursor next = *cursor;
    CbusSpan text;
    if (!cbus_cursor_text(&next, &text) || !cbus_is_string(text))
        return FALSE;
    *cursor = next;
    *out = text;
    return TRUE;
}

gboolean
cbus_cursor_array(CbusCursor *cursor, guint element_alignment, gsize *end)
{
    CbusCursor next = *cursor;
    guint32 length;
    if (!cbus_cursor_u32(&next, &length) || length > CBUS_ARRAY_MAX)
        return FALSE;
    if (!cursor_align(&next, &next.at, element_alignment) || length > next.len - next.at)
        return FALSE;
    *cursor = next;
    *end = next.at + length;
    return TRUE;
}
