/* What a proxy gets of an agent over its link: a real bus connection a channel, and nothing past it. */
#include "peer-fixture.h"

/* The channel still works: the bus answers in it. */
static void
assert_alive(Fixture *fixture, guint32 channel, guint32 serial)
{
    call_driver(fixture, channel, "GetId", serial);
    g_assert_cmpint(await_reply(fixture, channel, serial).type, ==, CBUS_MESSAGE_RETURN);
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

static guint
ended_channels(const Fixture *fixture)
{
    guint n = 0;

    for (guint id = 1; id <= CBUS_CHANNELS_OF_CALLER; id++) {
        const CbusChannel *channel = cbus_link_channel(fixture->pair->agent.link, id);

        n += channel != NULL && channel->closing;
    }
    return n;
}

/* A proxy that takes nothing, and whose channels the bus hangs up, can not have us keep more queues. */
static void
test_a_closed_channel_counts_while_its_queue_waits(Fixture *fixture, gconstpointer data)
{
    Pair *pair = fixture->pair;
    guint32 channels[CBUS_CHANNELS_OF_CALLER];
    g_autofree char *limit =
        g_strdup_printf("closed:%u,%s", CBUS_CHANNELS_OF_CALLER + 1, CBUS_DBUS_ERROR("LimitsExceeded"));
    g_autofree char *last = g_strdup_printf("closed:%u,", CBUS_CHANNELS_OF_CALLER + 2);

    for (guint i = 0; i < CBUS_CHANNELS_OF_CALLER; i++)
        channels[i] = open_channel(fixture);
    pair->agent.backlog = 64 * 1024 * 1024;
    for (guint i = 0; i < CBUS_CHANNELS_OF_CALLER; i++) {
        call_driver(fixture, channels[i], "GetId", 2);
        WAIT_FOR(fixture, cbus_link_queued(pair->agent.link, channels[i]) > 0);
    }
    private_bus_stop(&fixture->bus);
    WAIT_FOR(fixture, ended_channels(fixture) == CBUS_CHANNELS_OF_CALLER);
    (void)cbus_link_open(pair->proxy.link, G_MAXUINT32);
    WAIT_FOR(fixture, strstr(pair->proxy.log->str, "closed:") != NULL);
    g_assert_nonnull(strstr(pair->proxy.log->str, limit));

    /* Once all is sent there is room; what is missing is the bus. */
    pair->agent.backlog = 0;
    pair_pass(pair, G_USEC_PER_SEC);
    WAIT_FOR(fixture, strstr(pair->proxy.log->str, "closed:108,") != NULL);
    (void)cbus_link_open(pair->proxy.link, G_MAXUINT32);
    WAIT_FOR(fixture, strstr(pair->proxy.log->str, last) != NULL);
    g_assert_true(g_str_has_prefix(strstr(pair->proxy.log->str, last) + strlen(last), CBUS_ERROR_OFFLINE));
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
    ADD("a-closed-channel-counts-while-its-queue-waits", test_a_closed_channel_counts_while_its_queue_waits);
    ADD("early-flood-is-bounded", test_early_flood_is_bounded);
    ADD("tree-of-a-service", test_tree_of_a_service);
    return g_test_run();
}
