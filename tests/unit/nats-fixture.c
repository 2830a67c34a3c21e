/* See the header. Everything runs on the default context. */
#include "nats-fixture.h"
#include <arpa/inet.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

gboolean
nats_fixture_tick(gpointer user_data)
{
    return G_SOURCE_CONTINUE;
}

void
nats_fixture_set_up(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    fixture->loop.turn = cbus_turn_new(NULL);
    fixture->loop.poller = cbus_poller_new(NULL, fixture->loop.turn, &error);
    g_assert_no_error(error);
    fixture->loop.context = g_main_context_default();
    fixture->dir = g_dir_make_tmp("cbus-nats-XXXXXX", &error);
    g_assert_no_error(error);
}

void
nats_fixture_stop_server(NatsFixture *fixture)
{
    if (fixture->server == 0)
        return;
    kill(fixture->server, SIGKILL);
    waitpid(fixture->server, NULL, 0);
    fixture->server = 0;
}

void
nats_fixture_tear_down(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(GDir) dir = g_dir_open(fixture->dir, 0, NULL);
    const char *name;

    nats_fixture_stop_server(fixture);
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(fixture->dir, name, NULL);

        g_unlink(path);
    }
    g_rmdir(fixture->dir);
    g_free(fixture->dir);
    cbus_poller_free(fixture->loop.poller);
    cbus_turn_free(fixture->loop.turn);
}

void
nats_fixture_turn_for(gint64 ms)
{
    gint64 until = g_get_monotonic_time() + ms * 1000;
    guint tick_id = g_timeout_add(5, nats_fixture_tick, NULL);

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

void
nats_fixture_start_server(NatsFixture *fixture, const char *config)
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
    ((NatsClient *)user_data)->up++;
}

static void
on_down(CbusNats *nats, const GError *reason, gpointer user_data)
{
    NatsClient *client = user_data;

    client->down++;
    g_clear_error(&client->reason);
    client->reason = g_error_copy(reason);
    g_test_message("down: %s", reason->message);
}

static void
on_failed(CbusNats *nats, const GError *reason, guint pause_ms, gpointer user_data)
{
    NatsClient *client = user_data;

    client->failed++;
    client->last_pause = pause_ms;
    g_clear_error(&client->reason);
    client->reason = g_error_copy(reason);
    g_test_message("failed: %s; again in %u ms", reason->message, pause_ms);
}

void
nats_client_on_message(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    NatsClient *client = user_data;

    g_ptr_array_add(client->messages, g_bytes_new(data, len));
    g_ptr_array_add(client->subjects, g_strdup(subject));
    if (client->free_on_message)
        g_clear_pointer(&client->nats, cbus_nats_free);
}

static const CbusNatsHandler handler = {.up = on_up, .down = on_down, .failed = on_failed};

NatsClient *
nats_client_new_with(NatsFixture *fixture, const char *credentials, CbusNatsOptions options)
{
    g_autofree char *url = g_strdup_printf("nats://%s127.0.0.1:%u", credentials, fixture->port);
    g_autoptr(GError) error = NULL;
    NatsClient *client = g_new0(NatsClient, 1);

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

NatsClient *
nats_client_new(NatsFixture *fixture)
{
    return nats_client_new_with(fixture, "", (CbusNatsOptions){0});
}

void
nats_client_free(NatsClient *client)
{
    cbus_nats_free(client->nats);
    g_ptr_array_unref(client->messages);
    g_ptr_array_unref(client->subjects);
    g_clear_error(&client->reason);
    g_free(client);
}

void
nats_client_connect(NatsClient *client)
{
    cbus_nats_start(client->nats);
    WAIT_UNTIL(client->up == 1);
}

gboolean
nats_client_publish(NatsClient *client, const char *subject, const void *data, gsize len)
{
    return cbus_nats_publish(client->nats, subject, NULL, data, len);
}

void
nats_client_settle(NatsClient *client, NatsClient *other)
{
    guint before = client->messages->len;
    guint id = cbus_nats_subscribe(client->nats, "settled", nats_client_on_message, client);

    while (client->messages->len == before) {
        g_assert_true(nats_client_publish(other, "settled", NULL, 0));
        nats_fixture_turn_for(10);
    }
    nats_fixture_turn_for(30);
    cbus_nats_unsubscribe(client->nats, id);
    g_ptr_array_set_size(client->messages, 0);
    g_ptr_array_set_size(client->subjects, 0);
}

int
nats_fixture_listen(guint16 *port)
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

static void
run(const char *directory, const char *command)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = NULL;
    int status;

    g_assert_true(g_shell_parse_argv(command, NULL, &argv, &error));
    g_assert_true(g_spawn_sync(directory, argv, NULL,
                               G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                               NULL, NULL, NULL, NULL, &status, &error));
    g_assert_true(g_spawn_check_wait_status(status, &error));
}

char *
nats_fixture_make_tls(NatsFixture *fixture)
{
    run(fixture->dir, "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
                      "-keyout key.pem -out cert.pem -subj /CN=test -addext subjectAltName=IP:127.0.0.1");
    return g_strdup_printf("tls { cert_file: \"%s/cert.pem\", key_file: \"%s/key.pem\" }", fixture->dir,
                           fixture->dir);
}
