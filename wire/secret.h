/* A private identity key: read from bytes, held in sodium_malloc'ed memory, and able to sign just two things
 * (design, "Identity and links"): a NATS nonce, and a link transcript framed as an SSHSIG preimage. */
#pragma once
#include "wire/key.h"

typedef struct _CbusSecret CbusSecret;

typedef enum {
    CBUS_ROLE_AGENT, /* namespace link-agent-v1@cbus.bmcgee.ie */
    CBUS_ROLE_PROXY, /* namespace link-proxy-v1@cbus.bmcgee.ie */
} CbusRole;

/* Reads an OpenSSH ed25519 private key (unencrypted) or an NKey user seed "SU…" from DATA, which stays the
 * caller's to wipe. Returns: (transfer full), or NULL with a CBUS_KEY_ERROR. */
CbusSecret *cbus_secret_parse(const guint8 *data, gsize len, GError **error) G_GNUC_WARN_UNUSED_RESULT;
CbusSecret *cbus_secret_new_from_seed(const guint8 seed[32]) G_GNUC_WARN_UNUSED_RESULT;
void cbus_secret_free(CbusSecret *secret); /* wipes */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusSecret, cbus_secret_free)

const CbusKey *cbus_secret_public(const CbusSecret *secret);

/* TRUE if NONCE is wholly [A-Za-z0-9_-] of 15, 22 or 43 characters: all that may be signed for NATS. */
gboolean cbus_nonce_is_signable(const char *nonce, gsize len);
/* The same, with a CBUS_KEY_ERROR for who has to look after the NATS server. */
gboolean cbus_nonce_check(const char *nonce, gsize len, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The SSHSIG preimage of MESSAGE under ROLE's namespace (OpenSSH PROTOCOL.sshsig). (transfer full) */
GBytes *cbus_sshsig_preimage(CbusRole role, const guint8 *message, gsize len);

/* Sign. cbus_secret_sign_nonce refuses what cbus_nonce_is_signable does. Nothing else is ever signed. */
gboolean cbus_secret_sign_nonce(const CbusSecret *secret, const char *nonce, gsize len,
                                guint8 signature[CBUS_SIGNATURE_BYTES],
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_secret_sign_transcript(const CbusSecret *secret, CbusRole role, const guint8 *message, gsize len,
                                 guint8 signature[CBUS_SIGNATURE_BYTES]);
gboolean cbus_transcript_verify(const CbusKey *key, CbusRole role, const guint8 *message, gsize len,
                                const guint8 signature[CBUS_SIGNATURE_BYTES]) G_GNUC_WARN_UNUSED_RESULT;
