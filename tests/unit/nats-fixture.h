/* A nats-server of the test's own, and clients of it. */
#pragma once
#include "link/nats.h"

typedef struct {
    CbusLoop loop;
    char *dir;
    GPid server;
    guint16 port;
} NatsFixture;

/* One client under test. */
typedef struct {
    NatsFixture *fixture;
    CbusNats *nats;
    guint up, down, failed, last_pause;
    GError *reason;
    GPtrArray *messages; /* GBytes */
    GPtrArray *subjects;
    gboolean free_on_message;
} NatsClient;

gboolean nats_fixture_tick(gpointer user_data);
/* Turns the loop until CONDITION, which must come within 20 s. */
#define WAIT_UNTIL(condition)                                                                                \
    G_STMT_START                                                                                             \
    {                                                                                                        \
        guint tick_id = g_timeout_add(5, nats_fixture_tick, NULL);                                           \
        gint64 until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;                                     \
        while (!(condition) && g_get_monotonic_time() < until)                                               \
            g_main_context_iteration(NULL, TRUE);                                                            \
        g_source_remove(tick_id);                                                                            \
        g_assert_true(condition);                                                                            \
    }                                                                                                        \
    G_STMT_END

void nats_fixture_set_up(NatsFixture *fixture, gconstpointer data);
void nats_fixture_tear_down(NatsFixture *fixture, gconstpointer data);
/* On the port of the last time, else on a free one. CONFIG: text of a configuration file. */
void nats_fixture_start_server(NatsFixture *fixture, const char *config);
/* Makes a certificate, "cert.pem" in the directory, and returns the server's configuration with it. Needs
 * openssl. */
char *nats_fixture_make_tls(NatsFixture *fixture);
void nats_fixture_stop_server(NatsFixture *fixture);
/* A listening TCP socket that stands for a server. */
int nats_fixture_listen(guint16 *port);
void nats_fixture_turn_for(gint64 ms);

/* OPTIONS: without urls the fixture's server is meant, with CREDENTIALS ("user:password@" or "") in its URL.
 */
NatsClient *nats_client_new_with(NatsFixture *fixture, const char *credentials, CbusNatsOptions options);
NatsClient *nats_client_new(NatsFixture *fixture);
void nats_client_free(NatsClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NatsClient, nats_client_free)
void nats_client_connect(NatsClient *client);
gboolean nats_client_publish(NatsClient *client, const char *subject, const void *data, gsize len);
/* For cbus_nats_subscribe(), with the client as data: collects messages and subjects. */
void nats_client_on_message(const char *subject, const char *reply, guint8 *data, gsize len,
                            gpointer user_data);
/* Subscriptions and publishes of two connections are not ordered: waits until the server has CLIENT's. */
void nats_client_settle(NatsClient *client, NatsClient *other);
