/* What may be signed for NATS and what may not, for every way of signing. */
#pragma once
#include "link/signer.h"
#include <sodium.h>

/* Signs LEN bytes, or does not. */
typedef gboolean (*NonceSigner)(const char *nonce, gsize len, guint8 signature[CBUS_SIGNATURE_BYTES],
                                gpointer user_data);

static void
check_nonce(const char *nonce, gsize len, gboolean wanted, const CbusKey *key, NonceSigner sign,
            gpointer user_data)
{
    guint8 signature[CBUS_SIGNATURE_BYTES] = {0};

    g_assert_cmpint(sign(nonce, len, signature, user_data), ==, wanted);
    g_assert_cmpint(crypto_sign_verify_detached(signature, (const guint8 *)nonce, len, key->bytes) == 0, ==,
                    wanted);
}

/* BYTES: the way of signing takes bytes; one that takes a string can not be given a NUL. */
static inline void
check_nonces(const CbusKey *key, gboolean bytes, NonceSigner sign, gpointer user_data)
{
    static const gsize signable[] = {15, 22, 43}, hashes[] = {1, 14, 16, 20, 21, 23, 28, 32, 42, 44, 48, 64};
    static const char foreign[] = {'.', '\n', '+', '/', '=', ' ', '\x7f', '\xc3'};
    static const guint8 message[64] = {1};

    for (gsize i = 0; i < G_N_ELEMENTS(signable); i++) {
        g_autofree char *nonce = g_strnfill(signable[i], 'Z');
        memcpy(nonce, "aZ09-_", 6);
        check_nonce(nonce, signable[i], TRUE, key, sign, user_data);
        for (gsize j = 0; j < G_N_ELEMENTS(foreign); j++) {
            nonce[(i + j) % signable[i]] = foreign[j];
            check_nonce(nonce, signable[i], FALSE, key, sign, user_data);
            nonce[(i + j) % signable[i]] = 'Z';
        }
        nonce[signable[i] - 1] = '\n';
        check_nonce(nonce, signable[i], FALSE, key, sign, user_data);
        nonce[signable[i] - 1] = '\0';
        if (bytes)
            check_nonce(nonce, signable[i], FALSE, key, sign, user_data);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(hashes); i++) {
        g_autofree char *nonce = g_strnfill(hashes[i], 'a');
        check_nonce(nonce, hashes[i], FALSE, key, sign, user_data);
    }
    /* As a string it ends at its first NUL; nothing of that is signed either. */
    for (CbusRole role = CBUS_ROLE_AGENT; role <= CBUS_ROLE_PROXY; role++) {
        g_autoptr(GBytes) preimage = cbus_sshsig_preimage(role, message, sizeof message);
        gsize size;
        const char *data = g_bytes_get_data(preimage, &size);
        check_nonce(data, size, FALSE, key, sign, user_data);
        check_nonce(data, 15, FALSE, key, sign, user_data);
        check_nonce(data, 22, FALSE, key, sign, user_data);
        check_nonce(data, 43, FALSE, key, sign, user_data);
    }
}

/* Of a CbusSigner. */
static inline gboolean
sign_string(const char *nonce, gsize len, guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data)
{
    CbusSigner *signer = user_data;
    g_autofree char *text = g_strndup(nonce, len);
    g_autoptr(GError) error = NULL;
    gboolean good = signer->sign_nonce(signer, text, signature, &error);

    g_assert_cmpint(good, ==, error == NULL);
    return good;
}
