/* Identities: an ed25519 public key, its NKey spelling, and the 16 random bytes that name one process. */
#pragma once
#include <glib.h>

#define CBUS_KEY_BYTES       32
#define CBUS_INSTANCE_BYTES  16
#define CBUS_NKEY_LENGTH     56 /* characters of a public NKey, without the NUL */
#define CBUS_INSTANCE_TEXT   32 /* hexadecimal characters of an instance, without the NUL */
#define CBUS_SIGNATURE_BYTES 64
#define CBUS_SSH_BLOB_BYTES  51 /* a public key as SSH has it: s("ssh-ed25519") s(key) */

/* D-Bus error names that CBus gives; the short ones of the design are org.freedesktop.DBus.Error.*. */
#define CBUS_DBUS_ERROR(name)   "org.freedesktop.DBus.Error." name
#define CBUS_ERROR_OFFLINE      "ie.bmcgee.CBus1.Error.Offline"
#define CBUS_ERROR_INCOMPATIBLE "ie.bmcgee.CBus1.Error.Incompatible"

typedef struct {
    guint8 bytes[CBUS_KEY_BYTES];
} CbusKey;

typedef struct {
    guint8 bytes[CBUS_INSTANCE_BYTES];
} CbusInstance;

typedef enum {
    CBUS_KEY_ERROR_FORMAT,    /* not a key in any accepted spelling */
    CBUS_KEY_ERROR_CHECKSUM,  /* an NKey with a wrong CRC */
    CBUS_KEY_ERROR_TYPE,      /* a key of another algorithm or role */
    CBUS_KEY_ERROR_PRIVATE,   /* a private key where a public one is expected */
    CBUS_KEY_ERROR_ENCRYPTED, /* a private key behind a passphrase */
    CBUS_KEY_ERROR_WEAK,      /* a point that crypto_core_ed25519_is_valid_point refuses */
    CBUS_KEY_ERROR_CRYPTO,    /* libsodium failed */
} CbusKeyError;

#define CBUS_KEY_ERROR (cbus_key_error_quark())
GQuark cbus_key_error_quark(void);

/* Hash and equality for GHashTable: pointers to CbusKey. */
guint cbus_key_hash(gconstpointer key);
gboolean cbus_key_equal(gconstpointer a, gconstpointer b);
gboolean cbus_instance_equal(const CbusInstance *a, const CbusInstance *b);

/* Writes the public "U…" NKey of KEY: 56 characters and a NUL. Source: NATS nkeys (base32, role byte, CRC16).
 */
void cbus_nkey_encode(const CbusKey *key, char out[CBUS_NKEY_LENGTH + 1]);

/* Reads a public "U…" NKey of exactly LEN (or, if −1, strlen) characters; checks alphabet, role, CRC and
 * point. */
gboolean cbus_nkey_decode(const char *text, gssize len, CbusKey *out,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* For hot paths: the same, but for the look at the curve, which takes ten times as long as a call may. What
 * it reads need not be a key that anybody can have. */
gboolean cbus_nkey_read(const char *text, gsize len, CbusKey *out) G_GNUC_WARN_UNUSED_RESULT;

/* Reads a public key as people have it: 'ssh-ed25519 AAAA… [comment]', the bare base64 of it, or an NKey.
 * White space around it is skipped. Private keys, other algorithms and weak points have errors of their own.
 */
gboolean cbus_public_key_parse(const char *text, gssize len, CbusKey *out,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The public key as SSH sends and hashes it (RFC 8709). Decoding refuses other types and weak points. */
void cbus_ssh_blob_encode(const CbusKey *key, guint8 out[CBUS_SSH_BLOB_BYTES]);
gboolean cbus_ssh_blob_decode(const guint8 *blob, gsize len, CbusKey *out,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Lower-case hexadecimal, as subjects hold it. cbus_instance_parse takes exactly 32 such characters. */
void cbus_instance_encode(const CbusInstance *instance, char out[CBUS_INSTANCE_TEXT + 1]);
gboolean cbus_instance_parse(const char *text, gsize len, CbusInstance *out) G_GNUC_WARN_UNUSED_RESULT;
void cbus_instance_random(CbusInstance *out);
