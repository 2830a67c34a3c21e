/* A command that takes a machine's bus for its own.
 *
 * A client that is given another system bus still reaches the local machine behind the bus's back: systemctl
 * as root talks to /run/systemd/private first; without /run/systemd/system it reads and writes unit files;
 * with --user it finds the session's sockets; edit and cat are about local files; reboot -ff is a system
 * call, and where no bus answers /run/initctl is written. So the command runs in namespaces of its own:
 *
 *  - user, with our own uid and gid mapped to themselves: the command has no capability at all, root or not;
 *  - mount: /run is a fresh tmpfs into which what was there is bound back, without dbus, systemd, user, log
 *    and initctl. In their place: the portal as /run/dbus/system_bus_socket, an empty /run/systemd/system
 *    (there is a systemd, says that to clients), an empty XDG_RUNTIME_DIR. The directories of units and
 *    journals are covered by empty read-only mounts;
 *  - UTS: the host name is the machine's, so that a shell's prompt says where its bus is.
 *
 * What is left are signals to the local init; they are refused (cli/isolate_signals.c).
 *
 * The portal's directory is bound, not its socket, so that a shell survives a restart of cbus-proxy.
 *
 * This keeps programs from mistaking one machine for the other. It is no prison: the command is the user's
 * own, sees the user's files, and may do with them what the user may.
 *
 * Everything fails closed: what can not be covered ends the run. One thread, before exec. */
#include "cli/isolate.h"

#include "cli/isolate_signals.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PORTALS "/run/cbus-portals"

G_DEFINE_QUARK(cbus_isolate_error_quark, cbus_isolate_error)

typedef gboolean (*Keep)(const char *name);

static gboolean
fail(GError **error, const char *what, const char *path)
{
    g_set_error(error, CBUS_ISOLATE_ERROR, CBUS_ISOLATE_ERROR_MOUNT, "%s %s: %s", what, path,
                g_strerror(errno));
    return FALSE;
}

/* ---- namespaces ---- */

static gboolean
write_file(const char *path, const char *text, GError **error)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    gboolean ok = fd >= 0 && write(fd, text, strlen(text)) == (gssize)strlen(text);

    if (!ok)
        g_set_error(error, CBUS_ISOLATE_ERROR, CBUS_ISOLATE_ERROR_NAMESPACE, "can not write %s: %s", path,
                    g_strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok;
}

static gboolean
enter_namespaces(const char *host, GError **error)
{
    g_autofree char *uids = g_strdup_printf("%u %u 1\n", geteuid(), geteuid());
    g_autofree char *gids = g_strdup_printf("%u %u 1\n", getegid(), getegid());

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS) < 0) {
        g_set_error(error, CBUS_ISOLATE_ERROR, CBUS_ISOLATE_ERROR_NAMESPACE,
                    "this system gives no user namespace (%s), and without one the command could reach the "
                    "local machine. Allow them (sysctl kernel.unprivileged_userns_clone, "
                    "user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or give a "
                    "client the portal's address in DBUS_SYSTEM_BUS_ADDRESS yourself",
                    g_strerror(errno));
        return FALSE;
    }
    if (!write_file("/proc/self/setgroups", "deny", error) ||
        !write_file("/proc/self/uid_map", uids, error) || !write_file("/proc/self/gid_map", gids, error))
        return FALSE;
    if (sethostname(host, strlen(host)) < 0)
        return fail(error, "can not set the host name", host);
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return fail(error, "can not part with the mounts of", "/");
    return TRUE;
}

/* ---- mounts ---- */

static gboolean
bind_back(const char *source, const char *target, const struct stat *st, GError **error)
{
    int fd;

    if (S_ISDIR(st->st_mode)) {
        if (mkdir(target, 0755) < 0)
            return fail(error, "can not make", target);
    } else {
        fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
            return fail(error, "can not make", target);
        close(fd);
    }
    if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        return fail(error, "can not bind", target);
    return TRUE;
}

static gboolean
copy_link(int directory, const char *name, const char *target, GError **error)
{
    char text[4096];
    gssize len = readlinkat(directory, name, text, sizeof text - 1);

    if (len < 0)
        return fail(error, "can not read the link", target);
    text[len] = '\0';
    if (symlink(text, target) < 0)
        return fail(error, "can not make", target);
    return TRUE;
}

/* Puts the entry NAME of OLD, which lies under the new mount at PATH, back into it. */
static gboolean
restore(int old, const char *path, const char *name, GError **error)
{
    g_autofree char *source = g_strdup_printf("/proc/self/fd/%d/%s", old, name);
    g_autofree char *target = g_build_filename(path, name, NULL);
    struct stat st;

    if (fstatat(old, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || fail(error, "can not look at", target);
    return S_ISLNK(st.st_mode) ? copy_link(old, name, target, error) : bind_back(source, target, &st, error);
}

static gboolean
restore_kept(int old, const char *path, Keep keep, GError **error)
{
    int fd = openat(old, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    gboolean ok = TRUE;

    if (entries == NULL) {
        if (fd >= 0)
            close(fd);
        return fail(error, "can not read", path);
    }
    while (ok && (entry = readdir(entries)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && keep(entry->d_name))
            ok = restore(old, path, entry->d_name, error);
    closedir(entries);
    return ok;
}

static gboolean
make_read_only(const char *path, GError **error)
{
    return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0 ||
           fail(error, "can not make read-only", path);
}

/* An empty tmpfs over PATH, with the entries that KEEP (NULL: none) wants bound back. */
static gboolean
cover(const char *path, Keep keep, GError **error)
{
    int old = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    gboolean ok;

    if (old < 0)
        return fail(error, "can not open", path);
    ok = mount("cbus", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m") == 0 ||
         fail(error, "can not cover", path);
    ok = ok && (keep == NULL || restore_kept(old, path, keep, error));
    close(old);
    return ok;
}

static gboolean
keep_in_run(const char *name)
{
    static const char *const left[] = {"dbus", "initctl", "log", "systemd", "user", NULL};

    return !g_strv_contains(left, name);
}

/* systemd's programs may have their common library there. */
static gboolean
keep_libraries(const char *name)
{
    return g_str_has_prefix(name, "libsystemd");
}

static gboolean
make_directory(const char *path, mode_t mode, GError **error)
{
    return mkdir(path, mode) == 0 || fail(error, "can not make", path);
}

/* A name server's address is no secret of the local systemd, but may be told in its directory. */
static gboolean
copy_resolver(int old, const char *name, GError **error)
{
    g_autofree char *source = g_strdup_printf("/proc/self/fd/%d/systemd/resolve/%s", old, name);
    g_autofree char *target = g_build_filename("/run/systemd/resolve", name, NULL);
    g_autofree char *text = NULL;
    gsize len;

    return !g_file_get_contents(source, &text, &len, NULL) ||
           g_file_set_contents_full(target, text, (gssize)len, G_FILE_SET_CONTENTS_NONE, 0644, error);
}

static gboolean
bind_portal(int portals, const char *name, GError **error)
{
    g_autofree char *source = g_strdup_printf("/proc/self/fd/%d", portals);
    g_autofree char *socket = g_build_filename(PORTALS, name, NULL);

    if (!make_directory(PORTALS, 0700, error))
        return FALSE;
    if (mount(source, PORTALS, NULL, MS_BIND | MS_REC, NULL) < 0)
        return fail(error, "can not bind the portals at", PORTALS);
    if (symlink(socket, "/run/dbus/system_bus_socket") < 0)
        return fail(error, "can not make", "/run/dbus/system_bus_socket");
    return TRUE;
}

static gboolean
build_run(int portals, const char *name, GError **error)
{
    g_autofree char *user = g_strdup_printf("/run/user/%u", geteuid());
    int old = open("/run", O_PATH | O_DIRECTORY | O_CLOEXEC);
    gboolean ok;

    if (old < 0)
        return fail(error, "can not open", "/run");
    ok = cover("/run", keep_in_run, error) && make_directory("/run/dbus", 0755, error) &&
         make_directory("/run/log", 0755, error) && make_directory("/run/user", 0755, error) &&
         make_directory(user, 0700, error) && make_directory("/run/systemd", 0755, error) &&
         make_directory("/run/systemd/system", 0755, error) &&
         make_directory("/run/systemd/resolve", 0755, error) && copy_resolver(old, "resolv.conf", error) &&
         copy_resolver(old, "stub-resolv.conf", error) && bind_portal(portals, name, error);
    close(old);
    if (ok && mount("/run/systemd", "/run/systemd", NULL, MS_BIND, NULL) < 0)
        ok = fail(error, "can not bind", "/run/systemd");
    return ok && make_read_only("/run/systemd", error);
}

static gboolean
cover_files(GError **error)
{
    static const struct {
        const char *path;
        Keep keep;
    } covers[] = {
        {"/etc/systemd", NULL},           {"/usr/lib/systemd", keep_libraries},
        {"/lib/systemd", keep_libraries}, {"/usr/local/lib/systemd", NULL},
        {"/var/log/journal", NULL},
    };
    struct stat usr = {0}, lib = {0};
    gboolean merged = stat("/usr/lib", &usr) == 0 && stat("/lib", &lib) == 0 && usr.st_dev == lib.st_dev &&
                      usr.st_ino == lib.st_ino;

    for (gsize i = 0; i < G_N_ELEMENTS(covers); i++) {
        if (merged && strcmp(covers[i].path, "/lib/systemd") == 0)
            continue;
        if (!g_file_test(covers[i].path, G_FILE_TEST_IS_DIR))
            continue;
        if (!cover(covers[i].path, covers[i].keep, error) || !make_read_only(covers[i].path, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- all of it ---- */

/* The working directory may lie under a cover. */
static gboolean
enter_again(const char *directory, GError **error)
{
    return (directory != NULL && chdir(directory) == 0) || chdir("/") == 0 ||
           fail(error, "can not enter", "/");
}

/* Else root would get those over the namespaces back with exec, and could take the covers off. */
static gboolean
leave_capabilities(GError **error)
{
    return prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0) == 0 ||
           fail(error, "can not leave", "root's capabilities");
}

gboolean
cbus_isolate(const char *portals, const char *name, const char *host, GError **error)
{
    g_autofree char *directory = g_get_current_dir();
    gboolean ok;
    int fd;

    if (!enter_namespaces(host, error))
        return FALSE;
    /* Now, since only mounts of this namespace can be bound, and not later, since it may be below /run. */
    fd = open(portals, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(error, "can not open the portals at", portals);
    ok = build_run(fd, name, error) && cover_files(error) && enter_again(directory, error) &&
         cbus_isolate_signals(error) && leave_capabilities(error);
    close(fd);
    return ok;
}

char **
cbus_isolate_environment(char **environment)
{
    static const char *const local[] = {
        "DBUS_SESSION_BUS_ADDRESS",
        "DBUS_SESSION_BUS_PID",
        "DBUS_STARTER_ADDRESS",
        "DBUS_STARTER_BUS_TYPE",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "JOURNAL_STREAM",
        "INVOCATION_ID",
        "MANAGERPID",
        "SYSTEMD_EXEC_PID",
        "XDG_SESSION_ID",
    };
    g_autofree char *runtime = g_strdup_printf("/run/user/%u", geteuid());

    for (gsize i = 0; i < G_N_ELEMENTS(local); i++)
        environment = g_environ_unsetenv(environment, local[i]);
    environment = g_environ_setenv(environment, "DBUS_SYSTEM_BUS_ADDRESS", CBUS_ISOLATE_ADDRESS, TRUE);
    environment = g_environ_setenv(environment, "XDG_RUNTIME_DIR", runtime, TRUE);
    /* systemctl neither works on local files nor calls update-rc.d. */
    environment = g_environ_setenv(environment, "SYSTEMD_OFFLINE", "0", TRUE);
    return g_environ_setenv(environment, "SYSTEMCTL_SKIP_SYSV", "1", TRUE);
}
