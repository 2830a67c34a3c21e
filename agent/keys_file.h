/* A file that decides who may do what, as bytes, read only when nobody else could have written it (sshd's
 * StrictModes). */
#pragma once
#include <glib.h>
#include <sys/types.h>

typedef enum {
    CBUS_KEYS_FILE_ERROR_MISSING, /* there is no such file */
    CBUS_KEYS_FILE_ERROR_UNSAFE, /* the file or a folder above it is another user's, or others may write it */
    CBUS_KEYS_FILE_ERROR_SIZE,   /* over CBUS_AUTHORIZED_FILE_MAX */
    CBUS_KEYS_FILE_ERROR_IO,     /* not readable, or no regular file */
} CbusKeysFileError;
#define CBUS_KEYS_FILE_ERROR (cbus_keys_file_error_quark())
GQuark cbus_keys_file_error_quark(void);

/* Reads FILE when it and every folder and symbolic link on the way to it belong to root or to OWNER, and
 * neither group nor others may write them (a sticky folder of root or OWNER is fine: what is in it stays
 * whose it is). Returns: (transfer full), or NULL with an error that names the path at fault and ends with
 * WITHOUT, which is what comes of it. Any thread; blocks on the file system. */
#define CBUS_KEYS_FILE_NOBODY "nobody is authorized"
GBytes *cbus_keys_file_read(const char *file, uid_t owner, const char *without,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
