/* The spelling of NKeys below their meaning: base32 (RFC 4648, upper case, no padding) and CRC-16/XMODEM
 * (polynomial 0x1021, initial value 0), which NATS appends in little-endian order.
 *
 * Promise: decoding is strict, so that one value has one spelling. NKeys are compared as text by NATS, stand
 * in subjects and in files that people edit; a second spelling of the same key would be a second machine to
 * some parts and the same to others.
 *
 * Seeds pass through here too, hence no tables, and nothing that jumps by a character's value: a look-up
 * would leave the secret's pattern in the cache. The caller owns and wipes the buffers.
 *
 * Threads: any; pure. */
#include "wire/base32.h"

void
cbus_base32_encode(const guint8 *data, gsize len, char *out)
{
    guint32 bits = 0;
    guint count = 0;
    for (gsize i = 0; i < len; i++) {
        bits = bits << 8 | data[i];
        for (count += 8; count >= 5; count -= 5) {
            guint v = bits >> (count - 5) & 31;
            *out++ = (char)(v < 26 ? 'A' + v : '2' + (v - 26));
        }
    }
    if (count > 0) {
        guint v = bits << (5 - count) & 31;
        *out++ = (char)(v < 26 ? 'A' + v : '2' + (v - 26));
    }
    *out = '\0';
}

gboolean
cbus_base32_decode(const char *text, gsize chars, guint8 *out)
{
    guint32 bits = 0;
    guint count = 0;
    guint bad = 0;
    for (gsize i = 0; i < chars; i++) {
        guint letter = (guint)text[i] - 'A', digit = (guint)text[i] - '2';
        bad |= (letter >= 26) & (digit >= 6);
        bits = bits << 5 | (letter < 26 ? letter : (digit + 26) & 31);
        count += 5;
        if (count >= 8) {
            count -= 8;
            *out++ = (guint8)(bits >> count);
        }
    }
    return bad == 0 && (bits & ((1u << count) - 1)) == 0;
}

guint16
cbus_crc16(const guint8 *data, gsize len)
{
    guint16 crc = 0;
    for (gsize i = 0; i < len; i++) {
        /* Eight steps of the division at once: the polynomial has three terms below its first. */
        crc = (guint16)(crc >> 8 | crc << 8) ^ data[i];
        crc ^= (crc & 0xff) >> 4;
        crc ^= (guint16)(crc << 12);
        crc ^= (guint16)((crc & 0xff) << 5);
    }
    return crc;
}
