/* A private identity key, and the little that may be done with it.
 *
 * Promise: the key lives in memory of sodium_malloc() (locked, guarded, left out of core dumps) from the
 * moment it was read until cbus_secret_free() wipes it, and never leaves this file: no function hands out its
 * bytes, and the functions that sign frame or check by themselves what they sign (wire/sshsig.c), so that no
 * caller can be talked into signing something else.
 *
 * Accepted: an unencrypted OpenSSH ed25519 private key (wire/openssh.c) and an NKey user seed: base32 of two
 * role bytes, the 32 bytes of seed and a CRC-16, 58 characters beginning with "SU".
 *
 * Trust: the bytes of the file are anything. Who may read the file is checked where it is opened
 * (link/signer.c). The caller wipes its copy of the file.
 *
 * Threads: a secret does not change after it was made; any thread may sign with it. */
#include "wire/secret.h"

#include "wire/base32.h"
#include "wire/bytes.h"
#include "wire/crypto.h"
#include "wire/openssh.h"
#include <sodium.h>

#define SEED_TEXT 58
#define SEED_RAW  36
/* "S", then the role "U", spread over two bytes so that both letters show in base32. */
#define SEED_FIRST  (18 << 3 | (20 << 3) >> 5)
#define SEED_SECOND (((20 << 3) & 31) << 3)

struct _CbusSecret {
    guint8 key[crypto_sign_SECRETKEYBYTES];
    CbusKey public_key;
};

CbusSecret *
cbus_secret_new_from_seed(const guint8 seed[32])
{
    cbus_crypto_init();
    CbusSecret *secret = sodium_malloc(sizeof *secret);
    if (secret == NULL)
        g_error("out of memory for a private key");
    crypto_sign_seed_keypair(secret->public_key.bytes, secret->key, seed);
    return secret;
}

void
cbus_secret_free(CbusSecret *secret)
{
    sodium_free(secret);
}

const CbusKey *
cbus_secret_public(const CbusSecret *secret)
{
    return &secret->public_key;
}

static gboolean
read_nkey_seed(const guint8 *text, gsize len, guint8 seed[32], GError **error)
{
    guint8 raw[SEED_RAW];
    gboolean good = FALSE;
    guint16 crc;
    if (len != SEED_TEXT || !cbus_base32_decode((const char *)text, len, raw)) {
        g_set_error_literal(
            error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
            "no private key: expected an OpenSSH ed25519 key file (-----BEGIN OPENSSH PRIVATE "
            "KEY-----) or an NKey user seed (58 characters beginning with SU); a public key "
            "can not sign");
        goto out;
    }
    memcpy(&crc, raw + SEED_RAW - 2, sizeof crc);
    if (GUINT16_FROM_LE(crc) != cbus_crc16(raw, SEED_RAW - 2))
        g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_CHECKSUM,
                            "the NKey seed's checksum is wrong: a character was mistyped or lost");
    else if (raw[0] != SEED_FIRST || raw[1] != SEED_SECOND)
        g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_TYPE,
                            "an NKey seed of another role: CBus takes user seeds, which begin with SU");
    else
        good = TRUE;
    if (good)
        memcpy(seed, raw + 2, 32);
out:
    sodium_memzero(raw, sizeof raw);
    return good;
}

CbusSecret *
cbus_secret_parse(const guint8 *data, gsize len, GError **error)
{
    guint8 seed[32];
    while (len > 0 && g_ascii_isspace(data[0]))
        data++, len--;
    while (len > 0 && g_ascii_isspace(data[len - 1]))
        len--;
    gboolean good = cbus_openssh_is_pem(data, len) ? cbus_openssh_read(data, len, seed, error)
                                                   : read_nkey_seed(data, len, seed, error);
    CbusSecret *secret = good ? cbus_secret_new_from_seed(seed) : NULL;
    sodium_memzero(seed, sizeof seed);
    return secret;
}

gboolean
cbus_secret_sign_nonce(const CbusSecret *secret, const char *nonce, gsize len,
                       guint8 signature[CBUS_SIGNATURE_BYTES], GError **error)
{
    if (!cbus_nonce_check(nonce, len, error))
        return FALSE;
    crypto_sign_detached(signature, NULL, (const guint8 *)nonce, len, secret->key);
    return TRUE;
}

void
cbus_secret_sign_transcript(const CbusSecret *secret, CbusRole role, const guint8 *message, gsize len,
                            guint8 signature[CBUS_SIGNATURE_BYTES])
{
    g_autoptr(GBytes) preimage = cbus_sshsig_preimage(role, message, len);
    gsize size;
    const guint8 *data = g_bytes_get_data(preimage, &size);
    crypto_sign_detached(signature, NULL, data, size, secret->key);
}
