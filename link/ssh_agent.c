/* The signer that has a running ssh-agent sign.
 *
 * The key stays in another process, perhaps behind a passphrase or on another host; we hold its public half
 * and the path of a socket. What is asked to be signed is checked and framed here, exactly as for a key in
 * this process (wire/sshsig.c): the agent signs what it is given.
 *
 * Transcripts, on the loop: one at a time, since an ssh-agent works that way, in order, on a connection
 * each. A queue of at most QUEUE_MAX waits; when one question gets no answer within PATIENCE_MS all that wait
 * fail with it, for they would only wait as long again. A proxy's attempt at a link gives up after as much.
 *
 * Nonces, on the worker thread that logs in to NATS: blocking, with a connection of its own and nothing that
 * is shared with the loop, for at most NONCE_MS. nats-server closes the door after two seconds anyway, and
 * who stops the process waits for this.
 *
 * Promise: what comes back was checked to be the key's signature over what was asked; each function given is
 * called once, at the latest when the signer is freed. Errors name the socket.
 *
 * Trust: none in the agent but to keep the key. Threads: as link/signer.h says; the loop's part is its own.
 */
#include "link/ssh_agent.h"

#include "link/ssh_agent_exchange.h"
#include <gio/gio.h>
#include <sys/epoll.h>

#define QUEUE_MAX       512
#define PATIENCE_MS     5000
#define NONCE_MS        1500
#define PUBLIC_FILE_MAX 16384

typedef struct {
    GBytes *preimage;
    CbusSignFunc func;
    gpointer user_data;
} Job;

typedef struct {
    CbusSigner base;
    char *socket;
    CbusLoop *loop; /* NULL: blocking */
    /* Of the loop: the head of JOBS is the one that EXCHANGE asks for. */
    GQueue jobs;
    CbusSshAgentExchange *exchange;
    CbusWatch *watch;
    GSource *timeout;
} AgentSigner;

static void
job_free(Job *job)
{
    g_bytes_unref(job->preimage);
    g_free(job);
}

static void
name_agent(GError **error, const char *socket)
{
    g_prefix_error(error, "the ssh-agent at %s: ", socket);
}

static void
end_exchange(AgentSigner *self)
{
    g_clear_pointer(&self->watch, cbus_watch_remove);
    g_clear_pointer(&self->exchange, cbus_ssh_agent_exchange_free);
    if (self->timeout != NULL)
        g_source_destroy(self->timeout);
    g_clear_pointer(&self->timeout, g_source_unref);
}

/* Answers the head. Its function may ask for another signature. */
static void
answer(AgentSigner *self, const guint8 *signature, const GError *error)
{
    Job *job = g_queue_pop_head(&self->jobs);

    end_exchange(self);
    job->func(signature, error, job->user_data);
    job_free(job);
}

static void
answer_all(AgentSigner *self, const GError *error)
{
    GQueue jobs = self->jobs;
    Job *job;

    end_exchange(self);
    g_queue_init(&self->jobs);
    while ((job = g_queue_pop_head(&jobs)) != NULL) {
        job->func(NULL, error, job->user_data);
        job_free(job);
    }
}

static gboolean
on_timeout(gpointer user_data)
{
    AgentSigner *self = user_data;
    g_autoptr(GError) error = g_error_new(
        CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_TIMEOUT,
        "the ssh-agent at %s: it did not answer within %d seconds: it may be waiting for somebody to confirm",
        self->socket, PATIENCE_MS / 1000);

    answer_all(self, error);
    return G_SOURCE_REMOVE;
}

static gboolean
read_signature(AgentSigner *self, const CbusSshAgentExchange *exchange, GBytes *preimage,
               guint8 signature[CBUS_SIGNATURE_BYTES], GError **error)
{
    gsize len, size;
    const guint8 *bytes = cbus_ssh_agent_exchange_answer(exchange, &len);
    const guint8 *data = g_bytes_get_data(preimage, &size);

    return cbus_ssh_agent_read_signature(bytes, len, &self->base.public_key, data, size, signature, error);
}

static void on_event(guint32 events, gpointer user_data);

static gboolean
watch_for(AgentSigner *self, int events, GError **error)
{
    if (self->watch != NULL) {
        cbus_watch_modify(self->watch, (guint32)events);
        return TRUE;
    }
    self->watch = cbus_poller_add(self->loop->poller, cbus_ssh_agent_exchange_fd(self->exchange),
                                  (guint32)events, on_event, self, error);
    self->timeout = g_timeout_source_new(PATIENCE_MS);
    g_source_set_callback(self->timeout, on_timeout, self, NULL);
    g_source_attach(self->timeout, self->loop->context);
    return self->watch != NULL;
}

/* Goes on with the head's exchange, until it has to wait or was answered. */
static void
advance(AgentSigner *self)
{
    Job *job = g_queue_peek_head(&self->jobs);
    guint8 signature[CBUS_SIGNATURE_BYTES];
    g_autoptr(GError) error = NULL;
    int events = -1;

    if (self->exchange != NULL)
        events = cbus_ssh_agent_exchange_step(self->exchange, &error);
    if (events > 0 && watch_for(self, events, &error))
        return;
    if (events == 0 && read_signature(self, self->exchange, job->preimage, signature, &error)) {
        answer(self, signature, NULL);
        return;
    }
    name_agent(&error, self->socket);
    answer(self, NULL, error);
}

static CbusSshAgentExchange *
ask(AgentSigner *self, GBytes *preimage, GError **error)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(preimage, &len);

    return cbus_ssh_agent_exchange_new(self->socket,
                                       cbus_ssh_agent_sign_request(&self->base.public_key, data, len), error);
}

/* Begins with the next ones until one has to wait. */
static void
pump(AgentSigner *self)
{
    while (self->exchange == NULL && !g_queue_is_empty(&self->jobs)) {
        const Job *job = g_queue_peek_head(&self->jobs);
        g_autoptr(GError) error = NULL;

        self->exchange = ask(self, job->preimage, &error);
        if (self->exchange != NULL) {
            advance(self);
            continue;
        }
        name_agent(&error, self->socket);
        answer(self, NULL, error);
    }
}

static void
on_event(guint32 events, gpointer user_data)
{
    advance(user_data);
    pump(user_data);
}

static gboolean
sign_blocking(AgentSigner *self, GBytes *preimage, guint timeout_ms, guint8 signature[CBUS_SIGNATURE_BYTES],
              GError **error)
{
    g_autoptr(CbusSshAgentExchange) exchange = ask(self, preimage, error);
    gboolean good = exchange != NULL && cbus_ssh_agent_exchange_run(exchange, timeout_ms, error) &&
                    read_signature(self, exchange, preimage, signature, error);

    if (!good)
        name_agent(error, self->socket);
    return good;
}

static void
sign_transcript(CbusSigner *base, const guint8 *message, gsize len, CbusSignFunc func, gpointer user_data)
{
    AgentSigner *self = (AgentSigner *)base;
    g_autoptr(GBytes) preimage = cbus_sshsig_preimage(base->role, message, len);
    g_autoptr(GError) error = NULL;

    if (self->loop == NULL) {
        guint8 signature[CBUS_SIGNATURE_BYTES];
        gboolean good = sign_blocking(self, preimage, PATIENCE_MS, signature, &error);
        func(good ? signature : NULL, error, user_data);
        return;
    }
    if (self->jobs.length >= QUEUE_MAX) {
        g_set_error(&error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_TIMEOUT,
                    "the ssh-agent at %s has too much to sign", self->socket);
        func(NULL, error, user_data);
        return;
    }
    Job *job = g_new0(Job, 1);
    *job = (Job){.preimage = g_steal_pointer(&preimage), .func = func, .user_data = user_data};
    g_queue_push_tail(&self->jobs, job);
    pump(self);
}

static gboolean
sign_nonce(CbusSigner *base, const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES], GError **error)
{
    AgentSigner *self = (AgentSigner *)base;
    gsize len = strlen(nonce);

    if (!cbus_nonce_check(nonce, len, error))
        return FALSE;
    g_autoptr(GBytes) bare = g_bytes_new(nonce, len);
    return sign_blocking(self, bare, NONCE_MS, signature, error);
}

static void
signer_free(CbusSigner *base)
{
    AgentSigner *self = (AgentSigner *)base;
    g_autoptr(GError) error =
        g_error_new_literal(CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_AWAY, "the program is stopping");

    answer_all(self, error);
    g_free(self->socket);
    g_free(self);
}

/* What the agent holds. */
static GArray *
list_keys(const char *socket, guint *others, GError **error)
{
    g_autoptr(CbusSshAgentExchange) exchange =
        cbus_ssh_agent_exchange_new(socket, cbus_ssh_agent_list_request(), error);
    gsize len;

    if (exchange == NULL || !cbus_ssh_agent_exchange_run(exchange, PATIENCE_MS, error))
        return NULL;
    const guint8 *bytes = cbus_ssh_agent_exchange_answer(exchange, &len);
    return cbus_ssh_agent_read_list(bytes, len, others, error);
}

static gboolean
read_public_key(const char *path, CbusKey *key, GError **error)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GFileInputStream) stream = g_file_read(file, NULL, error);
    char text[PUBLIC_FILE_MAX];
    gsize len;

    if (stream == NULL ||
        !g_input_stream_read_all(G_INPUT_STREAM(stream), text, sizeof text, &len, NULL, error))
        return FALSE;
    if (!cbus_public_key_parse(text, (gssize)len, key, error)) {
        g_prefix_error(error, "%s: ", path);
        return FALSE;
    }
    return TRUE;
}

/* Picks the key of PATH, or the first, out of KEYS. */
static gboolean
pick(const GArray *keys, guint others, const char *path, CbusKey *out, GError **error)
{
    CbusKey wanted;

    if (path != NULL && !read_public_key(path, &wanted, error))
        return FALSE;
    for (guint i = 0; i < keys->len; i++) {
        const CbusKey *key = &g_array_index(keys, CbusKey, i);
        if (path == NULL || cbus_key_equal(key, &wanted)) {
            *out = *key;
            return TRUE;
        }
    }
    g_set_error(
        error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_NO_KEY,
        "it does not hold %s (it shows %u ed25519 keys and %u others): add it with ssh-add, or unlock "
        "the agent with ssh-add -X",
        path != NULL ? path : "an ed25519 key", keys->len, others);
    return FALSE;
}

CbusSigner *
cbus_signer_new_for_ssh_agent(CbusLoop *loop, const char *public_key_file, CbusRole role, GError **error)
{
    const char *socket = g_getenv("SSH_AUTH_SOCK");
    g_autoptr(GArray) keys = NULL;
    guint others = 0;
    CbusKey key;

    if (socket == NULL || *socket == '\0') {
        g_set_error_literal(error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_AWAY,
                            "no ssh-agent is known: SSH_AUTH_SOCK is not set");
        return NULL;
    }
    keys = list_keys(socket, &others, error);
    if (keys == NULL || !pick(keys, others, public_key_file, &key, error)) {
        name_agent(error, socket);
        return NULL;
    }
    AgentSigner *self = g_new0(AgentSigner, 1);
    self->base = (CbusSigner){.public_key = key,
                              .role = role,
                              .sign_transcript = sign_transcript,
                              .sign_nonce = sign_nonce,
                              .free = signer_free};
    self->socket = g_strdup(socket);
    self->loop = loop;
    g_queue_init(&self->jobs);
    return &self->base;
}
