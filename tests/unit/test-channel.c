/* When a channel counts as busy, whoever answers. */
#include "agent/census.h"
#include "agent/channel.h"
#include "peer-fixture.h"

/* Two channels without a peer, so that it can be asked which of them has calls pending: the first under a
 * policy. */
typedef struct {
    Fixture *fixture;
    CbusPolicies *policies;
    CbusAgentChannel *channels[2];
} Bare;

static void
bare_ended(CbusAgentChannel *channel, const char *error_name, const char *message, gboolean discard,
           gpointer user_data)
{
    g_error("a channel ended: %s: %s", error_name, message);
}

static void
bare_busy(CbusAgentChannel *channel, gpointer user_data)
{
}

static void
bare_open(CbusLink *link, guint32 id, guint32 claim, gpointer user_data)
{
    static const CbusAgentChannelHandler handler = {.ended = bare_ended, .busy = bare_busy};
    Bare *bare = user_data;
    const CbusHost *host = &bare->fixture->host;
    const CbusTableEntry *entry = cbus_connector_client_lookup(host->connector, &caller);
    CbusAgentChannel *channel =
        cbus_agent_channel_new(host, link, id, &caller, entry->digest, claim, &handler, bare);

    g_assert_cmpuint(id, <=, G_N_ELEMENTS(bare->channels));
    if (id == 1)
        cbus_agent_channel_set_policy(channel, cbus_policies_lookup(bare->policies, "p"));
    bare->channels[id - 1] = channel;
}

static void
bare_message(CbusLink *link, guint32 id, const guint8 *message, gsize size, gpointer user_data)
{
    cbus_agent_channel_message(((Bare *)user_data)->channels[id - 1], message, size);
}

/* What is pending are the client's calls, not what the policy's filter asks the bus for itself. */
static void
test_a_call_that_hangs_keeps_its_channel_busy(Fixture *fixture, gconstpointer data)
{
    static const CbusLinkHandler handler = {.open = bare_open, .message = bare_message};
    static const char text[] = "[policy p]\ntalk=a.Hanging\n";
    Bare bare = {.fixture = fixture, .policies = cbus_policies_parse(text, sizeof text - 1, "", NULL, NULL)};
    const CbusHeader hangs = {.type = CBUS_MESSAGE_CALL,
                              .serial = 2,
                              .path = CBUS_SPAN_LITERAL("/"),
                              .interface = CBUS_SPAN_LITERAL("a.I"),
                              .member = CBUS_SPAN_LITERAL("Hang"),
                              .destination = CBUS_SPAN_LITERAL("a.Hanging")};
    g_autoptr(GByteArray) call = g_byte_array_new(), own = g_byte_array_new();
    guint32 first, second;

    cbus_link_set_handler(cbus_peer_link(fixture->peer), &handler, &bare);
    cbus_message_append(call, &hangs, "", NULL);
    first = cbus_link_open(fixture->pair->proxy.link, G_MAXUINT32);
    second = open_channel(fixture);
    const CbusHeader requests = {.type = CBUS_MESSAGE_CALL,
                                 .serial = 2,
                                 .path = CBUS_SPAN_LITERAL("/org/freedesktop/DBus"),
                                 .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus"),
                                 .member = CBUS_SPAN_LITERAL("RequestName"),
                                 .destination = CBUS_SPAN_LITERAL("org.freedesktop.DBus")};
    cbus_message_append(own, &requests, "su", "a.Hanging", 4u);
    send_bytes(fixture, second, own);
    g_assert_cmpint(await_reply(fixture, second, 2).type, ==, CBUS_MESSAGE_RETURN);
    g_assert_false(cbus_agent_channel_is_busy(bare.channels[1]));

    /* Hello and the call at once, as sd-bus does. */
    call_driver(fixture, first, "Hello", 1);
    send_bytes(fixture, first, call);
    await_reply(fixture, first, 1);
    CbusMessage arrived = await_reply(fixture, second, 0);
    g_assert_true(cbus_agent_channel_is_busy(bare.channels[0]));
    const CbusHeader done = {.type = CBUS_MESSAGE_RETURN,
                             .serial = 3,
                             .reply_serial = arrived.serial,
                             .destination = arrived.sender};
    g_byte_array_set_size(call, 0);
    cbus_message_append(call, &done, "", NULL);
    send_bytes(fixture, second, call);
    await_reply(fixture, first, 2);
    g_assert_false(cbus_agent_channel_is_busy(bare.channels[0]));

    /* What the filter answers by itself is answered. */
    g_autoptr(GByteArray) match = driver_call("AddMatch", 3, "s", CBUS_CENSUS_MATCH);
    send_bytes(fixture, first, match);
    g_assert_cmpint(await_reply(fixture, first, 3).type, ==, CBUS_MESSAGE_RETURN);
    g_assert_false(cbus_agent_channel_is_busy(bare.channels[0]));
    call_driver(fixture, first, "ReloadConfig", 4);
    assert_error(fixture, first, 4, CBUS_DBUS_ERROR("AccessDenied"));
    g_assert_false(cbus_agent_channel_is_busy(bare.channels[0]));
    for (guint i = 0; i < G_N_ELEMENTS(bare.channels); i++)
        cbus_agent_channel_free(bare.channels[i]);
    cbus_policies_free(bare.policies);
}

int
main(int argc, char **argv)
{
    guint8 seed[crypto_sign_SEEDBYTES] = {9}, secret[crypto_sign_SECRETKEYBYTES];

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    cbus_log_init("test-channel", 0);
    crypto_sign_seed_keypair(caller.bytes, secret, seed);
    g_test_add("/channel/a-call-that-hangs-keeps-its-channel-busy", Fixture, NULL, set_up,
               test_a_call_that_hangs_keeps_its_channel_busy, tear_down);
    return g_test_run();
}
