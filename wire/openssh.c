/* Reads OpenSSH's own private key format (PROTOCOL.key in its sources), unencrypted ed25519 keys alone.
 *
 *     -----BEGIN OPENSSH PRIVATE KEY-----
 *     base64: "openssh-key-v1" NUL, s cipher, s kdf, s kdf options, u32 1, s public key blob, s secrets
 *     -----END OPENSSH PRIVATE KEY-----
 *     secrets: u32 check, the same u32, s "ssh-ed25519", s public, s seed ‖ public, s comment, 1 2 3 … to 8
 *
 * Promise: what comes out is a seed whose public half stood in the file, twice, as the public half; a damaged
 * file is an error and never another identity. Keys of other types, encrypted keys and other containers have
 * errors that say what to do, since they all begin with the same dashes. Everything that was secret is wiped,
 * on every way out.
 *
 * A key behind a passphrase is refused rather than asked for: daemons have no terminal, and a passphrase in a
 * configuration protects nothing. Operators with such keys have an ssh-agent.
 *
 * Trust: nothing about the bytes; files over 64 KiB are refused. Threads: any; no state. */
#include "wire/openssh.h"

#include "wire/crypto.h"
#include "wire/ssh_wire.h"
#include <sodium.h>

#define FILE_MAX 65536
#define BEGIN    "-----BEGIN OPENSSH PRIVATE KEY-----"
#define END      "-----END OPENSSH PRIVATE KEY-----"
#define MAGIC    "openssh-key-v1" /* with its NUL */
#define BLOCK    8                /* of the cipher "none" */

static gboolean
refuse_damaged(GError **error)
{
    g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
                        "the OpenSSH private key is damaged: take a good copy of the file, or make a new key "
                        "with ssh-keygen -t ed25519");
    return FALSE;
}

static gboolean
refuse_encrypted(GError **error)
{
    g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_ENCRYPTED,
                        "the private key is behind a passphrase, and nobody can be asked for it: "
                        "ssh-add it and use ssh-agent:PUBLIC-KEY-FILE instead, or use a key without one");
    return FALSE;
}

static gboolean
refuse_type(CbusSpan type, GError **error)
{
    if (type.len == 0 || type.len > 64 || !g_utf8_validate(type.text, (gssize)type.len, NULL))
        return refuse_damaged(error);
    g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_TYPE,
                "a private key of type %.*s: CBus takes plain ssh-ed25519 keys only (ssh-keygen -t ed25519)",
                (int)type.len, type.text);
    return FALSE;
}

/* s "ssh-ed25519" at the front; another type is an error of its own. */
static gboolean
take_type(CbusSshReader *reader, GError **error)
{
    CbusSpan type;
    if (!cbus_ssh_take_string(reader, &type))
        return refuse_damaged(error);
    return cbus_span_is(type, "ssh-ed25519") || refuse_type(type, error);
}

static gboolean
read_secrets(CbusSpan section, CbusSpan public_key, guint8 seed[32], GError **error)
{
    CbusSshReader reader = {(const guint8 *)section.text, section.len};
    guint32 check, again;
    CbusSpan inner, private_key, comment;
    if (section.len % BLOCK != 0 || !cbus_ssh_take_u32(&reader, &check) ||
        !cbus_ssh_take_u32(&reader, &again) || check != again)
        return refuse_damaged(error);
    if (!take_type(&reader, error))
        return FALSE;
    if (!cbus_ssh_take_string(&reader, &inner) || !cbus_ssh_take_string(&reader, &private_key) ||
        !cbus_ssh_take_string(&reader, &comment) || private_key.len != crypto_sign_SECRETKEYBYTES ||
        reader.left >= BLOCK)
        return refuse_damaged(error);
    for (gsize i = 0; i < reader.left; i++)
        if (reader.at[i] != i + 1)
            return refuse_damaged(error);

    guint8 made_public[crypto_sign_PUBLICKEYBYTES], made_secret[crypto_sign_SECRETKEYBYTES];
    crypto_sign_seed_keypair(made_public, made_secret, (const guint8 *)private_key.text);
    CbusSpan made = {(const char *)made_public, sizeof made_public};
    gboolean same = cbus_span_equal(inner, made) && cbus_span_equal(public_key, made) &&
                    memcmp(made_secret, private_key.text, sizeof made_secret) == 0;
    sodium_memzero(made_secret, sizeof made_secret);
    if (!same)
        return refuse_damaged(error);
    memcpy(seed, private_key.text, 32);
    return TRUE;
}

static gboolean
read_container(const guint8 *data, gsize len, guint8 seed[32], GError **error)
{
    if (len < sizeof MAGIC || memcmp(data, MAGIC, sizeof MAGIC) != 0)
        return refuse_damaged(error);
    CbusSshReader reader = {data + sizeof MAGIC, len - sizeof MAGIC};
    CbusSpan cipher, kdf, options, blob, section, public_key;
    guint32 keys;
    if (!cbus_ssh_take_string(&reader, &cipher) || !cbus_ssh_take_string(&reader, &kdf) ||
        !cbus_ssh_take_string(&reader, &options) || !cbus_ssh_take_u32(&reader, &keys) || keys != 1 ||
        !cbus_ssh_take_string(&reader, &blob))
        return refuse_damaged(error);

    /* The type first: who has an encrypted RSA key should not remove its passphrase to learn that. */
    CbusSshReader inside = {(const guint8 *)blob.text, blob.len};
    if (!take_type(&inside, error))
        return FALSE;
    if (!cbus_ssh_take_string(&inside, &public_key) || inside.left != 0)
        return refuse_damaged(error);
    if (!cbus_span_is(cipher, "none") || !cbus_span_is(kdf, "none"))
        return refuse_encrypted(error);
    if (options.len != 0 || !cbus_ssh_take_string(&reader, &section) || reader.left != 0)
        return refuse_damaged(error);
    return read_secrets(section, public_key, seed, error);
}

static gboolean
begins(const guint8 *data, gsize len, const char *with)
{
    gsize size = strlen(with);
    return len >= size && memcmp(data, with, size) == 0;
}

gboolean
cbus_openssh_is_pem(const guint8 *data, gsize len)
{
    return begins(data, len, "-----BEGIN ");
}

static gboolean
refuse_container(const guint8 *data, gsize len, GError **error)
{
    if (begins(data, len, "-----BEGIN ENCRYPTED PRIVATE KEY-----"))
        return refuse_encrypted(error);
    const guint8 *end = memchr(data, '\n', MIN(len, 80));
    int shown = end != NULL ? (int)(end - data) : 0;
    for (int i = 0; i < shown; i++)
        if (!g_ascii_isprint(data[i]))
            shown = 0;
    g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_TYPE,
                "no OpenSSH private key but '%.*s': CBus takes ed25519 keys as ssh-keygen -t ed25519 writes "
                "them",
                shown, (const char *)data);
    return FALSE;
}

gboolean
cbus_openssh_read(const guint8 *data, gsize len, guint8 seed[32], GError **error)
{
    gsize begin = strlen(BEGIN), end = strlen(END);
    cbus_crypto_init();
    if (!begins(data, len, BEGIN))
        return refuse_container(data, len, error);
    while (len > 0 && g_ascii_isspace(data[len - 1]))
        len--;
    if (len > FILE_MAX || len < begin + end || memcmp(data + len - end, END, end) != 0)
        return refuse_damaged(error);

    gsize text = len - begin - end, size = 0;
    guint8 *raw = sodium_malloc(text + 1);
    if (raw == NULL) {
        g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_CRYPTO, "out of protected memory");
        return FALSE;
    }
    gboolean good = sodium_base642bin(raw, text, (const char *)data + begin, text, "\r\n", &size, NULL,
                                      sodium_base64_VARIANT_ORIGINAL) == 0
                        ? read_container(raw, size, seed, error)
                        : refuse_damaged(error);
    sodium_free(raw);
    return good;
}
