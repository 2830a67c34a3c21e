/* Datagrams between the agent's processes, as the network process reads them: tables, policies and answers of
 * any kind and size leave its state whole, a request is answered once, and no descriptor is lost.
 *
 * An input is datagrams, each with one byte of type, one of id and two of length in front. */
#include "agent/connector_client.h"
#include "tests/fuzz/fuzz.h"
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    guint tables, lost, connected, signed_;
} Seen;

static void
on_changed(gpointer user_data)
{
    ((Seen *)user_data)->tables++;
}

static void
on_lost(const GError *reason, gpointer user_data)
{
    FUZZ_CHECK(reason != NULL);
    ((Seen *)user_data)->lost++;
}

static void
on_connected(int fd, guint32 uid, const char *user, const GError *error, gpointer user_data)
{
    FUZZ_CHECK((fd < 0) == (error != NULL));
    FUZZ_CHECK(error == NULL || g_utf8_validate(error->message, -1, NULL));
    if (fd >= 0)
        close(fd);
    ((Seen *)user_data)->connected++;
}

static void
on_signed(const guint8 *signature, const GError *error, gpointer user_data)
{
    FUZZ_CHECK((signature == NULL) == (error != NULL));
    ((Seen *)user_data)->signed_++;
}

/* Which of the first descriptors are open, a bit for each: the same before and after, or one was lost. */
static guint64
open_descriptors(void)
{
    guint64 bits = 0;

    for (int fd = 0; fd < 64; fd++)
        bits |= fcntl(fd, F_GETFD) >= 0 ? (guint64)1 << fd : 0;
    return bits;
}

/* Sends one datagram of DATA and has it read. Returns the bytes that it took, 0 at the end. */
static gsize
feed(CbusLoop *loop, int end, const guint8 *data, gsize len)
{
    gsize size;

    if (len < 4)
        return 0;
    size = MIN(len - 4, (gsize)data[2] << 8 | data[3]);
    /* An odd type brings a descriptor. */
    FUZZ_CHECK(cbus_datagram_send(end, data[0], data[1], data + 4, MIN(size, CBUS_DATAGRAM_MAX),
                                  (data[0] & 1) != 0 ? STDIN_FILENO : -1, NULL) >= -1);
    while (g_main_context_iteration(loop->context, FALSE))
        continue;
    return 4 + size;
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    static const CbusConnectorHandler handler = {on_changed, on_lost};
    static const guint8 digest[64] = {1};
    static const CbusKey key = {{1}};
    Seen seen = {0};
    guint64 before = open_descriptors();
    int requests[2], nonces[2];
    g_autoptr(GMainContext) context = g_main_context_new();

    FUZZ_CHECK(cbus_datagram_pair(requests, NULL) && cbus_datagram_pair(nonces, NULL));
    {
        g_autoptr(CbusTurn) turn = cbus_turn_new(context);
        g_autoptr(CbusPoller) poller = cbus_poller_new(context, turn, NULL);
        CbusLoop loop = {.context = context, .turn = turn, .poller = poller};
        const CbusConnectorEnds ends = {.requests = requests[0], .nonces = nonces[0]};
        g_autoptr(CbusConnectorClient) client =
            cbus_connector_client_new(&loop, &ends, &handler, &seen, NULL);
        CbusSigner *signer = cbus_connector_client_signer(client);

        /* Ids 1 and 2 are asked for. */
        FUZZ_CHECK(cbus_connector_client_connect(client, &key, digest, on_connected, &seen) == 1);
        signer->sign_transcript(signer, digest, sizeof digest, on_signed, &seen);
        for (gsize used; (used = feed(&loop, requests[1], data, len)) > 0; data += used, len -= used)
            continue;
        FUZZ_CHECK(seen.connected <= 1 && seen.signed_ <= 1 && seen.lost <= 1);
        (void)cbus_connector_client_lookup(client, &key);
        FUZZ_CHECK(cbus_connector_client_policy(client, "full") != NULL);
    }
    close(requests[1]);
    close(nonces[1]);
    g_clear_pointer(&context, g_main_context_unref);
    FUZZ_CHECK(open_descriptors() == before);
    return 0;
}
