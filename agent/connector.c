/* The connector: the process that may do things, and does only two.
 *
 * It answers connect(key, line) with a bus connection as the user that its own reading of authorized-keys
 * gives that line, gateway() with one as the user that its own reading of the configuration's [gateway]
 * gives, if that is there and whole, and sign(what) for a NATS nonce or an agent's transcript hash, both
 * checked and framed here. It never reads a network byte. What it tells unasked is its public key, once, and
 * the table of authorized keys at the start and after each change, since the network process can not read the
 * file.
 *
 * Trust: none in who asks. The network process parses what strangers send, so that a request of a wrong type
 * or size means it was taken over, and the connector ends at once, which ends the agent: systemd starts it
 * anew. A taken-over network process can still use any authorized key's bus connection and have
 * transcripts signed while it lives; it can not read the key, become another user, or outlive its parent.
 *
 * With --key ssh-agent: the key is in an ssh-agent, and signing waits for that one, for some seconds at most.
 *
 * It has one client and nothing to do while that one does not read; so its sockets block, except towards a
 * user's child that may hang with its bus. A single thread around poll(): no GLib main loop, no GIO, so that
 * it may fork at any time. Signals that end the agent are ignored here: the end of the sockets is the end.
 *
 * Changes are read 200 ms after the first sign of one, so that a file that is being written is seen whole;
 * when a change might not be seen (agent/keys_watch.c) the files are looked at each second. */
#include "agent/connector.h"
#include "agent/keys_file.h"
#include "agent/keys_watch.h"
#include "agent/policy_file.h"
#include "agent/user_child.h"
#include "agent/user_children.h"
#include "link/log.h"
#include "link/signer.h"
#include "link/stop.h"
#include "wire/authorized_keys.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETTLE_US  (200 * 1000)
#define LOOK_US    (1000 * 1000)
#define TRANSCRIPT 64

typedef struct {
    const CbusConnectorOptions *options;
    int requests, nonces;
    CbusSigner *signer;
    CbusKeysWatch *watch;
    CbusPolicyFile *policies;
    CbusAuthorizedKeys *keys;
    GBytes *text;     /* what KEYS was read from; NULL when there was no reading */
    char *trouble;    /* why there was none */
    gint64 reread_at; /* monotonic µs; 0: nothing to do */
    CbusUserChildren *children;
    CbusDatagram in;
} Connector;

static void
line_refused(guint number, const char *reason, gpointer user_data)
{
    Connector *self = user_data;
    g_autofree char *message =
        g_strdup_printf("%s:%u: line refused: %s", self->options->authorized_keys, number, reason);

    cbus_log(G_LOG_LEVEL_WARNING, message, NULL);
}

static void
policy_refused(guint line, const char *reason, gpointer user_data)
{
    Connector *self = user_data;
    g_autofree char *message = g_strdup_printf("%s:%u: %s", self->options->config, line, reason);

    cbus_log(G_LOG_LEVEL_WARNING, message, NULL);
}

/* Reads the files. Returns TRUE when they say something else than before. */
static gboolean
read_keys(Connector *self)
{
    const char *file = self->options->authorized_keys;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text = NULL;
    gboolean other_policies = cbus_policy_file_read(self->policies, policy_refused, self);
    gsize len = 0;

    cbus_keys_watch_renew(self->watch);
    text = cbus_keys_file_read(file, geteuid(), CBUS_KEYS_FILE_NOBODY, &error);
    if (self->keys != NULL && !other_policies &&
        (text != NULL ? self->text != NULL && g_bytes_equal(text, self->text)
                      : g_strcmp0(self->trouble, error->message) == 0))
        return FALSE;
    g_clear_pointer(&self->keys, cbus_authorized_keys_free);
    g_clear_pointer(&self->text, g_bytes_unref);
    g_clear_pointer(&self->trouble, g_free);
    if (text == NULL) {
        self->trouble = g_strdup(error->message);
        self->keys = cbus_authorized_keys_parse("", 0, NULL, NULL);
        cbus_log(G_LOG_LEVEL_WARNING, self->trouble, NULL);
        return TRUE;
    }
    const char *data = g_bytes_get_data(text, &len);
    self->keys = cbus_authorized_keys_parse(data, len, line_refused, self);
    cbus_authorized_keys_require(self->keys, cbus_policy_file_policies(self->policies), line_refused, self);
    cbus_authorized_keys_judge(self->keys, cbus_user_child_judge, NULL, line_refused, self);
    self->text = g_steal_pointer(&text);
    return TRUE;
}

static gboolean
push_table(Connector *self, GError **error)
{
    guint size = cbus_authorized_keys_size(self->keys), at = 0;
    guint8 payload[sizeof(guint32) + CBUS_TABLE_ENTRIES * sizeof(CbusTableEntry)];

    G_STATIC_ASSERT(sizeof payload <= CBUS_DATAGRAM_MAX);
    if (!cbus_policy_file_push(self->policies, self->requests, error))
        return FALSE;
    do {
        guint n = MIN(size - at, CBUS_TABLE_ENTRIES);
        guint32 flags = (at == 0 ? CBUS_TABLE_FIRST : 0) | (at + n == size ? CBUS_TABLE_LAST : 0);
        memcpy(payload, &flags, sizeof flags);
        for (guint i = 0; i < n; i++) {
            const CbusAuthorizedLine *line = cbus_authorized_keys_nth(self->keys, at + i);
            CbusTableEntry entry = {.key = line->key, .number = line->number};
            memcpy(entry.digest, line->digest, sizeof entry.digest);
            if (line->policy != NULL)
                g_strlcpy(entry.policy, line->policy, sizeof entry.policy);
            memcpy(payload + sizeof flags + i * sizeof entry, &entry, sizeof entry);
        }
        if (cbus_datagram_send(self->requests, CBUS_DATAGRAM_TABLE, 0, payload,
                               sizeof flags + n * sizeof(CbusTableEntry), -1, error) != 1)
            return FALSE;
        at += n;
    } while (at < size);
    return TRUE;
}

static void
wipe_in_child(gpointer user_data)
{
    Connector *self = user_data;

    g_clear_pointer(&self->signer, cbus_signer_free);
}

static gboolean
serve_connect(Connector *self, GError **error)
{
    const CbusAuthorizedLine *line;
    guint32 id = self->in.id;
    CbusKey key;

    if (self->in.len != sizeof key + CBUS_AUTHORIZED_DIGEST_BYTES) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_INVALID, "a connect of a wrong size");
        return FALSE;
    }
    memcpy(&key, self->in.payload, sizeof key);
    line = cbus_authorized_keys_lookup(self->keys, &key);
    if (line == NULL || memcmp(line->digest, self->in.payload + sizeof key, sizeof line->digest) != 0)
        return cbus_datagram_send_failed(self->requests, id,
                                         "the key is not authorized on this machine (any more)", error) == 1;
    return cbus_user_children_connect(self->children, line->user, id, error);
}

static gboolean
serve_gateway(Connector *self, GError **error)
{
    const CbusGatewayConfig *gateway = cbus_policy_file_gateway(self->policies);

    if (self->in.len != 0) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_INVALID, "a gateway of a wrong size");
        return FALSE;
    }
    if (gateway == NULL)
        return cbus_datagram_send_failed(
                   self->requests, self->in.id,
                   "the configuration has no [gateway] with user= and policy=", error) == 1;
    return cbus_user_children_connect(self->children, gateway->user, self->in.id, error);
}

/* What a transcript's signature becomes; the signer calls back before it returns. */
typedef struct {
    const Connector *connector;
    gboolean sent;
    GError **error;
} Signing;

static void
on_signed(const guint8 *signature, const GError *failure, gpointer user_data)
{
    Signing *signing = user_data;
    const Connector *self = signing->connector;
    int sent = signature != NULL
                   ? cbus_datagram_send(self->requests, CBUS_DATAGRAM_SIGNED, self->in.id, signature,
                                        CBUS_SIGNATURE_BYTES, -1, signing->error)
                   : cbus_datagram_send_failed(self->requests, self->in.id, failure->message, signing->error);

    signing->sent = sent == 1;
}

static gboolean
serve_sign(Connector *self, GError **error)
{
    Signing signing = {.connector = self, .error = error};

    if (self->in.len != TRANSCRIPT) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_INVALID,
                    "something else than a transcript hash was to be signed");
        return FALSE;
    }
    self->signer->sign_transcript(self->signer, self->in.payload, TRANSCRIPT, on_signed, &signing);
    return signing.sent;
}

static gboolean
serve_request(Connector *self, GError **error)
{
    int got = cbus_datagram_receive(self->requests, &self->in, MSG_DONTWAIT, error);

    if (got <= 0)
        return got == 0;
    if (self->in.fd >= 0) {
        close(self->in.fd);
        self->in.type = 0;
    }
    switch (self->in.type) {
        case CBUS_DATAGRAM_CONNECT:
            return serve_connect(self, error);
        case CBUS_DATAGRAM_GATEWAY:
            return serve_gateway(self, error);
        case CBUS_DATAGRAM_SIGN:
            return serve_sign(self, error);
        case CBUS_DATAGRAM_RELOAD:
            /* As if it had changed: a user may be there now that was not. */
            g_clear_pointer(&self->text, g_bytes_unref);
            cbus_policy_file_forget(self->policies);
            self->reread_at = g_get_monotonic_time();
            return TRUE;
        default:
            g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_INVALID, "an unknown request");
            return FALSE;
    }
}

/* A nonce comes from the NATS server, so that one that may not be signed is an answer, not an offence. */
static gboolean
serve_nonce(Connector *self, GError **error)
{
    guint8 signature[CBUS_SIGNATURE_BYTES];
    g_autoptr(GError) refused = NULL;
    int got = cbus_datagram_receive(self->nonces, &self->in, MSG_DONTWAIT, error);

    if (got <= 0)
        return got == 0;
    if (self->in.fd >= 0)
        close(self->in.fd);
    if (self->in.fd >= 0 || self->in.type != CBUS_DATAGRAM_NONCE) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_INVALID, "an unknown request");
        return FALSE;
    }
    g_autofree char *nonce = g_strndup((const char *)self->in.payload, self->in.len);
    if (!cbus_nonce_check((const char *)self->in.payload, self->in.len, &refused) ||
        !self->signer->sign_nonce(self->signer, nonce, signature, &refused))
        return cbus_datagram_send_failed(self->nonces, self->in.id, refused->message, error) == 1;
    return cbus_datagram_send(self->nonces, CBUS_DATAGRAM_SIGNED, self->in.id, signature, sizeof signature,
                              -1, error) == 1;
}

static int
timeout_ms(const Connector *self)
{
    gint64 left;

    if (self->reread_at == 0)
        return -1;
    left = self->reread_at - g_get_monotonic_time();
    return left <= 0 ? 0 : (int)(left / 1000) + 1;
}

static gboolean
reread_when_due(Connector *self, GError **error)
{
    if (self->reread_at == 0 || g_get_monotonic_time() < self->reread_at)
        return TRUE;
    gboolean changed = read_keys(self);
    gboolean watched = cbus_keys_watch_is_whole(self->watch) && cbus_policy_file_is_watched(self->policies);
    self->reread_at = watched ? 0 : g_get_monotonic_time() + LOOK_US;
    return !changed || push_table(self, error);
}

static gboolean
turn(Connector *self, GError **error)
{
    struct pollfd fds[] = {
        {.fd = self->requests, .events = POLLIN},
        {.fd = self->nonces, .events = POLLIN},
        {.fd = cbus_keys_watch_fd(self->watch), .events = POLLIN},
        {.fd = cbus_policy_file_fd(self->policies), .events = POLLIN},
        {.fd = cbus_user_children_fd(self->children), .events = POLLIN},
    };
    gboolean changed = FALSE;

    if (poll(fds, G_N_ELEMENTS(fds), timeout_ms(self)) < 0 && errno != EINTR) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO, "poll: %s", g_strerror(errno));
        return FALSE;
    }
    if (fds[2].revents != 0)
        changed |= cbus_keys_watch_drain(self->watch);
    if (fds[3].revents != 0)
        changed |= cbus_policy_file_drain(self->policies);
    if (changed && self->reread_at == 0)
        self->reread_at = g_get_monotonic_time() + SETTLE_US;
    if (!reread_when_due(self, error))
        return FALSE;
    if (fds[4].revents != 0 && !cbus_user_children_serve(self->children, error))
        return FALSE;
    if (fds[1].revents != 0 && !serve_nonce(self, error))
        return FALSE;
    return fds[0].revents == 0 || serve_request(self, error);
}

/* The connector's whole life. Returns the exit status. */
static int
run(const CbusConnectorOptions *options, int requests, int nonces)
{
    Connector *self = g_new0(Connector, 1);
    g_autoptr(GError) error = NULL;

    self->options = options;
    self->requests = requests;
    self->nonces = nonces;
    self->children = cbus_user_children_new(requests, options->user, options->bus, wipe_in_child, self);
    self->signer = cbus_signer_load(options->key_file, CBUS_ROLE_AGENT, NULL, &error);
    if (self->signer == NULL) {
        (void)!cbus_datagram_send_failed(requests, 0, error->message, NULL);
        return 1;
    }
    if (cbus_datagram_send(requests, CBUS_DATAGRAM_KEY, 0, &self->signer->public_key, CBUS_KEY_BYTES, -1,
                           NULL) != 1)
        return 1;
    self->watch = cbus_keys_watch_new(options->authorized_keys);
    self->policies = cbus_policy_file_new(options->config, geteuid());
    self->reread_at = g_get_monotonic_time();
    while (turn(self, &error))
        continue;
    if (!g_error_matches(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_CLOSED))
        cbus_log(G_LOG_LEVEL_WARNING, "the connector ends the agent", CBUS_LOG_REASON, error->message, NULL);
    cbus_user_children_free(self->children);
    cbus_signer_free(self->signer);
    return g_error_matches(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_CLOSED) ? 0 : 1;
}

static void
ignore_signals(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
    sigset_t none;

    for (guint i = 0; i < G_N_ELEMENTS(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The first datagram: the public key, or why there is none. */
static gboolean
await_key(CbusConnectorEnds *ends, GError **error)
{
    g_autofree CbusDatagram *first = g_new0(CbusDatagram, 1);

    if (!cbus_stop_or_ready(ends->requests, POLLIN, G_MAXINT)) {
        g_set_error_literal(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO,
                            "stopped before the key was there");
        (void)kill(ends->pid, SIGKILL);
        return FALSE;
    }
    if (cbus_datagram_receive(ends->requests, first, 0, error) != 1) {
        g_prefix_error(error, "the connector process did not start: ");
        return FALSE;
    }
    if (first->type == CBUS_DATAGRAM_KEY && first->len == sizeof ends->public_key) {
        memcpy(&ends->public_key, first->payload, sizeof ends->public_key);
        return TRUE;
    }
    g_autofree char *reason = cbus_datagram_reason(first);
    g_set_error_literal(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO, reason);
    return FALSE;
}

gboolean
cbus_connector_start(const CbusConnectorOptions *options, CbusConnectorEnds *ends, GError **error)
{
    int requests[2] = {-1, -1}, nonces[2] = {-1, -1};
    CbusConnectorEnds started = {0};

    if (!cbus_datagram_pair(requests, error))
        return FALSE;
    if (!cbus_datagram_pair(nonces, error)) {
        close(requests[0]);
        close(requests[1]);
        return FALSE;
    }
    started.pid = fork();
    if (started.pid == 0) {
        (void)prctl(PR_SET_NAME, "cbus-connector");
        ignore_signals();
        close(requests[0]);
        close(nonces[0]);
        _exit(run(options, requests[1], nonces[1]));
    }
    close(requests[1]);
    close(nonces[1]);
    started.requests = requests[0];
    started.nonces = nonces[0];
    if (started.pid < 0)
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO, "fork: %s", g_strerror(errno));
    if (started.pid < 0 || !await_key(&started, error)) {
        close(requests[0]);
        close(nonces[0]);
        if (started.pid > 0)
            (void)waitpid(started.pid, NULL, 0);
        return FALSE;
    }
    *ends = started;
    return TRUE;
}
