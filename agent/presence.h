/* An agent's presence: published every few seconds, and when somebody asks who is there. Loop thread only. */
#pragma once
#include "link/nats.h"

typedef struct _CbusAnnouncer CbusAnnouncer;
CbusAnnouncer *cbus_announcer_new(CbusLoop *loop, CbusNats *nats, const CbusKey *agent,
                                  const CbusInstance *instance);
void cbus_announcer_free(CbusAnnouncer *announcer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusAnnouncer, cbus_announcer_free)

void cbus_announcer_start(CbusAnnouncer *announcer); /* NATS is up: at once, then periodically */
void cbus_announcer_stop(CbusAnnouncer *announcer);  /* NATS is down */
void cbus_announcer_farewell(CbusAnnouncer *announcer);
