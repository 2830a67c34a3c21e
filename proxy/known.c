/* The known_machines file, read again whenever it changes.
 *
 * Inotify watches the file's directory, not the file: editors and `cbus trust` replace it by renaming another
 * over it. Where the directory does not exist yet, the nearest one above it that does is watched, and the
 * watch moves down as directories appear. After every event the watch is set anew (setting it again on the
 * same directory changes nothing) and the file is read again; who is told is only told when its bytes differ.
 * Where the file is a symbolic link, as it is for those who keep their configuration elsewhere, the directory
 * that it leads to is watched, too.
 *
 * Only a close after writing, a rename or a removal are events here, but another file's may come while this
 * one is being rewritten in place, and finds it empty or cut. So what would unpin a machine, or ends within a
 * line, is told only after it has stayed as it is for SETTLE_MS; a file that keeps changing is believed after
 * ROUNDS times that. What only adds is told at once.
 *
 * The file is opened without blocking and has to be a regular one of at most 1 MiB, so that neither a FIFO
 * nor a device can stop the loop.
 *
 * Lines that are refused are logged with their numbers, the others count; a file that can not be read at all
 * leaves the machines as they are, since an error of the disk must not unpin a fleet. A file that is gone
 * does: the operator removed it.
 *
 * Trusts whoever can write the operator's files. Loop thread only. */
#include "proxy/known.h"

#include "link/log.h"
#include "link/read_bounded.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS                                                                                               \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)
#define TOLD_LINES 20
#define ARM_TRIES  8
#define SETTLE_MS  300
#define ROUNDS     5

struct _CbusKnown {
    CbusLoop *loop;
    char *file;
    CbusKnownFunc func;
    gpointer user_data;
    int inotify;
    CbusWatch *watch;
    int descriptor;  /* inotify's, of the directory */
    int target;      /* of the directory that a symbolic link leads to; −1: none */
    GBytes *content; /* as last told; NULL: no file */
    gboolean told;
    GBytes *held;    /* as read, and not yet believed; NULL: none */
    guint rounds;    /* how often HELD changed */
    GSource *settle; /* runs while there is HELD */
    char *complaint; /* the last error logged, to say each one once */
    guint refused;
};

static void
on_refused_line(guint line, const GError *error, gpointer user_data)
{
    CbusKnown *known = user_data;
    if (known->refused++ < TOLD_LINES) {
        g_autofree char *message = g_strdup_printf("%s: %s", known->file, error->message);
        cbus_log(G_LOG_LEVEL_WARNING, message, NULL);
    }
}

static gboolean
check_regular(int fd, gsize *size, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        int code = errno;
        g_set_error_literal(error, G_FILE_ERROR, (gint)g_file_error_from_errno(code), g_strerror(code));
        return FALSE;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > CBUS_KNOWN_MACHINES_LENGTH) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "not a regular file of at most %d bytes",
                    CBUS_KNOWN_MACHINES_LENGTH);
        return FALSE;
    }
    *size = (gsize)st.st_size;
    return TRUE;
}

/* *OUT is NULL when there is no file. */
static gboolean
read_file(const char *file, GBytes **out, GError **error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        int code = errno;
        if (code == ENOENT || code == ENOTDIR) {
            *out = NULL;
            return TRUE;
        }
        g_set_error_literal(error, G_FILE_ERROR, (gint)g_file_error_from_errno(code), g_strerror(code));
        return FALSE;
    }
    gsize size = 0;
    if (!check_regular(fd, &size, error)) {
        close(fd);
        return FALSE;
    }
    g_autofree char *text = g_malloc(size + 1);
    gssize got = cbus_read_bounded(fd, text, (gssize)size);
    int code = errno;
    close(fd);
    if (got < 0) {
        g_set_error_literal(error, G_FILE_ERROR, (gint)g_file_error_from_errno(code), g_strerror(code));
        return FALSE;
    }
    *out = g_bytes_new_take(g_steal_pointer(&text), (gsize)got);
    return TRUE;
}

static void
complain(CbusKnown *known, const char *message)
{
    if (g_strcmp0(known->complaint, message) == 0) {
        return;
    }
    g_free(known->complaint);
    known->complaint = g_strdup(message);
    g_autofree char *text =
        g_strdup_printf("%s can not be read: %s; the machines stay as they are", known->file, message);
    cbus_log(G_LOG_LEVEL_WARNING, text, NULL);
}

static gboolean
same(GBytes *a, GBytes *b)
{
    return a == b || (a != NULL && b != NULL && g_bytes_equal(a, b));
}

static void
drop_held(CbusKnown *known)
{
    if (known->settle != NULL)
        g_source_destroy(known->settle);
    g_clear_pointer(&known->settle, g_source_unref);
    g_clear_pointer(&known->held, g_bytes_unref);
    known->rounds = 0;
}

static CbusKnownMachines *
parse(GBytes *content, CbusKnownFault fault, gpointer user_data)
{
    gsize len = 0;
    const char *text = content != NULL ? g_bytes_get_data(content, &len) : NULL;
    return cbus_known_machines_parse(text != NULL ? text : "", len, fault, user_data);
}

/* TRUE if CONTENT looks like a part of what is being written. */
static gboolean
is_doubtful(const CbusKnown *known, GBytes *content)
{
    gsize len = 0;
    const char *text = g_bytes_get_data(content, &len);
    if (len > 0 && text[len - 1] != '\n') {
        return TRUE;
    }
    g_autoptr(CbusKnownMachines) before = parse(known->content, NULL, NULL);
    g_autoptr(CbusKnownMachines) now = parse(content, NULL, NULL);
    for (guint i = 0; i < cbus_known_machines_size(before); i++) {
        if (cbus_known_machines_by_key(now, &cbus_known_machines_get(before, i)->key) == NULL) {
            return TRUE;
        }
    }
    return FALSE;
}

static void
tell(CbusKnown *known, GBytes *content)
{
    drop_held(known);
    known->refused = 0;
    CbusKnownMachines *parsed = parse(content, on_refused_line, known);
    if (known->refused > TOLD_LINES) {
        g_autofree char *message =
            g_strdup_printf("%s: %u more lines were refused", known->file, known->refused - TOLD_LINES);
        cbus_log(G_LOG_LEVEL_WARNING, message, NULL);
    }
    g_clear_pointer(&known->content, g_bytes_unref);
    known->content = content != NULL ? g_bytes_ref(content) : NULL;
    known->told = TRUE;
    known->func(parsed, known->user_data);
}

static gboolean on_settled(gpointer user_data);

/* Waits anew, unless that was done ROUNDS times. */
static void
hold(CbusKnown *known, GBytes *content)
{
    if (same(content, known->held) || known->rounds >= ROUNDS) {
        return;
    }
    guint rounds = known->rounds + 1;
    drop_held(known);
    known->held = g_bytes_ref(content);
    known->rounds = rounds;
    known->settle = g_timeout_source_new(SETTLE_MS);
    g_source_set_callback(known->settle, on_settled, known, NULL);
    g_source_attach(known->settle, known->loop->context);
}

/* DUE: what is held was waited for. */
static void
reload(CbusKnown *known, gboolean due)
{
    g_autoptr(GBytes) content = NULL;
    g_autoptr(GError) error = NULL;
    if (!read_file(known->file, &content, &error)) {
        complain(known, error->message);
        if (known->told) {
            drop_held(known);
            return;
        }
    } else {
        g_clear_pointer(&known->complaint, g_free);
    }
    if (known->told && same(content, known->content)) {
        drop_held(known);
        return;
    }
    if (known->told && content != NULL && is_doubtful(known, content) &&
        !(due && (same(content, known->held) || known->rounds >= ROUNDS))) {
        hold(known, content);
        return;
    }
    tell(known, content);
}

static gboolean
on_settled(gpointer user_data)
{
    reload(user_data, TRUE);
    return G_SOURCE_REMOVE;
}

/* Watches DIRECTORY, or the nearest one above it that exists. *MISSING: the one below it, NULL when there is
 * none.
 */
static int
watch_nearest(CbusKnown *known, const char *directory, char **missing)
{
    g_autofree char *at = g_strdup(directory);
    int descriptor;
    *missing = NULL;
    while ((descriptor = inotify_add_watch(known->inotify, at, EVENTS | IN_ONLYDIR)) < 0) {
        char *above = g_path_get_dirname(at);
        if (g_str_equal(above, at)) {
            g_free(above);
            return -1;
        }
        g_free(*missing);
        *missing = at;
        at = above;
    }
    return descriptor;
}

/* *DESCRIPTOR becomes NOW; what it was is no longer watched unless it is OTHER, too. */
static void
unwatch(CbusKnown *known, int *descriptor, int now, int other)
{
    if (*descriptor >= 0 && *descriptor != now && *descriptor != other) {
        inotify_rm_watch(known->inotify, *descriptor);
    }
    *descriptor = now;
}

static void
arm(CbusKnown *known)
{
    g_autofree char *directory = g_path_get_dirname(known->file);
    for (guint i = 0; i < ARM_TRIES; i++) {
        g_autofree char *missing = NULL;
        int descriptor = watch_nearest(known, directory, &missing);
        if (descriptor < 0) {
            complain(known, "nothing above it can be watched for changes");
            return;
        }
        unwatch(known, &known->descriptor, descriptor, known->target);
        /* It may have appeared before its parent was watched. */
        if (missing == NULL || !g_file_test(missing, G_FILE_TEST_IS_DIR)) {
            return;
        }
    }
}

static void
arm_target(CbusKnown *known)
{
    char *real = realpath(known->file, NULL);
    g_autofree char *directory = real != NULL ? g_path_get_dirname(real) : NULL;
    int target = directory != NULL ? inotify_add_watch(known->inotify, directory, EVENTS | IN_ONLYDIR) : -1;
    free(real);
    unwatch(known, &known->target, target != known->descriptor ? target : -1, known->descriptor);
}

static void
on_events(guint32 events, gpointer user_data)
{
    CbusKnown *known = user_data;
    char buffer[4096];
    gboolean any = FALSE;
    while (read(known->inotify, buffer, sizeof buffer) > 0) {
        any = TRUE;
    }
    if (any) {
        /* A kernel that dropped the watch of a removed directory has a fresh descriptor for the next one. */
        arm(known);
        arm_target(known);
        reload(known, FALSE);
    }
}

CbusKnown *
cbus_known_new(CbusLoop *loop, const char *file, CbusKnownFunc func, gpointer user_data, GError **error)
{
    g_autoptr(CbusKnown) known = g_new0(CbusKnown, 1);
    known->loop = loop;
    known->inotify = -1;
    known->file = g_canonicalize_filename(file, NULL);
    known->func = func;
    known->user_data = user_data;
    known->descriptor = known->target = -1;
    known->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (known->inotify < 0) {
        int code = errno;
        g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(code),
                    "%s can not be watched for changes (inotify): %s", known->file, g_strerror(code));
        return NULL;
    }
    known->watch = cbus_poller_add(loop->poller, known->inotify, EPOLLIN, on_events, known, error);
    if (known->watch == NULL) {
        return NULL;
    }
    arm(known);
    arm_target(known);
    reload(known, FALSE);
    return g_steal_pointer(&known);
}

void
cbus_known_free(CbusKnown *known)
{
    if (known == NULL) {
        return;
    }
    g_clear_pointer(&known->watch, cbus_watch_remove);
    if (known->inotify >= 0) {
        close(known->inotify);
    }
    drop_held(known);
    g_clear_pointer(&known->content, g_bytes_unref);
    g_free(known->complaint);
    g_free(known->file);
    g_free(known);
}
