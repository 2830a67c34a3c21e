/* RFC 4648 base32 without padding, and the CRC-16 of NKeys. */
#pragma once
#include <glib.h>

/* Writes ⌈8·len/5⌉ characters and a NUL to OUT. */
void cbus_base32_encode(const guint8 *data, gsize len, char *out);
/* Reads exactly CHARS characters into exactly ⌊5·CHARS/8⌋ bytes. FALSE on any character outside A-Z2-7, or
 * when the bits left over are not zero (one value, one spelling). OUT may be partly written then. */
gboolean cbus_base32_decode(const char *text, gsize chars, guint8 *out) G_GNUC_WARN_UNUSED_RESULT;
guint16 cbus_crc16(const guint8 *data, gsize len);
