/* What a poller promises: callbacks for what is ready, and none for what was removed or muted. */
#include "link/poller.h"
#include <glib-unix.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    CbusTurn *turn;
    CbusDeferred deferred;
    CbusPoller *poller;
    int ours[2], theirs[2];
    CbusWatch *watches[2];
    guint calls[2];
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    fixture->turn = cbus_turn_new(NULL);
    fixture->poller = cbus_poller_new(NULL, fixture->turn, &error);
    g_assert_no_error(error);
    for (int i = 0; i < 2; i++) {
        int pair[2];

        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
        fixture->ours[i] = pair[0];
        fixture->theirs[i] = pair[1];
    }
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    for (int i = 0; i < 2; i++) {
        g_clear_pointer(&fixture->watches[i], cbus_watch_remove);
        close(fixture->ours[i]);
        if (fixture->theirs[i] >= 0)
            close(fixture->theirs[i]);
    }
    cbus_poller_free(fixture->poller);
    cbus_turn_free(fixture->turn);
}

static CbusWatch *
add(Fixture *fixture, int i, guint32 events, CbusWatchFunc func)
{
    g_autoptr(GError) error = NULL;
    CbusWatch *watch = cbus_poller_add(fixture->poller, fixture->ours[i], events, func, fixture, &error);

    g_assert_no_error(error);
    return watch;
}

static void
count_first(guint32 events, gpointer user_data)
{
    Fixture *fixture = user_data;

    g_assert_cmpuint(events & EPOLLIN, ==, EPOLLIN);
    fixture->calls[0]++;
}

static void
remove_both(guint32 events, gpointer user_data)
{
    Fixture *fixture = user_data;

    fixture->calls[0]++;
    g_clear_pointer(&fixture->watches[0], cbus_watch_remove);
    g_clear_pointer(&fixture->watches[1], cbus_watch_remove);
}

static void
test_level_triggered(Fixture *fixture, gconstpointer data)
{
    fixture->watches[0] = add(fixture, 0, EPOLLIN, count_first);
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpuint(fixture->calls[0], ==, 0);
    g_assert_cmpint(write(fixture->theirs[0], "x", 1), ==, 1);
    g_main_context_iteration(NULL, TRUE);
    g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(fixture->calls[0], ==, 2);
}

static void
test_removed_in_a_callback_is_not_called(Fixture *fixture, gconstpointer data)
{
    for (int i = 0; i < 2; i++) {
        fixture->watches[i] = add(fixture, i, EPOLLIN, remove_both);
        g_assert_cmpint(write(fixture->theirs[i], "x", 1), ==, 1);
    }
    g_main_context_iteration(NULL, TRUE);
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpuint(fixture->calls[0], ==, 1);
}

static void
test_muted_does_not_report_a_hang_up(Fixture *fixture, gconstpointer data)
{
    fixture->watches[0] = add(fixture, 0, EPOLLIN, count_first);
    cbus_watch_modify(fixture->watches[0], 0);
    close(fixture->theirs[0]);
    fixture->theirs[0] = -1;
    g_assert_false(g_main_context_iteration(NULL, FALSE));
    g_assert_cmpuint(fixture->calls[0], ==, 0);
    cbus_watch_modify(fixture->watches[0], EPOLLIN);
    g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(fixture->calls[0], ==, 1);
}

static void
test_what_can_not_be_polled_is_an_error(Fixture *fixture, gconstpointer data)
{
    g_autofree char *name = NULL;
    g_autoptr(GError) error = NULL;
    int fd = g_file_open_tmp("cbus-poller-XXXXXX", &name, &error);

    g_assert_no_error(error);
    g_assert_null(cbus_poller_add(fixture->poller, fd, EPOLLIN, count_first, fixture, &error));
    g_assert_nonnull(error);
    close(fd);
    unlink(name);
}

static gpointer
wake_main(gpointer data)
{
    g_main_context_wakeup(NULL);
    return NULL;
}

/* The context's own descriptor is in the set: it must end the wait, and only once. */
static void
test_another_thread_wakes_the_context(Fixture *fixture, gconstpointer data)
{
    fixture->watches[0] = add(fixture, 0, EPOLLIN, count_first);
    for (int i = 0; i < 3; i++) {
        GThread *thread = g_thread_new("waker", wake_main, NULL);

        g_main_context_iteration(NULL, TRUE);
        g_thread_join(thread);
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    g_assert_cmpuint(fixture->calls[0], ==, 0);
    g_assert_cmpint(write(fixture->theirs[0], "x", 1), ==, 1);
    g_main_context_wakeup(NULL);
    g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(fixture->calls[0], ==, 1);
}

static gboolean
count_in(gint fd, GIOCondition condition, gpointer count)
{
    ++*(guint *)count;
    return G_SOURCE_CONTINUE;
}

/* A source of someone else's with a descriptor of its own, as libraries bring. */
static void
test_other_descriptors_of_the_context_are_waited_for(Fixture *fixture, gconstpointer data)
{
    guint count = 0;
    guint id = g_unix_fd_add(fixture->ours[1], G_IO_IN, count_in, &count);

    fixture->watches[0] = add(fixture, 0, EPOLLIN, count_first);
    g_assert_cmpint(write(fixture->theirs[1], "x", 1), ==, 1);
    g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(count, ==, 1);
    g_assert_cmpuint(fixture->calls[0], ==, 0);
    g_source_remove(id);
    g_assert_cmpint(write(fixture->theirs[0], "x", 1), ==, 1);
    g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(count, ==, 1);
    g_assert_cmpuint(fixture->calls[0], ==, 1);
}

static gboolean
take_byte(gpointer fd)
{
    char byte;

    g_assert_cmpint(read(GPOINTER_TO_INT(fd), &byte, 1), ==, 1);
    return G_SOURCE_REMOVE;
}

/* What the wait reported is not dispatched when a source of higher priority goes first, and takes it away. */
static void
test_what_is_no_longer_ready_is_not_called(Fixture *fixture, gconstpointer data)
{
    fixture->watches[0] = add(fixture, 0, EPOLLIN, count_first);
    g_assert_cmpint(write(fixture->theirs[0], "x", 1), ==, 1);
    g_idle_add_full(G_PRIORITY_HIGH, take_byte, GINT_TO_POINTER(fixture->ours[0]), NULL);
    g_main_context_iteration(NULL, TRUE);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(fixture->calls[0], ==, 0);
}

static void
count_second(gpointer user_data)
{
    ((Fixture *)user_data)->calls[1]++;
}

static void
defer(guint32 events, gpointer user_data)
{
    Fixture *fixture = user_data;

    fixture->calls[0]++;
    cbus_turn_defer(fixture->turn, CBUS_TURN_WRITE, &fixture->deferred);
}

static gboolean
assert_deferred_ran(gpointer user_data)
{
    Fixture *fixture = user_data;

    g_assert_cmpuint(fixture->calls[0], ==, 1);
    g_assert_cmpuint(fixture->calls[1], ==, 1);
    g_clear_pointer(&fixture->watches[0], cbus_watch_remove);
    return G_SOURCE_REMOVE;
}

/* What a message came for does not wait for the context's other business. */
static void
test_the_turn_ends_before_other_sources(Fixture *fixture, gconstpointer data)
{
    fixture->deferred = (CbusDeferred){.func = count_second, .user_data = fixture};
    fixture->watches[0] = add(fixture, 0, EPOLLIN, defer);
    g_main_context_iteration(NULL, FALSE);
    g_assert_cmpint(write(fixture->theirs[0], "x", 1), ==, 1);
    g_timeout_add(0, assert_deferred_ran, fixture);
    while (fixture->watches[0] != NULL)
        g_main_context_iteration(NULL, TRUE);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/poller/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("level-triggered", test_level_triggered);
    ADD("removed-in-a-callback-is-not-called", test_removed_in_a_callback_is_not_called);
    ADD("muted-does-not-report-a-hang-up", test_muted_does_not_report_a_hang_up);
    ADD("what-can-not-be-polled-is-an-error", test_what_can_not_be_polled_is_an_error);
    ADD("another-thread-wakes-the-context", test_another_thread_wakes_the_context);
    ADD("other-descriptors-of-the-context-are-waited-for",
        test_other_descriptors_of_the_context_are_waited_for);
    ADD("what-is-no-longer-ready-is-not-called", test_what_is_no_longer_ready_is_not_called);
    ADD("the-turn-ends-before-other-sources", test_the_turn_ends_before_other_sources);
    return g_test_run();
}
