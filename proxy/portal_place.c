/* Where portals are in the file system.
 *
 *     <base>/<nkey>/bus          the socket, 0600, in a directory of 0700
 *     <base>/by-name/<name>      a relative symbolic link to ../<nkey>
 *
 * The base is the runtime directory: checked, private and locked (proxy/runtime_dir.c). Nobody else makes or
 * moves anything in it, so that paths can be used without races, and whatever is there at start was left by a
 * proxy that did not end in order: it is removed, since a socket without a listener makes clients fail in
 * ways that look like a broken bus. Only entries that are named as ours are touched.
 *
 * Names are pinned ones alone: they were checked to be single path elements (wire/known_machines.c). A link
 * is replaced by rename, so that a name never leads nowhere while it moves from one machine to another, and
 * it is removed only while it still leads to the machine that gives it up: two machines may swap names in one
 * edit of known_machines.
 *
 * Loop thread; nothing here blocks for longer than a directory in memory takes. */
#include "proxy/portal_place.h"

#include "wire/key.h"

#include <errno.h>
#include <gio/gio.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

static gboolean
fail(GError **error, const char *what, const char *path)
{
    int code = errno;

    g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(code), "%s %s: %s", what, path,
                g_strerror(code));
    return FALSE;
}

static gboolean
make_directory(const char *path, GError **error)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return fail(error, "can not make", path);
    if (chmod(path, 0700) < 0)
        return fail(error, "can not close to others", path);
    return TRUE;
}

static gboolean
bind_and_listen(int fd, const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return fail(error, "can not listen on", path);
    }
    if (unlink(path) < 0 && errno != ENOENT)
        return fail(error, "can not remove the old socket", path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, BACKLOG) < 0)
        return fail(error, "can not listen on", path);
    return TRUE;
}

int
cbus_portal_place_listen(const char *base, const char *nkey, GError **error)
{
    g_autofree char *directory = g_build_filename(base, nkey, NULL);
    g_autofree char *path = g_build_filename(directory, "bus", NULL);
    int fd;

    if (!make_directory(directory, error))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail(error, "no socket for", path);
        return -1;
    }
    if (!bind_and_listen(fd, path, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

void
cbus_portal_place_remove(const char *base, const char *nkey)
{
    g_autofree char *directory = g_build_filename(base, nkey, NULL);
    g_autofree char *path = g_build_filename(directory, "bus", NULL);

    (void)unlink(path);
    (void)rmdir(directory);
}

gboolean
cbus_portal_place_add_name(const char *base, const char *nkey, const char *name, GError **error)
{
    g_autofree char *directory = g_build_filename(base, "by-name", NULL);
    g_autofree char *path = g_build_filename(directory, name, NULL);
    g_autofree char *fresh = g_build_filename(directory, ".new", NULL);
    g_autofree char *target = g_build_filename("..", nkey, NULL);

    if (!make_directory(directory, error))
        return FALSE;
    if (unlink(fresh) < 0 && errno != ENOENT)
        return fail(error, "can not remove", fresh);
    if (symlink(target, fresh) < 0 || rename(fresh, path) < 0)
        return fail(error, "can not make the link", path);
    return TRUE;
}

void
cbus_portal_place_remove_name(const char *base, const char *nkey, const char *name)
{
    g_autofree char *path = g_build_filename(base, "by-name", name, NULL);
    g_autofree char *target = g_build_filename("..", nkey, NULL);
    g_autofree char *found = g_file_read_link(path, NULL);

    if (g_strcmp0(found, target) == 0)
        (void)unlink(path);
}

static void
sweep_names(const char *base)
{
    g_autofree char *directory = g_build_filename(base, "by-name", NULL);
    g_autoptr(GDir) names = g_dir_open(directory, 0, NULL);
    const char *name;

    while (names != NULL && (name = g_dir_read_name(names)) != NULL) {
        g_autofree char *path = g_build_filename(directory, name, NULL);

        if (g_file_test(path, G_FILE_TEST_IS_SYMLINK))
            (void)unlink(path);
    }
}

void
cbus_portal_place_sweep(const char *base)
{
    g_autoptr(GDir) machines = g_dir_open(base, 0, NULL);
    const char *name;
    CbusKey key;

    sweep_names(base);
    while (machines != NULL && (name = g_dir_read_name(machines)) != NULL)
        if (cbus_nkey_decode(name, -1, &key, NULL))
            cbus_portal_place_remove(base, name);
}
