/* What the proxy's bus delivers of the mirror's signals: no more than somebody waits for. */
#pragma once
#include "cli/fleet.h"

/* Match rules of the proxy's bus for what RULES (of CbusMatchRule, about names and paths as MACHINES have
 * them; none: everything) ask for, and for what the proxy says of these machines; OPEN: of all, since others
 * may become one of them. (transfer full) */
GPtrArray *cbus_listen_rules_for_signals(const GPtrArray *machines, gboolean open, const GPtrArray *rules);
/* The same for all that can tell of a property's value. */
GPtrArray *cbus_listen_rules_for_property(const GPtrArray *machines, const char *destination,
                                          const char *path, const char *interface);

typedef struct _CbusListening CbusListening;

/* FUNC gets each signal once. REFUSED: the bus did not take a rule, told already; listening is incomplete. */
CbusListening *cbus_listening_new(GDBusConnection *connection, GDBusSignalCallback func,
                                  void (*refused)(gpointer user_data), gpointer user_data);
/* Listens by RULES (transfer full) instead of those before; what both ask for is not missed meanwhile. What
 * is asked of the bus or through it after this comes back after the signals that were sent before. */
void cbus_listening_set(CbusListening *listening, GPtrArray *rules);
void cbus_listening_free(CbusListening *listening);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusListening, cbus_listening_free)
