/* How CBus logs in to NATS, and what it says when it is not let in. */
#include "nats-fixture.h"
#include "wire/secret.h"
#include <string.h>

static void
test_wrong_login(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;

    nats_fixture_start_server(fixture, "authorization { user: u, password: secret }");
    client = nats_client_new_with(fixture, "u:wrong@", (CbusNatsOptions){0});
    cbus_nats_start(client->nats);
    WAIT_UNTIL(client->failed == 5);
    g_assert_error(client->reason, CBUS_NATS_ERROR, CBUS_NATS_ERROR_LOGIN);
    g_assert_nonnull(g_strstr_len(client->reason->message, -1, "127.0.0.1"));
    g_assert_null(g_strstr_len(client->reason->message, -1, "wrong"));
    g_assert_cmpuint(client->last_pause, >=, 20 * 16 * 3 / 4);
    g_assert_cmpuint(client->up, ==, 0);
}

static void
test_user_and_password(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;

    nats_fixture_start_server(fixture, "authorization { user: u, password: secret }");
    client = nats_client_new_with(fixture, "u:secret@", (CbusNatsOptions){0});
    nats_client_connect(client);
}

static void
test_token(NatsFixture *fixture, gconstpointer data)
{
    g_autoptr(NatsClient) client = NULL;

    nats_fixture_start_server(fixture, "authorization { token: t0ken }");
    client = nats_client_new_with(fixture, "t0ken@", (CbusNatsOptions){0});
    nats_client_connect(client);
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
test_nkey(NatsFixture *fixture, gconstpointer data)
{
    static const guint8 seed[32] = {1, 2, 3};
    g_autoptr(CbusSecret) secret = cbus_secret_new_from_seed(seed);
    const CbusKey *key = cbus_secret_public(secret);
    char nkey[CBUS_NKEY_LENGTH + 1];
    g_autofree char *config = NULL;
    g_autoptr(NatsClient) client = NULL;
    g_autoptr(NatsClient) refused = NULL;
    g_autoptr(NatsClient) plain = NULL;

    cbus_nkey_encode(key, nkey);
    config = g_strdup_printf("authorization { users: [ { nkey: %s } ] }", nkey);
    nats_fixture_start_server(fixture, config);
    client = nats_client_new_with(fixture, "",
                                  (CbusNatsOptions){.identity = key, .signer = sign, .signer_data = secret});
    nats_client_connect(client);
    refused = nats_client_new_with(fixture, "", (CbusNatsOptions){.identity = key, .signer = refuse_to_sign});
    cbus_nats_start(refused->nats);
    WAIT_UNTIL(refused->failed == 1);
    g_assert_nonnull(g_strstr_len(refused->reason->message, -1, "on strike"));
    nats_fixture_stop_server(fixture);
    nats_fixture_start_server(fixture, "");
    plain = nats_client_new_with(fixture, "", (CbusNatsOptions){.identity = key, .signer = refuse_to_sign});
    nats_client_connect(plain);
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
        {{.urls = "user:p://secret@host:0"}, "'nats://host:0'"},
        {{.urls = "nats://user:secret,secret:x@host"}, "'nats://user'"},
        {{.urls = "http+x://user:secret@host"}, "'http+x://host'"},
        {{.urls = "nats://host", .cert_file = "x"}, "--cert-key"},
        {{.urls = "nats://host", .jwt_file = "x"}, "--jwt"},
        {{.urls = "nats://host", .jwt_file = "x", .creds_file = "y"}, "--creds"},
    };
    CbusLoop loop = {.context = g_main_context_default()};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(cbus_nats_new(&loop, &cases[i].options, &(CbusNatsHandler){0}, NULL, &error));
        g_assert_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS);
        g_assert_nonnull(g_strstr_len(error->message, -1, cases[i].names));
        g_assert_null(g_strstr_len(error->message, -1, "secret"));
    }
}

static void
test_jwt_file_is_read_at_each_attempt(NatsFixture *fixture, gconstpointer data)
{
    static const guint8 seed[32] = {1, 2, 3};
    g_autoptr(CbusSecret) secret = cbus_secret_new_from_seed(seed);
    g_autofree char *file = g_build_filename(fixture->dir, "user.jwt", NULL);
    g_autoptr(NatsClient) client = NULL;

    nats_fixture_start_server(fixture, "");
    client = nats_client_new_with(
        fixture, "",
        (CbusNatsOptions){
            .jwt_file = file, .identity = cbus_secret_public(secret), .signer = sign, .signer_data = secret});
    cbus_nats_start(client->nats);
    WAIT_UNTIL(client->failed == 1);
    g_assert_nonnull(g_strstr_len(client->reason->message, -1, file));
    g_assert_true(g_file_set_contents(file, " \n", -1, NULL));
    WAIT_UNTIL(g_strstr_len(client->reason->message, -1, "holds no user JWT") != NULL);
    g_assert_true(g_file_set_contents(
        file, "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n", -1, NULL));
    WAIT_UNTIL(client->up == 1);
}

static void
test_tls(NatsFixture *fixture, gconstpointer data)
{
    g_autofree char *ca = g_build_filename(fixture->dir, "cert.pem", NULL);
    g_autofree char *config = NULL;
    g_autofree guint8 *bytes = g_malloc0(1024 * 1024);
    g_autoptr(NatsClient) a = NULL;
    g_autoptr(NatsClient) b = NULL;
    g_autoptr(NatsClient) stranger = NULL;

    config = nats_fixture_make_tls(fixture);
    nats_fixture_start_server(fixture, config);
    a = nats_client_new_with(fixture, "", (CbusNatsOptions){.ca_file = ca});
    b = nats_client_new_with(fixture, "", (CbusNatsOptions){.ca_file = ca});
    cbus_nats_subscribe(a->nats, "x", nats_client_on_message, a);
    nats_client_connect(a);
    nats_client_connect(b);
    nats_client_settle(a, b);
    for (guint i = 0; i < 20; i++)
        g_assert_true(nats_client_publish(b, "x", bytes, i % 2 ? 1024 * 1024 : i));
    WAIT_UNTIL(a->messages->len == 20);
    for (guint i = 0; i < 20; i++)
        g_assert_cmpuint(g_bytes_get_size(a->messages->pdata[i]), ==, i % 2 ? 1024 * 1024 : i);
    stranger = nats_client_new(fixture);
    cbus_nats_start(stranger->nats);
    WAIT_UNTIL(stranger->failed == 1);
    g_assert_nonnull(g_strstr_len(stranger->reason->message, -1, "certificate"));
}

#define ADD(name, data, func)                                                                                \
    g_test_add("/nats-login/" name, NatsFixture, data, nats_fixture_set_up, func, nats_fixture_tear_down)

int
main(int argc, char **argv)
{
    g_autofree char *server = g_find_program_in_path("nats-server");
    g_autofree char *openssl = g_find_program_in_path("openssl");

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nats-login/bad-options-are-named", test_bad_options);
    if (server == NULL) {
        g_test_message("no nats-server: the cases that need one are left out");
        return g_test_run();
    }
    ADD("wrong-login-says-so-and-slows-down", NULL, test_wrong_login);
    ADD("user-and-password", NULL, test_user_and_password);
    ADD("token", NULL, test_token);
    ADD("nkey", NULL, test_nkey);
    ADD("jwt-file-is-read-at-each-attempt", NULL, test_jwt_file_is_read_at_each_attempt);
    if (openssl != NULL)
        ADD("tls", NULL, test_tls);
    return g_test_run();
}
