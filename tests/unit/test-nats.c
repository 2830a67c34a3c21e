/* What the NATS connection promises while the server is well. */
#include "nats-fixture.h"
#include <signal.h>

static void
test_order(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) a = NULL;
    g_autoptr(NatsClient) b = NULL;
    g_autofree guint8 *bytes = g_malloc0(1024 * 1024);

    nats_fixture_start_server(fixture, "");
    a = nats_client_new(fixture);
    b = nats_client_new(fixture);
    cbus_nats_subscribe(a->nats, "x.*", nats_client_on_message, a);
    nats_client_connect(a);
    nats_client_connect(b);
    nats_client_settle(a, b);
    g_assert_cmpuint(cbus_nats_max_payload(a->nats), ==, 1024 * 1024);
    for (guint i = 0; i < 200; i++) {
        gsize len = i % 50 == 49 ? 1024 * 1024 : 4 + i * 37;

        memcpy(bytes, &i, sizeof i);
        g_assert_true(nats_client_publish(b, i % 2 ? "x.odd" : "x.even", bytes, len));
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
test_max_payload(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;
    g_autofree guint8 *bytes = g_malloc0(65537);

    nats_fixture_start_server(fixture, "max_payload: 65536");
    client = nats_client_new(fixture);
    g_assert_cmpuint(cbus_nats_max_payload(client->nats), ==, 1024 * 1024);
    nats_client_connect(client);
    g_assert_cmpuint(cbus_nats_max_payload(client->nats), ==, 65536);
    g_assert_true(nats_client_publish(client, "x", bytes, 65536));
    g_assert_false(nats_client_publish(client, "x", bytes, 65537));
    nats_fixture_turn_for(50);
    g_assert_cmpuint(client->down, ==, 0);
}

/* A link's packets are of 8 KiB at least: a server that takes less would end each link at its first full one.
 */
static void
test_small_max_payload(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;

    nats_fixture_start_server(fixture, "max_payload: 8191");
    client = nats_client_new(fixture);
    cbus_nats_start(client->nats);
    WAIT_UNTIL(client->failed + client->up > 0);
    g_assert_cmpuint(client->up, ==, 0);
    g_assert_nonnull(strstr(client->reason->message, "its max_payload must be at least 8192"));
}

static void
test_no_responders(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;
    guint id;

    nats_fixture_start_server(fixture, "");
    client = nats_client_new(fixture);
    id = cbus_nats_subscribe_no_responders(client->nats, "gone.*", nats_client_on_message, client);
    nats_client_connect(client);
    g_assert_true(cbus_nats_publish(client->nats, "nobody", "gone.abc", (const guint8 *)"x", 1));
    WAIT_UNTIL(client->subjects->len == 1);
    g_assert_cmpstr(client->subjects->pdata[0], ==, "gone.abc");
    cbus_nats_unsubscribe(client->nats, id);
    g_assert_true(cbus_nats_publish(client->nats, "nobody", "gone.abc", (const guint8 *)"x", 1));
    nats_fixture_turn_for(50);
    g_assert_cmpuint(client->subjects->len, ==, 1);
}

static void
test_free_when_nobody_responds(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;

    nats_fixture_start_server(fixture, "");
    client = nats_client_new(fixture);
    cbus_nats_subscribe_no_responders(client->nats, "gone.*", nats_client_on_message, client);
    nats_client_connect(client);
    client->free_on_message = TRUE;
    for (guint i = 0; i < 3; i++)
        g_assert_true(cbus_nats_publish(client->nats, "nobody", "gone.abc", (const guint8 *)"x", 1));
    WAIT_UNTIL(client->nats == NULL);
    nats_fixture_turn_for(50);
    g_assert_cmpuint(client->messages->len, ==, 1);
}

static void
test_free_in_flight(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) a = NULL;
    g_autoptr(NatsClient) b = NULL;
    g_autofree guint8 *bytes = g_malloc0(10000);

    nats_fixture_start_server(fixture, "");
    a = nats_client_new(fixture);
    b = nats_client_new(fixture);
    cbus_nats_subscribe(a->nats, "x", nats_client_on_message, a);
    cbus_nats_subscribe_no_responders(a->nats, "gone.*", nats_client_on_message, a);
    nats_client_connect(a);
    nats_client_connect(b);
    nats_client_settle(a, b);
    a->free_on_message = TRUE;
    for (guint i = 0; i < 400; i++) {
        g_assert_true(cbus_nats_publish(a->nats, "nobody", "gone.abc", bytes, 100));
        g_assert_true(nats_client_publish(b, "x", bytes, 10000));
    }
    WAIT_UNTIL(a->nats == NULL);
    nats_fixture_turn_for(50);
    g_assert_cmpuint(a->messages->len, ==, 1);
    for (guint i = 0; i < 400; i++)
        g_assert_true(nats_client_publish(b, "x", bytes, 10000));
    g_clear_pointer(&b->nats, cbus_nats_free);
}

static void
test_free_while_connecting(NatsFixture *fixture, gconstpointer data)
{
    nats_fixture_start_server(fixture, "");
    for (guint i = 0; i < 20; i++) {
        g_autoptr(NatsClient) client = nats_client_new(fixture);

        cbus_nats_start(client->nats);
        nats_fixture_turn_for(i / 4);
    }
    nats_fixture_turn_for(50);
}

static void
test_flush_before_free(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) a = NULL;
    g_autofree guint8 *bytes = g_malloc0(100000);

    nats_fixture_start_server(fixture, "");
    a = nats_client_new(fixture);
    cbus_nats_subscribe(a->nats, "farewell", nats_client_on_message, a);
    nats_client_connect(a);
    for (guint round = 1; round <= 10; round++) {
        g_autoptr(NatsClient) b = nats_client_new(fixture);

        nats_client_connect(b);
        nats_client_settle(a, b);
        for (guint i = 0; i < 50; i++)
            g_assert_true(nats_client_publish(b, "farewell", bytes, 100000));
        cbus_nats_flush(b->nats, 1000);
        g_assert_cmpuint(cbus_nats_buffered(b->nats), ==, 0);
        g_clear_pointer(&b->nats, cbus_nats_free);
        WAIT_UNTIL(a->messages->len == 50);
    }
}

/* The library would refuse such a message when its turn in the queue comes, which is too late to tell. */
static void
test_without_headers(NatsFixture *fixture, gconstpointer data)
{
    static const CbusNatsHeader some[] = {{"One", "1"}, {NULL}};
    g_autoptr(NatsClient) client = NULL;
    g_autofree guint8 *bytes = g_malloc0(1024 * 1024);

    nats_fixture_start_server(fixture, "no_header_support: true");
    client = nats_client_new(fixture);
    nats_client_connect(client);
    g_assert_false(cbus_nats_publish_headers(client->nats, "x", NULL, some, bytes, 4));
    for (guint i = 0; i < 3; i++)
        g_assert_true(nats_client_publish(client, "x", bytes, 1024 * 1024));
    g_assert_cmpuint(cbus_nats_buffered(client->nats), >, 1024 * 1024);
    g_assert_false(cbus_nats_publish_headers(client->nats, "x", NULL, some, bytes, 4));
    WAIT_UNTIL(cbus_nats_buffered(client->nats) == 0);
    g_assert_true(cbus_nats_is_up(client->nats));
    g_assert_cmpuint(client->down, ==, 0);
}

/* What a function saw of its message's headers. */
typedef struct {
    NatsClient *client;
    char *one, *two, *none;
    guint seen;
} Headers;

static void
on_headers(const char *subject, const char *reply, guint8 *data, gsize len, gpointer user_data)
{
    Headers *headers = user_data;
    CbusNats *nats = headers->client->nats;

    g_free(headers->one);
    g_free(headers->two);
    headers->one = g_strdup(cbus_nats_header(nats, "One"));
    headers->two = g_strdup(cbus_nats_header(nats, "Two"));
    headers->none = g_strdup(cbus_nats_header(nats, "None"));
    headers->seen++;
}

static void
test_headers(NatsFixture *fixture, gconstpointer data)
{
    const CbusNatsHeader some[] = {{"One", "1"}, {"Two", "zwölf: x"}, {NULL}};
    g_autoptr(NatsClient) client = NULL;
    g_autofree guint8 *bytes = g_malloc0(1024 * 1024);
    Headers headers = {0};
    guint accepted = 0;

    nats_fixture_start_server(fixture, "");
    client = headers.client = nats_client_new(fixture);
    cbus_nats_subscribe(client->nats, "x", on_headers, &headers);
    g_assert_false(cbus_nats_publish_headers(client->nats, "x", NULL, some, bytes, 4));
    nats_client_connect(client);
    g_assert_true(cbus_nats_publish_headers(client->nats, "x", "reply", some, bytes, 4));
    WAIT_UNTIL(headers.seen == 1);
    g_assert_cmpstr(headers.one, ==, "1");
    g_assert_cmpstr(headers.two, ==, "zwölf: x");
    g_assert_null(headers.none);
    g_assert_null(cbus_nats_header(client->nats, "One"));
    /* Without headers. */
    g_assert_true(nats_client_publish(client, "x", bytes, 4));
    WAIT_UNTIL(headers.seen == 2);
    g_assert_null(headers.one);
    /* Headers count. */
    g_assert_false(cbus_nats_publish_headers(client->nats, "x", NULL, some, bytes, 1024 * 1024));
    g_assert_true(cbus_nats_publish_headers(client->nats, "x", NULL, some, bytes, 1024 * 1024 - 200));
    WAIT_UNTIL(headers.seen == 3);
    /* Those that had to wait come with theirs. */
    kill(fixture->server, SIGSTOP);
    while (accepted < 200 &&
           cbus_nats_publish_headers(client->nats, "x", NULL, some, bytes, 1024 * 1024 - 200)) {
        accepted++;
        nats_fixture_turn_for(1);
    }
    g_assert_cmpuint(accepted, >=, 16);
    g_assert_cmpuint(accepted, <, 200);
    kill(fixture->server, SIGCONT);
    WAIT_UNTIL(headers.seen == 3 + accepted);
    g_assert_cmpstr(headers.two, ==, "zwölf: x");
    g_assert_cmpuint(client->down, ==, 0);
    g_free(headers.one);
    g_free(headers.two);
}

static void
test_full_queue(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;
    g_autofree guint8 *bytes = g_malloc0(1024 * 1024);
    guint accepted = 0;

    nats_fixture_start_server(fixture, "");
    client = nats_client_new(fixture);
    nats_client_connect(client);
    kill(fixture->server, SIGSTOP);
    while (accepted < 200 && nats_client_publish(client, "x", bytes, 1024 * 1024)) {
        accepted++;
        nats_fixture_turn_for(1);
    }
    g_assert_cmpuint(accepted, >=, 16);
    g_assert_cmpuint(accepted, <, 200);
    g_assert_cmpuint(cbus_nats_buffered(client->nats), <, 18 * 1024 * 1024);
    kill(fixture->server, SIGCONT);
    WAIT_UNTIL(cbus_nats_buffered(client->nats) == 0);
    g_assert_true(nats_client_publish(client, "x", bytes, 1024 * 1024));
    g_assert_cmpuint(client->down, ==, 0);
}

static void
test_unsubscribe(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) a = NULL;
    g_autoptr(NatsClient) b = NULL;
    guint id;

    nats_fixture_start_server(fixture, "");
    a = nats_client_new(fixture);
    b = nats_client_new(fixture);
    nats_client_connect(a);
    nats_client_connect(b);
    id = cbus_nats_subscribe(a->nats, "x", nats_client_on_message, a);
    cbus_nats_subscribe(a->nats, "y", nats_client_on_message, a);
    nats_client_settle(a, b);
    cbus_nats_unsubscribe(a->nats, id);
    nats_client_settle(a, b);
    g_assert_true(nats_client_publish(b, "x", "x", 1));
    g_assert_true(nats_client_publish(b, "y", "y", 1));
    WAIT_UNTIL(a->messages->len > 0);
    g_assert_cmpuint(a->messages->len, ==, 1);
    g_assert_cmpstr(a->subjects->pdata[0], ==, "y");
}

#define ADD(name, data, func)                                                                                \
    g_test_add("/nats/" name, NatsFixture, data, nats_fixture_set_up, func, nats_fixture_tear_down)

int
main(int argc, char **argv)
{
    g_autofree char *server = g_find_program_in_path("nats-server");

    g_test_init(&argc, &argv, NULL);
    if (server == NULL) {
        g_test_message("no nats-server: the cases that need one are left out");
        return g_test_run();
    }
    ADD("messages-arrive-in-order", NULL, test_order);
    ADD("max-payload-is-the-servers", NULL, test_max_payload);
    ADD("a-max-payload-below-a-packet-is-refused", NULL, test_small_max_payload);
    ADD("no-responders-names-the-subject", NULL, test_no_responders);
    ADD("free-when-nobody-responds", NULL, test_free_when_nobody_responds);
    ADD("free-in-a-message-with-others-in-flight", NULL, test_free_in_flight);
    ADD("free-while-connecting", NULL, test_free_while_connecting);
    ADD("flush-before-free-loses-nothing", NULL, test_flush_before_free);
    ADD("full-queue-refuses-and-recovers", NULL, test_full_queue);
    ADD("headers-come-with-their-messages", NULL, test_headers);
    ADD("a-server-without-headers", NULL, test_without_headers);
    ADD("unsubscribed-is-not-called", NULL, test_unsubscribe);
    return g_test_run();
}
