/* A whole agent half for tests: two links back to back, a peer at the agent's end, the connector's real
 * processes, a private bus. Included by each test program once. */
#pragma once
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
    fixture->pair->loop.poller =
        cbus_poller_new(fixture->pair->loop.context, fixture->pair->loop.turn, &error);
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

/* The reply to SERIAL in CHANNEL, once it is there; with 0, the first call. The message is borrowed. */
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
        if (g_array_index(end->channels, guint32, at) == channel && message.reply_serial == serial &&
            (serial != 0 || message.type == CBUS_MESSAGE_CALL))
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
