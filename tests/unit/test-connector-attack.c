/* A network process that was taken over, against its connector: what it can say on its sockets, and that
 * none of it buys more than the design gives: connections of keys that the file names, framed signatures. */
#include "connector-sockets.h"
#include <fcntl.h>

#define ROUNDS 150

static void
assert_nothing_gained(int socket)
{
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);

    while (cbus_datagram_receive(socket, in, 0, NULL) == 1) {
        g_assert_cmpuint(in->type, !=, CBUS_DATAGRAM_SIGNED);
        g_assert_cmpuint(in->type, !=, CBUS_DATAGRAM_CONNECTED);
        g_assert_cmpint(in->fd, ==, -1);
    }
}

static gsize
random_length(void)
{
    static const gsize edges[] = {0, 1, 31, 32, 33, 63, 65, 95, 96, 97, 128, 4096, CBUS_DATAGRAM_MAX};

    return g_test_rand_int_range(0, 2) == 0 ? edges[g_test_rand_int_range(0, G_N_ELEMENTS(edges))]
                                            : (gsize)g_test_rand_int_range(0, 300);
}

static void
send_garbage(int socket, gboolean is_nonces)
{
    static guint8 payload[CBUS_DATAGRAM_MAX];
    gsize len = random_length();
    guint32 type =
        g_test_rand_int_range(0, 4) == 0 ? (guint32)g_test_rand_int() : (guint32)g_test_rand_int_range(0, 12);
    int passed = g_test_rand_int_range(0, 8) == 0 ? STDERR_FILENO : -1;

    randombytes_buf(payload, len);
    /* The one request that is its own permission: a transcript's hash, to be framed. */
    if (type == CBUS_DATAGRAM_SIGN && len == 64 && !is_nonces)
        len--;
    (void)!cbus_datagram_send(socket, type, (guint32)g_test_rand_int(), payload, len, passed, NULL);
}

static void
test_garbage_gains_nothing(Fixture *fixture, gconstpointer data)
{
    int listener = listen_as_bus(fixture);

    end_connector(fixture);
    for (guint round = 0; round < ROUNDS; round++) {
        start_connector(fixture, NULL);
        for (guint i = 0; i < 1 + round % 4; i++) {
            gboolean is_nonces = g_test_rand_int_range(0, 2) == 0;
            send_garbage(is_nonces ? fixture->ends.nonces : fixture->ends.requests, is_nonces);
        }
        shutdown(fixture->ends.requests, SHUT_WR);
        shutdown(fixture->ends.nonces, SHUT_WR);
        assert_nothing_gained(fixture->ends.requests);
        assert_nothing_gained(fixture->ends.nonces);
        /* It ends by itself, in order: no signal had to, and none came from within. */
        int status;
        g_assert_cmpint(waitpid(fixture->ends.pid, &status, 0), ==, fixture->ends.pid);
        fixture->ends.pid = 0;
        g_assert_true(WIFEXITED(status));
        end_connector(fixture);
    }
    close(listener);
}

/* The digest of KEY's line, from the table. */
static void
find_digest(Fixture *fixture, const CbusKey *key, guint8 digest[32])
{
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);

    for (;;) {
        g_assert_cmpint(cbus_datagram_receive(fixture->ends.requests, in, 0, NULL), ==, 1);
        if (in->type != CBUS_DATAGRAM_TABLE)
            continue;
        for (gsize at = 4; at + sizeof(CbusTableEntry) <= in->len; at += sizeof(CbusTableEntry)) {
            CbusTableEntry entry;
            memcpy(&entry, in->payload + at, sizeof entry);
            if (cbus_key_equal(&entry.key, key)) {
                memcpy(digest, entry.digest, sizeof entry.digest);
                return;
            }
        }
    }
}

/* Asks for a connection; returns the type of the answer. */
static guint32
ask(Fixture *fixture, const CbusKey *key, const guint8 digest[32])
{
    static guint32 id = 1000;
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);
    guint8 payload[64];

    memcpy(payload, key->bytes, 32);
    memcpy(payload + 32, digest, 32);
    g_assert_cmpint(cbus_datagram_send(fixture->ends.requests, CBUS_DATAGRAM_CONNECT, ++id, payload,
                                       sizeof payload, -1, NULL),
                    ==, 1);
    g_assert_true(receive_answer(fixture->ends.requests, id, in));
    g_assert_cmpint(in->fd >= 0, ==, in->type == CBUS_DATAGRAM_CONNECTED);
    if (in->fd >= 0)
        close(in->fd);
    return in->type;
}

static void
test_only_what_the_file_names_is_connected(Fixture *fixture, gconstpointer data)
{
    int listener = listen_as_bus(fixture);
    guint8 digest[32];

    find_digest(fixture, &key_a, digest);
    g_assert_cmpuint(ask(fixture, &key_a, digest), ==, CBUS_DATAGRAM_CONNECTED);
    g_assert_cmpuint(ask(fixture, &key_b, digest), ==, CBUS_DATAGRAM_FAILED);
    for (guint i = 0; i < 32; i++) {
        CbusKey other = key_a;
        other.bytes[i] ^= 1;
        g_assert_cmpuint(ask(fixture, &other, digest), ==, CBUS_DATAGRAM_FAILED);
        digest[i] ^= 1;
        g_assert_cmpuint(ask(fixture, &key_a, digest), ==, CBUS_DATAGRAM_FAILED);
        digest[i] ^= 1;
    }
    for (guint i = 0; i < 500; i++) {
        CbusKey other;
        randombytes_buf(other.bytes, sizeof other.bytes);
        g_assert_cmpuint(ask(fixture, &other, digest), ==, CBUS_DATAGRAM_FAILED);
    }
    /* It still serves, and what was taken out of the file is not served a moment longer. */
    g_assert_cmpuint(ask(fixture, &key_a, digest), ==, CBUS_DATAGRAM_CONNECTED);
    write_keys(fixture, line_b);
    gint64 deadline = g_get_monotonic_time() + PATIENCE_US;
    while (ask(fixture, &key_a, digest) == CBUS_DATAGRAM_CONNECTED)
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
    g_assert_cmpuint(ask(fixture, &key_a, digest), ==, CBUS_DATAGRAM_FAILED);
    close(listener);
    end_connector(fixture);
}

/* A user, a bus or a line number of one's own choice has no place in a request. */
static void
test_request_can_not_name_a_user(Fixture *fixture, gconstpointer data)
{
    static const char *const wishes[] = {"root", "\0\0\0\0", "unix:path=/run/dbus/system_bus_socket"};
    int listener = listen_as_bus(fixture);
    guint8 digest[32];

    find_digest(fixture, &key_a, digest);
    for (guint i = 0; i < G_N_ELEMENTS(wishes); i++) {
        guint8 payload[128];
        gsize len = i == 1 ? 4 : strlen(wishes[i]);
        int status;

        memcpy(payload, key_a.bytes, 32);
        memcpy(payload + 32, digest, 32);
        memcpy(payload + 64, wishes[i], len);
        g_assert_cmpint(
            cbus_datagram_send(fixture->ends.requests, CBUS_DATAGRAM_CONNECT, 7, payload, 64 + len, -1, NULL),
            ==, 1);
        assert_nothing_gained(fixture->ends.requests);
        g_assert_cmpint(waitpid(fixture->ends.pid, &status, 0), ==, fixture->ends.pid);
        fixture->ends.pid = 0;
        g_assert_true(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, 1);
        end_connector(fixture);
        start_connector(fixture, NULL);
    }
    close(listener);
    end_connector(fixture);
}

/* Sixty-four bytes may be anything, an SSH exchange hash say: what is signed is a transcript of an agent. */
static void
test_signature_is_good_for_nothing_else(Fixture *fixture, gconstpointer data)
{
    g_autofree CbusDatagram *in = g_new0(CbusDatagram, 1);
    const CbusKey *key = &fixture->ends.public_key;
    guint8 hash[64];

    randombytes_buf(hash, sizeof hash);
    g_assert_cmpint(
        cbus_datagram_send(fixture->ends.requests, CBUS_DATAGRAM_SIGN, 7, hash, sizeof hash, -1, NULL), ==,
        1);
    g_assert_true(receive_answer(fixture->ends.requests, 7, in));
    g_assert_cmpuint(in->type, ==, CBUS_DATAGRAM_SIGNED);
    g_assert_cmpint(crypto_sign_verify_detached(in->payload, hash, sizeof hash, key->bytes), !=, 0);
    g_assert_true(cbus_transcript_verify(key, CBUS_ROLE_AGENT, hash, sizeof hash, in->payload));
    g_assert_false(cbus_transcript_verify(key, CBUS_ROLE_PROXY, hash, sizeof hash, in->payload));
    end_connector(fixture);
}

/* KiB of the connector's anonymous memory. */
static guint64
resident(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid);
    g_autofree char *text = NULL;
    guint64 kib = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    const char *line = g_strstr_len(text, -1, "RssAnon:");
    g_assert_nonnull(line);
    g_autofree char *number = g_strndup(line + 8, strcspn(line + 8, "k"));
    g_strstrip(number);
    g_assert_true(g_ascii_string_to_unsigned(number, 10, 0, G_MAXUINT64, &kib, NULL));
    return kib;
}

static void
test_flood_that_is_not_read_costs_nothing(Fixture *fixture, gconstpointer data)
{
    guint8 payload[64] = {0};
    guint64 before = resident(fixture->ends.pid);
    guint sent = 0, quiet = 0;

    (void)fcntl(fixture->ends.requests, F_SETFL, fcntl(fixture->ends.requests, F_GETFL) | O_NONBLOCK);
    /* Until it has been stuck in its answers for a while. */
    while (quiet < 50) {
        gboolean sign = sent % 2 == 0;
        if (cbus_datagram_send(fixture->ends.requests, sign ? CBUS_DATAGRAM_SIGN : CBUS_DATAGRAM_CONNECT,
                               ++sent, payload, sizeof payload, -1, NULL) == 1) {
            quiet = 0;
            continue;
        }
        quiet++;
        (void)poll(NULL, 0, 2);
    }
    g_assert_cmpuint(resident(fixture->ends.pid), <, before + 1024);
    end_connector(fixture);
}

#define ADD(name, test) g_test_add("/connector-attack/" name, Fixture, NULL, set_up, test, tear_down)

int
main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    cbus_log_init("test-connector-attack", 0);
    line_a = make_line(1, &key_a);
    line_b = make_line(2, &key_b);
    ADD("garbage-gains-nothing", test_garbage_gains_nothing);
    ADD("only-what-the-file-names-is-connected", test_only_what_the_file_names_is_connected);
    ADD("request-can-not-name-a-user", test_request_can_not_name_a_user);
    ADD("signature-is-good-for-nothing-else", test_signature_is_good_for_nothing_else);
    ADD("flood-that-is-not-read-costs-nothing", test_flood_that_is_not_read_costs_nothing);
    status = g_test_run();
    g_free(line_a);
    g_free(line_b);
    return status;
}
