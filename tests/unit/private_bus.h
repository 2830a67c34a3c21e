/* For tests: a private dbus-daemon and a GDBus client on it, in the thread of the test's loop. The client's
 * calls are asynchronous underneath: the loop runs while they wait. */
#pragma once
#include "link/loop.h"
#include <gio/gio.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    CbusLoop loop;
    GPid daemon;
    char *address;
    GDBusConnection *client;
} PrivateBus;

/* In the child: a test that fails leaves no daemon behind. */
static inline void
private_bus_die_with_parent(gpointer user_data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static inline void
private_bus_start(PrivateBus *bus)
{
    const char *argv[] = {"dbus-daemon", "--session", "--nofork", "--print-address=1", NULL};
    g_autoptr(GError) error = NULL;
    int out = -1;
    g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                             G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL,
                             private_bus_die_with_parent, NULL, &bus->daemon, NULL, &out, NULL, &error);
    g_assert_no_error(error);
    char line[256];
    gsize len = 0;
    while (len == 0 || line[len - 1] != '\n') {
        g_assert_cmpuint(len, <, sizeof line);
        g_assert_cmpint(read(out, line + len, 1), ==, 1);
        len++;
    }
    close(out);
    bus->address = g_strndup(line, len - 1);
}

static inline void
private_bus_stop(PrivateBus *bus)
{
    if (bus->daemon != 0) {
        kill(bus->daemon, SIGKILL);
        waitpid(bus->daemon, NULL, 0);
        g_spawn_close_pid(bus->daemon);
        bus->daemon = 0;
    }
}

static inline GDBusConnection *
private_bus_connect(PrivateBus *bus)
{
    g_autoptr(GError) error = NULL;
    GDBusConnection *client = g_dbus_connection_new_for_address_sync(
        bus->address,
        G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL,
        NULL, &error);
    g_assert_no_error(error);
    return client;
}

static inline void
private_bus_up(PrivateBus *bus)
{
    g_autoptr(GError) error = NULL;
    bus->loop.context = g_main_context_default();
    bus->loop.turn = cbus_turn_new(bus->loop.context);
    bus->loop.poller = cbus_poller_new(bus->loop.context, bus->loop.turn, &error);
    g_assert_no_error(error);
    private_bus_start(bus);
    bus->client = private_bus_connect(bus);
}

static inline void
private_bus_down(PrivateBus *bus)
{
    g_clear_object(&bus->client);
    cbus_poller_free(bus->loop.poller);
    cbus_turn_free(bus->loop.turn);
    private_bus_stop(bus);
    g_clear_pointer(&bus->address, g_free);
}

/* Runs the loop until *FLAG is set; a test that waits for ever is ended by the harness. */
static inline void
private_bus_wait(PrivateBus *bus, const guint *flag)
{
    while (*flag == 0) {
        g_main_context_iteration(bus->loop.context, TRUE);
    }
}

typedef struct {
    GVariant *value;
    GError *error;
    guint done;
} PrivateAnswer;

static inline void
private_bus_on_answer(GObject *source, GAsyncResult *result, gpointer user_data)
{
    PrivateAnswer *answer = user_data;
    answer->value = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &answer->error);
    answer->done = 1;
}

/* Calls and waits. ARGUMENTS: a tuple or NULL; floating is sunk. NULL with ERROR set when an error came back.
 */
static inline GVariant *
private_bus_call(PrivateBus *bus, const char *destination, const char *path, const char *interface,
                 const char *method, GVariant *arguments, GError **error)
{
    PrivateAnswer answer = {0};
    g_dbus_connection_call(bus->client, destination, path, interface, method, arguments, NULL,
                           G_DBUS_CALL_FLAGS_NONE, -1, NULL, private_bus_on_answer, &answer);
    private_bus_wait(bus, &answer.done);
    if (answer.error != NULL) {
        g_propagate_error(error, answer.error);
    }
    return answer.value;
}

/* Calls, and asserts that the error NAME comes back with a message that holds each of the words. */
static inline void
private_bus_assert_error(PrivateBus *bus, const char *destination, const char *path, const char *interface,
                         const char *method, GVariant *arguments, const char *name, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) value =
        private_bus_call(bus, destination, path, interface, method, arguments, &error);
    g_assert_null(value);
    g_assert_nonnull(error);
    g_autofree char *remote = g_dbus_error_get_remote_error(error);
    g_assert_cmpstr(remote, ==, name);
    g_auto(GStrv) each = g_strsplit(words, "|", -1);
    for (char **word = each; *word != NULL; word++) {
        if (strstr(error->message, *word) == NULL) {
            g_error("'%s' is not in: %s", *word, error->message);
        }
    }
}
