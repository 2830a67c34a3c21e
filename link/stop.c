/* Giving up on waits when the program is to end.
 *
 * A key in an ssh-agent has to be asked for before there is a loop, and a NATS nonce is signed on the thread
 * that logs in; both wait for another program, which may want a finger on a button first, or be stopped. The
 * loop must not wait for that thread, nor SIGTERM for the start: each daemon ends within a second whatever it
 * waits for. So such waits are cut into short ones, and before each it is asked whether anybody still wants
 * the answer.
 *
 * At start the signals are blocked until the loop takes them, so that one that came is pending and can be
 * seen; later the loop says that it was told to end. An answer that came is taken first: who was not told to
 * end sees no difference.
 *
 * One flag, atomic, that never goes back. Any thread. */
#include "link/stop.h"
#include <poll.h>
#include <signal.h>

static gint stopping;

void
cbus_stop_begin(void)
{
    g_atomic_int_set(&stopping, TRUE);
}

gboolean
cbus_stop_is_wanted(void)
{
    sigset_t pending;

    if (g_atomic_int_get(&stopping))
        return TRUE;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

gboolean
cbus_stop_or_ready(int fd, short events, gint64 timeout_ms)
{
    gint64 deadline = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    gint64 left = timeout_ms;

    do {
        struct pollfd waiting = {.fd = fd, .events = events};

        if (poll(&waiting, 1, (int)CLAMP(left, 0, CBUS_STOP_LOOK_MS)) > 0)
            return TRUE;
        left = (deadline - g_get_monotonic_time()) / G_TIME_SPAN_MILLISECOND;
    } while (left > 0 && !cbus_stop_is_wanted());
    return FALSE;
}
