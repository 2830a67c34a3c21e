/* SSH's own encoding (RFC 4251, section 5): a u32 is big-endian, a string is a u32 length and its bytes.
 *
 * A reader borrows its bytes. A take that fails moves nothing and writes nothing. */
#pragma once
#include "wire/bytes.h"

typedef struct {
    const guint8 *at;
    gsize left;
} CbusSshReader;

static inline gboolean G_GNUC_WARN_UNUSED_RESULT
cbus_ssh_take_u32(CbusSshReader *reader, guint32 *out)
{
    if (reader->left < 4)
        return FALSE;
    *out = cbus_be32(reader->at);
    reader->at += 4;
    reader->left -= 4;
    return TRUE;
}

static inline gboolean G_GNUC_WARN_UNUSED_RESULT
cbus_ssh_take_string(CbusSshReader *reader, CbusSpan *out)
{
    guint32 len;
    CbusSshReader after = *reader;
    if (!cbus_ssh_take_u32(&after, &len) || len > after.left)
        return FALSE;
    *out = (CbusSpan){(const char *)after.at, len};
    *reader = (CbusSshReader){after.at + len, after.left - len};
    return TRUE;
}

static inline void
cbus_ssh_append_u32(GByteArray *out, guint32 value)
{
    guint8 bytes[4];
    cbus_put_be32(bytes, value);
    g_byte_array_append(out, bytes, sizeof bytes);
}

static inline void
cbus_ssh_append_string(GByteArray *out, const void *data, gsize len)
{
    cbus_ssh_append_u32(out, (guint32)len);
    g_byte_array_append(out, data, (guint)len);
}
