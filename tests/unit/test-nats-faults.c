/* What the NATS connection does when the server stops, goes, comes, or only looks like one. */
#include "nats-fixture.h"
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define INFO_BEGIN                                                                                           \
    "INFO {\"server_id\":\"x\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576,\"proto\":1"

static void
test_restart(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) a = NULL;
    g_autoptr(NatsClient) b = NULL;

    nats_fixture_start_server(fixture, "");
    a = nats_client_new(fixture);
    b = nats_client_new(fixture);
    cbus_nats_subscribe(a->nats, "x", nats_client_on_message, a);
    nats_client_connect(a);
    nats_client_connect(b);
    for (guint round = 1; round <= 3; round++) {
        nats_fixture_stop_server(fixture);
        WAIT_UNTIL(a->down == round && b->down == round);
        g_assert_error(a->reason, CBUS_NATS_ERROR, CBUS_NATS_ERROR_LOST);
        g_assert_false(cbus_nats_is_up(a->nats));
        g_assert_false(nats_client_publish(a, "x", "x", 1));
        g_assert_cmpuint(cbus_nats_buffered(a->nats), ==, 0);
        nats_fixture_start_server(fixture, "");
        WAIT_UNTIL(a->up == round + 1 && b->up == round + 1);
        nats_client_settle(a, b);
        g_assert_true(nats_client_publish(b, "x", "again", 5));
        WAIT_UNTIL(a->messages->len == 1);
    }
}

#define USERS     "authorization { users: [ { user: all, password: all }, { user: u, password: p"
#define FORBIDDEN ", permissions: { publish: { deny: \">\" }, subscribe: { deny: \">\" } }"

/* DATA: the server's configuration, which may forbid the question. */
static void
test_heartbeat(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;
    g_autoptr(NatsClient) overhearing = NULL;
    gint64 start;

    nats_fixture_start_server(fixture, data);
    overhearing = nats_client_new_with(fixture, "all:all@", (CbusNatsOptions){0});
    cbus_nats_subscribe(overhearing->nats, ">", nats_client_on_message, overhearing);
    nats_client_connect(overhearing);
    client = nats_client_new_with(fixture, "u:p@", (CbusNatsOptions){.beat_ms = 100});
    cbus_nats_subscribe(client->nats, "beat", nats_client_on_message, client);
    cbus_nats_set_beat(client->nats, "beat");
    nats_client_connect(client);
    nats_fixture_turn_for(1000);
    g_assert_cmpuint(client->down, ==, 0);
    kill(fixture->server, SIGSTOP);
    start = g_get_monotonic_time();
    WAIT_UNTIL(client->down == 1);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 3 * G_TIME_SPAN_SECOND);
    g_assert_nonnull(g_strstr_len(client->reason->message, -1, "silent"));
    kill(fixture->server, SIGCONT);
    WAIT_UNTIL(client->up == 2);
}

static void
test_before_the_server(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;

    nats_fixture_start_server(fixture, "");
    nats_fixture_stop_server(fixture);
    client = nats_client_new(fixture);
    cbus_nats_subscribe(client->nats, "x", nats_client_on_message, client);
    cbus_nats_start(client->nats);
    WAIT_UNTIL(client->failed >= 3);
    g_assert_error(client->reason, CBUS_NATS_ERROR, CBUS_NATS_ERROR_CONNECT);
    g_assert_cmpuint(client->up + client->down, ==, 0);
    g_assert_false(nats_client_publish(client, "x", "x", 1));
    cbus_nats_flush(client->nats, 1000);
    nats_fixture_start_server(fixture, "");
    WAIT_UNTIL(client->up == 1);
}

static double
cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* DATA: what the half-open server says before it falls silent. */
static void
test_half_open(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;
    const char *greeting = data;
    int listener = nats_fixture_listen(&fixture->port);
    gint64 start = g_get_monotonic_time();
    double cpu = cpu_seconds();
    int peer;

    client = nats_client_new(fixture);
    cbus_nats_start(client->nats);
    peer = accept(listener, NULL, NULL);
    g_assert_cmpint(write(peer, greeting, strlen(greeting)), ==, strlen(greeting));
    WAIT_UNTIL(client->failed == 1);
    g_test_message("%.1f s, %.2f s of CPU", (g_get_monotonic_time() - start) / 1e6, cpu_seconds() - cpu);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 6 * G_TIME_SPAN_SECOND);
    g_assert_cmpfloat(cpu_seconds() - cpu, <, 2);
    close(peer);
    close(listener);
}

/* Between a client and its server: passes all on, or, while it holds, only the first HOLD_AFTER bytes of what
 * the server says. On a thread of its own. */
#define HOLD_AFTER 20

typedef struct {
    int listener;
    guint16 server_port;
    gint holding, quit; /* atomic */
} Relay;

static void
write_all(int fd, const char *data, gsize len)
{
    while (len > 0) {
        gssize n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        data += n;
        len -= (gsize)n;
    }
}

/* Returns FALSE at the end of the stream. */
static gboolean
pass_on(Relay *relay, int from, int to, gboolean from_server)
{
    static char buffer[65536];
    gssize n = recv(from, buffer, sizeof buffer, 0);
    gssize first = from_server && g_atomic_int_get(&relay->holding) ? MIN(n, HOLD_AFTER) : n;

    if (n <= 0)
        return FALSE;
    write_all(to, buffer, (gsize)first);
    while (first < n && g_atomic_int_get(&relay->holding) && !g_atomic_int_get(&relay->quit))
        g_usleep(1000);
    write_all(to, buffer + first, (gsize)(n - first));
    return TRUE;
}

static gpointer
relay_thread(gpointer data)
{
    Relay *relay = data;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(relay->server_port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client = accept(relay->listener, NULL, NULL);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean open = connect(server, (struct sockaddr *)&address, sizeof address) == 0;

    while (open && !g_atomic_int_get(&relay->quit)) {
        struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};

        poll(fds, 2, 20);
        if (fds[0].revents != 0)
            open = pass_on(relay, client, server, FALSE);
        if (open && fds[1].revents != 0)
            open = pass_on(relay, server, client, TRUE);
    }
    close(client);
    close(server);
    return NULL;
}

static gint64
longest_turn_ms(gint64 for_ms)
{
    gint64 end = g_get_monotonic_time() + for_ms * 1000;
    gint64 longest = 0;

    while (g_get_monotonic_time() < end) {
        gint64 start = g_get_monotonic_time();

        nats_fixture_turn_for(1);
        longest = MAX(longest, g_get_monotonic_time() - start);
    }
    return longest / 1000;
}

/* nats.c alone would wait for the rest of the record, on the loop. */
static void
test_half_a_tls_record_does_not_stall_the_loop(NatsFixture *fixture, gconstpointer data)
{
    g_autofree char *url = NULL;
    g_autofree char *config = NULL;
    g_autofree char *ca = g_build_filename(fixture->dir, "cert.pem", NULL);
    g_autofree guint8 *bytes = g_malloc0(8000);
    g_autoptr(NatsClient) a = NULL;
    g_autoptr(NatsClient) b = NULL;
    Relay relay = {0};
    guint16 port;
    GThread *thread;

    config = nats_fixture_make_tls(fixture);
    nats_fixture_start_server(fixture, config);
    relay.listener = nats_fixture_listen(&port);
    relay.server_port = fixture->port;
    url = g_strdup_printf("nats://127.0.0.1:%u", port);
    thread = g_thread_new("relay", relay_thread, &relay);
    a = nats_client_new_with(fixture, "", (CbusNatsOptions){.urls = url, .ca_file = ca});
    b = nats_client_new_with(fixture, "", (CbusNatsOptions){.ca_file = ca});
    cbus_nats_subscribe(a->nats, "x", nats_client_on_message, a);
    nats_client_connect(a);
    nats_client_connect(b);
    nats_client_settle(a, b);
    g_atomic_int_set(&relay.holding, TRUE);
    g_assert_true(nats_client_publish(b, "x", bytes, 8000));
    g_assert_cmpint(longest_turn_ms(1000), <, 150);
    g_assert_cmpuint(a->messages->len, ==, 0);
    g_atomic_int_set(&relay.holding, FALSE);
    WAIT_UNTIL(a->messages->len == 1);
    g_assert_cmpuint(a->down, ==, 0);
    g_atomic_int_set(&relay.quit, TRUE);
    g_thread_join(thread);
    close(relay.listener);
}

#define ADD(name, data, func)                                                                                \
    g_test_add("/nats-faults/" name, NatsFixture, data, nats_fixture_set_up, func, nats_fixture_tear_down)

int
main(int argc, char **argv)
{
    g_autofree char *server = g_find_program_in_path("nats-server");
    g_autofree char *openssl = g_find_program_in_path("openssl");

    g_test_init(&argc, &argv, NULL);
    ADD("silent-server-times-out", "", test_half_open);
    ADD("server-silent-after-info-times-out", INFO_BEGIN "}\r\n", test_half_open);
    ADD("server-silent-before-tls-times-out", INFO_BEGIN ",\"tls_required\":true}\r\n", test_half_open);
    if (server == NULL) {
        g_test_message("no nats-server: the cases that need one are left out");
        return g_test_run();
    }
    ADD("comes-back-after-a-restart", NULL, test_restart);
    ADD("heartbeat-notices-a-stopped-server", USERS " } ] }", test_heartbeat);
    ADD("heartbeat-needs-no-permission", USERS FORBIDDEN " } ] }", test_heartbeat);
    ADD("may-start-before-the-server", NULL, test_before_the_server);
    if (openssl != NULL)
        ADD("half-a-tls-record-does-not-stall-the-loop", NULL,
            test_half_a_tls_record_does_not_stall_the_loop);
    return g_test_run();
}
