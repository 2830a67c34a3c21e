/* What the connector promises, with its real processes: connections that the bus takes for the user's, only
 * for authorized lines; signatures for two things alone; the end at the first request that makes no sense. */
#include "connector-fixture.h"

#include "link/bus.h"
#include "nonces.h"
#include "wire/body.h"
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static void
start_bus(Fixture *fixture)
{
    g_autofree char *config = g_build_filename(fixture->folder, "bus.conf", NULL);
    g_autofree char *text =
        g_strdup_printf("<busconfig><type>custom</type><listen>%s</listen><auth>EXTERNAL</auth>"
                        "<policy context=\"default\"><allow send_destination=\"*\"/>"
                        "<allow receive_sender=\"*\"/><allow user=\"*\"/></policy></busconfig>",
                        fixture->address);
    g_autofree char *option = g_strconcat("--config-file=", config, NULL);
    const char *argv[] = {"dbus-daemon", "--nofork", "--print-address=1", option, NULL};
    g_autoptr(GError) error = NULL;
    char byte;
    int out;

    g_file_set_contents(config, text, -1, &error);
    g_assert_no_error(error);
    g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                             NULL, &fixture->daemon, NULL, &out, NULL, &error);
    g_assert_no_error(error);
    /* Its address comes once it listens. */
    g_assert_cmpint(read(out, &byte, 1), ==, 1);
    close(out);
}

static void
on_connected(int fd, guint32 uid, const char *user, const GError *error, gpointer user_data)
{
    Fixture *fixture = user_data;

    if (fixture->fd >= 0)
        close(fixture->fd);
    g_free(fixture->failure);
    fixture->failure = error != NULL ? g_strdup(error->message) : NULL;
    fixture->fd = fd;
    fixture->uid = uid;
    g_free(fixture->user);
    fixture->user = g_strdup(user);
    fixture->answered = TRUE;
}

static void
ask_connection(Fixture *fixture, const CbusKey *key, const guint8 *digest)
{
    fixture->answered = FALSE;
    g_assert_cmpuint(cbus_connector_client_connect(fixture->client, key, digest, on_connected, fixture), !=,
                     0);
}

static void
connect_as(Fixture *fixture, const CbusKey *key)
{
    const CbusTableEntry *entry = cbus_connector_client_lookup(fixture->client, key);

    g_assert_nonnull(entry);
    ask_connection(fixture, key, entry->digest);
    iterate_until(fixture, (guint *)&fixture->answered, TRUE);
}

static void
on_signed(const guint8 *signature, const GError *error, gpointer user_data)
{
    Fixture *fixture = user_data;

    fixture->signed_or_failed = TRUE;
    g_free(fixture->sign_failure);
    fixture->sign_failure = error != NULL ? g_strdup(error->message) : NULL;
    if (signature != NULL)
        memcpy(fixture->signature, signature, sizeof fixture->signature);
}

/* What the bus says of a connection: it is greeted, then asked for its own credentials. */
typedef struct {
    guint replies;
    guint32 pid, uid;
} Credentials;

static void
on_bus_message(CbusBus *bus, const guint8 *data, gsize size, gpointer user_data)
{
    Credentials *credentials = user_data;
    CbusMessage message;

    g_assert_true(cbus_message_view(&message, data, size, NULL));
    if (message.type == CBUS_MESSAGE_SIGNAL)
        return;
    g_assert_cmpint(message.type, ==, CBUS_MESSAGE_RETURN);
    credentials->replies++;
    CbusCursor cursor = cbus_cursor(&message);
    if (message.reply_serial == 2)
        g_assert_true(cbus_cursor_u32(&cursor, &credentials->pid));
    else if (message.reply_serial == 3)
        g_assert_true(cbus_cursor_u32(&cursor, &credentials->uid));
    else
        g_assert_cmpuint(message.reply_serial, ==, 1);
    if (message.reply_serial != 1)
        return;
    CbusSpan name;
    g_assert_true(cbus_cursor_string(&cursor, &name));
    for (guint32 serial = 2; serial <= 3; serial++) {
        const CbusHeader header = {
            .type = CBUS_MESSAGE_CALL,
            .serial = serial,
            .path = CBUS_SPAN_LITERAL("/org/freedesktop/DBus"),
            .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus"),
            .member = cbus_span(serial == 2 ? "GetConnectionUnixProcessID" : "GetConnectionUnixUser"),
            .destination = CBUS_SPAN_LITERAL("org.freedesktop.DBus")};
        cbus_message_append(cbus_bus_begin(bus), &header, "s", name.text);
        cbus_bus_end(bus);
    }
}

static void
on_bus_ready(CbusBus *bus, gpointer user_data)
{
}

static void
on_bus_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    g_error("the bus closed: %s", reason->message);
}

static Credentials
ask_credentials(Fixture *fixture)
{
    const CbusBusHandler handler = {
        .ready = on_bus_ready, .message = on_bus_message, .closed = on_bus_closed};
    const CbusHeader hello = {.type = CBUS_MESSAGE_CALL,
                              .serial = 1,
                              .path = CBUS_SPAN_LITERAL("/org/freedesktop/DBus"),
                              .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus"),
                              .member = CBUS_SPAN_LITERAL("Hello"),
                              .destination = CBUS_SPAN_LITERAL("org.freedesktop.DBus")};
    g_autoptr(GError) error = NULL;
    Credentials credentials = {0};
    CbusBus *bus;

    g_assert_cmpint(fixture->fd, >=, 0);
    bus = cbus_bus_new(&fixture->loop, fixture->fd, CBUS_BUS_CLIENT, fixture->uid, 1 << 20, 1 << 20, &handler,
                       &credentials, &error);
    fixture->fd = -1;
    g_assert_no_error(error);
    cbus_message_append(cbus_bus_begin(bus), &hello, "");
    cbus_bus_end(bus);
    iterate_until(fixture, &credentials.replies, 3);
    cbus_bus_free(bus);
    return credentials;
}

static void
test_connects_as_user(Fixture *fixture, gconstpointer data)
{
    Credentials first, second;
    uid_t wanted = data != NULL ? 65534 : geteuid();

    start_bus(fixture);
    connect_as(fixture, &key_a);
    g_assert_null(fixture->failure);
    g_assert_cmpuint(fixture->uid, ==, wanted);
    g_assert_cmpstr(fixture->user, ==, data != NULL ? (const char *)data : g_get_user_name());
    first = ask_credentials(fixture);
    g_assert_cmpuint(first.uid, ==, wanted);
    g_assert_cmpuint(first.pid, !=, getpid());
    g_assert_cmpuint(first.pid, !=, fixture->ends.pid);
    /* polkit and logind look at the process later: it is the user's, and it is still there. */
    g_autofree char *proc = g_strdup_printf("/proc/%u/status", first.pid);
    g_autofree char *status = NULL;
    g_assert_true(g_file_get_contents(proc, &status, NULL, NULL));
    g_autofree char *uids = g_strdup_printf("Uid:\t%u\t%u\t%u\t%u\n", wanted, wanted, wanted, wanted);
    g_assert_nonnull(g_strstr_len(status, -1, uids));
    connect_as(fixture, &key_a);
    second = ask_credentials(fixture);
    g_assert_cmpuint(second.pid, ==, first.pid);
}

/* Two callers with lines of two users, and one without. */
static void
test_each_line_has_its_user(Fixture *fixture, gconstpointer data)
{
    g_autofree char *text = g_strdup_printf("user=\"nobody\" %s\nuser=\"root\" %s\n", line_a, line_b);
    Credentials nobody, root;

    start_bus(fixture);
    write_keys(fixture, text);
    iterate_until(fixture, &fixture->tables, 2);
    connect_as(fixture, &key_a);
    g_assert_cmpuint(fixture->uid, ==, 65534);
    g_assert_cmpstr(fixture->user, ==, "nobody");
    nobody = ask_credentials(fixture);
    g_assert_cmpuint(nobody.uid, ==, 65534);
    connect_as(fixture, &key_b);
    g_assert_cmpuint(fixture->uid, ==, 0);
    root = ask_credentials(fixture);
    g_assert_cmpuint(root.uid, ==, 0);
    g_assert_cmpuint(root.pid, !=, nobody.pid);
    /* One that ends is none of the other's business. */
    g_assert_cmpint(kill((pid_t)root.pid, SIGKILL), ==, 0);
    connect_as(fixture, &key_a);
    g_assert_null(fixture->failure);
    g_assert_cmpuint(ask_credentials(fixture).pid, ==, nobody.pid);
}

static void
test_unknown_user_refuses_the_line(Fixture *fixture, gconstpointer data)
{
    g_autofree char *text = g_strdup_printf("user=\"no-such-user-here\" %s\n%s\n", line_a, line_b);

    write_keys(fixture, text);
    iterate_until(fixture, &fixture->tables, 2);
    g_assert_null(cbus_connector_client_lookup(fixture->client, &key_a));
    g_assert_nonnull(cbus_connector_client_lookup(fixture->client, &key_b));
}

static void
test_other_keys_get_no_connection(Fixture *fixture, gconstpointer data)
{
    guint8 digest[32] = {0};

    start_bus(fixture);
    g_assert_null(cbus_connector_client_lookup(fixture->client, &key_b));
    ask_connection(fixture, &key_b, digest);
    iterate_until(fixture, (guint *)&fixture->answered, TRUE);
    g_assert_cmpint(fixture->fd, ==, -1);
    g_assert_nonnull(fixture->failure);
    /* Authorized, but under a line that says something else now. */
    ask_connection(fixture, &key_a, digest);
    iterate_until(fixture, (guint *)&fixture->answered, TRUE);
    g_assert_cmpint(fixture->fd, ==, -1);
    g_assert_nonnull(fixture->failure);
}

static void
test_missing_bus_is_an_error(Fixture *fixture, gconstpointer data)
{
    connect_as(fixture, &key_a);
    g_assert_cmpint(fixture->fd, ==, -1);
    g_assert_nonnull(g_strstr_len(fixture->failure, -1, fixture->socket));
}

/* A bus that never accepts: its backlog is full. */
static int
hang_bus(Fixture *fixture, int waiting[4])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, fixture->socket, sizeof address.sun_path);
    g_assert_cmpint(bind(listener, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(g_chmod(fixture->socket, 0666), ==, 0);
    g_assert_cmpint(listen(listener, 0), ==, 0);
    for (int i = 0; i < 4; i++) {
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(waiting[i], (struct sockaddr *)&address, sizeof address);
    }
    return listener;
}

static void
test_hanging_bus_holds_nobody_up(Fixture *fixture, gconstpointer data)
{
    CbusSigner *signer = cbus_connector_client_signer(fixture->client);
    guint8 transcript[64] = {7};
    int waiting[4], listener = hang_bus(fixture, waiting);

    ask_connection(fixture, &key_a, cbus_connector_client_lookup(fixture->client, &key_a)->digest);
    signer->sign_transcript(signer, transcript, sizeof transcript, on_signed, fixture);
    iterate_until(fixture, (guint *)&fixture->signed_or_failed, TRUE);
    g_assert_null(fixture->sign_failure);
    g_assert_false(fixture->answered);
    iterate_until(fixture, (guint *)&fixture->answered, TRUE);
    g_assert_nonnull(g_strstr_len(fixture->failure, -1, "busy"));
    for (int i = 0; i < 4; i++)
        close(waiting[i]);
    close(listener);
}

static void
test_ended_child_is_replaced(Fixture *fixture, gconstpointer data)
{
    Credentials before, after;

    start_bus(fixture);
    connect_as(fixture, &key_a);
    before = ask_credentials(fixture);
    g_assert_cmpint(kill((pid_t)before.pid, SIGKILL), ==, 0);
    do
        connect_as(fixture, &key_a);
    while (fixture->failure != NULL);
    after = ask_credentials(fixture);
    g_assert_cmpuint(after.pid, !=, before.pid);
    g_assert_cmpuint(after.uid, ==, before.uid);
}

static void
test_signs_transcripts(Fixture *fixture, gconstpointer data)
{
    CbusSigner *signer = cbus_connector_client_signer(fixture->client);
    guint8 transcript[64];

    randombytes_buf(transcript, sizeof transcript);
    signer->sign_transcript(signer, transcript, sizeof transcript, on_signed, fixture);
    iterate_until(fixture, (guint *)&fixture->signed_or_failed, TRUE);
    g_assert_null(fixture->sign_failure);
    g_assert_true(cbus_transcript_verify(&signer->public_key, CBUS_ROLE_AGENT, transcript, sizeof transcript,
                                         fixture->signature));
    g_assert_false(cbus_transcript_verify(&signer->public_key, CBUS_ROLE_PROXY, transcript, sizeof transcript,
                                          fixture->signature));
}

/* Past the checks of the client: what a network process that was taken over can ask. */
static gboolean
sign_datagram(const char *nonce, gsize len, guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data)
{
    const Fixture *fixture = user_data;
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);

    g_assert_cmpint(
        cbus_datagram_send(fixture->ends.nonces, CBUS_DATAGRAM_NONCE, (guint32)len, nonce, len, -1, NULL), ==,
        1);
    g_assert_cmpint(cbus_datagram_receive(fixture->ends.nonces, in, 0, NULL), ==, 1);
    g_assert_cmpuint(in->id, ==, len);
    if (in->type == CBUS_DATAGRAM_FAILED)
        return FALSE;
    g_assert_cmpuint(in->type, ==, CBUS_DATAGRAM_SIGNED);
    g_assert_cmpuint(in->len, ==, CBUS_SIGNATURE_BYTES);
    memcpy(signature, in->payload, CBUS_SIGNATURE_BYTES);
    return TRUE;
}

static void
test_signs_nonces(Fixture *fixture, gconstpointer data)
{
    CbusSigner *signer = cbus_connector_client_signer(fixture->client);

    check_nonces(&signer->public_key, FALSE, sign_string, signer);
    check_nonces(&signer->public_key, TRUE, sign_datagram, fixture);
}

/* Waits until the process is gone, and says how it ended. */
static int
await_end(Fixture *fixture)
{
    int status;

    g_assert_cmpint(waitpid(fixture->ends.pid, &status, 0), ==, fixture->ends.pid);
    fixture->ends.pid = 0;
    return status;
}

/* Takes what came before the end; no signature may be among it. */
static void
assert_nothing_signed(int socket)
{
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);

    while (cbus_datagram_receive(socket, in, 0, NULL) == 1)
        g_assert_cmpuint(in->type, !=, CBUS_DATAGRAM_SIGNED);
}

static void
send_bad(Fixture *fixture, int socket, guint32 type, const char *payload, gsize len, int passed)
{
    g_assert_cmpint(cbus_datagram_send(socket, type, 1, payload, len, passed, NULL), ==, 1);
    assert_nothing_signed(socket);
    int status = await_end(fixture);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    close(fixture->ends.requests);
    close(fixture->ends.nonces);
}

static void
test_unknown_request_ends_it(Fixture *fixture, gconstpointer data)
{
    send_bad(fixture, fixture->ends.requests, 99, "garbage", 7, -1);
}

static void
test_short_transcript_ends_it(Fixture *fixture, gconstpointer data)
{
    char transcript[64] = {0};

    send_bad(fixture, fixture->ends.requests, CBUS_DATAGRAM_SIGN, transcript, 63, -1);
}

/* On the loop's socket a nonce is no request, and a transcript is none on the other. */
static void
test_sockets_have_one_purpose(Fixture *fixture, gconstpointer data)
{
    char transcript[64] = {0};

    send_bad(fixture, fixture->ends.nonces, CBUS_DATAGRAM_SIGN, transcript, 64, -1);
}

static void
test_descriptor_ends_it(Fixture *fixture, gconstpointer data)
{
    send_bad(fixture, fixture->ends.requests, CBUS_DATAGRAM_RELOAD, NULL, 0, 2);
}

static void
test_tiny_datagram_ends_it(Fixture *fixture, gconstpointer data)
{
    int status;

    g_assert_cmpint(send(fixture->ends.requests, "x", 1, MSG_NOSIGNAL), ==, 1);
    status = await_end(fixture);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    close(fixture->ends.requests);
    close(fixture->ends.nonces);
}

static void
test_ends_with_its_sockets(Fixture *fixture, gconstpointer data)
{
    int status;

    /* SIGTERM goes to the whole service: the connector has to outlive it, else links end without a word. */
    g_assert_cmpint(kill(fixture->ends.pid, SIGTERM), ==, 0);
    g_assert_cmpint(kill(fixture->ends.pid, SIGINT), ==, 0);
    close(fixture->ends.requests);
    close(fixture->ends.nonces);
    status = await_end(fixture);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

static void
test_loss_is_told_once(Fixture *fixture, gconstpointer data)
{
    end_process(&fixture->ends.pid);
    iterate_until(fixture, &fixture->lost, 1);
    while (g_main_context_iteration(fixture->loop.context, FALSE))
        continue;
    g_assert_cmpuint(fixture->lost, ==, 1);
}

static void
test_unusable_key_is_said(void)
{
    const CbusConnectorOptions options = {.key_file = "/nonexistent/key",
                                          .authorized_keys = "/nonexistent/keys",
                                          .bus = "unix:path=/nonexistent"};
    g_autoptr(GError) error = NULL;
    CbusConnectorEnds ends;

    g_assert_false(cbus_connector_start(&options, &ends, &error));
    g_assert_nonnull(g_strstr_len(error->message, -1, "/nonexistent/key"));
}

#define ADD(name, data, setup, test) g_test_add("/connector/" name, Fixture, data, setup, test, tear_down)

int
main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    cbus_log_init("test-connector", 0);
    line_a = make_line(1, &key_a);
    line_b = make_line(2, &key_b);
    ADD("connects-as-oneself", NULL, set_up_client, test_connects_as_user);
    if (geteuid() == 0)
        ADD("connects-as-another-user", "nobody", set_up_client, test_connects_as_user);
    if (geteuid() == 0)
        ADD("each-line-has-its-user", NULL, set_up_client, test_each_line_has_its_user);
    ADD("unknown-user-refuses-the-line", NULL, set_up_client, test_unknown_user_refuses_the_line);
    ADD("other-keys-get-no-connection", NULL, set_up_client, test_other_keys_get_no_connection);
    ADD("missing-bus-is-an-error", NULL, set_up_client, test_missing_bus_is_an_error);
    ADD("hanging-bus-holds-nobody-up", NULL, set_up_client, test_hanging_bus_holds_nobody_up);
    ADD("ended-child-is-replaced", NULL, set_up_client, test_ended_child_is_replaced);
    ADD("signs-transcripts", NULL, set_up_client, test_signs_transcripts);
    ADD("signs-nonces", NULL, set_up_client, test_signs_nonces);
    ADD("unknown-request-ends-it", NULL, set_up, test_unknown_request_ends_it);
    ADD("short-transcript-ends-it", NULL, set_up, test_short_transcript_ends_it);
    ADD("sockets-have-one-purpose", NULL, set_up, test_sockets_have_one_purpose);
    ADD("descriptor-ends-it", NULL, set_up, test_descriptor_ends_it);
    ADD("tiny-datagram-ends-it", NULL, set_up, test_tiny_datagram_ends_it);
    ADD("ends-with-its-sockets", NULL, set_up, test_ends_with_its_sockets);
    ADD("loss-is-told-once", NULL, set_up_client, test_loss_is_told_once);
    g_test_add_func("/connector/unusable-key-is-said", test_unusable_key_is_said);
    status = g_test_run();
    g_free(line_a);
    g_free(line_b);
    return status;
}
