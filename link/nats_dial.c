/* Making one NATS connection: DNS, TCP, TLS and login block, so a worker thread does them.
 *
 * One thread an attempt, because attempts are rare and a thread that waits costs a stack. The worker makes
 * the library's options (reading files and asking the signer), connects, and hands the result to the loop
 * under the lock: from that moment the connection is the loop's. When the attempt was given up meanwhile, the
 * worker destroys what it made, which the loop has never seen. The state is counted: the worker holds one
 * reference, the loop the other, and neither waits for the other.
 *
 * The watchdog: nats.c 3.4.1 has a deadline for connecting but does not keep it in every state; when a server
 * stalls between INFO and PONG, or in the TLS handshake, natsConnection_Connect never returns. The library
 * does not tell its descriptor before it is connected, so the watchdog, a timer on the loop, looks for it: a
 * TCP socket of this process, connected to a port of our servers, that has been so for HANG_MS while the
 * attempt lasts. It is shut down, and the library sees the end of the stream. Each candidate is duplicated
 * before it is looked at, so that a descriptor closed and reused in between is never hit; and what is hit by
 * mistake could only be another NATS connection, which is made again. Without /proc there is no watchdog.
 *
 * A worker that hangs is not waited for when the process ends; how many there are is counted, because none
 * may run on while exit handlers take away what it uses.
 *
 * Threads: everything is the loop's, except worker() and what is marked as guarded. */
#include "link/nats_dial.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANG_MS  2500 /* the library's own deadline is 2 000 */
#define WATCH_MS 200

static gint workers; /* atomic: how many have not ended */

struct _CbusNatsDial {
    gatomicrefcount refs;
    GMainContext *context;
    CbusNatsLogin *login;
    CbusNatsDialed func;
    gpointer user_data;
    GSource *watchdog;
    gboolean hung;    /* the watchdog had to end it */
    GHashTable *seen; /* inode of a candidate → since when, µs; both gint64 */

    GMutex mutex;
    /* Guarded. */
    gboolean given_up;
    natsConnection *connection;
    CbusNatsSource *source;
    GError *error;
    GSource *report; /* the idle source that brings the result to the loop */
};

static void
dial_unref(CbusNatsDial *dial)
{
    if (!g_atomic_ref_count_dec(&dial->refs))
        return;
    cbus_nats_login_unref(dial->login);
    g_clear_error(&dial->error);
    g_hash_table_unref(dial->seen);
    g_main_context_unref(dial->context);
    g_mutex_clear(&dial->mutex);
    g_free(dial);
}

/* A connected TCP socket to one of our servers' ports. */
static gboolean
is_candidate(CbusNatsDial *dial, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer = {0};
    socklen_t len = sizeof peer;
    int protocol = 0;
    socklen_t protocol_len = sizeof protocol;

    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &protocol_len) < 0 || protocol != IPPROTO_TCP ||
        getpeername(fd, &peer.any, &len) < 0)
        return FALSE;
    if (peer.any.sa_family == AF_INET)
        return cbus_nats_login_has_port(dial->login, ntohs(peer.v4.sin_port));
    return peer.any.sa_family == AF_INET6 && cbus_nats_login_has_port(dial->login, ntohs(peer.v6.sin6_port));
}

/* FD is a duplicate of the caller's. Ends the socket when it has been a candidate for too long. */
static void
judge(CbusNatsDial *dial, int fd, GHashTable *seen, gint64 now)
{
    struct stat status;
    gint64 inode, *since;

    if (!is_candidate(dial, fd) || fstat(fd, &status) < 0)
        return;
    inode = (gint64)status.st_ino;
    since = g_hash_table_lookup(dial->seen, &inode);
    if (since != NULL && now - *since >= HANG_MS * G_TIME_SPAN_MILLISECOND)
        dial->hung = shutdown(fd, SHUT_RDWR) == 0;
    g_hash_table_insert(seen, g_memdup2(&inode, sizeof inode),
                        g_memdup2(since != NULL ? since : &now, sizeof now));
}

static gboolean
on_watchdog(gpointer user_data)
{
    CbusNatsDial *dial = user_data;
    g_autoptr(GDir) descriptors = g_dir_open("/proc/self/fd", 0, NULL);
    GHashTable *seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    const char *name;

    while (descriptors != NULL && (name = g_dir_read_name(descriptors)) != NULL) {
        guint64 number;
        int fd = -1;

        if (g_ascii_string_to_unsigned(name, 10, 0, G_MAXINT, &number, NULL))
            fd = fcntl((int)number, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            continue;
        judge(dial, fd, seen, g_get_monotonic_time());
        close(fd);
    }
    g_hash_table_unref(dial->seen);
    dial->seen = seen;
    return G_SOURCE_CONTINUE;
}

static void
stop_watchdog(CbusNatsDial *dial)
{
    if (dial->watchdog != NULL)
        g_source_destroy(dial->watchdog);
    g_clear_pointer(&dial->watchdog, g_source_unref);
}

static gboolean
on_report(gpointer user_data)
{
    CbusNatsDial *dial = user_data;
    natsConnection *connection;
    CbusNatsSource *source;
    g_autoptr(GError) error = NULL;

    stop_watchdog(dial);
    g_mutex_lock(&dial->mutex);
    connection = g_steal_pointer(&dial->connection);
    source = g_steal_pointer(&dial->source);
    error = g_steal_pointer(&dial->error);
    g_mutex_unlock(&dial->mutex);
    if (error != NULL && dial->hung)
        g_prefix_error(&error, "the server accepted the connection and then fell silent: ");
    dial->func(connection, source, error, dial->user_data);
    return G_SOURCE_REMOVE;
}

/* A server that wants a client certificate hangs up after the handshake; the library saw no answer to its
 * PING. */
#define HUNG_UP "Expected 'PONG', got ''"

static GError *
explain(CbusNatsDial *dial, natsStatus status)
{
    const char *detail = cbus_nats_detail(status);
    const char *servers = cbus_nats_login_servers(dial->login);
    g_autofree char *login = cbus_nats_login_describe(dial->login);

    if (status == NATS_CONNECTION_AUTH_FAILED)
        return g_error_new(
            CBUS_NATS_ERROR, CBUS_NATS_ERROR_LOGIN,
            "the NATS server at %s does not let us in with %s: %s: give the server this user, or "
            "name another login (creds, jwt, context, or user:password@ in the URL)",
            servers, login, detail);
    if (g_str_has_prefix(detail, HUNG_UP))
        detail = "the server hung up in the login: it may want a client certificate (cert, cert-key); "
                 "its log says why";
    return g_error_new(CBUS_NATS_ERROR, CBUS_NATS_ERROR_CONNECT, "no connection to NATS at %s: %s", servers,
                       detail);
}

static natsConnection *
dial_connect(CbusNatsDial *dial, CbusNatsSource *source, GError **error)
{
    natsConnection *connection = NULL;
    natsOptions *options = cbus_nats_login_options(dial->login, error);
    natsStatus status;

    if (options == NULL)
        return NULL;
    status = cbus_nats_source_install(source, options);
    if (status == NATS_OK)
        status = natsConnection_Connect(&connection, options);
    if (status != NATS_OK) {
        g_propagate_error(error, explain(dial, status));
        connection = NULL;
    }
    natsOptions_Destroy(options);
    return connection;
}

/* Hands over; whichever of the two is taken by nobody comes back to the caller. */
static void
report(CbusNatsDial *dial, natsConnection **connection, CbusNatsSource **source, GError *error)
{
    g_mutex_lock(&dial->mutex);
    if (dial->given_up) {
        g_clear_error(&error);
    } else {
        dial->connection = g_steal_pointer(connection);
        if (dial->connection != NULL)
            dial->source = g_steal_pointer(source);
        dial->error = error;
        dial->report = g_idle_source_new();
        g_source_set_priority(dial->report, G_PRIORITY_DEFAULT);
        g_atomic_ref_count_inc(&dial->refs);
        g_source_set_callback(dial->report, on_report, dial, (GDestroyNotify)dial_unref);
        g_source_attach(dial->report, dial->context);
    }
    g_mutex_unlock(&dial->mutex);
}

static gpointer
worker(gpointer data)
{
    CbusNatsDial *dial = data;
    CbusNatsSource *source = cbus_nats_source_new();
    GError *error = NULL;
    natsConnection *connection = dial_connect(dial, source, &error);

    report(dial, &connection, &source, error);
    if (connection != NULL)
        natsConnection_Destroy(connection);
    cbus_nats_source_free(source);
    nats_ReleaseThreadMemory();
    dial_unref(dial);
    g_atomic_int_add(&workers, -1);
    return NULL;
}

/* Never fails: what goes wrong comes through FUNC. */
CbusNatsDial *
cbus_nats_dial_new(GMainContext *context, CbusNatsLogin *login, CbusNatsDialed func, gpointer user_data)
{
    CbusNatsDial *dial = g_new0(CbusNatsDial, 1);
    g_autoptr(GThread) thread = NULL;
    GError *error = NULL;

    g_atomic_ref_count_init(&dial->refs);
    g_mutex_init(&dial->mutex);
    dial->context = g_main_context_ref(context);
    dial->login = cbus_nats_login_ref(login);
    dial->func = func;
    dial->user_data = user_data;
    dial->seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    dial->watchdog = g_timeout_source_new(WATCH_MS);
    g_source_set_callback(dial->watchdog, on_watchdog, dial, NULL);
    g_source_attach(dial->watchdog, context);
    g_atomic_ref_count_inc(&dial->refs);
    g_atomic_int_inc(&workers);
    thread = g_thread_try_new("cbus-nats-dial", worker, dial, &error);
    if (thread == NULL) {
        natsConnection *no_connection = NULL;
        CbusNatsSource *no_source = NULL;

        report(dial, &no_connection, &no_source, error);
        dial_unref(dial);
        g_atomic_int_add(&workers, -1);
    }
    return dial;
}

void
cbus_nats_dial_free(CbusNatsDial *dial)
{
    natsConnection *connection;
    CbusNatsSource *source;
    GSource *idle;

    if (dial == NULL)
        return;
    stop_watchdog(dial);
    g_mutex_lock(&dial->mutex);
    dial->given_up = TRUE;
    connection = g_steal_pointer(&dial->connection);
    source = g_steal_pointer(&dial->source);
    idle = g_steal_pointer(&dial->report);
    g_mutex_unlock(&dial->mutex);
    if (idle != NULL) {
        g_source_destroy(idle);
        g_source_unref(idle);
    }
    if (connection != NULL)
        natsConnection_Destroy(connection);
    cbus_nats_source_free(source);
    dial_unref(dial);
}

int
cbus_nats_dial_leave(int status)
{
    if (g_atomic_int_get(&workers) > 0) {
        fflush(NULL);
        _exit(status);
    }
    return status;
}
