/* The spelling of NKeys below their meaning: base32 (RFC 4648, upper case, no padding) and CRC-16/XMODEM
 * (polynomial 0x1021, initial value 0), which NATS appends in little-endian order.
 *
 * Promise: decoding is strict, so that one value has one spelling. NKeys are compared as text by NATS, stand
 * in subjects and in files that people edit; a second spelling of the same key would be a second machine to
 * some parts and the same to others.
 *
 * Seeds pass through here too, hence no tables: a look-up would leave the secret's pattern in the cache. The
 * caller owns and wipes the buffers.
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
    for (gsize i = 0; i < chars; i++) {
        char c = text[i];
        guint v;
        if (c >= 'A' && c <= 'Z')
            v = (guint)(c - 'A');
        else if (c >= '2' && c <= '7')
            v = (guint)(c - '2') + 26;
        else
            return FALSE;
        bits = bits << 5 | v;
        count += 5;
        if (count >= 8) {
            count -= 8;
            *out++ = (guint8)(bits >> count);
        }
    }
    return (bits & ((1u << count) - 1)) == 0;
}

guint16
cbus_crc16(const guint8 *data, gsize len)
{
    /* What four bits shifted out of the register put into it: multiples of the polynomial 0x1021. */
    static const guint16 shifted_out[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                            0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    guint16 crc = 0;
    for (gsize i = 0; i < len; i++) {
        crc = (guint16)(crc << 4) ^ shifted_out[crc >> 12 ^ data[i] >> 4];
        crc = (guint16)(crc << 4) ^ shifted_out[crc >> 12 ^ (data[i] & 15)];
    }
    return crc;
}
