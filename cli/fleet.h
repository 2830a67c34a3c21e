/* One call to many machines through the mirror, each answer as it comes. */
#pragma once
#include "cli/cli.h"
#include "cli/roster.h"

/* What every verb that goes to many machines takes. */
typedef struct {
    char *bus;
    char **nkeys;
    gboolean unpinned, json, ordered, fail_fast;
    int batch;
    double timeout;
} CbusFleetOptions;

void cbus_fleet_options_init(CbusFleetOptions *options);
void cbus_fleet_options_clear(CbusFleetOptions *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CbusFleetOptions, cbus_fleet_options_clear)
/* Those that choose machines and bus; and those for calls. */
void cbus_fleet_options_add_selection(GOptionContext *context, CbusFleetOptions *options);
void cbus_fleet_options_add_calls(GOptionContext *context, CbusFleetOptions *options);
/* FALSE, and told, if a number makes no sense. */
gboolean cbus_fleet_options_check(const CbusFleetOptions *options) G_GNUC_WARN_UNUSED_RESULT;

/* How many machines may be asked at a time; 0: all. */
guint cbus_fleet_options_window(const CbusFleetOptions *options);

typedef struct {
    GDBusConnection *connection;
    GPtrArray *roster;
    GPtrArray *machines; /* of CbusRosterMachine, the chosen ones; never empty */
} CbusFleet;

/* Connects, asks the proxy and chooses. Anything but CBUS_EXIT_OK was told. */
CbusExit cbus_fleet_open(CbusFleet *fleet, const CbusFleetOptions *options);
void cbus_fleet_clear(CbusFleet *fleet);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CbusFleet, cbus_fleet_clear)

typedef struct {
    const char *destination, *path, *interface, *member; /* interface may be NULL */
    GVariant *body;                                      /* a tuple or NULL */
    double timeout;                                      /* seconds a machine */
    guint batch;                                         /* machines at a time; 0: all */
    gboolean fail_fast;                                  /* after a failure no other machine is asked */
} CbusFleetCall;

typedef struct {
    const CbusRosterMachine *machine;
    GVariant *body; /* a tuple whose paths are the machine's own, or NULL */
    char *error, *message;
} CbusFleetAnswer;

/* One machine answered, or did not in time. FALSE: the other answers are not wanted. */
typedef gboolean (*CbusFleetFunc)(guint index, const CbusFleetAnswer *answer, gpointer user_data);
/* Calls MACHINES and returns when all answered; runs the default main context. */
void cbus_fleet_call(GDBusConnection *connection, const GPtrArray *machines, const CbusFleetCall *call,
                     CbusFleetFunc func, gpointer user_data);
/* The mirror's node of DESTINATION on MACHINE. (transfer full) */
char *cbus_fleet_service_path(const CbusRosterMachine *machine, const char *destination);
