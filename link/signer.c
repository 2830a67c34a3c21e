/* The signer that signs in this process, how a key file is read, and what --key may name.
 *
 * Promise: cbus_secret_load() takes a key only from a regular file of at most 64 KiB that nobody but its
 * owner can read: like ssh, it refuses a key that others could have copied already, rather than use it and
 * say nothing. The checks are made on the opened file, not on its name, so that nothing changes in between; a
 * FIFO or a device can not hang the start. The file's bytes are kept in protected memory and wiped.
 *
 * An in-process signer answers before it returns, once. Its nonce function may be called from a worker thread
 * while the loop signs a transcript: a secret does not change, so there is no lock.
 *
 * Trust: the owner of the file and root, who could replace it anyway.
 *
 * Threads: cbus_secret_load() any, it blocks on the file; see link/signer.h for the rest. */
#include "link/signer.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link/read_bounded.h"
#include "link/ssh_agent.h"
#include "wire/crypto.h"

#define KEY_FILE_MAX 65536
#define AGENT_PREFIX "ssh-agent:"

typedef struct {
    CbusSigner base;
    CbusSecret *secret;
} SecretSigner;

static void
secret_sign_transcript(CbusSigner *base, const guint8 *message, gsize len, CbusSignFunc func,
                       gpointer user_data)
{
    const SecretSigner *self = (const SecretSigner *)base;
    guint8 signature[CBUS_SIGNATURE_BYTES];
    cbus_secret_sign_transcript(self->secret, base->role, message, len, signature);
    func(signature, NULL, user_data);
}

static gboolean
secret_sign_nonce(CbusSigner *base, const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES], GError **error)
{
    const SecretSigner *self = (const SecretSigner *)base;
    return cbus_secret_sign_nonce(self->secret, nonce, strlen(nonce), signature, error);
}

static void
secret_signer_free(CbusSigner *base)
{
    SecretSigner *self = (SecretSigner *)base;
    cbus_secret_free(self->secret);
    g_free(self);
}

CbusSigner *
cbus_signer_new_for_secret(CbusSecret *secret, CbusRole role)
{
    SecretSigner *self = g_new0(SecretSigner, 1);
    self->base.public_key = *cbus_secret_public(secret);
    self->base.role = role;
    self->base.sign_transcript = secret_sign_transcript;
    self->base.sign_nonce = secret_sign_nonce;
    self->base.free = secret_signer_free;
    self->secret = secret;
    return &self->base;
}

void
cbus_signer_free(CbusSigner *signer)
{
    if (signer != NULL)
        signer->free(signer);
}

static gboolean
check_file(int fd, const char *file, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        int saved = errno;
        g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(saved), "%s: %s", file,
                    g_strerror(saved));
        return FALSE;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > KEY_FILE_MAX) {
        g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
                    "%s: not a key file (a regular file of at most 64 KiB is expected)", file);
        return FALSE;
    }
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
                    "%s: the private key can be read or changed by others (mode %04o): "
                    "chmod 600 it, and make a new key if somebody may have read it",
                    file, st.st_mode & 07777);
        return FALSE;
    }
    return TRUE;
}

static CbusSecret *
load_opened(int fd, const char *file, GError **error)
{
    if (!check_file(fd, file, error))
        return NULL;
    cbus_crypto_init();
    guint8 *data = sodium_malloc(KEY_FILE_MAX);
    if (data == NULL) {
        g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_CRYPTO, "%s: out of protected memory", file);
        return NULL;
    }
    CbusSecret *secret = NULL;
    gssize size = cbus_read_bounded(fd, data, KEY_FILE_MAX);
    if (size < 0) {
        int saved = errno;
        g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(saved), "%s: %s", file,
                    g_strerror(saved));
    } else {
        secret = cbus_secret_parse(data, (gsize)size, error);
        if (secret == NULL)
            g_prefix_error(error, "%s: ", file);
    }
    sodium_free(data);
    return secret;
}

CbusSecret *
cbus_secret_load(const char *file, GError **error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        int saved = errno;
        g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(saved), "%s: %s", file,
                    g_strerror(saved));
        return NULL;
    }
    CbusSecret *secret = load_opened(fd, file, error);
    g_close(fd, NULL);
    return secret;
}

CbusSigner *
cbus_signer_load(const char *key, CbusRole role, CbusLoop *loop, GError **error)
{
    if (g_str_has_prefix(key, AGENT_PREFIX))
        return cbus_signer_new_for_ssh_agent(loop, key + strlen(AGENT_PREFIX), role, error);
    CbusSecret *secret = cbus_secret_load(key, error);
    return secret != NULL ? cbus_signer_new_for_secret(secret, role) : NULL;
}
