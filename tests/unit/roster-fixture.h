/* The roster, its D-Bus objects and the router on a real bus, with a dialer that only does what a test says
 * and links that lead nowhere. */
#pragma once
#include "introspect/path.h"
#include "proxy/dialer.h"
#include "proxy/interfaces.h"
#include "proxy/objects.h"
#include "proxy/roster.h"
#include "proxy/router.h"
#include "tests/unit/private_bus.h"

#define NAME "ie.bmcgee.Test"

struct _CbusDialer {
    CbusDialerHandler handler;
    gpointer user_data;
    GPtrArray *wanted; /* NKeys */
    guint forgotten;
};

extern CbusDialer *dialer; /* the roster's */

typedef struct {
    PrivateBus bus;
    CbusFront *front;
    CbusRoster *roster;
    CbusCluster *cluster;
    CbusRouter *router;
    CbusObjects *objects;
    CbusBudget *budget;
    char *runtime_dir;
    GString *signals; /* what the client saw: "added:…abcd changed:Name=… " */
    guint owned;
} RosterFixture;

/* DATA: not NULL: with --known-only. */
void roster_set_up(RosterFixture *fixture, gconstpointer data);
void roster_tear_down(RosterFixture *fixture, gconstpointer data);
/* Everything that was emitted has arrived once a call answered by the same connection has. Returns what came,
 * valid until the next call. */
const char *roster_signals(RosterFixture *fixture);
/* WORDS are in what came; what comes from now on is looked at next. */
void roster_assert_signal(RosterFixture *fixture, const char *words);

/* Identity number I: any 32 bytes have an NKey; tests decode only those that are points. */
CbusKey roster_key_number(guint8 i);
/* A path is parsed by decoding its NKey, which wants a point: the ed25519 base point. */
CbusKey roster_base_point(void);
/* KEY alone is known, as NAME. */
void roster_pin(RosterFixture *fixture, const CbusKey *key, const char *name);
void roster_unpin_all(RosterFixture *fixture);
/* Whether the dialer was told to dial KEY, and not told otherwise since. */
gboolean roster_wants(const CbusKey *key);
/* Whether KEY, announced over NATS, is wanted. */
gboolean roster_announce(const CbusKey *key);
/* The machine KEY is online and says that its name is CLAIM. */
CbusLink *roster_link_up(RosterFixture *fixture, const CbusKey *key, const char *claim);
char *roster_property(RosterFixture *fixture, const CbusKey *key, const char *name);
void roster_assert_property(RosterFixture *fixture, const CbusKey *key, const char *name,
                            const char *expected);
