/* Acceptor and dialer over a nats-server of the test's own, each on a connection of its own, and a third
 * party who overhears and may publish whatever it likes. */
#pragma once
#include "nats-fixture.h"

#include "agent/acceptor.h"
#include "link/link.h"
#include "proxy/dialer.h"
#include "wire/handshake.h"

typedef struct {
    CbusNats *nats;
    guint ups;
} Client;

typedef struct {
    Client client;
    CbusSigner *signer;
    CbusBudget *budget;
    CbusAcceptor *acceptor;
    gboolean closed; /* nobody is authorized */
    CbusLink *link;
    guint accepted, ended;
    GError *reason;
    guint messages;
} Agent;

typedef struct {
    Client client;
    CbusSigner *signer;
    CbusBudget *budget;
    CbusDialer *dialer;
    CbusLink *link;
    char *name;
    guint linked, ended, vanished, seen, announced;
    gboolean wants_all;
    GError *reason;
    CbusDialState state;
    char *message;
} Proxy;

typedef struct {
    NatsFixture server;
    CbusKey agent_key, proxy_key;
    Agent agent, twin;
    Proxy proxy;
    Client other;
    GByteArray *hello;     /* the last that was overheard */
    char *agent_in;        /* the subject of the last packet that was overheard */
    CbusPresence presence; /* the last */
    guint overhearing;
} World;

/* Whether there is a nats-server; says so if not. */
gboolean world_is_possible(void);
/* An agent and a proxy that want each other. */
void world_set_up(World *world, gconstpointer data);
void world_tear_down(World *world, gconstpointer data);
void agent_start(World *world, Agent *agent);
/* As killed: nobody is told. */
void agent_stop(Agent *agent);
/* The third party says it. */
void world_publish(World *world, const char *subject, const char *reply, const guint8 *data, gsize len);
void world_wait_for_link(World *world);
void world_assert_link_works(World *world);
/* For cbus_link_ping(), with a gint64 as data. */
void world_store_round_trip(gint64 us, gpointer user_data);
