/* The armored file that ssh-keygen -Y verify reads (PROTOCOL.sshsig), from a bare signature. */
#pragma once
#include "wire/key.h"
#include "wire/ssh_wire.h"

static inline char *
armored(const CbusKey *key, const char *space, const guint8 *signature)
{
    g_autoptr(GByteArray) inner = g_byte_array_new();
    g_autoptr(GByteArray) blob = g_byte_array_new();
    guint8 public_key[CBUS_SSH_BLOB_BYTES];
    g_autofree char *base64 = NULL;

    cbus_ssh_blob_encode(key, public_key);
    cbus_ssh_append_string(inner, "ssh-ed25519", 11);
    cbus_ssh_append_string(inner, signature, CBUS_SIGNATURE_BYTES);
    g_byte_array_append(blob, (const guint8 *)"SSHSIG", 6);
    cbus_ssh_append_u32(blob, 1);
    cbus_ssh_append_string(blob, public_key, sizeof public_key);
    cbus_ssh_append_string(blob, space, strlen(space));
    cbus_ssh_append_string(blob, "", 0);
    cbus_ssh_append_string(blob, "sha512", 6);
    cbus_ssh_append_string(blob, inner->data, inner->len);
    base64 = g_base64_encode(blob->data, blob->len);
    return g_strconcat("-----BEGIN SSH SIGNATURE-----\n", base64, "\n-----END SSH SIGNATURE-----\n", NULL);
}
