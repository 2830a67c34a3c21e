/* Where a bus listens: D-Bus addresses (D-Bus specification, "Server Addresses") and connecting to them.
 *
 * A list of entries separated by ';', each "transport:key=value,…" with %-escapes in the values, is tried in
 * order, and the first that connects counts. What is spoken here are Unix sockets: path=, abstract= and
 * runtime=yes. A guid= is accepted and not compared (it protects against nothing on a local socket); any
 * other key, and any other transport, is an error that names it, because a bus that CBus can not reach as
 * itself (tcp, launchd, unixexec) must not be half reached.
 *
 * "session" and "system" are what every D-Bus client means by them: the environment's address, else the
 * well-known socket.
 *
 * Trust: an address is the operator's, yet checked like any text: bounds (sun_path is 108 bytes), escapes,
 * NUL. A connect to a Unix socket either succeeds or fails at once: with a full backlog it fails, so the loop
 * never waits. Any thread. */
#include "link/bus.h"
#include <errno.h>
#include <gio/gio.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSTEM_BUS     "unix:path=/run/dbus/system_bus_socket"
#define SYSTEM_BUS_OLD "unix:path=/var/run/dbus/system_bus_socket" /* what the specification says */

G_DEFINE_QUARK(cbus_bus_error_quark, cbus_bus_error)

typedef struct {
    struct sockaddr_un address;
    socklen_t len;
} Target;

static gboolean
set_target(Target *out, const char *value, gboolean abstract, GError **error)
{
    Target target = {.address.sun_family = AF_UNIX};
    gsize len = strlen(value);

    if (len == 0 || len > sizeof target.address.sun_path - 1) {
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_ADDRESS,
                    "a socket's name has 1 to %zu bytes, this one %zu", sizeof target.address.sun_path - 1,
                    len);
        return FALSE;
    }
    memcpy(target.address.sun_path + (abstract ? 1 : 0), value, len);
    target.len = offsetof(struct sockaddr_un, sun_path) + len + 1;
    *out = target;
    return TRUE;
}

/* One "key=value" of a unix: entry. FOUND is set when OUT was. */
static gboolean
parse_pair(const char *pair, Target *out, gboolean *found, GError **error)
{
    const char *equals = strchr(pair, '=');
    g_autofree char *key = equals != NULL ? g_strndup(pair, equals - pair) : NULL;
    g_autofree char *value = equals != NULL ? g_uri_unescape_string(equals + 1, NULL) : NULL;
    g_autofree char *runtime = NULL;

    if (value == NULL) {
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_ADDRESS, "'%s' is no key=value with valid escapes",
                    pair);
        return FALSE;
    }
    if (g_str_equal(key, "guid"))
        return TRUE;
    if (*found) {
        g_set_error_literal(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_ADDRESS, "it names more than one socket");
        return FALSE;
    }
    *found = TRUE;
    if (g_str_equal(key, "path"))
        return set_target(out, value, FALSE, error);
    if (g_str_equal(key, "abstract"))
        return set_target(out, value, TRUE, error);
    if (g_str_equal(key, "runtime") && g_str_equal(value, "yes")) {
        runtime = g_build_filename(g_get_user_runtime_dir(), "bus", NULL);
        return set_target(out, runtime, FALSE, error);
    }
    g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_ADDRESS, "'%s' is not path=, abstract= or runtime=yes",
                pair);
    return FALSE;
}

static gboolean
parse_entry(const char *entry, Target *out, GError **error)
{
    g_auto(GStrv) pairs = NULL;
    gboolean found = FALSE;

    if (!g_str_has_prefix(entry, "unix:")) {
        g_set_error_literal(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_ADDRESS,
                            "only unix: addresses can be used");
        return FALSE;
    }
    pairs = g_strsplit(entry + strlen("unix:"), ",", -1);
    for (char **pair = pairs; *pair != NULL; pair++) {
        if (!parse_pair(*pair, out, &found, error))
            return FALSE;
    }
    if (!found)
        g_set_error_literal(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_ADDRESS, "it names no socket");
    return found;
}

static int
connect_entry(const char *entry, GError **error)
{
    Target target;
    int fd, saved;

    if (!parse_entry(entry, &target, error)) {
        g_prefix_error(error, "D-Bus address '%s': ", entry);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&target.address, target.len) == 0)
        return fd;
    saved = errno;
    if (fd >= 0)
        close(fd);
    /* A full backlog, which passes: the caller may try again. */
    if (saved == EAGAIN)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, "the bus at '%s' is busy", entry);
    else
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_CLOSED, "no bus at '%s': %s", entry,
                    g_strerror(saved));
    return -1;
}

static char *
resolve(const char *address)
{
    const char *given;

    if (g_str_equal(address, "session")) {
        given = g_getenv("DBUS_SESSION_BUS_ADDRESS");
        return g_strdup(given != NULL && *given != '\0' ? given : "unix:runtime=yes");
    }
    if (g_str_equal(address, "system")) {
        given = g_getenv("DBUS_SYSTEM_BUS_ADDRESS");
        return g_strdup(given != NULL && *given != '\0' ? given : SYSTEM_BUS);
    }
    return g_strdup(address);
}

/* See the header. The error is the last entry's: CBUS_BUS_ERROR_ADDRESS or CBUS_BUS_ERROR_CLOSED. */
int
cbus_bus_connect(const char *address, GError **error)
{
    g_autofree char *resolved = resolve(address);
    g_auto(GStrv) entries = g_strsplit(resolved, ";", -1);
    g_autoptr(GError) last = NULL;

    for (char **entry = entries; *entry != NULL; entry++) {
        int fd;

        if (**entry == '\0')
            continue;
        g_clear_error(&last);
        fd = connect_entry(*entry, &last);
        if (fd >= 0)
            return fd;
    }
    if (last == NULL)
        g_set_error_literal(&last, CBUS_BUS_ERROR, CBUS_BUS_ERROR_ADDRESS, "the D-Bus address is empty");
    g_propagate_error(error, g_steal_pointer(&last));
    return -1;
}

/* TRUE for one socket under two names, too: /var/run leads to /run. */
static gboolean
same_socket(const Target *a, const Target *b)
{
    struct stat here, there;

    if (a->len == b->len && memcmp(&a->address, &b->address, a->len) == 0)
        return TRUE;
    return a->address.sun_path[0] != '\0' && b->address.sun_path[0] != '\0' &&
           stat(a->address.sun_path, &here) == 0 && stat(b->address.sun_path, &there) == 0 &&
           here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

static gboolean
names_socket(const char *list, const Target *socket)
{
    g_auto(GStrv) entries = g_strsplit(list, ";", -1);

    for (char **entry = entries; *entry != NULL; entry++) {
        Target target;

        if (parse_entry(*entry, &target, NULL) && same_socket(&target, socket))
            return TRUE;
    }
    return FALSE;
}

gboolean
cbus_bus_is_system(const char *address)
{
    g_autofree char *resolved = resolve(address), *system = resolve("system");
    g_auto(GStrv) entries = g_strsplit(resolved, ";", -1);

    if (g_str_equal(address, "system"))
        return TRUE;
    for (char **entry = entries; *entry != NULL; entry++) {
        Target target;

        if (parse_entry(*entry, &target, NULL) &&
            (names_socket(system, &target) || names_socket(SYSTEM_BUS, &target) ||
             names_socket(SYSTEM_BUS_OLD, &target)))
            return TRUE;
    }
    return FALSE;
}
