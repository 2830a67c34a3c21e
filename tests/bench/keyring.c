/* What the connector does for a real agent, as far as a swarm needs it: a table with one authorized key,
 * signatures of link transcripts, connections to the bus.
 *
 * It speaks the connector's own datagrams on a socketpair, so that the agents of a swarm are the agent's own
 * objects from CbusAgent down, unchanged: what is measured is what runs on machines. What it is not is a
 * boundary: keys lie in the process that speaks NATS. Nothing but a swarm may use it.
 *
 * All agents connect to one bus as one user. A dbus-daemon takes a few dozen connections at once and refuses
 * the rest for the moment, so whoever is refused waits in a row and is tried again.
 *
 * Logins with a nonce are not signed: the nats-server of a swarm has none. Loop thread only; nothing blocks:
 * an answer that its socket does not take at once is a fault of the swarm and ends it. */
#include "tests/bench/keyring.h"
#include "link/bus.h"
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_MS 5

struct _SwarmBus {
    CbusLoop *loop;
    char *address;
    GQueue waiting; /* of Request */
    GSource *retry;
    CbusDatagram in;
};

struct _SwarmKeyring {
    SwarmBus *bus;
    CbusSecret *secret;
    CbusWatch *watch;
    int fd;
};

typedef struct {
    SwarmKeyring *keyring;
    guint32 id;
} Request;

static void
answer(SwarmKeyring *keyring, CbusDatagramType type, guint32 id, const void *payload, gsize len, int fd)
{
    g_autoptr(GError) error = NULL;

    if (cbus_datagram_send(keyring->fd, type, id, payload, len, fd, &error) != 1)
        g_error("an agent of the swarm does not read: %s", error != NULL ? error->message : "full");
}

/* FALSE: the bus has no room now. */
static gboolean
connect_bus(SwarmKeyring *keyring, guint32 id)
{
    g_autoptr(GError) error = NULL;
    guint32 uid = geteuid();
    int fd = cbus_bus_connect(keyring->bus->address, &error);

    if (fd < 0 && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        return FALSE;
    if (fd < 0) {
        answer(keyring, CBUS_DATAGRAM_FAILED, id, error->message, strlen(error->message), -1);
        return TRUE;
    }
    answer(keyring, CBUS_DATAGRAM_CONNECTED, id, &uid, sizeof uid, fd);
    close(fd);
    return TRUE;
}

static gboolean
on_retry(gpointer user_data)
{
    SwarmBus *bus = user_data;
    Request *request;

    while ((request = g_queue_peek_head(&bus->waiting)) != NULL) {
        if (!connect_bus(request->keyring, request->id))
            return G_SOURCE_CONTINUE;
        g_free(g_queue_pop_head(&bus->waiting));
    }
    g_clear_pointer(&bus->retry, g_source_unref);
    return G_SOURCE_REMOVE;
}

static void
want_connection(SwarmKeyring *keyring, guint32 id)
{
    SwarmBus *bus = keyring->bus;
    Request request = {keyring, id};

    if (g_queue_is_empty(&bus->waiting) && connect_bus(keyring, id))
        return;
    g_queue_push_tail(&bus->waiting, g_memdup2(&request, sizeof request));
    if (bus->retry != NULL)
        return;
    bus->retry = g_timeout_source_new(RETRY_MS);
    g_source_set_callback(bus->retry, on_retry, bus, NULL);
    g_source_attach(bus->retry, bus->loop->context);
}

static void
on_request(guint32 events, gpointer user_data)
{
    SwarmKeyring *keyring = user_data;
    CbusDatagram *in = &keyring->bus->in;
    guint8 signature[CBUS_SIGNATURE_BYTES];
    int got = cbus_datagram_receive(keyring->fd, in, MSG_DONTWAIT, NULL);

    if (got < 0)
        g_clear_pointer(&keyring->watch, cbus_watch_remove);
    if (got <= 0)
        return;
    if (in->fd >= 0)
        close(in->fd);
    if (in->type == CBUS_DATAGRAM_SIGN) {
        cbus_secret_sign_transcript(keyring->secret, CBUS_ROLE_AGENT, in->payload, in->len, signature);
        answer(keyring, CBUS_DATAGRAM_SIGNED, in->id, signature, sizeof signature, -1);
    } else if (in->type == CBUS_DATAGRAM_CONNECT) {
        want_connection(keyring, in->id);
    }
}

SwarmBus *
swarm_bus_new(CbusLoop *loop, const char *address)
{
    SwarmBus *bus = g_new0(SwarmBus, 1);

    bus->loop = loop;
    bus->address = g_strdup(address);
    g_queue_init(&bus->waiting);
    return bus;
}

void
swarm_bus_free(SwarmBus *bus)
{
    if (bus->retry != NULL)
        g_source_destroy(bus->retry);
    g_clear_pointer(&bus->retry, g_source_unref);
    g_queue_clear_full(&bus->waiting, g_free);
    g_free(bus->address);
    g_free(bus);
}

static void
send_table(SwarmKeyring *keyring, const CbusKey *operator)
{
    const CbusTableEntry entry = {.key = *operator, .number = 1 };
    guint32 flags = CBUS_TABLE_FIRST | CBUS_TABLE_LAST;
    guint8 payload[sizeof flags + sizeof entry];

    memcpy(payload, &flags, sizeof flags);
    memcpy(payload + sizeof flags, &entry, sizeof entry);
    answer(keyring, CBUS_DATAGRAM_TABLE, 0, payload, sizeof payload, -1);
}

SwarmKeyring *
swarm_keyring_new(SwarmBus *bus, CbusSecret *secret, const CbusKey *operator, CbusConnectorEnds * ends,
                  GError **error)
{
    int requests[2], nonces[2];

    if (!cbus_datagram_pair(requests, error))
        return NULL;
    if (!cbus_datagram_pair(nonces, error)) {
        close(requests[0]);
        close(requests[1]);
        return NULL;
    }
    close(nonces[1]);
    SwarmKeyring *keyring = g_new0(SwarmKeyring, 1);
    keyring->bus = bus;
    keyring->secret = secret;
    keyring->fd = requests[1];
    (void)fcntl(keyring->fd, F_SETFL, fcntl(keyring->fd, F_GETFL) | O_NONBLOCK);
    keyring->watch = cbus_poller_add(bus->loop->poller, keyring->fd, EPOLLIN, on_request, keyring, NULL);
    if (keyring->watch == NULL)
        g_error("the keyring can not be polled");
    *ends = (CbusConnectorEnds){
        .requests = requests[0], .nonces = nonces[0], .public_key = *cbus_secret_public(secret)};
    send_table(keyring, operator);
    return keyring;
}

static gboolean
is_of(const Request *request, const SwarmKeyring *keyring)
{
    return request->keyring == keyring;
}

void
swarm_keyring_free(SwarmKeyring *keyring)
{
    GQueue *waiting = &keyring->bus->waiting;

    for (GList *node = waiting->head, *next; node != NULL; node = next) {
        next = node->next;
        if (!is_of(node->data, keyring))
            continue;
        g_free(node->data);
        g_queue_delete_link(waiting, node);
    }
    g_clear_pointer(&keyring->watch, cbus_watch_remove);
    close(keyring->fd);
    cbus_secret_free(keyring->secret);
    g_free(keyring);
}
