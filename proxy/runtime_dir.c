/* The runtime directory.
 *
 * Whoever can enter it can reach machines as this operator, so it has to be a directory of ours that nobody
 * else can read, write or enter. It is opened once, without following a link at its end, and everything is
 * looked at and locked through that descriptor: what was checked is what is used.
 *
 * The lock is a flock on a file inside, held by a descriptor that lives as long as the process: a proxy that
 * was killed leaves no stale lock. The file itself stays, since removing it would let two others lock two
 * files. Who has the lock may remove what a killed proxy left: portals without a listener.
 *
 * Runs at start, in the main thread. */
#include "proxy/runtime_dir.h"

#include "link/log.h"
#include "proxy/portal_place.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct _CbusRuntimeDir {
    int lock;
    char *path;
};

static int
fail(GError **error, const char *path, const char *what)
{
    int code = errno;
    g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(code), "The runtime directory %s %s: %s",
                path, what, g_strerror(code));
    return -1;
}

static int
open_private(const char *path, GError **error)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return fail(error, path, "can not be made (choose another with --runtime-dir)");
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return fail(error, path, "can not be opened");
    }
    struct stat st;
    if (fstat(fd, &st) < 0) {
        fail(error, path, "can not be looked at");
        close(fd);
        return -1;
    }
    if (st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        g_set_error(
            error, G_FILE_ERROR, G_FILE_ERROR_PERM,
            "The runtime directory %s must belong to uid %u with mode 0700, it belongs to uid %u with mode "
            "%04o: correct it, or choose another with --runtime-dir",
            path, (guint)geteuid(), (guint)st.st_uid, (guint)(st.st_mode & 07777));
        close(fd);
        return -1;
    }
    return fd;
}

static gboolean
check_length(const char *path, GError **error)
{
    if (strlen(path) > CBUS_PORTAL_BASE_LIBDBUS && strlen(path) <= CBUS_PORTAL_BASE_MAX)
        cbus_log(
            G_LOG_LEVEL_WARNING,
            "Clients that use libdbus (dbus-send, dbus-python) can not connect to portals: with this runtime "
            "directory the sockets' paths are longer than the 99 bytes that libdbus takes; choose a shorter "
            "one with --runtime-dir",
            CBUS_LOG_REASON, path, NULL);
    if (strlen(path) <= CBUS_PORTAL_BASE_MAX)
        return TRUE;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NAMETOOLONG,
                "The runtime directory %s is %zu bytes long, at most %d leave room for the paths of sockets "
                "in it: choose another with --runtime-dir",
                path, strlen(path), CBUS_PORTAL_BASE_MAX);
    return FALSE;
}

CbusRuntimeDir *
cbus_runtime_dir_new(const char *given, GError **error)
{
    g_autofree char *path = g_canonicalize_filename(given, NULL);
    if (!check_length(path, error)) {
        return NULL;
    }
    int directory = open_private(path, error);
    if (directory < 0) {
        return NULL;
    }
    int lock = openat(directory, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    int code = errno;
    close(directory);
    if (lock < 0) {
        errno = code;
        fail(error, path, "takes no lock file");
        return NULL;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK) {
            g_set_error(
                error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                "Another cbus-proxy uses the runtime directory %s: stop that one, or give this one another "
                "with --runtime-dir",
                path);
        } else {
            fail(error, path, "can not be locked");
        }
        close(lock);
        return NULL;
    }
    CbusRuntimeDir *dir = g_new0(CbusRuntimeDir, 1);
    dir->lock = lock;
    dir->path = g_steal_pointer(&path);
    cbus_portal_place_sweep(dir->path);
    return dir;
}

const char *
cbus_runtime_dir_path(const CbusRuntimeDir *dir)
{
    return dir->path;
}

void
cbus_runtime_dir_free(CbusRuntimeDir *dir)
{
    if (dir != NULL) {
        close(dir->lock);
        g_free(dir->path);
        g_free(dir);
    }
}
