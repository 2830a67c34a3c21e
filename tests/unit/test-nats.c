/* What the NATS connection promises, against a real nats-server and against things that only look like one.
 */
#include "link/nats.h"
#include "wire/secret.h"
#include <arpa/inet.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    CbusLoop loop;
    char *dir;
    GPid server;
    guint16 port;
} Fixture;

/* One client under test. */
typedef struct {
    Fixture *fixture;
    CbusNats *nats;
    guint up, down, failed, last_pause;
    GError *reason;
    GPtrArray *messages; /* GBytes */
    GPtrArray *subjects;
    gboolean free_on_message;
} Client;

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    fixture->loop.turn = cbus_turn_new(NULL);
    fixture->loop.poller = cbus_poller_new(NULL, &error);
    g_assert_no_error(error);
    fixture->loop.context = g_main_context_default();
    fixture->dir = g_dir_make_tmp("cbus-nats-XXXXXX", &error);
    g_assert_no_error(error);
}

static void
stop_server(Fixture *fixture)
{
    if (fixture->server == 0)
        return;
    kill(fixture->server, SIGKILL);
    waitpid(fixture->server, NULL, 0);
    fixture->server = 0;
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GDir) dir = g_dir_open(fixture->dir, 0, NULL);
    const char *name;

    stop_server(fixture);
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(fixture->dir, name, NULL);

        g_unlink(path);
    }
    g_rmdir(fixture->dir);
    g_free(fixture->dir);
    cbus_poller_free(fixture->loop.poller);
    cbus_turn_free(fixture->loop.turn);
}

static gboolean
on_tick(gpointer user_data)
{
    return G_SOURCE_CONTINUE;
}

/* Turns the loop until CONDITION, which must come within 20 s. */
#define WAIT_UNTIL(condition)                                                                                \
    G_STMT_START                                                                                             \
    {                                                                                                        \
        guint tick_id = g_timeout_add(5, on_tick, NULL);                                                     \
        gint64 until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;                                     \
        while (!(condition) && g_get_monotonic_time() < until)                                               \
            g_main_context_iteration(NULL, TRUE);                                                            \
        g_source_remove(tick_id);                                                                            \
        g_assert_true(condition);                                                                            \
    }                                                                                                        \
    G_STMT_END

static void
turn_for(gint64 ms)
{
    gint64 until = g_get_monotonic_time() + ms * 1000;
    guint tick_id = g_timeout_add(5, on_tick, NULL);

    while (g_get_monotonic_time() < until)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(tick_id);
}

static guint16
read_port(const char *path)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonArray *urls;
    const char *url;

    /* The file may be there and not yet written. */
    if (!json_parser_load_from_file(parser, path, NULL) || json_parser_get_root(parser) == NULL)
        return 0;
    urls = json_object_get_array_member(json_node_get_object(json_parser_get_root(parser)), "nats");
    url = json_array_get_string_element(urls, 0);
    return (guint16)g_ascii_strtoull(strrchr(url, ':') + 1, NULL, 10);
}

/* In the child: the server ends with the test, however that ends. */
static void
die_with_parent(gpointer user_data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* On the port of the last time, else on a free one. CONFIG: text of a configuration file. */
static void
start_server(Fixture *fixture, const char *config)
{
    g_autofree char *port = g_strdup_printf("%d", fixture->port != 0 ? fixture->port : -1);
    g_autofree char *file = g_build_filename(fixture->dir, "server.conf", NULL);
    g_autofree char *ports = NULL;
    g_autoptr(GError) error = NULL;
    const char *argv[] = {"nats-server", "-a", "127.0.0.1", "-p", port,        "--ports_file_dir",
                          fixture->dir,  "-c", file,        "-l", "/dev/null", NULL};

    g_assert_true(g_file_set_contents(file, config, -1, &error));
    g_spawn_async(NULL, (char **)argv, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL |
                      G_SPAWN_STDERR_TO_DEV_NULL,
                  die_with_parent, NULL, &fixture->server, &error);
    g_assert_no_error(error);
    ports = g_strdup_printf("%s/nats-server_%d.ports", fixture->dir, fixture->server);
    WAIT_UNTIL((fixture->port = read_port(ports)) != 0);
}

static void
on_up(CbusNats *nats, gpointer user_data)
{
    ((Client *)user_data)->up++;
}

static void
on_down(CbusNats *nats, const GError *reason, gpointer user_data)
{
    Client *client = user_data;

    client->down++;
    g_clear_error(&client->reason);
    client->reason = g_error_copy(reason);
    g_test_message("down: %s", reason->message);
}

static void
on_failed(CbusNats *nats, const GError *reason, guint pause_ms, gpointer user_data)
{
    Client *client = user_data;

    client->failed++;
    client->last_pause = pause_ms;
    g_clear_error(&client->reason);
    client->reason = g_error_copy(reason);
    g_test_message("failed: %s; again in %u ms", reason->message, pause_ms);
}

static void
on_message(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    Client *client = user_data;

    g_ptr_array_add(client->messages, g_bytes_new(data, len));
    g_ptr_array_add(client->subjects, g_strdup(subject));
    if (client->free_on_message)
        g_clear_pointer(&client->nats, cbus_nats_free);
}

static const CbusNatsHandler handler = {.up = on_up, .down = on_down, .failed = on_failed};

static Client *
client_new_with(Fixture *fixture, const char *credentials, CbusNatsOptions options)
{
    g_autofree char *url = g_strdup_printf("nats://%s127.0.0.1:%u", credentials, fixture->port);
    g_autoptr(GError) error = NULL;
    Client *client = g_new0(Client, 1);

    if (options.urls == NULL)
        options.urls = url;
    options.name = "cbus-test";
    client->fixture = fixture;
    client->messages = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    client->subjects = g_ptr_array_new_with_free_func(g_free);
    client->nats = cbus_nats_new(&fixture->loop, &options, &handler, client, &error);
    g_assert_no_error(error);
    return client;
}

static Client *
client_new(Fixture *fixture)
{
    return client_new_with(fixture, "", (CbusNatsOptions){0});
}

static void
client_free(Client *client)
{
    cbus_nats_free(client->nats);
    g_ptr_array_unref(client->messages);
    g_ptr_array_unref(client->subjects);
    g_clear_error(&client->reason);
    g_free(client);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Client, client_free)

static void
client_connect(Client *client)
{
    cbus_nats_start(client->nats);
    WAIT_UNTIL(client->up == 1);
}

static gboolean
publish(Client *client, const char *subject, const void *data, gsize len)
{
    return cbus_nats_publish(client->nats, subject, NULL, data, len);
}

/* Subscriptions and publishes of two connections are not ordered: wait until the server has ours. */
static void
settle_subscriptions(Client *client, Client *other)
{
    guint before = client->messages->len;
    guint id = cbus_nats_subscribe(client->nats, "settled", on_message, client);

    while (client->messages->len == before) {
        g_assert_true(publish(other, "settled", NULL, 0));
        turn_for(10);
    }
    turn_for(30);
    cbus_nats_unsubscribe(client->nats, id);
    g_ptr_array_set_size(client->messages, 0);
    g_ptr_array_set_size(client->subjects, 0);
}

static void
test_order(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) a = NULL;
    g_autoptr(Client) b = NULL;
    g_autofree guint8 *bytes = g_malloc0(1024 * 1024);

    start_server(fixture, "");
    a = client_new(fixture);
    b = client_new(fixture);
    cbus_nats_subscribe(a->nats, "x.*", on_message, a);
    client_connect(a);
    client_connect(b);
    settle_subscriptions(a, b);
    g_assert_cmpuint(cbus_nats_max_payload(a->nats), ==, 1024 * 1024);
    for (guint i = 0; i < 200; i++) {
        gsize len = i % 50 == 49 ? 1024 * 1024 : 4 + i * 37;

        memcpy(bytes, &i, sizeof i);
        g_assert_true(publish(b, i % 2 ? "x.odd" : "x.even", bytes, len));
    }
    WAIT_UNTIL(a->messages->len == 200);
    for (guint i = 0; i < 200; i++) {
        gsize len;
        const guint8 *got = g_bytes_get_data(a->messages->pdata[i], &len);

        g_assert_cmpmem(got, 4, &i, 4);
        g_assert_cmpuint(len, ==, i % 50 == 49 ? 1024 * 1024 : 4 + i * 37);
        g_assert_cmpstr(a->subjects->pdata[i], ==, i % 2 ? "x.odd" : "x.even");
    }
    g_assert_cmpuint(cbus_nats_buffered(b->nats), ==, 0);
}

static void
test_max_payload(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;
    g_autofree guint8 *bytes = g_malloc0(65537);

    start_server(fixture, "max_payload: 65536");
    client = client_new(fixture);
    g_assert_cmpuint(cbus_nats_max_payload(client->nats), ==, 1024 * 1024);
    client_connect(client);
    g_assert_cmpuint(cbus_nats_max_payload(client->nats), ==, 65536);
    g_assert_true(publish(client, "x", bytes, 65536));
    g_assert_false(publish(client, "x", bytes, 65537));
    turn_for(50);
    g_assert_cmpuint(client->down, ==, 0);
}

static void
test_no_responders(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;
    guint id;

    start_server(fixture, "");
    client = client_new(fixture);
    id = cbus_nats_subscribe_no_responders(client->nats, "gone.*", on_message, client);
    client_connect(client);
    g_assert_true(cbus_nats_publish(client->nats, "nobody", "gone.abc", (const guint8 *)"x", 1));
    WAIT_UNTIL(client->subjects->len == 1);
    g_assert_cmpstr(client->subjects->pdata[0], ==, "gone.abc");
    cbus_nats_unsubscribe(client->nats, id);
    g_assert_true(cbus_nats_publish(client->nats, "nobody", "gone.abc", (const guint8 *)"x", 1));
    turn_for(50);
    g_assert_cmpuint(client->subjects->len, ==, 1);
}

static void
test_restart(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) a = NULL;
    g_autoptr(Client) b = NULL;

    start_server(fixture, "");
    a = client_new(fixture);
    b = client_new(fixture);
    cbus_nats_subscribe(a->nats, "x", on_message, a);
    client_connect(a);
    client_connect(b);
    for (guint round = 1; round <= 3; round++) {
        stop_server(fixture);
        WAIT_UNTIL(a->down == round && b->down == round);
        g_assert_error(a->reason, CBUS_NATS_ERROR, CBUS_NATS_ERROR_LOST);
        g_assert_false(cbus_nats_is_up(a->nats));
        g_assert_false(publish(a, "x", "x", 1));
        g_assert_cmpuint(cbus_nats_buffered(a->nats), ==, 0);
        start_server(fixture, "");
        WAIT_UNTIL(a->up == round + 1 && b->up == round + 1);
        settle_subscriptions(a, b);
        g_assert_true(publish(b, "x", "again", 5));
        WAIT_UNTIL(a->messages->len == 1);
    }
}

static void
test_heartbeat(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;
    gint64 start;

    start_server(fixture, "");
    client = client_new_with(fixture, "", (CbusNatsOptions){.beat_ms = 100});
    client_connect(client);
    turn_for(1000);
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
test_before_the_server(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;

    start_server(fixture, "");
    stop_server(fixture);
    client = client_new(fixture);
    cbus_nats_subscribe(client->nats, "x", on_message, client);
    cbus_nats_start(client->nats);
    WAIT_UNTIL(client->failed >= 3);
    g_assert_error(client->reason, CBUS_NATS_ERROR, CBUS_NATS_ERROR_CONNECT);
    g_assert_cmpuint(client->up + client->down, ==, 0);
    g_assert_false(publish(client, "x", "x", 1));
    cbus_nats_flush(client->nats, 1000);
    start_server(fixture, "");
    WAIT_UNTIL(client->up == 1);
}

static void
test_wrong_login(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;

    start_server(fixture, "authorization { user: u, password: secret }");
    client = client_new_with(fixture, "u:wrong@", (CbusNatsOptions){0});
    cbus_nats_start(client->nats);
    WAIT_UNTIL(client->failed == 5);
    g_assert_error(client->reason, CBUS_NATS_ERROR, CBUS_NATS_ERROR_LOGIN);
    g_assert_nonnull(g_strstr_len(client->reason->message, -1, "127.0.0.1"));
    g_assert_null(g_strstr_len(client->reason->message, -1, "wrong"));
    g_assert_cmpuint(client->last_pause, >=, 20 * 16 * 3 / 4);
    g_assert_cmpuint(client->up, ==, 0);
}

static void
test_user_and_password(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;

    start_server(fixture, "authorization { user: u, password: secret }");
    client = client_new_with(fixture, "u:secret@", (CbusNatsOptions){0});
    client_connect(client);
}

static void
test_token(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;

    start_server(fixture, "authorization { token: t0ken }");
    client = client_new_with(fixture, "t0ken@", (CbusNatsOptions){0});
    client_connect(client);
}

static gboolean
sign(const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data, GError **error)
{
    return cbus_secret_sign_nonce(user_data, nonce, strlen(nonce), signature, error);
}

static gboolean
refuse_to_sign(const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data, GError **error)
{
    g_set_error_literal(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_CRYPTO, "the signer is on strike");
    return FALSE;
}

static void
test_nkey(Fixture *fixture, gconstpointer data)
{
    static const guint8 seed[32] = {1, 2, 3};
    g_autoptr(CbusSecret) secret = cbus_secret_new_from_seed(seed);
    const CbusKey *key = cbus_secret_public(secret);
    char nkey[CBUS_NKEY_LENGTH + 1];
    g_autofree char *config = NULL;
    g_autoptr(Client) client = NULL;
    g_autoptr(Client) refused = NULL;
    g_autoptr(Client) plain = NULL;

    cbus_nkey_encode(key, nkey);
    config = g_strdup_printf("authorization { users: [ { nkey: %s } ] }", nkey);
    start_server(fixture, config);
    client = client_new_with(fixture, "",
                             (CbusNatsOptions){.identity = key, .signer = sign, .signer_data = secret});
    client_connect(client);
    refused = client_new_with(fixture, "", (CbusNatsOptions){.identity = key, .signer = refuse_to_sign});
    cbus_nats_start(refused->nats);
    WAIT_UNTIL(refused->failed == 1);
    g_assert_nonnull(g_strstr_len(refused->reason->message, -1, "on strike"));
    stop_server(fixture);
    start_server(fixture, "");
    plain = client_new_with(fixture, "", (CbusNatsOptions){.identity = key, .signer = refuse_to_sign});
    client_connect(plain);
}

static void
test_free_in_flight(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) a = NULL;
    g_autoptr(Client) b = NULL;
    g_autofree guint8 *bytes = g_malloc0(10000);

    start_server(fixture, "");
    a = client_new(fixture);
    b = client_new(fixture);
    cbus_nats_subscribe(a->nats, "x", on_message, a);
    cbus_nats_subscribe_no_responders(a->nats, "gone.*", on_message, a);
    client_connect(a);
    client_connect(b);
    settle_subscriptions(a, b);
    a->free_on_message = TRUE;
    for (guint i = 0; i < 400; i++) {
        g_assert_true(cbus_nats_publish(a->nats, "nobody", "gone.abc", bytes, 100));
        g_assert_true(publish(b, "x", bytes, 10000));
    }
    WAIT_UNTIL(a->nats == NULL);
    turn_for(50);
    g_assert_cmpuint(a->messages->len, ==, 1);
    for (guint i = 0; i < 400; i++)
        g_assert_true(publish(b, "x", bytes, 10000));
    g_clear_pointer(&b->nats, cbus_nats_free);
}

static void
test_free_while_connecting(Fixture *fixture, gconstpointer data)
{
    start_server(fixture, "");
    for (guint i = 0; i < 20; i++) {
        g_autoptr(Client) client = client_new(fixture);

        cbus_nats_start(client->nats);
        turn_for(i / 4);
    }
    turn_for(50);
}

static void
test_flush_before_free(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) a = NULL;
    g_autofree guint8 *bytes = g_malloc0(100000);

    start_server(fixture, "");
    a = client_new(fixture);
    cbus_nats_subscribe(a->nats, "farewell", on_message, a);
    client_connect(a);
    for (guint round = 1; round <= 10; round++) {
        g_autoptr(Client) b = client_new(fixture);

        client_connect(b);
        settle_subscriptions(a, b);
        for (guint i = 0; i < 50; i++)
            g_assert_true(publish(b, "farewell", bytes, 100000));
        cbus_nats_flush(b->nats, 1000);
        g_assert_cmpuint(cbus_nats_buffered(b->nats), ==, 0);
        g_clear_pointer(&b->nats, cbus_nats_free);
        WAIT_UNTIL(a->messages->len == 50);
    }
}

static void
test_full_queue(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;
    g_autofree guint8 *bytes = g_malloc0(1024 * 1024);
    guint accepted = 0;

    start_server(fixture, "");
    client = client_new(fixture);
    client_connect(client);
    kill(fixture->server, SIGSTOP);
    while (accepted < 200 && publish(client, "x", bytes, 1024 * 1024)) {
        accepted++;
        turn_for(1);
    }
    g_assert_cmpuint(accepted, >=, 16);
    g_assert_cmpuint(accepted, <, 200);
    g_assert_cmpuint(cbus_nats_buffered(client->nats), <, 18 * 1024 * 1024);
    kill(fixture->server, SIGCONT);
    WAIT_UNTIL(cbus_nats_buffered(client->nats) == 0);
    g_assert_true(publish(client, "x", bytes, 1024 * 1024));
    g_assert_cmpuint(client->down, ==, 0);
}

static void
test_unsubscribe(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) a = NULL;
    g_autoptr(Client) b = NULL;
    guint id;

    start_server(fixture, "");
    a = client_new(fixture);
    b = client_new(fixture);
    client_connect(a);
    client_connect(b);
    id = cbus_nats_subscribe(a->nats, "x", on_message, a);
    cbus_nats_subscribe(a->nats, "y", on_message, a);
    settle_subscriptions(a, b);
    cbus_nats_unsubscribe(a->nats, id);
    settle_subscriptions(a, b);
    g_assert_true(publish(b, "x", "x", 1));
    g_assert_true(publish(b, "y", "y", 1));
    WAIT_UNTIL(a->messages->len > 0);
    g_assert_cmpuint(a->messages->len, ==, 1);
    g_assert_cmpstr(a->subjects->pdata[0], ==, "y");
}

static int
listen_on_loopback(guint16 *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &len), ==, 0);
    *port = ntohs(address.sin_port);
    return fd;
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
test_half_open(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = NULL;
    const char *greeting = data;
    int listener = listen_on_loopback(&fixture->port);
    gint64 start = g_get_monotonic_time();
    double cpu = cpu_seconds();
    int peer;

    client = client_new(fixture);
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

static void
test_bad_options(void)
{
    static const struct {
        CbusNatsOptions options;
        const char *names;
    } cases[] = {
        {{.urls = ""}, "server"},
        {{.urls = "http://host"}, "http"},
        {{.urls = "nats://user:secret@host:99999"}, "host:99999"},
        {{.urls = "nats://:4222"}, "no host"},
        {{.urls = "nats://host", .cert_file = "x"}, "--cert-key"},
        {{.urls = "nats://host", .jwt_file = "x"}, "--jwt"},
        {{.urls = "nats://host", .jwt_file = "x", .creds_file = "y"}, "--creds"},
    };
    CbusLoop loop = {.context = g_main_context_default()};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(cbus_nats_new(&loop, &cases[i].options, &handler, NULL, &error));
        g_assert_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS);
        g_assert_nonnull(g_strstr_len(error->message, -1, cases[i].names));
        g_assert_null(g_strstr_len(error->message, -1, "secret"));
    }
}

int
main(int argc, char **argv)
{
    g_autofree char *server = g_find_program_in_path("nats-server");

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nats/bad-options-are-named", test_bad_options);
#define ADD_DATA(name, data, func) g_test_add("/nats/" name, Fixture, data, set_up, func, tear_down)
#define INFO                                                                                                 \
    "INFO "                                                                                                  \
    "{\"server_id\":\"x\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576,\"proto\":1}\r\n"
    ADD_DATA("silent-server-times-out", "", test_half_open);
    ADD_DATA("server-silent-after-info-times-out", INFO, test_half_open);
    ADD_DATA(
        "server-silent-before-tls-times-out",
        "INFO "
        "{\"server_id\":\"x\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576,\"proto\":1,"
        "\"tls_required\":true}\r\n",
        test_half_open);
    if (server == NULL) {
        g_test_message("no nats-server: the tests that need one are left out");
        return g_test_run();
    }
#define ADD(name, func) ADD_DATA(name, NULL, func)
    ADD("messages-arrive-in-order", test_order);
    ADD("max-payload-is-the-servers", test_max_payload);
    ADD("no-responders-names-the-subject", test_no_responders);
    ADD("comes-back-after-a-restart", test_restart);
    ADD("heartbeat-notices-a-stopped-server", test_heartbeat);
    ADD("may-start-before-the-server", test_before_the_server);
    ADD("wrong-login-says-so-and-slows-down", test_wrong_login);
    ADD("user-and-password", test_user_and_password);
    ADD("token", test_token);
    ADD("nkey", test_nkey);
    ADD("free-in-a-message-with-others-in-flight", test_free_in_flight);
    ADD("free-while-connecting", test_free_while_connecting);
    ADD("flush-before-free-loses-nothing", test_flush_before_free);
    ADD("full-queue-refuses-and-recovers", test_full_queue);
    ADD("unsubscribed-is-not-called", test_unsubscribe);
    return g_test_run();
}
