/* Acceptor and dialer against each other over a real nats-server, with a third party who may publish whatever
 * it likes. */
#include "nats-fixture.h"

#include "agent/acceptor.h"
#include "agent/last_words.h"
#include "link/link_private.h"
#include "link/nats_private.h"
#include "proxy/dialer.h"
#include "wire/handshake.h"
#include "wire/message.h"
#include "wire/subject.h"

typedef struct {
    CbusNats *nats;
    guint ups;
} Client;

/* A signer that answers later, as another process does. */
typedef struct {
    CbusSigner base;
    CbusSecret *secret;
} LateSigner;

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

static void
client_up(CbusNats *nats, gpointer user_data)
{
    ((Client *)user_data)->ups++;
}

static void
client_down(CbusNats *nats, const GError *reason, gpointer user_data)
{
}

static void
client_failed(CbusNats *nats, const GError *reason, guint pause_ms, gpointer user_data)
{
}

static CbusNats *
connect_to(World *world, const CbusNatsHandler *handler, gpointer user_data)
{
    g_autofree char *url = g_strdup_printf("nats://127.0.0.1:%u", world->server.port);
    CbusNatsOptions options = {.urls = url, .name = "cbus-test"};
    g_autoptr(GError) error = NULL;
    CbusNats *nats = cbus_nats_new(&world->server.loop, &options, handler, user_data, &error);

    g_assert_no_error(error);
    return nats;
}

/* ---- signers ---- */

typedef struct {
    LateSigner *signer;
    GBytes *message;
    CbusSignFunc func;
    gpointer user_data;
} Late;

static gboolean
sign_now(gpointer user_data)
{
    g_autofree Late *late = user_data;
    g_autoptr(GBytes) message = late->message;
    guint8 signature[CBUS_SIGNATURE_BYTES];
    gsize len;
    const guint8 *data = g_bytes_get_data(message, &len);

    cbus_secret_sign_transcript(late->signer->secret, late->signer->base.role, data, len, signature);
    late->func(signature, NULL, late->user_data);
    return G_SOURCE_REMOVE;
}

static void
sign_late(CbusSigner *self, const guint8 *message, gsize len, CbusSignFunc func, gpointer user_data)
{
    Late *late = g_new0(Late, 1);

    *late = (Late){(LateSigner *)self, g_bytes_new(message, len), func, user_data};
    g_timeout_add(20, sign_now, late);
}

static void
late_free(CbusSigner *self)
{
    cbus_secret_free(((LateSigner *)self)->secret);
    g_free(self);
}

static CbusSigner *
signer_new(guint8 seed_byte, CbusRole role)
{
    guint8 seed[32] = {seed_byte};
    CbusSecret *secret = cbus_secret_new_from_seed(seed);
    LateSigner *signer = g_new0(LateSigner, 1);

    if (role == CBUS_ROLE_PROXY) {
        g_free(signer);
        return cbus_signer_new_for_secret(secret, role);
    }
    signer->secret = secret;
    signer->base = (CbusSigner){.public_key = *cbus_secret_public(secret),
                                .role = role,
                                .sign_transcript = sign_late,
                                .free = late_free};
    return &signer->base;
}

/* ---- the agent ---- */

static void
agent_message(CbusLink *link, guint32 channel, const guint8 *message, gsize size, gpointer user_data)
{
    ((Agent *)user_data)->messages++;
}

static void
agent_open(CbusLink *link, guint32 channel, guint32 uid, gpointer user_data)
{
    cbus_link_opened(link, channel);
}

static void
agent_ended(CbusLink *link, const GError *reason, gpointer user_data)
{
    Agent *agent = user_data;

    g_test_message("agent's link ended: %s", reason->message);
    agent->ended++;
    g_clear_error(&agent->reason);
    agent->reason = g_error_copy(reason);
    cbus_acceptor_forget(agent->acceptor, link);
    cbus_link_free(link);
    if (agent->link == link)
        agent->link = NULL;
}

static gboolean
authorize(const CbusKey *proxy, char **message, gpointer user_data)
{
    const Agent *agent = user_data;

    if (agent->closed)
        *message = g_strdup("your key is not in authorized-keys");
    return !agent->closed;
}

static void
on_accepted(CbusLink *link, const CbusKey *proxy, const CbusInstance *proxy_instance, gpointer user_data)
{
    static const CbusLinkHandler handler = {
        .open = agent_open, .message = agent_message, .ended = agent_ended};
    Agent *agent = user_data;

    agent->accepted++;
    agent->link = link;
    cbus_link_set_handler(link, &handler, agent);
    cbus_link_send_server_info(link, "web1", "m", "b", "1");
}

static void
agent_up(CbusNats *nats, gpointer user_data)
{
    Agent *agent = user_data;

    agent->client.ups++;
    cbus_acceptor_nats_up(agent->acceptor);
}

static void
agent_down(CbusNats *nats, const GError *reason, gpointer user_data)
{
    cbus_acceptor_nats_down(((Agent *)user_data)->acceptor, reason);
}

static void
agent_start(World *world, Agent *agent)
{
    static const CbusNatsHandler nats = {.up = agent_up, .down = agent_down, .failed = client_failed};
    static const CbusAcceptorHandler handler = {.authorize = authorize, .accepted = on_accepted};

    agent->signer = signer_new(1, CBUS_ROLE_AGENT);
    world->agent_key = agent->signer->public_key;
    agent->budget = cbus_budget_new(32 * 1024 * 1024);
    agent->client.nats = connect_to(world, &nats, agent);
    agent->acceptor = cbus_acceptor_new(&world->server.loop, agent->client.nats, agent->signer, agent->budget,
                                        &handler, agent);
    cbus_nats_start(agent->client.nats);
}

/* As killed: nobody is told. */
static void
agent_stop(Agent *agent)
{
    if (agent->link != NULL) {
        cbus_acceptor_forget(agent->acceptor, agent->link);
        g_clear_pointer(&agent->link, cbus_link_free);
    }
    g_clear_pointer(&agent->acceptor, cbus_acceptor_free);
    g_clear_pointer(&agent->client.nats, cbus_nats_free);
    nats_fixture_turn_for(50); /* a signature may still come */
    g_clear_pointer(&agent->budget, cbus_budget_free);
    g_clear_pointer(&agent->signer, cbus_signer_free);
    g_clear_error(&agent->reason);
}

/* ---- the proxy ---- */

static void
proxy_ended(CbusLink *link, const GError *reason, gpointer user_data)
{
    Proxy *proxy = user_data;

    g_test_message("proxy's link ended: %s", reason->message);
    proxy->ended++;
    g_clear_error(&proxy->reason);
    proxy->reason = g_error_copy(reason);
    cbus_dialer_forget(proxy->dialer, link);
    cbus_link_free(link);
    if (proxy->link == link)
        proxy->link = NULL;
}

static void
on_linked(const CbusKey *agent, CbusLink *link, const char *name, const char *machine_id, const char *boot_id,
          const char *version, gpointer user_data)
{
    static const CbusLinkHandler handler = {.ended = proxy_ended};
    Proxy *proxy = user_data;

    proxy->linked++;
    proxy->link = link;
    g_free(proxy->name);
    proxy->name = g_strdup(name);
    cbus_link_set_handler(link, &handler, proxy);
}

static gboolean
on_announced(const CbusKey *agent, gpointer user_data)
{
    Proxy *proxy = user_data;

    proxy->announced++;
    return proxy->wants_all;
}

static void
on_seen(const CbusKey *agent, gboolean farewell, gpointer user_data)
{
    ((Proxy *)user_data)->seen++;
}

static void
on_state(const CbusKey *agent, CbusDialState state, const char *message, gpointer user_data)
{
    Proxy *proxy = user_data;

    g_test_message("state %d: %s", state, message);
    proxy->state = state;
    g_free(proxy->message);
    proxy->message = g_strdup(message);
}

static void
on_vanished(const CbusKey *agent, gpointer user_data)
{
    ((Proxy *)user_data)->vanished++;
}

static void
proxy_up(CbusNats *nats, gpointer user_data)
{
    Proxy *proxy = user_data;

    proxy->client.ups++;
    cbus_dialer_nats_up(proxy->dialer);
}

static void
proxy_down(CbusNats *nats, const GError *reason, gpointer user_data)
{
    cbus_dialer_nats_down(((Proxy *)user_data)->dialer, reason);
}

static void
proxy_start(World *world, Proxy *proxy)
{
    static const CbusNatsHandler nats = {.up = proxy_up, .down = proxy_down, .failed = client_failed};
    static const CbusDialerHandler handler = {.announced = on_announced,
                                              .seen = on_seen,
                                              .state = on_state,
                                              .linked = on_linked,
                                              .vanished = on_vanished};

    proxy->wants_all = TRUE;
    proxy->signer = signer_new(2, CBUS_ROLE_PROXY);
    world->proxy_key = proxy->signer->public_key;
    proxy->budget = cbus_budget_new(32 * 1024 * 1024);
    proxy->client.nats = connect_to(world, &nats, proxy);
    proxy->dialer = cbus_dialer_new(&world->server.loop, proxy->client.nats, proxy->signer, proxy->budget,
                                    &handler, proxy);
    cbus_nats_start(proxy->client.nats);
}

static void
proxy_stop(Proxy *proxy)
{
    if (proxy->link != NULL) {
        cbus_dialer_forget(proxy->dialer, proxy->link);
        g_clear_pointer(&proxy->link, cbus_link_free);
    }
    g_clear_pointer(&proxy->dialer, cbus_dialer_free);
    g_clear_pointer(&proxy->client.nats, cbus_nats_free);
    g_clear_pointer(&proxy->budget, cbus_budget_free);
    g_clear_pointer(&proxy->signer, cbus_signer_free);
    g_clear_pointer(&proxy->name, g_free);
    g_clear_pointer(&proxy->message, g_free);
    g_clear_error(&proxy->reason);
}

/* ---- the third party ---- */

static void
overhear(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    World *world = user_data;
    CbusKey key;
    CbusInstance instance;

    if (cbus_hello_peek(data, len, &key, &instance)) {
        g_byte_array_set_size(world->hello, 0);
        g_byte_array_append(world->hello, data, (guint)len);
    } else if (cbus_packet_link_id(data, len) != NULL && strstr(subject, ".in.") != NULL) {
        g_free(world->agent_in);
        world->agent_in = g_strdup(subject);
    } else if (!cbus_presence_read(data, len, &world->presence)) {
        return;
    }
}

static void
publish(World *world, const char *subject, const char *reply, const guint8 *data, gsize len)
{
    g_assert_true(cbus_nats_publish(world->other.nats, subject, reply, data, len));
}

static void
world_start(World *world)
{
    static const CbusNatsHandler nats = {.up = client_up, .down = client_down, .failed = client_failed};

    nats_fixture_set_up(&world->server, NULL);
    nats_fixture_start_server(&world->server, "");
    world->hello = g_byte_array_new();
    world->other.nats = connect_to(world, &nats, &world->other);
    world->overhearing = cbus_nats_subscribe(world->other.nats, "cbus.v1.>", overhear, world);
    cbus_nats_start(world->other.nats);
    WAIT_UNTIL(world->other.ups == 1);
}

static void
world_stop(World *world)
{
    proxy_stop(&world->proxy);
    agent_stop(&world->agent);
    if (world->twin.client.nats != NULL)
        agent_stop(&world->twin);
    cbus_nats_free(world->other.nats);
    g_byte_array_unref(world->hello);
    g_free(world->agent_in);
    nats_fixture_tear_down(&world->server, NULL);
}

static void
set_up(World *world, gconstpointer data)
{
    world_start(world);
    agent_start(world, &world->agent);
    proxy_start(world, &world->proxy);
}

static void
tear_down(World *world, gconstpointer data)
{
    world_stop(world);
}

static void
wait_for_link(World *world)
{
    WAIT_UNTIL(world->proxy.link != NULL && world->agent.link != NULL);
}

static void
store_round_trip(gint64 us, gpointer user_data)
{
    *(gint64 *)user_data = us;
}

static void
assert_link_works(World *world)
{
    gint64 round_trip = 0;

    g_assert_nonnull(world->proxy.link);
    cbus_link_ping(world->proxy.link, store_round_trip, &round_trip);
    WAIT_UNTIL(round_trip != 0);
    g_assert_cmpint(round_trip, >, 0);
}

/* ---- tests ---- */

static void
test_a_link_comes_up_and_carries(World *world, gconstpointer data)
{
    static const guint8 message[16] = {'l', CBUS_MESSAGE_SIGNAL, 0, 1, 0, 0, 0, 0, 1};

    wait_for_link(world);
    g_assert_cmpstr(world->proxy.name, ==, "web1");
    assert_link_works(world);
    guint32 channel = cbus_link_open(world->proxy.link, 0);
    g_assert_true(cbus_link_send(world->proxy.link, channel, message, sizeof message));
    WAIT_UNTIL(world->agent.messages == 1);
    g_assert_cmpuint(world->proxy.linked, ==, 1);
    g_assert_cmpuint(world->agent.accepted, ==, 1);
}

static void
test_a_restarted_agent_is_linked_again(World *world, gconstpointer data)
{
    wait_for_link(world);
    agent_stop(&world->agent);
    world->agent = (Agent){0};
    agent_start(world, &world->agent);
    WAIT_UNTIL(world->proxy.linked == 2);
    g_assert_cmpuint(world->proxy.ended, ==, 1);
    WAIT_UNTIL(world->agent.link != NULL);
    assert_link_works(world);
}

static void
test_a_dead_agent_is_noticed_and_said(World *world, gconstpointer data)
{
    wait_for_link(world);
    /* Whoever listens in is a responder to the broker. */
    cbus_nats_unsubscribe(world->other.nats, world->overhearing);
    cbus_link_set_busy(world->proxy.link, TRUE);
    gint64 before = g_get_monotonic_time();
    agent_stop(&world->agent);
    WAIT_UNTIL(world->proxy.ended == 1);
    g_assert_error(world->proxy.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 3 * G_USEC_PER_SEC);
    WAIT_UNTIL(world->proxy.message != NULL && strstr(world->proxy.message, "nobody listens") != NULL);
    g_assert_cmpint(world->proxy.state, ==, CBUS_DIAL_OFFLINE);
    WAIT_UNTIL(world->proxy.vanished == 1);
}

static void
test_a_farewell_ends_the_link_soon(World *world, gconstpointer data)
{
    wait_for_link(world);
    cbus_acceptor_farewell(world->agent.acceptor);
    cbus_nats_flush(world->agent.client.nats, 200);
    agent_stop(&world->agent);
    gint64 before = g_get_monotonic_time();
    WAIT_UNTIL(world->proxy.ended == 1 && world->proxy.vanished == 1);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 3 * G_USEC_PER_SEC);
}

static void
test_a_refused_key_learns_why(World *world, gconstpointer data)
{
    world->agent.closed = TRUE;
    WAIT_UNTIL(world->proxy.state == CBUS_DIAL_UNAUTHORIZED);
    g_assert_cmpstr(world->proxy.message, ==, "your key is not in authorized-keys");
    g_assert_cmpuint(world->agent.accepted, ==, 0);
    g_assert_null(world->proxy.link);
    /* Tried again; in as soon as the line is there. */
    world->agent.closed = FALSE;
    wait_for_link(world);
}

static void
test_a_key_removed_between_hello_and_finish_is_refused(World *world, gconstpointer data)
{
    /* The agent's signature comes late, so that the finish is still to come when the hello is heard. */
    WAIT_UNTIL(world->hello->len == CBUS_HELLO_BYTES);
    g_assert_cmpuint(world->agent.accepted, ==, 0);
    world->agent.closed = TRUE;
    WAIT_UNTIL(world->proxy.state == CBUS_DIAL_UNAUTHORIZED);
    g_assert_cmpuint(world->agent.accepted, ==, 0);
    g_assert_null(world->proxy.link);
}

static void
test_a_replayed_hello_does_no_harm(World *world, gconstpointer data)
{
    char subject[CBUS_SUBJECT_MAX];

    wait_for_link(world);
    WAIT_UNTIL(world->hello->len == CBUS_HELLO_BYTES);
    g_autoptr(GByteArray) hello = g_byte_array_new();
    g_byte_array_append(hello, world->hello->data, world->hello->len);
    cbus_subject_hello(subject, &world->agent_key);
    for (guint i = 0; i < 20; i++)
        publish(world, subject, "cbus.v1.bogus", hello->data, hello->len);
    nats_fixture_turn_for(300);
    assert_link_works(world);
    g_assert_cmpuint(world->agent.accepted, ==, 1);
    g_assert_cmpuint(world->proxy.ended + world->agent.ended, ==, 0);
}

static void
test_junk_on_every_subject_changes_nothing(World *world, gconstpointer data)
{
    char hello[CBUS_SUBJECT_MAX], here[CBUS_SUBJECT_MAX];
    guint8 junk[300];
    static const gsize sizes[] = {0, 1, 7, 8, 31, 32, 48, 72, 144, 300};

    wait_for_link(world);
    WAIT_UNTIL(world->agent_in != NULL);
    cbus_subject_hello(hello, &world->agent_key);
    cbus_subject_here(here, &world->agent_key);
    /* Where the proxy listens is told by the reply of a hello: the instance in it. */
    CbusKey key;
    CbusInstance instance;
    char out[CBUS_SUBJECT_MAX];
    g_assert_true(cbus_hello_peek(world->hello->data, world->hello->len, &key, &instance));
    cbus_subject_out(out, &world->agent_key, &key, &instance);
    const char *subjects[] = {hello, here, out, world->agent_in, CBUS_SUBJECT_WHO};
    for (guint round = 0; round < 20; round++) {
        for (guint s = 0; s < G_N_ELEMENTS(subjects); s++) {
            for (guint z = 0; z < G_N_ELEMENTS(sizes); z++) {
                for (guint i = 0; i < sizeof junk; i++)
                    junk[i] = (guint8)g_test_rand_int();
                if (round % 2 == 0)
                    memcpy(junk, "CBUS\1", 5);
                junk[5] = (guint8)(round % 6);
                if (round % 3 == 0)
                    memcpy(junk + 8, cbus_link_id(world->proxy.link), CBUS_LINK_ID_BYTES);
                publish(world, subjects[s], NULL, junk, sizes[z]);
            }
        }
    }
    nats_fixture_turn_for(300);
    assert_link_works(world);
    g_assert_cmpuint(world->proxy.ended + world->agent.ended, ==, 0);
}

static void
test_a_genuine_proxy_gets_in_after_a_flood(World *world, gconstpointer data)
{
    char subject[CBUS_SUBJECT_MAX];

    wait_for_link(world);
    cbus_subject_hello(subject, &world->agent_key);
    CbusKey key;
    CbusInstance instance;
    g_assert_true(cbus_hello_peek(world->hello->data, world->hello->len, &key, &instance));
    g_autofree guint8 *hello = g_memdup2(world->hello->data, world->hello->len);
    /* Half of them in the genuine proxy's own name. */
    for (guint i = 0; i < 4000; i++) {
        guint8 seed[32] = {3};
        cbus_put_be32(seed + 1, i);
        g_autoptr(CbusSecret) stranger = cbus_secret_new_from_seed(seed);
        if (i % 2 == 0)
            memcpy(hello + 56, cbus_secret_public(stranger)->bytes, CBUS_KEY_BYTES);
        else
            memcpy(hello + 56, world->proxy_key.bytes, CBUS_KEY_BYTES);
        publish(world, subject, NULL, hello, CBUS_HELLO_BYTES);
    }
    cbus_link_fail(world->proxy.link, CBUS_LINK_ERROR_CLOSED, "again");
    WAIT_UNTIL(world->proxy.linked == 2);
    assert_link_works(world);
}

static void
test_forged_hints_end_no_link(World *world, gconstpointer data)
{
    char here[CBUS_SUBJECT_MAX], gone[CBUS_SUBJECT_MAX], nobody[64];
    guint8 bytes[CBUS_PRESENCE_BYTES];
    CbusKey key;
    CbusInstance instance;

    wait_for_link(world);
    g_assert_true(cbus_hello_peek(world->hello->data, world->hello->len, &key, &instance));
    cbus_subject_here(here, &world->agent_key);
    cbus_subject_gone(gone, &world->agent_key, &key, &instance);
    WAIT_UNTIL(cbus_key_equal(&world->presence.agent, &world->agent_key));
    CbusPresence forged = world->presence;
    for (guint i = 0; i < 30; i++) {
        forged.farewell = TRUE;
        forged.instance = world->presence.instance;
        cbus_presence_write(&forged, bytes);
        publish(world, here, NULL, bytes, sizeof bytes);
        forged.farewell = FALSE;
        cbus_instance_random(&forged.instance);
        cbus_presence_write(&forged, bytes);
        publish(world, here, NULL, bytes, sizeof bytes);
        /* The broker itself makes the 503: a request to where nobody listens, with their reply subject. */
        g_snprintf(nobody, sizeof nobody, "nobody.%u", i);
        publish(world, nobody, gone, bytes, sizeof bytes);
        nats_fixture_turn_for(40);
    }
    nats_fixture_turn_for(1500);
    assert_link_works(world);
    g_assert_cmpuint(world->proxy.ended + world->agent.ended, ==, 0);
    g_assert_cmpuint(world->proxy.linked, ==, 1);
}

static void
test_two_agents_with_one_key_do_not_take_turns(World *world, gconstpointer data)
{
    wait_for_link(world);
    agent_start(world, &world->twin);
    WAIT_UNTIL(world->proxy.linked == 2);
    /* Each is heard again at least once. */
    guint seen = world->proxy.seen;
    WAIT_UNTIL(world->proxy.seen >= seen + 4);
    nats_fixture_turn_for(500);
    g_assert_cmpuint(world->proxy.linked, ==, 2);
    g_assert_cmpuint(world->proxy.ended, ==, 1);
    g_assert_nonnull(world->twin.link);
    assert_link_works(world);
}

static void
test_a_newer_link_of_the_same_proxy_replaces_the_older(World *world, gconstpointer data)
{
    wait_for_link(world);
    /* The proxy alone loses it, and can not say so. */
    cbus_link_cut(world->proxy.link);
    cbus_link_fail(world->proxy.link, CBUS_LINK_ERROR_LOST, "lost here alone");
    WAIT_UNTIL(world->agent.accepted == 2 && world->proxy.linked == 2);
    g_assert_cmpuint(world->agent.ended, ==, 1);
    g_assert_error(world->agent.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_CLOSED);
    assert_link_works(world);
}

static void
test_a_lost_server_ends_links_and_they_come_back(World *world, gconstpointer data)
{
    wait_for_link(world);
    nats_fixture_stop_server(&world->server);
    WAIT_UNTIL(world->proxy.ended == 1 && world->agent.ended == 1);
    g_assert_error(world->proxy.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_error(world->agent.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    g_assert_nonnull(strstr(world->proxy.reason->message, "NATS"));
    nats_fixture_turn_for(1500);
    g_assert_cmpstr(world->proxy.message, ==, "");
    nats_fixture_start_server(&world->server, "");
    wait_for_link(world);
    assert_link_works(world);
    g_assert_cmpuint(world->proxy.vanished, ==, 0);
}

static void
test_a_pinned_machine_without_presence_is_offline(World *world, gconstpointer data)
{
    guint8 seed[32] = {99};
    g_autoptr(CbusSecret) absent = cbus_secret_new_from_seed(seed);

    wait_for_link(world);
    cbus_dialer_want(world->proxy.dialer, cbus_secret_public(absent));
    WAIT_UNTIL(world->proxy.message != NULL && strstr(world->proxy.message, "no presence") != NULL);
    g_assert_cmpint(world->proxy.state, ==, CBUS_DIAL_OFFLINE);
}

static void
test_unwanted_machines_get_no_hello(World *world, gconstpointer data)
{
    world->proxy.wants_all = FALSE;
    WAIT_UNTIL(world->proxy.announced >= 1);
    nats_fixture_turn_for(200);
    g_assert_cmpuint(world->hello->len, ==, 0);
    cbus_dialer_want(world->proxy.dialer, &world->agent_key);
    wait_for_link(world);
    cbus_dialer_unwant(world->proxy.dialer, &world->agent_key);
    WAIT_UNTIL(world->agent.ended == 1);
    g_assert_error(world->agent.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_CLOSED);
}

static void
test_a_flood_of_fresh_keys_is_rationed(World *world, gconstpointer data)
{
    guint8 bytes[CBUS_PRESENCE_BYTES];
    char here[CBUS_SUBJECT_MAX];

    wait_for_link(world);
    world->proxy.wants_all = FALSE;
    world->proxy.announced = 0;
    for (guint i = 0; i < 500; i++) {
        guint8 seed[32] = {4};
        cbus_put_be32(seed + 1, i);
        g_autoptr(CbusSecret) fresh = cbus_secret_new_from_seed(seed);
        CbusPresence presence = {.agent = *cbus_secret_public(fresh), .beat = 1};
        cbus_presence_write(&presence, bytes);
        cbus_subject_here(here, &presence.agent);
        publish(world, here, NULL, bytes, sizeof bytes);
    }
    nats_fixture_turn_for(300);
    g_assert_cmpuint(world->proxy.announced, >=, 15);
    g_assert_cmpuint(world->proxy.announced, <=, 32);
    assert_link_works(world);
}

/* As when the agent's server dies and the proxy's lives: the agent's connection alone breaks, and somebody
 * else (the one who overhears) keeps the broker from telling. */
static void
break_connection(World *world)
{
    wait_for_link(world);
    WAIT_UNTIL(cbus_nats_buffered(world->agent.client.nats) == 0);
    cbus_nats_source_shutdown(world->agent.client.nats->source);
}

static void
assert_told_at_once(World *world)
{
    gint64 before = g_get_monotonic_time();

    WAIT_UNTIL(world->proxy.ended == 1);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 3 * G_USEC_PER_SEC);
    g_assert_error(world->proxy.reason, CBUS_LINK_ERROR, CBUS_LINK_ERROR_LOST);
    WAIT_UNTIL(world->proxy.linked == 2 && world->agent.accepted == 2);
    assert_link_works(world);
}

static void
test_an_agent_whose_connection_breaks_tells_on_the_next(World *world, gconstpointer data)
{
    break_connection(world);
    assert_told_at_once(world);
    g_assert_nonnull(strstr(world->proxy.reason->message, "NATS"));
}

/* Goes before anybody is told that the agent's connection is lost. */
typedef struct {
    GSource base;
    World *world;
    gint64 round_trip;
} LossSource;

static gboolean
loss_prepare(GSource *source, gint *timeout)
{
    *timeout = -1;
    return FALSE;
}

static gboolean
loss_check(GSource *source)
{
    return !cbus_nats_is_up(((LossSource *)source)->world->agent.client.nats);
}

static gboolean
loss_dispatch(GSource *source, GSourceFunc callback, gpointer user_data)
{
    LossSource *loss = (LossSource *)source;

    g_assert_nonnull(loss->world->agent.link);
    g_assert_true(cbus_link_is_open(loss->world->agent.link));
    cbus_link_ping(loss->world->agent.link, store_round_trip, &loss->round_trip);
    return G_SOURCE_REMOVE;
}

/* The connection is known to be lost, its links do not know it yet, and one of them sends. */
static void
test_a_link_that_sends_while_its_connection_breaks_tells_on_the_next(World *world, gconstpointer data)
{
    static GSourceFuncs funcs = {.prepare = loss_prepare, .check = loss_check, .dispatch = loss_dispatch};
    g_autoptr(GSource) loss = g_source_new(&funcs, sizeof(LossSource));

    ((LossSource *)loss)->world = world;
    g_source_set_priority(loss, G_PRIORITY_HIGH);
    break_connection(world);
    g_source_attach(loss, NULL);
    WAIT_UNTIL(world->agent.ended == 1);
    g_assert_nonnull(strstr(world->agent.reason->message, "could not be handed to NATS"));
    assert_told_at_once(world);
}

static void
count_words(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    g_assert_cmpmem(data, len, "bye", 3);
    (*(guint *)user_data)++;
}

static void
test_last_words_are_said_until_they_are_heard(World *world, gconstpointer data)
{
    CbusNats *nats = world->agent.client.nats;
    guint heard = 0;

    wait_for_link(world);
    g_autoptr(CbusLastWords) words = cbus_last_words_new(&world->server.loop, nats);
    cbus_last_words_keep(words, "words.one", (const guint8 *)"bye", 3);
    cbus_last_words_keep(words, "words.two", (const guint8 *)"bye", 3);
    cbus_last_words_up(words);
    /* What is said at once falls on deaf ears: nobody has subscribed when the server gets it. */
    cbus_nats_flush(nats, 1000);
    nats_fixture_turn_for(100);
    (void)cbus_nats_subscribe(world->other.nats, "words.one", count_words, &heard);
    gint64 before = g_get_monotonic_time();
    WAIT_UNTIL(heard == 1);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 2 * G_USEC_PER_SEC);
    /* Another connection. */
    cbus_last_words_down(words);
    cbus_last_words_up(words);
    WAIT_UNTIL(heard == 2);
    cbus_last_words_heard(words, "words.one");
    guint others = 0;
    (void)cbus_nats_subscribe(world->other.nats, "words.two", count_words, &others);
    WAIT_UNTIL(others == 2);
    g_assert_cmpuint(heard, ==, 2);
    cbus_last_words_heard(words, "words.two");
    nats_fixture_turn_for(100);
}

#define ADD(name) g_test_add("/handshake-over-nats/" #name, World, NULL, set_up, test_##name, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *server = g_find_program_in_path("nats-server");
    if (server == NULL) {
        g_printerr("nats-server is not installed: nothing is tested here\n");
        return 77;
    }
    ADD(a_link_comes_up_and_carries);
    ADD(a_restarted_agent_is_linked_again);
    ADD(a_dead_agent_is_noticed_and_said);
    ADD(a_farewell_ends_the_link_soon);
    ADD(a_refused_key_learns_why);
    ADD(a_key_removed_between_hello_and_finish_is_refused);
    ADD(a_replayed_hello_does_no_harm);
    ADD(junk_on_every_subject_changes_nothing);
    ADD(a_genuine_proxy_gets_in_after_a_flood);
    ADD(forged_hints_end_no_link);
    ADD(two_agents_with_one_key_do_not_take_turns);
    ADD(a_newer_link_of_the_same_proxy_replaces_the_older);
    ADD(a_lost_server_ends_links_and_they_come_back);
    ADD(an_agent_whose_connection_breaks_tells_on_the_next);
    ADD(a_link_that_sends_while_its_connection_breaks_tells_on_the_next);
    ADD(last_words_are_said_until_they_are_heard);
    ADD(a_pinned_machine_without_presence_is_offline);
    ADD(unwanted_machines_get_no_hello);
    ADD(a_flood_of_fresh_keys_is_rationed);
    return g_test_run();
}
