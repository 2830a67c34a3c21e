/* Which machines there are: every pinned one, and unpinned ones that are there. Loop thread only. */
#pragma once
#include "link/nats.h"
#include "link/signer.h"
#include "proxy/machine.h"
#include "wire/known_machines.h"

#define CBUS_ROSTER_UNPINNED_MAX   256
#define CBUS_ROSTER_NEW_PER_SECOND 16

typedef struct _CbusRoster CbusRoster;

typedef struct {
    void (*added)(CbusRoster *roster, CbusMachine *machine, gpointer user_data);
    /* Before it is freed. */
    void (*removed)(CbusRoster *roster, CbusMachine *machine, gpointer user_data);
    /* CHANGED: a{sv}; borrowed. NULL: not yet to be told. */
    void (*changed)(CbusRoster *roster, CbusMachine *machine, GVariant *changed, gpointer user_data);
} CbusRosterHandler;

/* RUNTIME_DIR: for the machines' portals. KNOWN_ONLY: unpinned machines are never listed. All pointers must
 * outlive it. */
CbusRoster *cbus_roster_new(CbusLoop *loop, CbusFront *front, CbusNats *nats, CbusSigner *signer,
                            const char *runtime_dir, gboolean known_only, const CbusRosterHandler *handler,
                            gpointer user_data);
/* Closes every link in order and answers what is pending; `removed` is not called. */
void cbus_roster_free(CbusRoster *roster);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusRoster, cbus_roster_free)

/* The match rules of the signals that are mirrored, for machines that are listed from now on; borrowed. */
void cbus_roster_set_signals(CbusRoster *roster, const char *const *rules);
/* KNOWN: (transfer full). Machines appear, vanish and change their names accordingly. */
void cbus_roster_set_known(CbusRoster *roster, CbusKnownMachines *known);
void cbus_roster_nats_up(CbusRoster *roster);
void cbus_roster_nats_failed(CbusRoster *roster, const GError *reason);
void cbus_roster_nats_down(CbusRoster *roster, const GError *reason);

CbusMachine *cbus_roster_lookup(CbusRoster *roster, const CbusKey *key);
/* Every machine, sorted by NKey. (transfer container) */
GPtrArray *cbus_roster_list(CbusRoster *roster);
void cbus_roster_caller_gone(CbusRoster *roster, const char *unique_name);
