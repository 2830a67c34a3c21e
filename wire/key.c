/* Identities and how they are spelled.
 *
 * Every machine and every operator is an ed25519 public key. People have it as the line that ssh-keygen
 * wrote, NATS and our object paths have it as an NKey; both are read here and nowhere else.
 *
 * Promise: a CbusKey that came out of this file is a canonical point of the prime-order group
 * (crypto_core_ed25519_is_valid_point). Small-order points would verify signatures that nobody made; points
 * with a torsion part would give one person several identities that verify alike. Outputs are untouched on
 * failure, and every error says what was found and what to do instead, since operators paste these lines by
 * hand: a private key, an RSA key and a mistyped NKey each get their own words.
 *
 * Trust: nothing about the text, except that it is LEN bytes long. Text longer than a few KiB is refused
 * unread.
 *
 * An NKey is base32 over role byte, 32 bytes of key, CRC-16 (little-endian): 35 bytes, 56 characters. The
 * role of all CBus identities is "user" (U…), whatever they identify, so that the same NKey can log in to
 * NATS.
 *
 * Threads: any; no state. */
#include "wire/key.h"

#include "wire/base32.h"
#include "wire/bytes.h"
#include "wire/crypto.h"
#include <sodium.h>

#define TEXT_MAX       16384
#define NKEY_RAW       35
#define NKEY_ROLE_USER (20 << 3)
#define SSH_NAME       "ssh-ed25519"
#define SSH_BASE64     68 /* characters of it; 51 is a multiple of 3: no padding */

G_DEFINE_QUARK(cbus_key_error_quark, cbus_key_error)

guint
cbus_key_hash(gconstpointer key)
{
    /* Not the first bytes: anyone can make keys that begin alike, but not cheaply ones that collide here. */
    static guint8 secret[crypto_shorthash_KEYBYTES];
    static gsize ready;
    if (g_once_init_enter(&ready)) {
        cbus_crypto_init();
        crypto_shorthash_keygen(secret);
        g_once_init_leave(&ready, 1);
    }
    guint8 hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, key, CBUS_KEY_BYTES, secret);
    return cbus_be32(hash);
}

gboolean
cbus_key_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, CBUS_KEY_BYTES) == 0;
}

gboolean
cbus_instance_equal(const CbusInstance *a, const CbusInstance *b)
{
    return memcmp(a->bytes, b->bytes, CBUS_INSTANCE_BYTES) == 0;
}

static gboolean
take_point(const guint8 *bytes, CbusKey *out, GError **error)
{
    cbus_crypto_init();
    if (crypto_core_ed25519_is_valid_point(bytes) != 1) {
        g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_WEAK,
                            "the key is no usable ed25519 point (damaged, or made to be weak): "
                            "get the right public key from its owner");
        return FALSE;
    }
    memcpy(out->bytes, bytes, CBUS_KEY_BYTES);
    return TRUE;
}

void
cbus_nkey_encode(const CbusKey *key, char out[CBUS_NKEY_LENGTH + 1])
{
    guint8 raw[NKEY_RAW];
    raw[0] = NKEY_ROLE_USER;
    memcpy(raw + 1, key->bytes, CBUS_KEY_BYTES);
    guint16 crc = GUINT16_TO_LE(cbus_crc16(raw, NKEY_RAW - 2));
    memcpy(raw + NKEY_RAW - 2, &crc, sizeof crc);
    cbus_base32_encode(raw, sizeof raw, out);
}

static gboolean
has_right_checksum(const guint8 raw[NKEY_RAW])
{
    guint16 crc;
    memcpy(&crc, raw + NKEY_RAW - 2, sizeof crc);
    return GUINT16_FROM_LE(crc) == cbus_crc16(raw, NKEY_RAW - 2);
}

/* Base32 and CRC, of whatever role. */
static gboolean
nkey_unwrap(const char *text, gsize len, guint8 raw[NKEY_RAW], GError **error)
{
    if (len != CBUS_NKEY_LENGTH || !cbus_base32_decode(text, len, raw)) {
        g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
                    "not an NKey: one has %d characters of A-Z and 2-7, this has %" G_GSIZE_FORMAT
                    " or others",
                    CBUS_NKEY_LENGTH, len);
        return FALSE;
    }
    if (!has_right_checksum(raw)) {
        g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_CHECKSUM,
                            "the NKey's checksum is wrong: a character was mistyped or lost");
        return FALSE;
    }
    return TRUE;
}

gboolean
cbus_nkey_read(const char *text, gsize len, CbusKey *out)
{
    guint8 raw[NKEY_RAW];
    if (len != CBUS_NKEY_LENGTH || !cbus_base32_decode(text, len, raw) || raw[0] != NKEY_ROLE_USER ||
        !has_right_checksum(raw))
        return FALSE;
    memcpy(out->bytes, raw + 1, CBUS_KEY_BYTES);
    return TRUE;
}

gboolean
cbus_nkey_decode(const char *text, gssize len, CbusKey *out, GError **error)
{
    guint8 raw[NKEY_RAW];
    if (!nkey_unwrap(text, len < 0 ? strlen(text) : (gsize)len, raw, error))
        return FALSE;
    if (raw[0] != NKEY_ROLE_USER) {
        g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_TYPE,
                    "an NKey of another role (it begins with %c): CBus identities begin with U", text[0]);
        return FALSE;
    }
    return take_point(raw + 1, out, error);
}

static const guint8 blob_prefix[] = "\0\0\0\x0b" SSH_NAME "\0\0\0\x20";
#define BLOB_PREFIX (sizeof blob_prefix - 1)

void
cbus_ssh_blob_encode(const CbusKey *key, guint8 out[CBUS_SSH_BLOB_BYTES])
{
    memcpy(out, blob_prefix, BLOB_PREFIX);
    memcpy(out + BLOB_PREFIX, key->bytes, CBUS_KEY_BYTES);
}

gboolean
cbus_ssh_blob_decode(const guint8 *blob, gsize len, CbusKey *out, GError **error)
{
    if (len != CBUS_SSH_BLOB_BYTES || memcmp(blob, blob_prefix, BLOB_PREFIX) != 0) {
        g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
                            "not an ssh-ed25519 public key: its base64 is damaged, cut off or of another key "
                            "(expected 68 characters, as ssh-keygen writes them)");
        return FALSE;
    }
    return take_point(blob + BLOB_PREFIX, out, error);
}

static gboolean
blob_decode(CbusSpan base64, CbusKey *out, GError **error)
{
    guint8 blob[CBUS_SSH_BLOB_BYTES];
    gsize size = 0;
    if (base64.len != SSH_BASE64 || sodium_base642bin(blob, sizeof blob, base64.text, base64.len, NULL, &size,
                                                      NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
        size = 0;
    return cbus_ssh_blob_decode(blob, size, out, error);
}

static gboolean
refuse_type(CbusSpan name, GError **error)
{
    g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_TYPE,
                "a key of type %.*s: CBus takes plain ssh-ed25519 keys only "
                "(ssh-keygen -t ed25519 makes one; on a host: /etc/ssh/ssh_host_ed25519_key.pub)",
                (int)name.len, name.text);
    return FALSE;
}

static gboolean
has_prefix(CbusSpan text, const char *prefix)
{
    gsize len = strlen(prefix);
    return text.len >= len && memcmp(text.text, prefix, len) == 0;
}

/* Fit to be shown in an error. */
static gboolean
is_plain_word(CbusSpan word)
{
    for (gsize i = 0; i < word.len; i++)
        if (!g_ascii_isgraph(word.text[i]))
            return FALSE;
    return word.len <= 64;
}

static gboolean
is_other_ssh_type(CbusSpan word)
{
    static const char *const families[] = {"ssh-", "ecdsa-", "sk-", "rsa-sha2-", "webauthn-sk-"};
    for (gsize i = 0; i < G_N_ELEMENTS(families); i++)
        if (has_prefix(word, families[i]))
            return is_plain_word(word);
    return FALSE;
}

/* The key type that a bare blob names, or an empty span. BUFFER is where it is decoded to. */
static CbusSpan
blob_type(CbusSpan base64, guint8 buffer[48])
{
    gsize size = 0;
    gsize chars = MIN(base64.len & ~(gsize)3, 64);
    if (!has_prefix(base64, "AAAA") ||
        sodium_base642bin(buffer, 48, base64.text, chars, NULL, &size, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        size < 4 || cbus_be32(buffer) > size - 4)
        return (CbusSpan){NULL, 0};
    CbusSpan name = {(const char *)buffer + 4, cbus_be32(buffer)};
    return is_plain_word(name) ? name : (CbusSpan){NULL, 0};
}

static CbusSpan
trim(const char *text, gsize len)
{
    while (len > 0 && g_ascii_isspace(text[0]))
        text++, len--;
    while (len > 0 && g_ascii_isspace(text[len - 1]))
        len--;
    return (CbusSpan){text, len};
}

/* Takes the first word off LINE, and the blanks after it. */
static CbusSpan
take_word(CbusSpan *line)
{
    gsize end = 0;
    while (end < line->len && line->text[end] != ' ' && line->text[end] != '\t')
        end++;
    CbusSpan word = {line->text, end};
    *line = trim(line->text + end, line->len - end);
    return word;
}

/* "-----BEGIN … PRIVATE KEY-----" as its first line, whatever the algorithm. */
static gboolean
is_private_pem(CbusSpan text)
{
    const char *end = memchr(text.text, '\n', text.len);
    CbusSpan line = trim(text.text, end != NULL ? (gsize)(end - text.text) : text.len);
    CbusSpan tail = CBUS_SPAN_LITERAL("PRIVATE KEY-----");
    return has_prefix(line, "-----BEGIN ") && line.len >= tail.len &&
           memcmp(line.text + line.len - tail.len, tail.text, tail.len) == 0;
}

static gboolean
refuse_private(CbusSpan text, GError **error)
{
    gboolean seed = text.len == 58 && text.text[0] == 'S';
    if (!seed && !is_private_pem(text))
        return FALSE;
    g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_PRIVATE,
                        "this is a private key: keep it secret and give its public half "
                        "(the .pub file beside it, or what ssh-keygen -y prints)");
    return TRUE;
}

gboolean
cbus_public_key_parse(const char *text, gssize len, CbusKey *out, GError **error)
{
    CbusSpan line = trim(text, len < 0 ? strlen(text) : (gsize)len);
    if (refuse_private(line, error))
        return FALSE;
    if (line.len == 0 || line.len > TEXT_MAX || memchr(line.text, '\n', line.len) != NULL ||
        memchr(line.text, '\0', line.len) != NULL) {
        g_set_error_literal(
            error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
            line.len == 0 ? "no key: it is empty"
                          : "not one public key: expected a single line, 'ssh-ed25519 AAAA…' or an NKey");
        return FALSE;
    }
    CbusSpan word = take_word(&line);
    if (cbus_span_is(word, SSH_NAME))
        return blob_decode(take_word(&line), out, error);
    if (is_other_ssh_type(word))
        return refuse_type(word, error);
    if (word.len == CBUS_NKEY_LENGTH && line.len == 0)
        return cbus_nkey_decode(word.text, (gssize)word.len, out, error);
    guint8 buffer[48];
    CbusSpan type = blob_type(word, buffer);
    if (type.len > 0)
        return cbus_span_is(type, SSH_NAME) ? blob_decode(word, out, error) : refuse_type(type, error);
    g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
                        "not a public key: expected 'ssh-ed25519 AAAA…', its base64 alone, or an NKey "
                        "(56 characters beginning with U)");
    return FALSE;
}

void
cbus_instance_encode(const CbusInstance *instance, char out[CBUS_INSTANCE_TEXT + 1])
{
    sodium_bin2hex(out, CBUS_INSTANCE_TEXT + 1, instance->bytes, CBUS_INSTANCE_BYTES);
}

gboolean
cbus_instance_parse(const char *text, gsize len, CbusInstance *out)
{
    CbusInstance instance;
    if (len != CBUS_INSTANCE_TEXT)
        return FALSE;
    for (gsize i = 0; i < CBUS_INSTANCE_BYTES; i++) {
        if (g_ascii_isupper(text[2 * i]) || g_ascii_isupper(text[2 * i + 1]))
            return FALSE;
        int high = g_ascii_xdigit_value(text[2 * i]), low = g_ascii_xdigit_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return FALSE;
        instance.bytes[i] = (guint8)(high << 4 | low);
    }
    *out = instance;
    return TRUE;
}

void
cbus_instance_random(CbusInstance *out)
{
    cbus_crypto_init();
    randombytes_buf(out->bytes, sizeof out->bytes);
}
