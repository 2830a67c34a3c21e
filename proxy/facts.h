/* What is known of one machine, as the properties of ie.bmcgee.CBus1.Machine. Loop thread only. */
#pragma once
#include "wire/key.h"
#include <gio/gio.h>

typedef enum {
    CBUS_MACHINE_OFFLINE,
    CBUS_MACHINE_CONNECTING,
    CBUS_MACHINE_UNAUTHORIZED,
    CBUS_MACHINE_INCOMPATIBLE,
    CBUS_MACHINE_ONLINE,
} CbusMachineState;

/* Strings are owned, NULL reads as "". */
typedef struct {
    char nkey[CBUS_NKEY_LENGTH + 1];
    char *pinned_name, *claimed_name;
    char **tags;       /* of known_machines; NULL for none */
    char *name_error;  /* why a claimed name is not shown */
    char *state_error; /* why the state is what it is */
    char *bus_error;   /* online, but without its bus */
    CbusMachineState state;
    gint64 last_seen;  /* µs, realtime; 0 never */
    gint64 round_trip; /* µs */
    char *machine_id, *boot_id, *version;
    char *bus_address; /* of the portal; NULL when there is none */
    char **services;
    guint64 signals_lost;
} CbusFacts;

void cbus_facts_clear(CbusFacts *facts);
/* What the machine says of itself; what does not look like an id or a version is left out. */
void cbus_facts_set_ids(CbusFacts *facts, const char *machine_id, const char *boot_id, const char *version);
const char *cbus_facts_name(const CbusFacts *facts); /* pinned, else claimed, else "" */
/* "web1 (UABC…)" or the NKey alone. (transfer full) */
char *cbus_facts_label(const CbusFacts *facts);
/* What a call to it is answered with while it is away, and under which error name. (transfer full) */
char *cbus_facts_absence(const CbusFacts *facts, const char **error_name);
const char *cbus_machine_state_name(CbusMachineState state);

/* A property's value, floating; NULL if NAME is none. */
GVariant *cbus_facts_property(const CbusFacts *facts, const char *name);
GVariant *cbus_facts_properties(const CbusFacts *facts); /* a{sv}, floating */
/* Those properties with change signals that differ from what TOLD (an a{sv} of cbus_facts_properties) says:
 * a{sv}, floating, or NULL when there is none. */
GVariant *cbus_facts_differences(const CbusFacts *facts, GVariant *told);
/* TOLD without what is not so any more: a{sv}, floating. */
GVariant *cbus_facts_agreeing(const CbusFacts *facts, GVariant *told);
