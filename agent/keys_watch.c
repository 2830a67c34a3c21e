/* Watching the authorized-keys file.
 *
 * The folder is watched rather than the file, because editors and package managers replace files by rename.
 * When the name is a symbolic link, the folder of what it points at is watched too. When more links are on
 * the way (a folder that is one, a link to a link, one to nothing yet), any of them could be put in another's
 * place without an event here: then the watch is not whole, and the file is looked at by the clock. Whether
 * an event means anything is not decided here beyond its file name: the owner reads the file again and
 * compares, so that an event too many costs one read, and one too few is what must not happen. Hence an
 * overflow of the queue counts as a change, and so does the end of a watched folder.
 *
 * GFileMonitor would need GIO's worker threads, and the connector that runs this must be able to fork.
 * One thread; the descriptor is non-blocking. */
#include "agent/keys_watch.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define MASK                                                                                                 \
    (IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO |          \
     IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

typedef struct {
    int wd; /* −1: not watched */
    char *folder, *name;
} Place;

struct _CbusKeysWatch {
    int fd;
    char *file; /* absolute */
    Place given, resolved;
    gboolean more_links; /* on the way than the name itself */
};

static void
place_clear(Place *place)
{
    place->wd = -1;
    g_clear_pointer(&place->folder, g_free);
    g_clear_pointer(&place->name, g_free);
}

/* inotify_add_watch gives the same number for the same folder, so that adding again is how to renew. */
static void
place_set(CbusKeysWatch *self, Place *place, const char *path)
{
    int old = place->wd;

    place_clear(place);
    place->folder = g_path_get_dirname(path);
    place->name = g_path_get_basename(path);
    if (self->fd >= 0)
        place->wd = inotify_add_watch(self->fd, place->folder, MASK);
    if (old >= 0 && old != self->given.wd && old != self->resolved.wd)
        (void)inotify_rm_watch(self->fd, old);
}

/* TRUE if the meaning of the name, which is REAL (NULL: nothing), hangs on another link than the name. */
static gboolean
has_more_links(const char *file, const char *real)
{
    g_autofree char *folder = g_path_get_dirname(file);
    g_autofree char *target = g_file_read_link(file, NULL);
    g_autofree char *straight = target != NULL ? g_canonicalize_filename(target, folder) : g_strdup(file);
    char *real_folder = realpath(folder, NULL);
    /* A folder that is not there can not be watched, which is known without us. */
    gboolean more = (real_folder != NULL && strcmp(real_folder, folder) != 0) ||
                    (target != NULL && g_strcmp0(straight, real) != 0);

    free(real_folder);
    return more;
}

void
cbus_keys_watch_renew(CbusKeysWatch *self)
{
    char *real = realpath(self->file, NULL);

    place_set(self, &self->given, self->file);
    place_set(self, &self->resolved, real != NULL ? real : self->file);
    self->more_links = has_more_links(self->file, real);
    free(real);
}

CbusKeysWatch *
cbus_keys_watch_new(const char *file)
{
    CbusKeysWatch *self = g_new0(CbusKeysWatch, 1);

    self->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    self->file = g_canonicalize_filename(file, NULL);
    self->given.wd = self->resolved.wd = -1;
    cbus_keys_watch_renew(self);
    return self;
}

void
cbus_keys_watch_free(CbusKeysWatch *self)
{
    place_clear(&self->given);
    place_clear(&self->resolved);
    g_free(self->file);
    if (self->fd >= 0)
        close(self->fd);
    g_free(self);
}

int
cbus_keys_watch_fd(const CbusKeysWatch *self)
{
    return self->fd;
}

gboolean
cbus_keys_watch_is_whole(const CbusKeysWatch *self)
{
    return self->given.wd >= 0 && self->resolved.wd >= 0 && !self->more_links;
}

static gboolean
concerns(const Place *place, const struct inotify_event *event)
{
    if (event->wd != place->wd)
        return FALSE;
    return event->len == 0 || strcmp(event->name, place->name) == 0;
}

gboolean
cbus_keys_watch_drain(CbusKeysWatch *self)
{
    _Alignas(struct inotify_event) char buffer[4096];
    gboolean changed = FALSE;
    ssize_t got;

    while ((got = read(self->fd, buffer, sizeof buffer)) > 0 || (got < 0 && errno == EINTR)) {
        for (ssize_t at = 0; at < got;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)(buffer + at);
            changed |= (event->mask & (IN_Q_OVERFLOW | IN_IGNORED)) != 0 || concerns(&self->given, event) ||
                       concerns(&self->resolved, event);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    return changed;
}
