/* Many descriptors behind one.
 *
 * A GMainContext hands every descriptor it knows to poll() on every turn: with a thousand idle portals that
 * costs 113 µs a turn, measured. An epoll set is itself a descriptor that polls readable when one of its
 * members is ready; so the context sees a single one, and idle members cost nothing.
 *
 * The poller is also how its context waits. While the context knows no descriptor but the set and its own
 * wake-up, which it always has, both are waited for by one epoll_wait, where poll() and then epoll_wait were
 * two calls. What that reports is called inside the wait, and the turn ended there: what a message came for
 * has left before the context looks at its other sources (2 µs a turn), and these are looked at before the
 * next wait, as ever. With any further descriptor the context waits by poll(), and the set is one of its
 * sources.
 *
 * Under load, the wait begins with a rest (turn.h).
 *
 * Promise: level-triggered; at most EVENTS_A_TURN callbacks a turn, the kernel rotating over the ready ones,
 * so that a busy descriptor starves none. A watch may be removed inside any callback, its own or another's:
 * what epoll_wait had already reported for it is forgotten. A watch whose events are 0 is taken out of the
 * set, because epoll reports EPOLLHUP and EPOLLERR unasked, and a reader that pauses on a dead peer would
 * spin.
 *
 * Trust: the caller removes a watch before it closes the descriptor; a duplicate elsewhere would otherwise
 * keep reporting. One thread: the context's. */
#include "link/poller.h"
#include <errno.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_A_TURN 64

struct _CbusPoller {
    GMainContext *context;
    GSource *source;
    int epoll;
    CbusTurn *turn; /* NULL: nobody defers */
    int wake_up;    /* the context's own descriptor, in the set too; −1: not known yet */
    guint watches;
    gboolean called; /* in the wait that ended just now */
    /* reported[next … count) is still to be called; NULL is the wake-up, or a watch that was removed. */
    struct epoll_event reported[EVENTS_A_TURN];
    int next, count;
    guint8 *buffer; /* NULL until somebody wants it */
    GByteArray *spare;
};

struct _CbusWatch {
    CbusPoller *poller;
    int fd;
    guint32 events;
    CbusWatchFunc func;
    gpointer user_data;
};

typedef struct {
    GSource base;
    CbusPoller *poller;
} PollerSource;

/* Of the context that this thread runs. A GPollFunc is told neither its context nor anything of ours. */
static _Thread_local CbusPoller *current;

/* Waits and begins a turn. As epoll_wait(); what is reported is in `reported`. */
static int
look(CbusPoller *poller, int timeout)
{
    poller->next = 0;
    poller->count = epoll_wait(poller->epoll, poller->reported, EVENTS_A_TURN, timeout);
    if (poller->count > 0 && poller->turn != NULL)
        cbus_turn_begin(poller->turn);
    return poller->count;
}

static void
call_reported(CbusPoller *poller)
{
    while (poller->next < poller->count) {
        struct epoll_event *event = &poller->reported[poller->next++];
        CbusWatch *watch = event->data.ptr;

        if (watch != NULL)
            watch->func(event->events, watch->user_data);
    }
    poller->next = poller->count = 0;
}

static gboolean
poller_dispatch(GSource *source, GSourceFunc callback, gpointer user_data)
{
    CbusPoller *poller = ((PollerSource *)source)->poller;

    if (!poller->called) {
        (void)look(poller, 0);
        call_reported(poller);
    }
    poller->called = FALSE;
    return G_SOURCE_CONTINUE;
}

/* TRUE if FDS are the set of POLLER and its context's own descriptor, which is in the set by then. */
static gboolean
is_all_in_set(CbusPoller *poller, const GPollFD *fds, guint n_fds, guint *set)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    if (poller == NULL || n_fds != 2)
        return FALSE;
    *set = fds[0].fd == poller->epoll ? 0 : 1;
    const GPollFD *own = &fds[1 - *set];
    if (fds[*set].fd != poller->epoll || own->events != G_IO_IN)
        return FALSE;
    if (poller->wake_up < 0 && epoll_ctl(poller->epoll, EPOLL_CTL_ADD, own->fd, &event) == 0)
        poller->wake_up = own->fd;
    return poller->wake_up == own->fd;
}

/* The context's wait. As poll(): how many of FDS are ready, or −1 with errno. The set counts as ready when
 * something was called, so that an iteration which did something says so. */
static gint
wait_for_events(GPollFD *fds, guint n_fds, gint timeout)
{
    CbusPoller *poller = current;
    int woken = 0;
    guint set;

    if (poller != NULL)
        poller->called = FALSE;
    if (!is_all_in_set(poller, fds, n_fds, &set))
        return g_poll(fds, n_fds, timeout);
    if (poller->turn != NULL && timeout != 0)
        cbus_turn_rest(poller->turn);
    if (look(poller, timeout) < 0)
        return -1;
    for (int i = 0; i < poller->count; i++)
        woken += poller->reported[i].data.ptr == NULL;
    poller->called = poller->count > woken;
    fds[set].revents = poller->called ? G_IO_IN : 0;
    fds[1 - set].revents = woken > 0 ? G_IO_IN : 0;
    call_reported(poller);
    if (poller->turn != NULL)
        cbus_turn_end(poller->turn);
    return woken + poller->called;
}

static GSourceFuncs poller_funcs = {
    .dispatch = poller_dispatch,
};

/* A poller of CONTEXT, made and freed by the thread that runs it. Fails when no descriptor is left. */
CbusPoller *
cbus_poller_new(GMainContext *context, CbusTurn *turn, GError **error)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    CbusPoller *poller;

    if (epoll < 0) {
        int saved = errno;

        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved), "epoll_create1: %s", g_strerror(saved));
        return NULL;
    }
    poller = g_new0(CbusPoller, 1);
    poller->context = g_main_context_ref(context != NULL ? context : g_main_context_default());
    poller->epoll = epoll;
    poller->turn = turn;
    poller->wake_up = -1;
    poller->source = g_source_new(&poller_funcs, sizeof(PollerSource));
    ((PollerSource *)poller->source)->poller = poller;
    g_source_set_static_name(poller->source, "cbus-poller");
    g_source_add_unix_fd(poller->source, epoll, G_IO_IN);
    /* Else the context takes the descriptor out and puts it back around each dispatch, and wakes itself. No
     * watch runs a loop of its own. */
    g_source_set_can_recurse(poller->source, TRUE);
    g_source_attach(poller->source, context);
    current = poller;
    g_main_context_set_poll_func(poller->context, wait_for_events);
    return poller;
}

void
cbus_poller_free(CbusPoller *poller)
{
    g_assert(poller->watches == 0);
    g_main_context_set_poll_func(poller->context, NULL);
    if (current == poller)
        current = NULL;
    g_main_context_unref(poller->context);
    g_source_destroy(poller->source);
    g_source_unref(poller->source);
    close(poller->epoll);
    g_free(poller->buffer);
    if (poller->spare != NULL)
        g_byte_array_unref(poller->spare);
    g_free(poller);
}

static int
control(CbusWatch *watch, int operation, guint32 events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    return epoll_ctl(watch->poller->epoll, operation, watch->fd, &event);
}

/* Watches FD until cbus_watch_remove(). Fails for what can not be polled (a regular file), for a descriptor
 * that is in the set already, and at the kernel's limit of watches. */
CbusWatch *
cbus_poller_add(CbusPoller *poller, int fd, guint32 events, CbusWatchFunc func, gpointer user_data,
                GError **error)
{
    g_autofree CbusWatch *watch = g_new0(CbusWatch, 1);

    watch->poller = poller;
    watch->fd = fd;
    watch->func = func;
    watch->user_data = user_data;
    watch->events = events;
    /* Added even when muted: the kernel's refusal must be known here, the one place that can report it. */
    if (control(watch, EPOLL_CTL_ADD, events) < 0) {
        int saved = errno;

        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved), "can not poll descriptor %d: %s", fd,
                    g_strerror(saved));
        return NULL;
    }
    if (events == 0)
        control(watch, EPOLL_CTL_DEL, 0);
    poller->watches++;
    return g_steal_pointer(&watch);
}

/* What epoll_wait reported under the old EVENTS may still be called this turn. */
void
cbus_watch_modify(CbusWatch *watch, guint32 events)
{
    int operation = EPOLL_CTL_MOD;

    if (events == watch->events)
        return;
    if (events == 0)
        operation = EPOLL_CTL_DEL;
    else if (watch->events == 0)
        operation = EPOLL_CTL_ADD;
    if (control(watch, operation, events) < 0)
        g_critical("epoll_ctl on descriptor %d: %s", watch->fd, g_strerror(errno));
    watch->events = events;
}

void
cbus_watch_remove(CbusWatch *watch)
{
    CbusPoller *poller = watch->poller;

    if (watch->events != 0)
        control(watch, EPOLL_CTL_DEL, 0);
    for (int i = poller->next; i < poller->count; i++) {
        if (poller->reported[i].data.ptr == watch)
            poller->reported[i].data.ptr = NULL;
    }
    poller->watches--;
    g_free(watch);
}

guint8 *
cbus_poller_buffer(CbusPoller *poller)
{
    if (poller->buffer == NULL)
        poller->buffer = g_malloc(CBUS_POLLER_BUFFER);
    return poller->buffer;
}

GByteArray **
cbus_poller_spare(CbusPoller *poller)
{
    return &poller->spare;
}
