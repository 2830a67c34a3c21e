/* The child that connects to the bus as one user.
 *
 * Why a process of its own: a bus takes pid, uid and groups of a client from the kernel at connect(), and
 * polkit and logind look at that pid later. So the three must agree and the process must live on; switching
 * uids back and forth in the connector would leave root's pid behind every caller, and glibc's setresuid
 * changes all threads anyway.
 *
 * It becomes its user before it reads its first request, for good: groups, gid and uid in all three forms,
 * then no new privileges. It holds nothing of the connector's: the identity key is wiped by IN_CHILD, all
 * descriptors but its socket and standard error are closed, and nobody may trace it, its user included. When
 * the connector goes, the socket ends and so does the child; the kernel's parent-death signal covers a child
 * that is busy.
 *
 * A Unix connect never hangs on a non-blocking socket, but a full backlog refuses it for the moment: then
 * the child tries again for up to two seconds, which delays its own user alone. It works on one request at a
 * time, blocking, in a single thread; requests wait in the socket.
 *
 * Trust: requests come from the connector. The connector takes our answers as those of the user. */
#include "agent/user_child.h"
#include "agent/connector_wire.h"
#include "link/bus.h"
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define RETRY_MS  20
#define RETRY_MAX 100 /* 2 s in all */

struct _CbusUserChild {
    int fd;
    pid_t pid;
};

static gboolean
fail(GError **error, const char *user, const char *what)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "can not become user \"%s\": %s: %s", user, what,
                g_strerror(errno));
    return FALSE;
}

/* Drops to USER irrevocably. */
static gboolean
become(const char *user, GError **error)
{
    struct passwd entry, *found = NULL;
    g_autofree char *room = g_malloc(65536);
    int code = getpwnam_r(user, &entry, room, 65536, &found);

    if (found == NULL) {
        errno = code != 0 ? code : ENOENT;
        return fail(error, user, "no such user on this machine");
    }
    if (entry.pw_uid == geteuid() && geteuid() != 0)
        return TRUE;
    if (initgroups(user, entry.pw_gid) != 0)
        return fail(error, user, "initgroups");
    if (setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid) != 0)
        return fail(error, user, "setresgid");
    if (setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid) != 0)
        return fail(error, user, "setresuid");
    return TRUE;
}

/* Why we can not become USER, or NULL. */
static char *
judge_user(const char *user)
{
    const struct passwd *entry;

    if (user == NULL)
        return NULL;
    errno = 0;
    entry = getpwnam(user);
    if (entry == NULL && errno != 0 && errno != ENOENT)
        return g_strdup_printf("user \"%s\" can not be looked up: %s", user, g_strerror(errno));
    if (entry == NULL)
        return g_strdup_printf("there is no user \"%s\" on this machine", user);
    if (geteuid() != 0 && entry->pw_uid != geteuid())
        return g_strdup_printf("user \"%s\": only an agent that root starts can connect to the bus as "
                               "another user",
                               user);
    return NULL;
}

char *
cbus_user_child_judge(const CbusAuthorizedLine *line, gpointer unused)
{
    return judge_user(line->user);
}

gboolean
cbus_user_child_judge_default(const char *user, GError **error)
{
    g_autofree char *fault = judge_user(user);

    if (fault != NULL)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "default-user: %s", fault);
    return fault == NULL;
}

/* A connection to BUS, or −1 with an error; waits a moment for a bus whose backlog is full. */
static int
connect_patiently(const char *bus, GError **error)
{
    for (guint attempt = 0;; attempt++) {
        g_autoptr(GError) failure = NULL;
        int fd = cbus_bus_connect(bus, &failure);
        if (fd >= 0)
            return fd;
        if (!g_error_matches(failure, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK) || attempt == RETRY_MAX) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return -1;
        }
        (void)poll(NULL, 0, RETRY_MS);
    }
}

/* What a CONNECTED says of us. */
static GByteArray *
who_we_are(void)
{
    GByteArray *who = g_byte_array_new();
    const struct passwd *entry = getpwuid(geteuid());
    guint32 uid = geteuid();

    g_byte_array_append(who, (const guint8 *)&uid, sizeof uid);
    if (entry != NULL)
        g_byte_array_append(who, (const guint8 *)entry->pw_name,
                            (guint)strnlen(entry->pw_name, CBUS_USER_MAX));
    return who;
}

static gboolean
serve_one(int socket, guint32 id, const char *bus, const GByteArray *who, const GError *unfit)
{
    g_autoptr(GError) error = NULL;
    int sent, fd = -1;

    if (unfit == NULL)
        fd = connect_patiently(bus, &error);
    if (fd < 0)
        sent = cbus_datagram_send_failed(socket, id, unfit != NULL ? unfit->message : error->message, NULL);
    else
        sent = cbus_datagram_send(socket, CBUS_DATAGRAM_CONNECTED, id, who->data, who->len, fd, NULL);
    if (fd >= 0)
        close(fd);
    return sent == 1;
}

static G_NORETURN void
run(int socket, const char *user, const char *bus)
{
    g_autofree CbusDatagram *request = g_new0(CbusDatagram, 1);
    g_autoptr(GError) unfit = NULL;

    (void)prctl(PR_SET_NAME, "cbus-user");
    if (user != NULL)
        (void)become(user, &unfit);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0);
    /* After the credentials changed: changing them clears it. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    g_autoptr(GByteArray) who = who_we_are();
    while (cbus_datagram_receive(socket, request, 0, NULL) == 1) {
        if (request->fd >= 0 || request->type != CBUS_DATAGRAM_CONNECT)
            break;
        if (!serve_one(socket, request->id, bus, who, unfit) || unfit != NULL)
            break;
    }
    _exit(0);
}

CbusUserChild *
cbus_user_child_new(const char *user, const char *bus, void (*in_child)(gpointer user_data),
                    gpointer user_data, GError **error)
{
    int pair[2];
    pid_t pid;

    if (!cbus_datagram_pair(pair, error))
        return NULL;
    pid = fork();
    if (pid == 0) {
        if (in_child != NULL)
            in_child(user_data);
        /* Standard input to error stay; the socket becomes 3; the rest is the connector's. */
        if (dup3(pair[1], 3, O_CLOEXEC) < 0 && pair[1] != 3)
            _exit(1);
        if (close_range(4, ~0u, 0) != 0)
            _exit(1);
        run(3, user, bus);
    }
    close(pair[1]);
    if (pid < 0) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO, "fork: %s", g_strerror(errno));
        close(pair[0]);
        return NULL;
    }
    CbusUserChild *self = g_new0(CbusUserChild, 1);
    self->fd = pair[0];
    /* Our end alone: the child may be busy with a bus that hangs, and we must not wait for it. */
    (void)fcntl(self->fd, F_SETFL, fcntl(self->fd, F_GETFL) | O_NONBLOCK);
    self->pid = pid;
    return self;
}

void
cbus_user_child_free(CbusUserChild *self)
{
    close(self->fd);
    (void)kill(self->pid, SIGKILL);
    while (waitpid(self->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    g_free(self);
}

int
cbus_user_child_fd(const CbusUserChild *self)
{
    return self->fd;
}

gboolean
cbus_user_child_connect(CbusUserChild *self, guint32 id, GError **error)
{
    int sent = cbus_datagram_send(self->fd, CBUS_DATAGRAM_CONNECT, id, NULL, 0, -1, error);
    if (sent == 0)
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO,
                    "too many connections to the bus are being made: try again later");
    return sent == 1;
}
