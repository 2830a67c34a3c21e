/* Namespaces in which a command takes a machine's bus for its own (design, "Traps already paid for"). */
#pragma once
#include <glib.h>

typedef enum {
    CBUS_ISOLATE_ERROR_NAMESPACE, /* the kernel gives us none */
    CBUS_ISOLATE_ERROR_MOUNT,     /* something could not be covered */
} CbusIsolateError;
#define CBUS_ISOLATE_ERROR (cbus_isolate_error_quark())
GQuark cbus_isolate_error_quark(void);

#define CBUS_ISOLATE_ADDRESS "unix:path=/run/dbus/system_bus_socket"

/* Moves this process, which must have one thread, into user, mount and UTS namespaces of its own, where the
 * socket NAME below the directory PORTALS is the system bus, HOST the host name, and nothing of the local
 * systemd is left. On failure the process is half way there: end it. */
gboolean cbus_isolate(const char *portals, const char *name, const char *host,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* An environment in which nothing leads to the local session or systemd. (transfer full) */
char **cbus_isolate_environment(char **environment);
