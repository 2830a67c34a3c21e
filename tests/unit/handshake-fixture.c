/* See the header. The agent's signer answers later, as another process does; the proxy's at once. */
#include "handshake-fixture.h"
#include "wire/subject.h"

gboolean
world_is_possible(void)
{
    g_autofree char *server = g_find_program_in_path("nats-server");

    if (server == NULL)
        g_printerr("nats-server is not installed: nothing is tested here\n");
    return server != NULL;
}

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

/* A signer that answers later, as another process does. */
typedef struct {
    CbusSigner base;
    CbusSecret *secret;
} LateSigner;

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

void
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

void
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
    } else if (cbus_packet_link_id(data, len) != NULL && !cbus_subject_agent(subject, &key)) {
        /* Of those that packets go to, the one that is named after an agent's instance. */
        g_free(world->agent_in);
        world->agent_in = g_strdup(subject);
    } else if (!cbus_presence_read(data, len, &world->presence)) {
        return;
    }
}

void
world_publish(World *world, const char *subject, const char *reply, const guint8 *data, gsize len)
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

void
world_tear_down(World *world, gconstpointer data)
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

void
world_set_up(World *world, gconstpointer data)
{
    world_start(world);
    agent_start(world, &world->agent);
    proxy_start(world, &world->proxy);
}

void
world_wait_for_link(World *world)
{
    WAIT_UNTIL(world->proxy.link != NULL && world->agent.link != NULL);
}

void
world_store_round_trip(gint64 us, gpointer user_data)
{
    *(gint64 *)user_data = us;
}

void
world_assert_link_works(World *world)
{
    gint64 round_trip = 0;

    g_assert_nonnull(world->proxy.link);
    cbus_link_ping(world->proxy.link, world_store_round_trip, &round_trip);
    WAIT_UNTIL(round_trip != 0);
    g_assert_cmpint(round_trip, >, 0);
}
