/* Asking the connector.
 *
 * Requests leave on a non-blocking socket, or wait in a queue while the connector is busy; answers come by
 * id, in any order, through the loop's poller. How many requests there can be is bounded by who asks
 * (channels by their quotas, signatures by the acceptor's half-open links); a bound here ends what would grow
 * beyond.
 *
 * The table of authorized keys is the connector's reading of the file, since this process may not read it. It
 * arrives in pieces and counts when it is whole; until the first one nobody is authorized.
 *
 * sign_nonce is called by the thread that logs in to NATS and waits for its answer on a socket of its own, so
 * that no lock is shared with the loop. Only one such login runs at a time (link/nats.h); a receive timeout
 * bounds the wait, and an answer that comes too late is told by its id.
 *
 * Trust: the connector is trusted, its datagrams are nevertheless checked for size. Loop thread, but for
 * sign_nonce, which touches nothing but its socket and its counter. */
#include "agent/connector_client.h"
#include "link/stop.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define WAITING_MAX     4096 /* requests without an answer */
#define NONCE_TIMEOUT_S 5

typedef struct {
    CbusConnectFunc connect; /* one of the two */
    CbusSignFunc sign;
    gpointer user_data;
} Waiting;

typedef struct {
    CbusSigner signer; /* first: it is cast back */
    CbusConnectorClient *client;
} ClientSigner;

struct _CbusConnectorClient {
    int requests, nonces;
    CbusWatch *watch;
    CbusConnectorHandler handler;
    gpointer user_data;
    guint32 last_id, last_nonce;
    GHashTable *waiting; /* id → Waiting */
    GQueue unsent;       /* GByteArray: type, id, payload */
    GHashTable *table;   /* CbusKey (in the value) → CbusTableEntry */
    GHashTable *coming;  /* the same, not yet whole; NULL: none */
    CbusPolicies *policies;
    CbusGatewayConfig *gateway; /* NULL: none */
    gboolean has_gateway;       /* says the connector of the text */
    GByteArray *text;           /* of a configuration that holds from the next table on; NULL: none came */
    ClientSigner signer;
    CbusDatagram in;
    gboolean lost;
};

static GHashTable *
table_new(void)
{
    return g_hash_table_new_full(cbus_key_hash, cbus_key_equal, NULL, g_free);
}

static void
lose(CbusConnectorClient *self, const GError *reason)
{
    if (self->lost)
        return;
    self->lost = TRUE;
    g_clear_pointer(&self->watch, cbus_watch_remove);
    self->handler.lost(reason, self->user_data);
}

/* Sends what waits. FALSE when the connector is lost (and was reported). */
static void
flush(CbusConnectorClient *self)
{
    GByteArray *next;

    while (!self->lost && (next = g_queue_peek_head(&self->unsent)) != NULL) {
        g_autoptr(GError) error = NULL;
        guint32 head[2];
        memcpy(head, next->data, sizeof head);
        int sent = cbus_datagram_send(self->requests, head[0], head[1], next->data + sizeof head,
                                      next->len - sizeof head, -1, &error);
        if (sent == 0)
            break;
        if (sent < 0) {
            lose(self, error);
            return;
        }
        g_byte_array_unref(g_queue_pop_head(&self->unsent));
    }
    if (self->watch != NULL)
        cbus_watch_modify(self->watch, EPOLLIN | (g_queue_is_empty(&self->unsent) ? 0 : EPOLLOUT));
}

static void
post(CbusConnectorClient *self, guint32 type, guint32 id, const void *payload, gsize len)
{
    GByteArray *request = g_byte_array_sized_new(sizeof(guint32) * 2 + len);
    guint32 head[2] = {type, id};

    g_byte_array_append(request, (const guint8 *)head, sizeof head);
    if (len > 0)
        g_byte_array_append(request, payload, len);
    g_queue_push_tail(&self->unsent, request);
    /* By the poller, so that no function of the caller's is called before this returns. */
    if (self->watch != NULL)
        cbus_watch_modify(self->watch, EPOLLIN | EPOLLOUT);
}

static void
answer(const Waiting *waiting, const CbusDatagram *datagram, const GError *error)
{
    g_autofree char *user = NULL;
    guint32 uid = 0;

    if (waiting->sign != NULL) {
        waiting->sign(error == NULL ? datagram->payload : NULL, error, waiting->user_data);
        return;
    }
    if (error == NULL) {
        memcpy(&uid, datagram->payload, sizeof uid);
        if (datagram->len > sizeof uid)
            user = g_strndup((const char *)datagram->payload + sizeof uid, datagram->len - sizeof uid);
    }
    g_assert(waiting->connect != NULL);
    waiting->connect(error == NULL ? datagram->fd : -1, uid, user, error, waiting->user_data);
}

/* An answer to a request of ours. Takes the datagram's descriptor. */
static void
take_answer(CbusConnectorClient *self, CbusDatagram *datagram)
{
    g_autofree Waiting *waiting = g_hash_table_lookup(self->waiting, GUINT_TO_POINTER(datagram->id));
    g_autoptr(GError) error = NULL;

    if (waiting != NULL)
        g_hash_table_steal(self->waiting, GUINT_TO_POINTER(datagram->id));
    gboolean fits =
        waiting != NULL && ((waiting->connect != NULL && datagram->type == CBUS_DATAGRAM_CONNECTED &&
                             datagram->fd >= 0 && datagram->len >= sizeof(guint32)) ||
                            (waiting->sign != NULL && datagram->type == CBUS_DATAGRAM_SIGNED &&
                             datagram->fd < 0 && datagram->len == CBUS_SIGNATURE_BYTES));
    if (!fits && datagram->fd >= 0)
        close(datagram->fd);
    if (waiting == NULL)
        return;
    if (datagram->type == CBUS_DATAGRAM_FAILED) {
        g_autofree char *reason = cbus_datagram_reason(datagram);
        error = g_error_new_literal(CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO, reason);
    } else if (!fits) {
        error = g_error_new_literal(CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_INVALID,
                                    "the connector gave an answer of a wrong kind");
    }
    answer(waiting, datagram, error);
}

/* A piece of the configuration, whose faults the connector reports. */
static void
take_policies(CbusConnectorClient *self, const CbusDatagram *datagram)
{
    guint32 flags;

    if (datagram->len < sizeof flags)
        return;
    memcpy(&flags, datagram->payload, sizeof flags);
    if ((flags & CBUS_TABLE_FIRST) != 0) {
        g_clear_pointer(&self->text, g_byte_array_unref);
        self->text = g_byte_array_new();
        self->has_gateway = (flags & CBUS_TABLE_GATEWAY) != 0;
    }
    if (self->text != NULL && self->text->len <= CBUS_POLICY_TEXT_MAX)
        g_byte_array_append(self->text, datagram->payload + sizeof flags,
                            (guint)(datagram->len - sizeof flags));
}

static void
read_policies(CbusConnectorClient *self)
{
    const guint8 *nul = self->text != NULL ? memchr(self->text->data, '\0', self->text->len) : NULL;

    if (nul != NULL) {
        gsize before = (gsize)(nul - self->text->data) + 1;
        const char *text = (const char *)nul + 1;
        gsize len = self->text->len - before;
        cbus_policies_free(self->policies);
        self->policies = cbus_policies_parse(text, len, (const char *)self->text->data, NULL, NULL);
        g_clear_pointer(&self->gateway, cbus_gateway_config_free);
        if (self->has_gateway)
            self->gateway = cbus_gateway_config_parse(text, len, self->policies, NULL, NULL);
    }
    g_clear_pointer(&self->text, g_byte_array_unref);
}

static void
take_table(CbusConnectorClient *self, const CbusDatagram *datagram)
{
    guint32 flags;
    gsize at = sizeof flags;

    if (datagram->len < sizeof flags)
        return;
    memcpy(&flags, datagram->payload, sizeof flags);
    if ((flags & CBUS_TABLE_FIRST) != 0) {
        g_clear_pointer(&self->coming, g_hash_table_unref);
        self->coming = table_new();
    }
    if (self->coming == NULL)
        return;
    for (; datagram->len - at >= sizeof(CbusTableEntry); at += sizeof(CbusTableEntry)) {
        CbusTableEntry *entry = g_memdup2(datagram->payload + at, sizeof *entry);
        entry->policy[sizeof entry->policy - 1] = '\0';
        g_hash_table_replace(self->coming, &entry->key, entry);
    }
    if ((flags & CBUS_TABLE_LAST) == 0)
        return;
    g_clear_pointer(&self->table, g_hash_table_unref);
    self->table = g_steal_pointer(&self->coming);
    read_policies(self);
    self->handler.authorized_changed(self->user_data);
}

static void
requests_event(guint32 events, gpointer user_data)
{
    CbusConnectorClient *self = user_data;

    /* Answers first: they make room. One event takes one answer, so that a handler may free the client. */
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        g_autoptr(GError) error = NULL;
        int got = cbus_datagram_receive(self->requests, &self->in, MSG_DONTWAIT, &error);
        gboolean unasked =
            got > 0 && (self->in.type == CBUS_DATAGRAM_TABLE || self->in.type == CBUS_DATAGRAM_POLICIES);
        if (unasked && self->in.fd >= 0)
            close(self->in.fd);
        if (got < 0)
            lose(self, error);
        else if (unasked && self->in.type == CBUS_DATAGRAM_TABLE)
            take_table(self, &self->in);
        else if (unasked)
            take_policies(self, &self->in);
        else if (got > 0)
            take_answer(self, &self->in);
        return;
    }
    flush(self);
}

static gboolean
is_full(CbusConnectorClient *self)
{
    return self->lost || g_hash_table_size(self->waiting) >= WAITING_MAX ||
           g_queue_get_length(&self->unsent) >= WAITING_MAX;
}

static guint32
await(CbusConnectorClient *self, Waiting waiting)
{
    do
        self->last_id++;
    while (self->last_id == 0 || g_hash_table_contains(self->waiting, GUINT_TO_POINTER(self->last_id)));
    g_hash_table_insert(self->waiting, GUINT_TO_POINTER(self->last_id), g_memdup2(&waiting, sizeof waiting));
    return self->last_id;
}

guint32
cbus_connector_client_connect(CbusConnectorClient *self, const CbusKey *key, const guint8 digest[32],
                              CbusConnectFunc func, gpointer user_data)
{
    guint8 payload[CBUS_KEY_BYTES + 32];
    guint32 id;

    if (is_full(self))
        return 0;
    id = await(self, (Waiting){.connect = func, .user_data = user_data});
    memcpy(payload, key->bytes, CBUS_KEY_BYTES);
    memcpy(payload + CBUS_KEY_BYTES, digest, 32);
    post(self, CBUS_DATAGRAM_CONNECT, id, payload, sizeof payload);
    return id;
}

guint32
cbus_connector_client_connect_gateway(CbusConnectorClient *self, CbusConnectFunc func, gpointer user_data)
{
    guint32 id;

    if (is_full(self))
        return 0;
    id = await(self, (Waiting){.connect = func, .user_data = user_data});
    post(self, CBUS_DATAGRAM_GATEWAY, id, NULL, 0);
    return id;
}

void
cbus_connector_client_cancel(CbusConnectorClient *self, guint32 id)
{
    g_hash_table_remove(self->waiting, GUINT_TO_POINTER(id));
}

void
cbus_connector_client_reload(CbusConnectorClient *self)
{
    post(self, CBUS_DATAGRAM_RELOAD, 0, NULL, 0);
}

const CbusTableEntry *
cbus_connector_client_lookup(const CbusConnectorClient *self, const CbusKey *key)
{
    return g_hash_table_lookup(self->table, key);
}

guint
cbus_connector_client_count(const CbusConnectorClient *self)
{
    return g_hash_table_size(self->table);
}

const CbusPolicy *
cbus_connector_client_policy(const CbusConnectorClient *self, const char *name)
{
    return cbus_policies_lookup(self->policies, name);
}

const CbusGatewayConfig *
cbus_connector_client_gateway(const CbusConnectorClient *self)
{
    return self->gateway;
}

static void
sign_transcript(CbusSigner *signer, const guint8 *message, gsize len, CbusSignFunc func, gpointer user_data)
{
    CbusConnectorClient *self = ((ClientSigner *)signer)->client;

    if (is_full(self)) {
        g_autoptr(GError) error = g_error_new_literal(CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO,
                                                      "the connector is gone or has too much to do");
        func(NULL, error, user_data);
        return;
    }
    guint32 id = await(self, (Waiting){.sign = func, .user_data = user_data});
    post(self, CBUS_DATAGRAM_SIGN, id, message, len);
}

static gboolean
sign_nonce(CbusSigner *signer, const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES], GError **error)
{
    CbusConnectorClient *self = ((ClientSigner *)signer)->client;
    g_autofree CbusDatagram *in = NULL;
    gsize len = strnlen(nonce, 64);
    guint32 id = ++self->last_nonce;
    int got;

    if (!cbus_nonce_is_signable(nonce, len)) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_INVALID,
                    "the NATS server's nonce is none that may be signed");
        return FALSE;
    }
    if (cbus_datagram_send(self->nonces, CBUS_DATAGRAM_NONCE, id, nonce, len, -1, error) != 1)
        return FALSE;
    in = g_new0(CbusDatagram, 1);
    do {
        gboolean ready = cbus_stop_or_ready(self->nonces, POLLIN, NONCE_TIMEOUT_S * 1000);
        got = ready ? cbus_datagram_receive(self->nonces, in, MSG_DONTWAIT, error) : 0;
        if (got != 1) {
            if (got == 0)
                g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO,
                            "the connector did not sign in time");
            return FALSE;
        }
        if (in->fd >= 0)
            close(in->fd);
    } while (in->id != id);
    if (in->type == CBUS_DATAGRAM_SIGNED && in->len == CBUS_SIGNATURE_BYTES) {
        memcpy(signature, in->payload, CBUS_SIGNATURE_BYTES);
        return TRUE;
    }
    g_autofree char *reason = cbus_datagram_reason(in);
    g_set_error_literal(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO, reason);
    return FALSE;
}

CbusSigner *
cbus_connector_client_signer(CbusConnectorClient *self)
{
    return &self->signer.signer;
}

/* The signer is part of the client and goes with it. */
static void
signer_free(CbusSigner *signer)
{
}

CbusConnectorClient *
cbus_connector_client_new(CbusLoop *loop, const CbusConnectorEnds *ends, const CbusConnectorHandler *handler,
                          gpointer user_data, GError **error)
{
    CbusConnectorClient *self = g_new0(CbusConnectorClient, 1);
    struct timeval patience = {.tv_sec = NONCE_TIMEOUT_S};

    self->requests = ends->requests;
    self->nonces = ends->nonces;
    self->handler = *handler;
    self->user_data = user_data;
    self->waiting = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    self->table = table_new();
    self->policies = cbus_policies_parse("", 0, "", NULL, NULL);
    self->signer = (ClientSigner){.signer = {.public_key = ends->public_key,
                                             .role = CBUS_ROLE_AGENT,
                                             .sign_transcript = sign_transcript,
                                             .sign_nonce = sign_nonce,
                                             .free = signer_free},
                                  .client = self};
    (void)fcntl(self->requests, F_SETFL, fcntl(self->requests, F_GETFL) | O_NONBLOCK);
    (void)setsockopt(self->nonces, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(self->nonces, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    self->watch = cbus_poller_add(loop->poller, self->requests, EPOLLIN, requests_event, self, error);
    if (self->watch == NULL)
        g_clear_pointer(&self, cbus_connector_client_free);
    return self;
}

void
cbus_connector_client_free(CbusConnectorClient *self)
{
    g_clear_pointer(&self->watch, cbus_watch_remove);
    close(self->requests);
    close(self->nonces);
    g_queue_clear_full(&self->unsent, (GDestroyNotify)g_byte_array_unref);
    g_hash_table_unref(self->waiting);
    g_hash_table_unref(self->table);
    g_clear_pointer(&self->coming, g_hash_table_unref);
    g_clear_pointer(&self->text, g_byte_array_unref);
    cbus_policies_free(self->policies);
    g_clear_pointer(&self->gateway, cbus_gateway_config_free);
    g_free(self);
}
