/* Which D-Bus addresses connect, and what the error for the others names. */
#include "link/bus.h"
#include <glib/gstdio.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct {
    char *dir, *path;
    int path_fd, abstract_fd;
    char *abstract;
} Fixture;

static int
listen_at(const char *name, gboolean abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path + abstract, name, strlen(name));
    g_assert_cmpint(
        bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1), ==,
        0);
    g_assert_cmpint(listen(fd, 8), ==, 0);
    return fd;
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    fixture->dir = g_dir_make_tmp("cbus-address-XXXXXX", NULL);
    fixture->path = g_build_filename(fixture->dir, "a bus", NULL);
    fixture->abstract = g_strdup_printf("cbus-test-%d", getpid());
    fixture->path_fd = listen_at(fixture->path, FALSE);
    fixture->abstract_fd = listen_at(fixture->abstract, TRUE);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    close(fixture->path_fd);
    close(fixture->abstract_fd);
    g_unlink(fixture->path);
    g_rmdir(fixture->dir);
    g_free(fixture->path);
    g_free(fixture->dir);
    g_free(fixture->abstract);
    g_unsetenv("DBUS_SESSION_BUS_ADDRESS");
    g_unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
}

static void
assert_connects(const char *address)
{
    g_autoptr(GError) error = NULL;
    int fd = cbus_bus_connect(address, &error);

    g_assert_no_error(error);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
}

static void
assert_fails(const char *address, CbusBusError code, const char *names)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(cbus_bus_connect(address, &error), ==, -1);
    g_assert_error(error, CBUS_BUS_ERROR, (int)code);
    g_assert_nonnull(g_strstr_len(error->message, -1, names));
}

static void
test_connects(Fixture *fixture, gconstpointer data)
{
    g_autofree char *escaped = g_strdup_printf("unix:path=%s/a%%20bus,guid=0123", fixture->dir);
    g_autofree char *abstract = g_strdup_printf("unix:abstract=%s", fixture->abstract);
    g_autofree char *second = g_strdup_printf("tcp:host=x;unix:path=/nonexistent;%s;", abstract);

    assert_connects(escaped);
    assert_connects(abstract);
    assert_connects(second);
    g_setenv("DBUS_SESSION_BUS_ADDRESS", escaped, TRUE);
    assert_connects("session");
    g_setenv("DBUS_SYSTEM_BUS_ADDRESS", abstract, TRUE);
    assert_connects("system");
}

static void
test_errors_name_the_address(Fixture *fixture, gconstpointer data)
{
    g_autofree char *fill = g_strnfill(108, 'x');
    g_autofree char *long_path = g_strdup_printf("unix:path=%s", fill);

    assert_fails("unix:path=/nonexistent/bus", CBUS_BUS_ERROR_CLOSED, "unix:path=/nonexistent/bus");
    assert_fails("", CBUS_BUS_ERROR_ADDRESS, "empty");
    assert_fails("/run/bus", CBUS_BUS_ERROR_ADDRESS, "/run/bus");
    assert_fails("tcp:host=localhost,port=1", CBUS_BUS_ERROR_ADDRESS, "tcp:host=localhost");
    assert_fails("unix:path", CBUS_BUS_ERROR_ADDRESS, "unix:path");
    assert_fails("unix:path=/a%zz", CBUS_BUS_ERROR_ADDRESS, "%zz");
    assert_fails("unix:path=/a%00b", CBUS_BUS_ERROR_ADDRESS, "%00");
    assert_fails("unix:guid=01", CBUS_BUS_ERROR_ADDRESS, "no socket");
    assert_fails("unix:path=/a,abstract=b", CBUS_BUS_ERROR_ADDRESS, "more than one");
    assert_fails("unix:tmpdir=/tmp", CBUS_BUS_ERROR_ADDRESS, "tmpdir");
    assert_fails(long_path, CBUS_BUS_ERROR_ADDRESS, "108");
}

static void
test_the_system_bus_is_known_by_any_address(Fixture *fixture, gconstpointer data)
{
    g_autofree char *escaped = g_strdup_printf("unix:path=%s/a%%20bus,guid=0123", fixture->dir);
    g_autofree char *link = g_build_filename(fixture->dir, "link", NULL);
    g_autofree char *linked = g_strdup_printf("unix:guid=45,path=%s", link);
    g_autofree char *abstract = g_strdup_printf("unix:abstract=%s", fixture->abstract);
    g_autofree char *second = g_strdup_printf("tcp:host=x;%s;", abstract);

    g_assert_cmpint(symlink(fixture->path, link), ==, 0);
    g_assert_true(cbus_bus_is_system("system"));
    g_assert_true(cbus_bus_is_system("unix:path=/run/dbus/system_bus_socket"));
    g_assert_true(cbus_bus_is_system("unix:path=/var/run/dbus/system_bus_socket,guid=0123"));
    g_assert_true(cbus_bus_is_system("unix:path=/nonexistent;unix:path=/run/dbus/system%5fbus_socket"));
    g_assert_false(cbus_bus_is_system(escaped));
    g_assert_false(cbus_bus_is_system(abstract));
    g_assert_false(cbus_bus_is_system("unix:path=/nonexistent"));
    g_assert_false(cbus_bus_is_system(""));

    g_setenv("DBUS_SYSTEM_BUS_ADDRESS", escaped, TRUE);
    g_assert_true(cbus_bus_is_system(escaped));
    g_assert_true(cbus_bus_is_system(linked));
    g_assert_false(cbus_bus_is_system(abstract));
    g_assert_true(cbus_bus_is_system("unix:path=/run/dbus/system_bus_socket"));
    g_setenv("DBUS_SYSTEM_BUS_ADDRESS", second, TRUE);
    g_assert_true(cbus_bus_is_system(abstract));
    g_assert_false(cbus_bus_is_system(escaped));
    g_setenv("DBUS_SESSION_BUS_ADDRESS", escaped, TRUE);
    g_assert_false(cbus_bus_is_system("session"));
    g_setenv("DBUS_SESSION_BUS_ADDRESS", abstract, TRUE);
    g_assert_true(cbus_bus_is_system("session"));
    g_unlink(link);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/address/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("connects", test_connects);
    ADD("errors-name-the-address", test_errors_name_the_address);
    ADD("the-system-bus-is-known-by-any-address", test_the_system_bus_is_known_by_any_address);
    return g_test_run();
}
