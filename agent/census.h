/* Learning who owns which names, on a connection that has just said Hello. Loop thread only. */
#pragma once
#include "agent/names.h"
#include "wire/message.h"

/* Serials of its calls: this one and those above. */
#define CBUS_CENSUS_SERIAL 0xF0000000u

/* The match rule of NameOwnerChanged, which stands on the connection from then on. */
#define CBUS_CENSUS_MATCH                                                                                    \
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged'"

typedef struct _CbusCensus CbusCensus;
/* Sends a call; frees nothing. */
typedef void (*CbusCensusAsk)(const guint8 *data, gsize size, gpointer user_data);
/* NAMES outlives it. */
CbusCensus *cbus_census_new(CbusNames *names, CbusCensusAsk ask, gpointer user_data);
void cbus_census_free(CbusCensus *census);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusCensus, cbus_census_free)

typedef enum {
    CBUS_CENSUS_RUNS,
    CBUS_CENSUS_DONE,   /* NAMES is whole; NameOwnerChanged keeps it so */
    CBUS_CENSUS_FAILED, /* the bus does not answer as a bus does, or has too many names */
} CbusCensusState;
/* Asks for NameOwnerChanged and for the names there are. Once, right behind Hello. */
void cbus_census_start(CbusCensus *census);
/* A reply of the bus to a serial of the census. */
CbusCensusState cbus_census_take(CbusCensus *census, const CbusMessage *reply) G_GNUC_WARN_UNUSED_RESULT;
