/* The machines as cbus-proxy lists them. */
#pragma once
#include <gio/gio.h>

typedef struct {
    char *nkey, *name, *state, *last_error, *version; /* never NULL */
    gboolean pinned, online;
    guint64 last_seen, round_trip; /* µs: realtime, duration; 0 when never */
    GVariant *properties;          /* a{sv}: all of them */
} CbusRosterMachine;

/* OBJECTS: (a{oa{sa{sv}}}), the answer of GetManagedObjects. Pinned machines first, then by name and NKey.
 * (transfer full, elements CbusRosterMachine) */
GPtrArray *cbus_roster_read(GVariant *objects);
guint cbus_roster_online(const GPtrArray *roster);
/* As many characters of an NKey as tell all of ROSTER apart, at least 8. */
guint cbus_roster_prefix(const GPtrArray *roster);
/* One JSON array; an object for each machine that holds all its properties by their D-Bus names. */
char *cbus_roster_json(const GPtrArray *roster);
/* A table; NOW in µs, realtime. */
char *cbus_roster_table(const GPtrArray *roster, gint64 now);
