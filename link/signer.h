/* Who signs with the identity key: this process, or another one on its behalf. Answers come on the loop. */
#pragma once
#include "link/loop.h"
#include "wire/secret.h"

typedef struct _CbusSigner CbusSigner;
/* SIGNATURE is NULL with ERROR set when it failed; both borrowed. */
typedef void (*CbusSignFunc)(const guint8 *signature, const GError *error, gpointer user_data);

struct _CbusSigner {
    CbusKey public_key;
    CbusRole role;
    /* Signs the SSHSIG preimage of a link transcript under the signer's role. FUNC is called exactly once,
     * from the loop or before return. */
    void (*sign_transcript)(CbusSigner *self, const guint8 *message, gsize len, CbusSignFunc func,
                            gpointer user_data);
    /* A NATS login nonce: on the connection's worker thread; may block; checks cbus_nonce_is_signable. */
    gboolean (*sign_nonce)(CbusSigner *self, const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES],
                           GError **error);
    void (*free)(CbusSigner *self);
};

/* In this process. SECRET: (transfer full). */
CbusSigner *cbus_signer_new_for_secret(CbusSecret *secret, CbusRole role);
/* KEY as --key has it: a file for cbus_secret_load(), or "ssh-agent:PUBLIC-KEY-FILE". LOOP: see
 * link/ssh_agent.h; without it every signature is made before return, blocking if need be. */
CbusSigner *cbus_signer_load(const char *key, CbusRole role, CbusLoop *loop,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_signer_free(CbusSigner *signer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusSigner, cbus_signer_free)

/* Reads a key file for --key: OpenSSH or NKey seed; refused when group or others can read it, or when it is
 * no regular file of at most 64 KiB. */
CbusSecret *cbus_secret_load(const char *file, GError **error) G_GNUC_WARN_UNUSED_RESULT;
