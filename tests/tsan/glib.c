/* GLib's locks and counted references, told to the thread sanitizer.
 *
 * The sanitizer knows an order of two threads from the locks that it sees. A GMutex of GLib 2.74 is a futex
 * of GLib's own, and neither it nor an atomic in a library that was built without the sanitizer is seen: all
 * that such a lock guards would be reported as a race. So a program that is built with -Db_sanitize=thread,
 * and none else, links these functions in front of GLib's: each calls the one that it hides, and says before
 * and after what that was. Left out are conditions, reader locks and once, which nothing of ours uses: a use
 * that came would be reported, and belongs here.
 *
 * Said is only what our own code does. GIO calls these functions, too, but what it guards by them it hands to
 * its threads by means that are not seen, so its objects would be reported whole; its accesses are not judged
 * (tests/tsan/suppressions), and its locks need not be known. What a main context does to carry a source from
 * one thread to another is seen only where it wakes the other by a descriptor; our code guards what it hands
 * over by a lock of its own (link/nats_dial.c, link/nats_inbox.c), and that is the very thing to be checked.
 */
#include <dlfcn.h>
#include <glib.h>
#include <sanitizer/tsan_interface.h>

extern char __executable_start, etext;

/* The function that ours hides; looked up each time, since a program under the sanitizer is slow anyhow. */
static gpointer
hidden(const char *name)
{
    gpointer function = dlsym(RTLD_NEXT, name);

    if (function == NULL)
        g_error("no %s behind ours", name);
    return function;
}

/* Whether the caller, who returns to ADDRESS, is in this program and not in a library. */
static gboolean
is_ours(const void *address)
{
    return (const char *)address >= &__executable_start && (const char *)address < &etext;
}

#define OURS is_ours(__builtin_return_address(0))

void
g_mutex_init(GMutex *mutex)
{
    ((void (*)(GMutex *))hidden("g_mutex_init"))(mutex);
    if (OURS)
        __tsan_mutex_create(mutex, 0);
}

void
g_mutex_clear(GMutex *mutex)
{
    if (OURS)
        __tsan_mutex_destroy(mutex, 0);
    ((void (*)(GMutex *))hidden("g_mutex_clear"))(mutex);
}

void
g_mutex_lock(GMutex *mutex)
{
    gboolean ours = OURS;

    if (ours)
        __tsan_mutex_pre_lock(mutex, 0);
    ((void (*)(GMutex *))hidden("g_mutex_lock"))(mutex);
    if (ours)
        __tsan_mutex_post_lock(mutex, 0, 0);
}

gboolean
g_mutex_trylock(GMutex *mutex)
{
    gboolean ours = OURS, locked;

    if (ours)
        __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
    locked = ((gboolean(*)(GMutex *))hidden("g_mutex_trylock"))(mutex);
    if (ours)
        __tsan_mutex_post_lock(mutex, __tsan_mutex_try_lock | (locked ? 0 : __tsan_mutex_try_lock_failed), 0);
    return locked;
}

void
g_mutex_unlock(GMutex *mutex)
{
    gboolean ours = OURS;

    if (ours)
        __tsan_mutex_pre_unlock(mutex, 0);
    ((void (*)(GMutex *))hidden("g_mutex_unlock"))(mutex);
    if (ours)
        __tsan_mutex_post_unlock(mutex, 0);
}

/* A counter's step is sequentially consistent: all before it, by whichever thread, is known to who counts on.
 * What comes before is told ahead of the step, and what others told is taken after it. */

gpointer(g_atomic_rc_box_acquire)(gpointer box)
{
    __tsan_release(box);
    ((gpointer(*)(gpointer))hidden("g_atomic_rc_box_acquire"))(box);
    __tsan_acquire(box);
    return box;
}

static _Thread_local GDestroyNotify clear_box;

static void
cleared(gpointer box)
{
    GDestroyNotify clear = clear_box;

    __tsan_acquire(box);
    if (clear != NULL)
        clear(box);
}

void
g_atomic_rc_box_release_full(gpointer box, GDestroyNotify clear)
{
    GDestroyNotify outer = clear_box;

    clear_box = clear;
    __tsan_release(box);
    ((void (*)(gpointer, GDestroyNotify))hidden("g_atomic_rc_box_release_full"))(box, cleared);
    clear_box = outer;
}

void
g_atomic_rc_box_release(gpointer box)
{
    g_atomic_rc_box_release_full(box, NULL);
}

void(g_atomic_ref_count_inc)(gatomicrefcount *count)
{
    __tsan_release(count);
    ((void (*)(gatomicrefcount *))hidden("g_atomic_ref_count_inc"))(count);
    __tsan_acquire(count);
}

gboolean(g_atomic_ref_count_dec)(gatomicrefcount *count)
{
    gboolean last;

    __tsan_release(count);
    last = ((gboolean(*)(gatomicrefcount *))hidden("g_atomic_ref_count_dec"))(count);
    if (last)
        __tsan_acquire(count);
    return last;
}
