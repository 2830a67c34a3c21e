/* The bus that cbus-proxy is on, found and connected to.
 *
 * --bus beats CBUS_BUS, which beats the session bus. "session" and "system" are those of the environment, as
 * for any D-Bus client; anything else is an address. Each connection is our own, not GLib's shared one, which
 * would end the process with the bus and leave the caller without a word.
 *
 * Connecting happens in GIO's threads and is cut off after ten seconds: a socket that accepts and then says
 * nothing must not hang a script. What goes wrong names the bus and says what to try.
 *
 * Who waits on a connection has to hear of its end, whenever that was: GDBus says "closed" once, to whoever
 * listens at that moment, and a bus that goes right behind its first answer goes before anybody can. A
 * CbusBusWatch asks, too.
 *
 * The bus is trusted as any client trusts its bus; what the proxy says is told by others (cli/roster.c). The
 * default main context. */
#include "cli/bus.h"

#include "cli/cli.h"

#include <string.h>

#define CONNECT_SECONDS 10

typedef struct {
    GMainLoop *loop;
    GDBusConnection *connection;
    GError *error;
} Opening;

static char *
address_of(const char *bus, GError **error)
{
    if (strcmp(bus, "session") == 0)
        return g_dbus_address_get_for_bus_sync(G_BUS_TYPE_SESSION, NULL, error);
    if (strcmp(bus, "system") == 0)
        return g_dbus_address_get_for_bus_sync(G_BUS_TYPE_SYSTEM, NULL, error);
    return g_dbus_is_supported_address(bus, error) ? g_strdup(bus) : NULL;
}

static void
on_opened(GObject *source, GAsyncResult *result, gpointer user_data)
{
    Opening *opening = user_data;

    opening->connection = g_dbus_connection_new_for_address_finish(result, &opening->error);
    g_main_loop_quit(opening->loop);
}

static gboolean
on_timeout(gpointer cancellable)
{
    g_cancellable_cancel(cancellable);
    return G_SOURCE_CONTINUE;
}

static GDBusConnection *
open_address(const char *address, GError **error)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    guint timer = g_timeout_add_seconds(CONNECT_SECONDS, on_timeout, cancellable);
    Opening opening = {.loop = loop};

    g_dbus_connection_new_for_address(address,
                                      G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                          G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                      NULL, cancellable, on_opened, &opening);
    g_main_loop_run(loop);
    g_source_remove(timer);
    if (opening.error != NULL && g_cancellable_is_cancelled(cancellable)) {
        g_clear_error(&opening.error);
        g_set_error(&opening.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "no answer within %d s",
                    CONNECT_SECONDS);
    }
    if (opening.error != NULL)
        g_propagate_error(error, opening.error);
    return opening.connection;
}

GDBusConnection *
cbus_bus_open(const char *bus, GError **error)
{
    g_autoptr(GDBusConnection) connection = NULL;
    g_autofree char *address = NULL;

    if (bus == NULL)
        bus = g_getenv("CBUS_BUS");
    if (bus == NULL || bus[0] == '\0')
        bus = "session";
    address = address_of(bus, error);
    if (address != NULL)
        connection = open_address(address, error);
    if (connection == NULL) {
        g_prefix_error(error, "can not reach the bus \"%s\": ", bus);
        return NULL;
    }
    return g_steal_pointer(&connection);
}

/* ---- its end ---- */

struct _CbusBusWatch {
    GDBusConnection *connection;
    gulong closed;
    guint idle;
    void (*gone)(gpointer user_data); /* NULL: was called */
    gpointer user_data;
};

static void
tell_gone(CbusBusWatch *watch)
{
    void (*gone)(gpointer user_data) = g_steal_pointer(&watch->gone);

    if (gone != NULL)
        gone(watch->user_data);
}

static void
on_closed(GDBusConnection *connection, gboolean vanished, GError *error, gpointer user_data)
{
    tell_gone(user_data);
}

static gboolean
on_idle(gpointer user_data)
{
    CbusBusWatch *watch = user_data;

    watch->idle = 0;
    tell_gone(watch);
    return G_SOURCE_REMOVE;
}

CbusBusWatch *
cbus_bus_watch_new(GDBusConnection *connection, void (*gone)(gpointer user_data), gpointer user_data)
{
    CbusBusWatch *watch = g_new0(CbusBusWatch, 1);

    watch->connection = g_object_ref(connection);
    watch->gone = gone;
    watch->user_data = user_data;
    watch->closed = g_signal_connect(connection, "closed", G_CALLBACK(on_closed), watch);
    if (g_dbus_connection_is_closed(connection))
        watch->idle = g_idle_add(on_idle, watch);
    return watch;
}

void
cbus_bus_watch_free(CbusBusWatch *watch)
{
    if (watch == NULL)
        return;
    g_clear_handle_id(&watch->idle, g_source_remove);
    g_signal_handler_disconnect(watch->connection, watch->closed);
    g_object_unref(watch->connection);
    g_free(watch);
}

/* A closed connection is nothing that a user could mend, and is told by who watches it. */
static void
hush(const char *domain, GLogLevelFlags level, const char *message, gpointer connection)
{
    if (!g_dbus_connection_is_closed(connection))
        g_log_default_handler(domain, level, message, NULL);
}

guint
cbus_bus_subscribe(GDBusConnection *connection, const CbusBusRule *rule, GDBusSignalCallback func,
                   gpointer user_data)
{
    guint handler = g_log_set_handler("GLib-GIO", G_LOG_LEVEL_CRITICAL | G_LOG_FLAG_FATAL, hush, connection);
    guint subscription =
        g_dbus_connection_signal_subscribe(connection, rule->sender, rule->interface, rule->member,
                                           rule->path, rule->arg0, rule->flags, func, user_data, NULL);

    g_log_remove_handler("GLib-GIO", handler);
    return subscription;
}

/* ---- the proxy on it ---- */

gboolean
cbus_bus_has_no_proxy(const GError *error)
{
    return g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_SERVICE_UNKNOWN) ||
           g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER);
}

void
cbus_bus_complain_no_proxy(void)
{
    cbus_cli_complain("no cbus-proxy: nobody owns " CBUS_PROXY_NAME
                      " on this bus. Start cbus-proxy, or name the bus that it is on with --bus or CBUS_BUS");
}
