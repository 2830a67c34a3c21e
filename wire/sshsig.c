/* What may be signed, and how it is framed.
 *
 * An identity key is somebody's SSH key: a signature over the wrong bytes logs in elsewhere. Two things are
 * signed and nothing else.
 *
 * A NATS nonce, bare, since NATS wants it so: only if it is wholly [A-Za-z0-9_-] and 15, 22 or 43 characters
 * long. nats-server sends 15. What SSH itself signs bare is an exchange hash of 20, 32, 48 or 64 bytes (or
 * begins with a length whose bytes are not in that alphabet), and a hostile broker could search for a hash
 * that looks like text: none of these lengths is allowed.
 *
 * A link transcript, framed as OpenSSH frames signatures of files (PROTOCOL.sshsig):
 *
 *     "SSHSIG" ‖ s(namespace) ‖ s("") ‖ s("sha512") ‖ s(SHA512(message)),   s = u32 length ‖ bytes
 *
 * with a namespace by role, so that an agent's signature is never a proxy's, no signature made for git or
 * mail is ours, and `ssh-keygen -Y verify` accepts what we made.
 *
 * Promise: cbus_transcript_verify() accepts what the holder of the key made for that role and message, and
 * nothing else (libsodium refuses non-canonical S and small-order points).
 *
 * Trust: the key passed crypto_core_ed25519_is_valid_point when it was read (wire/key.c).
 * Threads: any; pure. */
#include "wire/crypto.h"
#include "wire/secret.h"
#include "wire/ssh_wire.h"
#include <sodium.h>

gboolean
cbus_nonce_is_signable(const char *nonce, gsize len)
{
    if (len != 15 && len != 22 && len != 43)
        return FALSE;
    for (gsize i = 0; i < len; i++)
        if (!g_ascii_isalnum(nonce[i]) && nonce[i] != '_' && nonce[i] != '-')
            return FALSE;
    return TRUE;
}

gboolean
cbus_nonce_check(const char *nonce, gsize len, GError **error)
{
    if (cbus_nonce_is_signable(nonce, len))
        return TRUE;
    g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
                "the NATS server asked to sign a nonce of %" G_GSIZE_FORMAT
                " characters that no nats-server sends; not signed: check who answers at that address",
                len);
    return FALSE;
}

GBytes *
cbus_sshsig_preimage(CbusRole role, const guint8 *message, gsize len)
{
    const char *space =
        role == CBUS_ROLE_AGENT ? "link-agent-v1@cbus.bmcgee.ie" : "link-proxy-v1@cbus.bmcgee.ie";
    guint8 hash[crypto_hash_sha512_BYTES];
    cbus_crypto_init();
    crypto_hash_sha512(hash, message, len);
    GByteArray *out = g_byte_array_new();
    g_byte_array_append(out, (const guint8 *)"SSHSIG", 6);
    cbus_ssh_append_string(out, space, strlen(space));
    cbus_ssh_append_string(out, "", 0);
    cbus_ssh_append_string(out, "sha512", 6);
    cbus_ssh_append_string(out, hash, sizeof hash);
    return g_byte_array_free_to_bytes(out);
}

gboolean
cbus_transcript_verify(const CbusKey *key, CbusRole role, const guint8 *message, gsize len,
                       const guint8 signature[CBUS_SIGNATURE_BYTES])
{
    g_autoptr(GBytes) preimage = cbus_sshsig_preimage(role, message, len);
    gsize size;
    const guint8 *data = g_bytes_get_data(preimage, &size);
    return crypto_sign_verify_detached(signature, data, size, key->bytes) == 0;
}
