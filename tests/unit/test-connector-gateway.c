/* The connector and the gateway: a connection only when its own reading of [gateway] is whole and safe, as
 * the user that this names and no other, whatever the network process says or believes. */
#include "connector-sockets.h"
#include <pwd.h>

static char *config_file;

static const char *
our_name(void)
{
    return getpwuid(geteuid())->pw_name;
}

static void
write_config(const char *text, int mode)
{
    g_autofree char *fresh = g_strconcat(config_file, ".new", NULL);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(fresh, text, -1, &error);
    g_assert_no_error(error);
    g_assert_cmpint(g_chmod(fresh, mode), ==, 0);
    g_assert_cmpint(g_rename(fresh, config_file), ==, 0);
}

/* As set_up(), with a configuration: TEXT NULL is none. */
static void
restart(Fixture *fixture, const char *text, int mode)
{
    end_connector(fixture);
    g_free(config_file);
    config_file = g_build_filename(fixture->folder, "agent.conf", NULL);
    if (text != NULL)
        write_config(text, mode);
    start_connector(fixture, text != NULL ? config_file : NULL);
}

/* Asks with LEN bytes of payload. FALSE: the connector ended. */
static gboolean
ask(Fixture *fixture, gsize len, CbusDatagram *in)
{
    static const guint8 wish[8] = "root";
    static guint32 id = 100;

    g_assert_cmpint(
        cbus_datagram_send(fixture->ends.requests, CBUS_DATAGRAM_GATEWAY, ++id, wish, len, -1, NULL), ==, 1);
    if (!receive_answer(fixture->ends.requests, id, in))
        return FALSE;
    g_assert_cmpint(in->fd >= 0, ==, in->type == CBUS_DATAGRAM_CONNECTED);
    if (in->fd >= 0)
        close(in->fd);
    return TRUE;
}

static void
assert_connected_as(const CbusDatagram *in, guint32 uid, const char *name)
{
    guint32 got;

    g_assert_cmpuint(in->type, ==, CBUS_DATAGRAM_CONNECTED);
    memcpy(&got, in->payload, sizeof got);
    g_assert_cmpuint(got, ==, uid);
    g_assert_cmpmem(in->payload + sizeof got, in->len - sizeof got, name, strlen(name));
}

static void
test_only_a_whole_configuration_connects(Fixture *fixture, gconstpointer data)
{
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);
    g_autofree char *user_alone = g_strdup_printf("[gateway]\nuser=%s\n", our_name());
    g_autofree char *no_policy = g_strdup_printf("[gateway]\nuser=%s\npolicy=other\n", our_name());
    g_autofree char *extra = g_strdup_printf("[gateway]\nuser=%s\npolicy=readonly\nroot=yes\n", our_name());
    g_autofree char *whole = g_strdup_printf("[gateway]\nuser=%s\npolicy=readonly\n", our_name());
    const char *const faulty[] = {NULL,
                                  "",
                                  "[agent]\naudit=off\n",
                                  "[gateway]\npolicy=readonly\n",
                                  user_alone,
                                  no_policy,
                                  extra,
                                  "[gateway]\nuser=no-such-user\npolicy=readonly\n"};
    int listener = listen_as_bus(fixture);

    for (guint i = 0; i < G_N_ELEMENTS(faulty); i++) {
        restart(fixture, faulty[i], 0644);
        g_assert_true(ask(fixture, 0, in));
        g_assert_cmpuint(in->type, ==, CBUS_DATAGRAM_FAILED);
        g_autofree char *reason = cbus_datagram_reason(in);
        g_assert_cmpstr(reason, ==, "the configuration has no [gateway] with user= and policy=");
    }
    restart(fixture, whole, 0666);
    g_assert_true(ask(fixture, 0, in));
    g_assert_cmpuint(in->type, ==, CBUS_DATAGRAM_FAILED);
    restart(fixture, whole, 0644);
    g_assert_true(ask(fixture, 0, in));
    assert_connected_as(in, geteuid(), our_name());
    close(listener);
    end_connector(fixture);
}

static void
test_another_user(Fixture *fixture, gconstpointer data)
{
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);
    const struct passwd *nobody = getpwnam("nobody");
    int listener = listen_as_bus(fixture);

    g_assert_nonnull(nobody);
    guint32 uid = nobody->pw_uid;
    restart(fixture, "[gateway]\nuser=nobody\npolicy=readonly\n", 0644);
    g_assert_true(ask(fixture, 0, in));
    if (geteuid() == 0)
        assert_connected_as(in, uid, "nobody");
    else
        g_assert_cmpuint(in->type, ==, CBUS_DATAGRAM_FAILED);
    close(listener);
    end_connector(fixture);
}

static void
test_a_request_has_no_wishes(Fixture *fixture, gconstpointer data)
{
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);
    g_autofree char *whole = g_strdup_printf("[gateway]\nuser=%s\npolicy=readonly\n", our_name());
    int listener = listen_as_bus(fixture), status;

    restart(fixture, whole, 0644);
    g_assert_false(ask(fixture, 5, in));
    g_assert_cmpint(waitpid(fixture->ends.pid, &status, 0), ==, fixture->ends.pid);
    fixture->ends.pid = 0;
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    close(listener);
    end_connector(fixture);
}

static void
on_connected(int fd, guint32 uid, const char *user, const GError *error, gpointer user_data)
{
    Fixture *fixture = user_data;

    if (fd >= 0)
        close(fd);
    g_free(fixture->failure);
    fixture->failure = error != NULL ? g_strdup(error->message) : NULL;
    fixture->uid = uid;
    fixture->answered = TRUE;
}

static void
connect_gateway(Fixture *fixture)
{
    fixture->answered = FALSE;
    g_assert_cmpuint(cbus_connector_client_connect_gateway(fixture->client, on_connected, fixture), !=, 0);
    iterate_until(fixture, (guint *)&fixture->answered, TRUE);
}

static void
test_the_client_follows_the_file(Fixture *fixture, gconstpointer data)
{
    g_autofree char *whole =
        g_strdup_printf("[gateway]\nuser=%s\npolicy=units\nbroadcast=yes\ntimeout=7\n", our_name());
    g_autofree char *again = g_strdup_printf("[gateway]\nuser=%s\npolicy=units\n", our_name());
    int listener = listen_as_bus(fixture);
    const CbusGatewayConfig *gateway;

    restart(fixture, whole, 0644);
    attach(fixture);
    gateway = cbus_connector_client_gateway(fixture->client);
    g_assert_nonnull(gateway);
    g_assert_cmpstr(gateway->user, ==, our_name());
    g_assert_cmpstr(gateway->policy, ==, "units");
    g_assert_true(gateway->broadcast);
    g_assert_cmpuint(gateway->timeout_ms, ==, 7000);
    connect_gateway(fixture);
    g_assert_null(fixture->failure);
    g_assert_cmpuint(fixture->uid, ==, geteuid());

    write_config("[gateway]\nuser=no-such-user\npolicy=units\n", 0644);
    iterate_until(fixture, &fixture->tables, 2);
    g_assert_null(cbus_connector_client_gateway(fixture->client));
    connect_gateway(fixture);
    g_assert_nonnull(fixture->failure);

    write_config(again, 0644);
    iterate_until(fixture, &fixture->tables, 3);
    gateway = cbus_connector_client_gateway(fixture->client);
    g_assert_nonnull(gateway);
    g_assert_false(gateway->broadcast);
    g_assert_cmpuint(gateway->timeout_ms, ==, 25000);
    close(listener);
}

#define ADD(name, test) g_test_add("/connector-gateway/" name, Fixture, NULL, set_up, test, tear_down)

int
main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    cbus_log_init("test-connector-gateway", 0);
    line_a = make_line(1, &key_a);
    line_b = make_line(2, &key_b);
    ADD("only-a-whole-configuration-connects", test_only_a_whole_configuration_connects);
    ADD("another-user", test_another_user);
    ADD("a-request-has-no-wishes", test_a_request_has_no_wishes);
    ADD("the-client-follows-the-file", test_the_client_follows_the_file);
    status = g_test_run();
    g_free(config_file);
    g_free(line_a);
    g_free(line_b);
    return status;
}
