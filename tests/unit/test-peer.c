/* What a proxy gets of an agent over its link: a real bus connection a channel, and nothing past it. A whole
 * agent half: two links back to back, the connector's real processes, a private bus. */
#include "link-pair.h"

#include "agent/peer.h"
#include "link/log.h"
#include "private_bus.h"
#include "wire/body.h"
#include "wire/tree.h"
#include <glib/gstdio.h>
#include <poll.h>
#include <sodium.h>

#define LIMIT (1024 * 1024)

typedef struct {
    Pair *pair;
    PrivateBus bus;
    char *folder, *key_file, *keys_file;
    CbusConnectorEnds ends;
    CbusHost host;
    CbusServerInfo *info;
    CbusPeer *peer;
    guint tables, peer_ended;
    guint taken; /* messages of the proxy's end that were looked at */
} Fixture;

static CbusKey caller;

static void
on_changed(gpointer user_data)
{
    ((Fixture *)user_data)->tables++;
}

static void
on_lost(const GError *reason, gpointer user_data)
{
    g_error("the connector: %s", reason->message);
}

static void
on_peer_ended(CbusPeer *peer, const GError *reason, gpointer user_data)
{
    ((Fixture *)user_data)->peer_ended++;
}

/* Lets both ends and the machine's bus work until CONDITION. */
#define WAIT_FOR(fixture, condition)                                                                         \
    do {                                                                                                     \
        gint64 deadline_ = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;                                     \
        while (!(condition)) {                                                                               \
            if (g_get_monotonic_time() > deadline_)                                                          \
                g_error("%s did not come about; the proxy's log: %s", #condition,                            \
                        (fixture)->pair->proxy.log->str);                                                    \
            pair_settle((fixture)->pair);                                                                    \
            (void)poll(NULL, 0, 1);                                                                          \
        }                                                                                                    \
    } while (0)

static void
write_files(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;
    char nkey[CBUS_NKEY_LENGTH + 1];

    fixture->folder = g_dir_make_tmp("cbus-peer-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->key_file = g_build_filename(fixture->folder, "key", NULL);
    fixture->keys_file = g_build_filename(fixture->folder, "authorized_keys", NULL);
    const char *keygen[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", fixture->key_file, NULL};
    g_spawn_sync(NULL, (char **)keygen, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    cbus_nkey_encode(&caller, nkey);
    g_file_set_contents(fixture->keys_file, nkey, -1, &error);
    g_assert_no_error(error);
    g_assert_cmpint(g_chmod(fixture->keys_file, 0600), ==, 0);
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    static const CbusConnectorHandler handler = {.authorized_changed = on_changed, .lost = on_lost};
    g_autoptr(GError) error = NULL;

    write_files(fixture);
    private_bus_start(&fixture->bus);
    const CbusConnectorOptions options = {
        .key_file = fixture->key_file, .authorized_keys = fixture->keys_file, .bus = fixture->bus.address};
    g_assert_true(cbus_connector_start(&options, &fixture->ends, &error));
    g_assert_no_error(error);
    fixture->pair = pair_new();
    fixture->pair->loop.poller = cbus_poller_new(fixture->pair->loop.context, &error);
    g_assert_no_error(error);
    fixture->host.loop = &fixture->pair->loop;
    fixture->host.quota = cbus_quota_new();
    fixture->host.audit =
        cbus_audit_new(fixture->host.loop, &(CbusAuditOptions){.target = CBUS_AUDIT_OFF, .journal = -1});
    fixture->host.message_limit = LIMIT;
    fixture->host.connector =
        cbus_connector_client_new(fixture->host.loop, &fixture->ends, &handler, fixture, &error);
    g_assert_no_error(error);
    WAIT_FOR(fixture, fixture->tables > 0);
    fixture->info = cbus_server_info_new("web1", &error);
    g_assert_no_error(error);
    fixture->peer =
        cbus_peer_new(&fixture->host, fixture->info, g_steal_pointer(&fixture->pair->agent.link), &caller,
                      cbus_connector_client_lookup(fixture->host.connector, &caller), on_peer_ended, fixture);
    /* The pair gives packets to the link that the peer owns now. */
    fixture->pair->agent.link = cbus_peer_link(fixture->peer);
    WAIT_FOR(fixture, g_str_has_prefix(fixture->pair->proxy.log->str, "info:web1,"));
    g_string_truncate(fixture->pair->proxy.log, 0);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    const char *rm[] = {"rm", "-r", fixture->folder, NULL};

    fixture->pair->agent.link = NULL;
    cbus_peer_free(fixture->peer);
    cbus_connector_client_free(fixture->host.connector);
    cbus_audit_free(fixture->host.audit);
    cbus_quota_free(fixture->host.quota);
    cbus_server_info_free(fixture->info);
    cbus_poller_free(fixture->pair->loop.poller);
    pair_free(fixture->pair);
    g_assert_cmpint(waitpid(fixture->ends.pid, NULL, 0), ==, fixture->ends.pid);
    private_bus_stop(&fixture->bus);
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(fixture->bus.address);
    g_free(fixture->folder);
    g_free(fixture->key_file);
    g_free(fixture->keys_file);
}

static GByteArray *
driver_call(const char *member, guint32 serial, const char *types, const char *argument)
{
    GByteArray *out = g_byte_array_new();
    const CbusHeader header = {.type = CBUS_MESSAGE_CALL,
                               .serial = serial,
                               .path = CBUS_SPAN_LITERAL("/org/freedesktop/DBus"),
                               .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus"),
                               .member = cbus_span(member),
                               .destination = CBUS_SPAN_LITERAL("org.freedesktop.DBus")};

    cbus_message_append(out, &header, types, argument);
    return out;
}

static void
send_bytes(Fixture *fixture, guint32 channel, const GByteArray *bytes)
{
    g_assert_true(cbus_link_send(fixture->pair->proxy.link, channel, bytes->data, bytes->len));
}

static void
call_driver(Fixture *fixture, guint32 channel, const char *member, guint32 serial)
{
    g_autoptr(GByteArray) call = driver_call(member, serial, "", NULL);

    send_bytes(fixture, channel, call);
}

/* The reply to SERIAL in CHANNEL, once it is there. Its message is borrowed. */
static CbusMessage
await_reply(Fixture *fixture, guint32 channel, guint32 serial)
{
    End *end = &fixture->pair->proxy;

    for (guint at = 0;; at++) {
        CbusMessage message;
        gsize size;

        WAIT_FOR(fixture, at < end->messages->len);
        const guint8 *data = g_bytes_get_data(g_ptr_array_index(end->messages, at), &size);
        g_assert_true(cbus_message_view(&message, data, size, NULL));
        if (g_array_index(end->channels, guint32, at) == channel && message.reply_serial == serial)
            return message;
    }
}

static void
assert_error(Fixture *fixture, guint32 channel, guint32 serial, const char *name)
{
    CbusMessage reply = await_reply(fixture, channel, serial);

    g_assert_cmpint(reply.type, ==, CBUS_MESSAGE_ERROR);
    g_assert_cmpstr(reply.error_name.text, ==, name);
    g_assert_true(cbus_span_is(reply.sender, "org.freedesktop.DBus"));
}

/* The channel still works: the bus answers in it. */
static void
assert_alive(Fixture *fixture, guint32 channel, guint32 serial)
{
    call_driver(fixture, channel, "GetId", serial);
    g_assert_cmpint(await_reply(fixture, channel, serial).type, ==, CBUS_MESSAGE_RETURN);
}

static guint32
open_channel(Fixture *fixture)
{
    guint32 channel = cbus_link_open(fixture->pair->proxy.link, G_MAXUINT32);
    CbusMessage reply;

    /* At once, as a client does: it waits for the connection on the agent. */
    call_driver(fixture, channel, "Hello", 1);
    reply = await_reply(fixture, channel, 1);
    g_assert_cmpint(reply.type, ==, CBUS_MESSAGE_RETURN);
    return channel;
}

static void
test_each_channel_is_a_connection(Fixture *fixture, gconstpointer data)
{
    guint32 one = open_channel(fixture), two = open_channel(fixture);
    CbusMessage first = await_reply(fixture, one, 1), second = await_reply(fixture, two, 1);

    g_assert_nonnull(g_strstr_len(fixture->pair->proxy.log->str, -1, "opened:"));
    g_assert_true(first.destination.text[0] == ':' && second.destination.text[0] == ':');
    g_assert_false(cbus_span_equal(first.destination, second.destination));
}

static void
test_closed_channel_leaves_the_bus(Fixture *fixture, gconstpointer data)
{
    guint32 one = open_channel(fixture), two = open_channel(fixture);
    CbusMessage hello = await_reply(fixture, one, 1);
    gboolean gone = FALSE;

    cbus_link_close_channel(fixture->pair->proxy.link, one, "", "", FALSE);
    for (guint32 serial = 2; !gone; serial++) {
        g_autoptr(GByteArray) call = driver_call("NameHasOwner", serial, "s", hello.destination.text);
        guint32 has = 1;

        send_bytes(fixture, two, call);
        CbusMessage reply = await_reply(fixture, two, serial);
        CbusCursor cursor = cbus_cursor(&reply);
        g_assert_true(cbus_cursor_u32(&cursor, &has));
        gone = has == 0;
    }
}

static void
test_unix_fds_are_not_supported(Fixture *fixture, gconstpointer data)
{
    guint32 channel = open_channel(fixture);
    g_autoptr(GByteArray) call = driver_call("GetNameOwner", 7, "u", NULL);

    /* A value of type h is a u on the wire. */
    for (guint i = 0; i + 3 < call->len; i++)
        if (memcmp(call->data + i, "\x01u\0", 3) == 0)
            call->data[i + 1] = 'h';
    send_bytes(fixture, channel, call);
    assert_error(fixture, channel, 7, CBUS_DBUS_ERROR("NotSupported"));
    assert_alive(fixture, channel, 8);
}

static void
test_too_large_is_refused_and_the_channel_lives(Fixture *fixture, gconstpointer data)
{
    guint32 channel = open_channel(fixture);
    g_autofree char *large = g_strnfill(LIMIT + 1, 'x');
    g_autoptr(GByteArray) call = driver_call("GetNameOwner", 7, "s", large);

    send_bytes(fixture, channel, call);
    assert_error(fixture, channel, 7, CBUS_DBUS_ERROR("LimitsExceeded"));
    assert_alive(fixture, channel, 8);
}

static void
test_reserved_serials_are_refused(Fixture *fixture, gconstpointer data)
{
    guint32 channel = open_channel(fixture);

    call_driver(fixture, channel, "GetId", 0xC0000000u);
    assert_error(fixture, channel, 0xC0000000u, CBUS_DBUS_ERROR("InvalidArgs"));
    assert_alive(fixture, channel, 0xBFFFFFFFu);
}

/* The bus disconnects whoever sends it. */
static void
test_local_ends_the_link(Fixture *fixture, gconstpointer data)
{
    guint32 channel = open_channel(fixture);
    g_autoptr(GByteArray) call = g_byte_array_new();
    const CbusHeader header = {.type = CBUS_MESSAGE_CALL,
                               .serial = 5,
                               .path = CBUS_SPAN_LITERAL("/"),
                               .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus.Local"),
                               .member = CBUS_SPAN_LITERAL("Disconnected")};

    cbus_message_append(call, &header, "");
    send_bytes(fixture, channel, call);
    WAIT_FOR(fixture, fixture->peer_ended == 1);
}

/* No honest proxy sends a body that does not fit its signature. */
static void
test_invalid_body_ends_the_link(Fixture *fixture, gconstpointer data)
{
    guint32 channel = open_channel(fixture);
    g_autoptr(GByteArray) call = driver_call("GetNameOwner", 7, "s", "com.example");

    call->data[call->len - 1] = 'x';
    send_bytes(fixture, channel, call);
    WAIT_FOR(fixture, fixture->peer_ended == 1);
}

static void
test_bus_that_goes_closes_channels(Fixture *fixture, gconstpointer data)
{
    guint32 channel = open_channel(fixture);
    g_autofree char *closed = g_strdup_printf("closed:%u,%s,", channel, CBUS_DBUS_ERROR("Disconnected"));

    private_bus_stop(&fixture->bus);
    WAIT_FOR(fixture, g_strstr_len(fixture->pair->proxy.log->str, -1, closed) != NULL);
    g_assert_cmpuint(fixture->peer_ended, ==, 0);
    /* A new one says that there is no bus. */
    g_string_truncate(fixture->pair->proxy.log, 0);
    (void)cbus_link_open(fixture->pair->proxy.link, G_MAXUINT32);
    WAIT_FOR(fixture, g_strstr_len(fixture->pair->proxy.log->str, -1, CBUS_ERROR_OFFLINE) != NULL);
}

static void
test_a_caller_has_a_hundred_channels(Fixture *fixture, gconstpointer data)
{
    CbusLink *link = fixture->pair->proxy.link;
    guint32 channels[CBUS_CHANNELS_OF_CALLER];

    for (guint i = 0; i < CBUS_CHANNELS_OF_CALLER; i++)
        channels[i] = cbus_link_open(link, G_MAXUINT32);
    (void)cbus_link_open(link, G_MAXUINT32);
    WAIT_FOR(fixture, g_strstr_len(fixture->pair->proxy.log->str, -1, CBUS_DBUS_ERROR("LimitsExceeded")));
    /* One that goes makes room. */
    cbus_link_close_channel(link, channels[3], "", "", FALSE);
    (void)open_channel(fixture);
}

static void
test_early_flood_is_bounded(Fixture *fixture, gconstpointer data)
{
    guint32 channel;
    g_autofree char *large = g_strnfill(200 * 1024, 'x');
    g_autoptr(GByteArray) call = driver_call("GetNameOwner", 7, "s", large);

    /* The connector stands still: nothing can be connected. */
    kill(fixture->ends.pid, SIGSTOP);
    channel = cbus_link_open(fixture->pair->proxy.link, G_MAXUINT32);
    for (guint i = 0; i < 3; i++)
        send_bytes(fixture, channel, call);
    WAIT_FOR(fixture, g_strstr_len(fixture->pair->proxy.log->str, -1, CBUS_DBUS_ERROR("LimitsExceeded")));
    kill(fixture->ends.pid, SIGCONT);
    (void)open_channel(fixture);
}

static void
test_tree_of_a_service(Fixture *fixture, gconstpointer data)
{
    guint32 channel = cbus_link_open(fixture->pair->proxy.link, G_MAXUINT32);

    call_driver(fixture, channel, "Hello", 1);
    cbus_link_send_tree_request(fixture->pair->proxy.link, channel, 9, "org.freedesktop.DBus");
    cbus_link_send_tree_request(fixture->pair->proxy.link, channel, 10, "no.such.Service");
    WAIT_FOR(fixture, g_strstr_len(fixture->pair->proxy.log->str, -1, ",9,") != NULL);
    WAIT_FOR(fixture, g_strstr_len(fixture->pair->proxy.log->str, -1, ",10,") != NULL);
    /* The walker's calls and replies are none of the client's. */
    assert_alive(fixture, channel, 2);
    for (guint i = 0; i < fixture->pair->proxy.messages->len; i++) {
        CbusMessage message;
        gsize size;
        const guint8 *bytes = g_bytes_get_data(g_ptr_array_index(fixture->pair->proxy.messages, i), &size);
        g_assert_true(cbus_message_view(&message, bytes, size, NULL));
        g_assert_cmpuint(message.reply_serial, <=, 2);
    }
}

#define ADD(name, test) g_test_add("/peer/" name, Fixture, NULL, set_up, test, tear_down)

int
main(int argc, char **argv)
{
    guint8 seed[crypto_sign_SEEDBYTES] = {9}, secret[crypto_sign_SECRETKEYBYTES];

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    cbus_log_init("test-peer", 0);
    crypto_sign_seed_keypair(caller.bytes, secret, seed);
    ADD("each-channel-is-a-connection", test_each_channel_is_a_connection);
    ADD("closed-channel-leaves-the-bus", test_closed_channel_leaves_the_bus);
    ADD("unix-fds-are-not-supported", test_unix_fds_are_not_supported);
    ADD("too-large-is-refused-and-the-channel-lives", test_too_large_is_refused_and_the_channel_lives);
    ADD("reserved-serials-are-refused", test_reserved_serials_are_refused);
    ADD("local-ends-the-link", test_local_ends_the_link);
    ADD("invalid-body-ends-the-link", test_invalid_body_ends_the_link);
    ADD("bus-that-goes-closes-channels", test_bus_that_goes_closes_channels);
    ADD("a-caller-has-a-hundred-channels", test_a_caller_has_a_hundred_channels);
    ADD("early-flood-is-bounded", test_early_flood_is_bounded);
    ADD("tree-of-a-service", test_tree_of_a_service);
    return g_test_run();
}
