/* The authorized-keys file, and the configuration with its policies, read safely.
 *
 * Who can write such a file decides who gets in, and so does who can rename a folder above it, or a folder
 * above a symbolic link on the way to it. Hence the walk from "/" down, as sshd's StrictModes does it: every
 * step must belong to root or to us, and be writable by its owner alone. A link is a step, too, and is then
 * walked in the same way, so that no part of the way is left out, whatever points to whatever.
 *
 * The order matters: the way is walked first, then the file is opened without following a link, then what was
 * *opened* is checked. After the way proved safe nobody but root and us can change what the name means, so
 * that nothing can be swapped between the steps.
 *
 * A folder that others may write is accepted when it is sticky (as /tmp is): they can add to it, but not
 * replace what is ours. Runs in the connector (and for --check); keeps no state. */
#include "agent/keys_file.h"
#include "wire/authorized_keys.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as the kernel has it */

G_DEFINE_QUARK(cbus_keys_file_error_quark, cbus_keys_file_error)

static gboolean
check_owner_and_mode(const char *path, const struct stat *st, uid_t owner, GError **error)
{
    gboolean sticky = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0;

    if (st->st_uid != 0 && st->st_uid != owner) {
        g_set_error(error, CBUS_KEYS_FILE_ERROR, CBUS_KEYS_FILE_ERROR_UNSAFE,
                    "%s belongs to user %u, neither to root nor to the agent", path, (guint)st->st_uid);
        return FALSE;
    }
    if (!S_ISLNK(st->st_mode) && !sticky && (st->st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        g_set_error(error, CBUS_KEYS_FILE_ERROR, CBUS_KEYS_FILE_ERROR_UNSAFE,
                    "%s can be written by others (mode %04o): chmod go-w %s", path,
                    (guint)(st->st_mode & 07777), path);
        return FALSE;
    }
    return TRUE;
}

static void
set_errno(GError **error, const char *path)
{
    int code = errno == ENOENT ? CBUS_KEYS_FILE_ERROR_MISSING : CBUS_KEYS_FILE_ERROR_IO;

    g_set_error(error, CBUS_KEYS_FILE_ERROR, code, "%s: %s", path, g_strerror(errno));
}

/* The way that is still to be walked behind the link at STEP: its target, then REST. */
static char *
follow(const char *step, const char *rest, GError **error)
{
    g_autoptr(GError) failure = NULL;
    g_autofree char *target = g_file_read_link(step, &failure);

    if (target == NULL) {
        g_set_error(error, CBUS_KEYS_FILE_ERROR, CBUS_KEYS_FILE_ERROR_IO, "%s: %s", step, failure->message);
        return NULL;
    }
    return g_strconcat(target, "/", rest, NULL);
}

/* Walks the absolute PATH, checks "/" and every step, and returns the name without links. */
static char *
walk(const char *path, uid_t owner, GError **error)
{
    g_autofree char *at = g_strdup("/"), *ahead = g_strdup(path);
    guint links = 0;
    struct stat st;

    for (;;) {
        if (lstat(at, &st) != 0) {
            set_errno(error, at);
            return NULL;
        }
        if (!check_owner_and_mode(at, &st, owner, error))
            return NULL;
        if (S_ISLNK(st.st_mode)) {
            if (++links > LINKS_MAX) {
                errno = ELOOP;
                set_errno(error, path);
                return NULL;
            }
            char *way = follow(at, ahead, error);
            if (way == NULL)
                return NULL;
            char *above = way[0] == '/' ? g_strdup("/") : g_path_get_dirname(at);
            g_free(at);
            g_free(ahead);
            at = above;
            ahead = way;
        }
        char *name = ahead + strspn(ahead, "/");
        if (*name == '\0')
            return g_steal_pointer(&at);
        gsize len = strcspn(name, "/");
        g_autofree char *step = g_strndup(name, len);
        char *next = g_str_equal(step, "..")  ? g_path_get_dirname(at)
                     : g_str_equal(step, ".") ? g_strdup(at)
                                              : g_build_filename(at, step, NULL);
        char *rest = g_strdup(name + len);
        g_free(at);
        g_free(ahead);
        at = next;
        ahead = rest;
    }
}

static GBytes *
read_all(int fd, gsize size, const char *path, GError **error)
{
    g_autofree guint8 *data = g_malloc(size + 1);
    gsize len = 0;

    while (len <= size) {
        ssize_t got = read(fd, data + len, size + 1 - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            set_errno(error, path);
            return NULL;
        }
        if (got == 0)
            break;
        len += (gsize)got;
    }
    return g_bytes_new_take(g_steal_pointer(&data), MIN(len, size));
}

/* Opens and reads REAL, whose folders were checked. */
static GBytes *
read_checked(const char *real, uid_t owner, GError **error)
{
    int fd = open(real, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    g_autoptr(GBytes) bytes = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0) {
        set_errno(error, real);
    } else if (!S_ISREG(st.st_mode)) {
        g_set_error(error, CBUS_KEYS_FILE_ERROR, CBUS_KEYS_FILE_ERROR_IO, "%s is no regular file", real);
    } else if (!check_owner_and_mode(real, &st, owner, error)) {
        /* said */
    } else if (st.st_size > CBUS_AUTHORIZED_FILE_MAX) {
        g_set_error(error, CBUS_KEYS_FILE_ERROR, CBUS_KEYS_FILE_ERROR_SIZE, "%s is larger than %d bytes",
                    real, CBUS_AUTHORIZED_FILE_MAX);
    } else {
        bytes = read_all(fd, (gsize)st.st_size, real, error);
    }
    if (fd >= 0)
        close(fd);
    return g_steal_pointer(&bytes);
}

GBytes *
cbus_keys_file_read(const char *file, uid_t owner, const char *without, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(file, NULL);
    g_autoptr(GError) fault = NULL;
    g_autofree char *real = walk(absolute, owner, &fault);
    GBytes *text = real != NULL ? read_checked(real, owner, &fault) : NULL;

    if (fault != NULL)
        g_set_error(error, fault->domain, fault->code, "%s: %s", fault->message, without);
    return text;
}
