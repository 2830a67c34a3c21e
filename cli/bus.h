/* The bus that cbus-proxy is on. */
#pragma once
#include <gio/gio.h>

#define CBUS_PROXY_NAME        "ie.bmcgee.CBus"
#define CBUS_PROXY_PATH        "/ie/bmcgee/CBus"
#define CBUS_MACHINE_INTERFACE "ie.bmcgee.CBus1.Machine"

/* The --bus option of every verb that talks to the proxy. */
#define CBUS_BUS_OPTION(variable)                                                                            \
    {                                                                                                        \
        "bus", 0, 0, G_OPTION_ARG_STRING, (variable),                                                        \
            "The proxy's bus: session (default), system or an address; or CBUS_BUS", "BUS"                   \
    }

/* The same where there is nothing to ask the proxy: every verb takes --bus, and this one has no use for it.
 */
#define CBUS_BUS_OPTION_UNUSED(variable)                                                                     \
    {                                                                                                        \
        "bus", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, (variable), NULL, NULL                          \
    }

/* Connects to BUS, or CBUS_BUS, or the session bus; at most 10 s. Losing the bus ends nothing by itself.
 * (transfer full) */
GDBusConnection *cbus_bus_open(const char *bus, GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef struct _CbusBusWatch CbusBusWatch;

/* Calls GONE once, from the main loop, when CONNECTION is closed or was already. */
CbusBusWatch *cbus_bus_watch_new(GDBusConnection *connection, void (*gone)(gpointer user_data),
                                 gpointer user_data) G_GNUC_WARN_UNUSED_RESULT;
void cbus_bus_watch_free(CbusBusWatch *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusBusWatch, cbus_bus_watch_free)

typedef struct {
    const char *sender, *path, *interface, *member, *arg0;
    GDBusSignalFlags flags;
} CbusBusRule;

/* As g_dbus_connection_signal_subscribe(), which complains in GLib's words when the connection is closed. */
guint cbus_bus_subscribe(GDBusConnection *connection, const CbusBusRule *rule, GDBusSignalCallback func,
                         gpointer user_data);

/* TRUE if ERROR says that nobody owns CBUS_PROXY_NAME. */
gboolean cbus_bus_has_no_proxy(const GError *error);
/* Says that there is no proxy, and what to do. */
void cbus_bus_complain_no_proxy(void);
