/* Pings of one machine that share one measurement. Loop thread only. */
#pragma once
#include "link/link.h"

#define CBUS_PINGS_LIMIT 256

typedef struct _CbusPings CbusPings;

CbusPings *cbus_pings_new(void);
void cbus_pings_free(CbusPings *pings); /* after cbus_pings_fail() */
/* FUNC is called once: the round trip in µs, or −1. FALSE, and nothing done, when too many wait. */
gboolean cbus_pings_add(CbusPings *pings, CbusLink *link, CbusPingFunc func,
                        gpointer user_data) G_GNUC_WARN_UNUSED_RESULT;
/* The link is over: what is measured on it counts no longer. */
void cbus_pings_abandon(CbusPings *pings);
/* Tells all who wait that there is no answer. */
void cbus_pings_fail(CbusPings *pings);
