/* The seed in an OpenSSH private key file (OpenSSH PROTOCOL.key). */
#pragma once
#include "wire/key.h"

/* TRUE if DATA begins like any PEM file. */
gboolean cbus_openssh_is_pem(const guint8 *data, gsize len);

/* Reads the one unencrypted ed25519 key in DATA into SEED (to be wiped by the caller). Errors: CBUS_KEY_ERROR
 * FORMAT, TYPE, ENCRYPTED, CRYPTO. SEED is untouched on failure. */
gboolean cbus_openssh_read(const guint8 *data, gsize len, guint8 seed[32],
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
