/* Records: the plaintext of packets, and the small things inside payloads.
 *
 * Promise: cbus_record_next() hands out a record only if its type, its flags, its reserved bits, its channel
 * and its length are ones that an honest peer writes; all else is −1, and the link ends, since packets are
 * authenticated: such bytes come from a broken or a hostile peer, and guessing at the rest of the packet
 * would be worse. What a payload says is checked by who knows (links, trees, D-Bus messages).
 *
 * A record of a message or a tree is never empty, so that the number of records in a packet, and with it the
 * work it costs, is bounded by its size.
 *
 * Trust: nothing about the bytes but their length. Nothing is read outside, and spans that are handed out
 * borrow from the packet.
 *
 * Threads: any; pure. */
#include "wire/record.h"

#include "wire/message.h"

#define ERROR_NAME_MAX 255
#define REASON_MAX     4096
#define INFO_MAX       4096

typedef struct {
    guint8 flags;        /* those that may be set */
    gboolean link;       /* may stand in channel 0 */
    gboolean channel;    /* may stand in another */
    guint32 least, most; /* bytes of payload */
} Shape;

static const Shape shapes[] = {
    [CBUS_RECORD_FINISH] = {0, TRUE, FALSE, 64, 64},
    [CBUS_RECORD_OPEN] = {0, FALSE, TRUE, 8, 8},
    [CBUS_RECORD_OPENED] = {0, FALSE, TRUE, 0, 0},
    [CBUS_RECORD_REFUSED] = {0, TRUE, TRUE, 8, 8 + ERROR_NAME_MAX + REASON_MAX},
    [CBUS_RECORD_CLOSE] = {0, TRUE, TRUE, 8, 8 + ERROR_NAME_MAX + REASON_MAX},
    [CBUS_RECORD_CREDIT] = {0, TRUE, FALSE, 16, 16},
    [CBUS_RECORD_PING] = {0, TRUE, FALSE, 8, 8},
    [CBUS_RECORD_PONG] = {0, TRUE, FALSE, 8, 8},
    [CBUS_RECORD_TREE] = {CBUS_RECORD_MORE | CBUS_RECORD_ANSWER, FALSE, TRUE, 1, G_MAXUINT32},
    [CBUS_RECORD_SERVERINFO] = {0, TRUE, FALSE, 16, INFO_MAX},
    [CBUS_RECORD_MESSAGE] = {CBUS_RECORD_MORE, FALSE, TRUE, 1, G_MAXUINT32},
};

void
cbus_record_header(guint8 out[CBUS_RECORD_HEADER_BYTES], CbusRecordType type, guint8 flags, guint32 channel,
                   guint32 len)
{
    out[0] = (guint8)type;
    out[1] = flags;
    cbus_put_be16(out + 2, 0);
    cbus_put_be32(out + 4, channel);
    cbus_put_be32(out + 8, len);
}

void
cbus_record_append(GByteArray *out, CbusRecordType type, guint8 flags, guint32 channel, const guint8 *payload,
                   gsize len)
{
    guint8 header[CBUS_RECORD_HEADER_BYTES];
    g_return_if_fail(len <= G_MAXUINT32);
    cbus_record_header(header, type, flags, channel, (guint32)len);
    g_byte_array_append(out, header, sizeof header);
    if (len > 0)
        g_byte_array_append(out, payload, (guint)len);
}

static gboolean
is_shaped(const CbusRecord *record)
{
    if (record->type == 0 || record->type >= G_N_ELEMENTS(shapes))
        return FALSE;
    const Shape *shape = &shapes[record->type];
    return (record->flags & ~shape->flags) == 0 && (record->channel == 0 ? shape->link : shape->channel) &&
           record->len >= shape->least && record->len <= shape->most;
}

int
cbus_record_next(const guint8 **data, gsize *len, CbusRecord *record)
{
    if (*len == 0)
        return 0;
    if (*len < CBUS_RECORD_HEADER_BYTES)
        return -1;
    const guint8 *at = *data;
    CbusRecord found = {.type = at[0],
                        .flags = at[1],
                        .channel = cbus_be32(at + 4),
                        .payload = at + CBUS_RECORD_HEADER_BYTES,
                        .len = cbus_be32(at + 8)};
    if (cbus_be16(at + 2) != 0 || found.len > *len - CBUS_RECORD_HEADER_BYTES || !is_shaped(&found))
        return -1;
    if (found.type == CBUS_RECORD_OPEN && cbus_be32(found.payload + 4) != 0)
        return -1;
    *data += CBUS_RECORD_HEADER_BYTES + found.len;
    *len -= CBUS_RECORD_HEADER_BYTES + found.len;
    *record = found;
    return 1;
}

static void
put_bytes(GByteArray *out, const char *text, gsize len)
{
    guint8 size[4];
    cbus_put_be32(size, (guint32)len);
    g_byte_array_append(out, size, sizeof size);
    if (len > 0)
        g_byte_array_append(out, (const guint8 *)text, (guint)len);
}

void
cbus_put_string(GByteArray *out, const char *text)
{
    gsize len = strlen(text);
    g_return_if_fail(len <= G_MAXUINT32);
    put_bytes(out, text, len);
}

void
cbus_put_string_cut(GByteArray *out, const char *text, gsize max)
{
    gsize len = strlen(text);
    if (len > max) {
        /* Bytes 10xxxxxx continue a character. */
        for (len = max; len > 0 && ((guint8)text[len] & 0xc0) == 0x80;)
            len--;
    }
    put_bytes(out, text, len);
}

gboolean
cbus_get_string(const guint8 **data, gsize *len, gsize max, CbusSpan *out)
{
    if (*len < 4)
        return FALSE;
    gsize size = cbus_be32(*data);
    const char *text = (const char *)*data + 4;
    /* g_utf8_validate() refuses NUL, too. */
    if (size > max || size > *len - 4 || !g_utf8_validate(text, (gssize)size, NULL))
        return FALSE;
    *out = (CbusSpan){text, size};
    *data += 4 + size;
    *len -= 4 + size;
    return TRUE;
}

gboolean
cbus_record_reason(const CbusRecord *record, char **error_name, char **message)
{
    const guint8 *data = record->payload;
    gsize len = record->len;
    CbusSpan name, text;
    if (!cbus_get_string(&data, &len, ERROR_NAME_MAX, &name) ||
        !cbus_get_string(&data, &len, REASON_MAX, &text) || len != 0)
        return FALSE;
    /* It goes into a D-Bus error reply as it is. */
    if (name.len > 0 && !cbus_is_interface(name))
        return FALSE;
    *error_name = g_strndup(name.text, name.len);
    *message = g_strndup(text.text, text.len);
    return TRUE;
}
