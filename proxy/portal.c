/* A machine's portal.
 *
 * Listens from the moment the machine is listed, online or not: the address of a machine is a fact that
 * scripts can rely on. While there is no link a connection is accepted and closed at once, and the log says
 * why; when the link is lost every connection closes, as the machine's bus itself would close them if it
 * died. The socket stays.
 *
 * The link is told to be busy while any client is connected, so that a proxy which dies does not leave its
 * clients' inhibitors on the machine for long.
 *
 * Clients that wait for their channel to drain are looked at every RESUME_MS; nothing runs when none waits,
 * and idle connections cost the loop nothing: they sit in the poller.
 *
 * Bounds: at most CBUS_PORTAL_CLIENTS connections, authenticated or not (the agent has its own, lower ones);
 * when descriptors run out the socket is left alone for a moment, not spun on. Lines in the log are at most
 * one a second for each portal, since a client may try in a loop. Loop thread only. */
#include "proxy/portal.h"

#include "link/log.h"
#include "proxy/portal_client.h"
#include "proxy/portal_place.h"

#include <errno.h>
#include <gio/gio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_A_TURN 32
#define RESUME_MS     2
#define REST_MS       100

struct _CbusPortal {
    CbusLoop *loop;
    char *base, *nkey, *name, *address, *absence;
    int fd;
    CbusWatch *watch;
    CbusLink *link;
    GHashTable *clients;  /* set of CbusPortalClient */
    GHashTable *channels; /* id → CbusPortalClient; the link is busy while it holds any */
    GSource *resume;      /* while clients are paused */
    GSource *rest;        /* while out of descriptors */
    gint64 last_said;     /* µs, monotonic */
};

static void
say(CbusPortal *portal, GLogLevelFlags level, const char *what, const char *why)
{
    gint64 now = g_get_monotonic_time();

    if (portal->last_said != 0 && now - portal->last_said < G_USEC_PER_SEC)
        return;
    portal->last_said = now;
    cbus_log(level, what, CBUS_LOG_MACHINE, portal->nkey, CBUS_LOG_NAME, portal->name, CBUS_LOG_REASON, why,
             NULL);
}

static GSource *
timer(CbusPortal *portal, guint ms, GSourceFunc func)
{
    GSource *source = g_timeout_source_new(ms);

    g_source_set_callback(source, func, portal, NULL);
    g_source_attach(source, portal->loop->context);
    return source;
}

static void
clear_source(GSource **source)
{
    if (*source != NULL)
        g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

/* ---- clients ---- */

static void
forget(CbusPortal *portal, CbusPortalClient *client, guint32 channel)
{
    if (channel != 0 && g_hash_table_remove(portal->channels, GUINT_TO_POINTER(channel)) &&
        g_hash_table_size(portal->channels) == 0)
        cbus_link_set_busy(portal->link, FALSE);
    g_hash_table_remove(portal->clients, client);
    cbus_portal_client_free(client);
}

static void
on_opened(CbusPortalClient *client, gpointer user_data)
{
    CbusPortal *portal = user_data;

    if (g_hash_table_size(portal->channels) == 0)
        cbus_link_set_busy(portal->link, TRUE);
    g_hash_table_insert(portal->channels, GUINT_TO_POINTER(cbus_portal_client_channel(client)), client);
}

static void
on_over(CbusPortalClient *client, const char *why, gpointer user_data)
{
    CbusPortal *portal = user_data;

    if (why != NULL)
        say(portal, G_LOG_LEVEL_WARNING, "A portal connection was closed", why);
    forget(portal, client, cbus_portal_client_channel(client));
}

static gboolean
on_resume(gpointer user_data)
{
    CbusPortal *portal = user_data;
    GHashTableIter iter;
    gpointer client;
    gboolean all = TRUE;

    g_hash_table_iter_init(&iter, portal->clients);
    while (g_hash_table_iter_next(&iter, &client, NULL))
        all = cbus_portal_client_resume(client) && all;
    if (!all)
        return G_SOURCE_CONTINUE;
    g_clear_pointer(&portal->resume, g_source_unref);
    return G_SOURCE_REMOVE;
}

static void
on_paused(CbusPortalClient *client, gpointer user_data)
{
    CbusPortal *portal = user_data;

    if (portal->resume == NULL)
        portal->resume = timer(portal, RESUME_MS, on_resume);
}

/* ---- the socket ---- */

static gboolean
on_rested(gpointer user_data)
{
    CbusPortal *portal = user_data;

    g_clear_pointer(&portal->rest, g_source_unref);
    cbus_watch_modify(portal->watch, EPOLLIN);
    return G_SOURCE_REMOVE;
}

static void
admit(CbusPortal *portal, int fd)
{
    static const CbusPortalClientHandler handler = {
        .opened = on_opened, .paused = on_paused, .over = on_over};
    g_autoptr(GError) error = NULL;
    CbusPortalClient *client;

    if (portal->link == NULL || g_hash_table_size(portal->clients) >= CBUS_PORTAL_CLIENTS) {
        close(fd);
        say(portal, G_LOG_LEVEL_WARNING, "A portal connection was refused",
            portal->link == NULL ? portal->absence : "this portal has 512 connections already");
        return;
    }
    client = cbus_portal_client_new(portal->loop, fd, portal->link, &handler, portal, &error);
    if (client == NULL)
        say(portal, G_LOG_LEVEL_WARNING, "A portal connection was refused", error->message);
    else
        g_hash_table_add(portal->clients, client);
}

static void
on_listening(guint32 events, gpointer user_data)
{
    CbusPortal *portal = user_data;

    for (guint i = 0; i < ACCEPT_A_TURN; i++) {
        int fd = accept4(portal->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            admit(portal, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            say(portal, G_LOG_LEVEL_WARNING, "A portal connection has to wait", g_strerror(errno));
            cbus_watch_modify(portal->watch, 0);
            portal->rest = timer(portal, REST_MS, on_rested);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

/* ---- what the machine says ---- */

void
cbus_portal_link_up(CbusPortal *portal, CbusLink *link)
{
    portal->link = link;
}

void
cbus_portal_link_down(CbusPortal *portal, const GError *reason)
{
    g_autoptr(GList) clients = g_hash_table_get_keys(portal->clients);

    if (clients != NULL) {
        g_autofree char *why =
            g_strdup_printf("%u connections: %s", g_hash_table_size(portal->clients), reason->message);

        cbus_log(G_LOG_LEVEL_WARNING, "The portal's connections were closed", CBUS_LOG_MACHINE, portal->nkey,
                 CBUS_LOG_NAME, portal->name, CBUS_LOG_REASON, why, NULL);
    }
    for (GList *each = clients; each != NULL; each = each->next)
        forget(portal, each->data, cbus_portal_client_channel(each->data));
    clear_source(&portal->resume);
    portal->link = NULL;
}

gboolean
cbus_portal_message(CbusPortal *portal, guint32 channel, const guint8 *message, gsize size)
{
    CbusPortalClient *client = g_hash_table_lookup(portal->channels, GUINT_TO_POINTER(channel));

    if (client != NULL)
        cbus_portal_client_message(client, message, size);
    return client != NULL;
}

gboolean
cbus_portal_channel_closed(CbusPortal *portal, guint32 channel, const char *error_name, const char *message)
{
    CbusPortalClient *client = g_hash_table_lookup(portal->channels, GUINT_TO_POINTER(channel));

    if (client != NULL)
        cbus_portal_client_channel_closed(client, error_name, message);
    return client != NULL;
}

/* ---- life ---- */

CbusPortal *
cbus_portal_new(CbusLoop *loop, const char *base, const char *nkey, GError **error)
{
    g_autoptr(CbusPortal) portal = g_new0(CbusPortal, 1);
    g_autofree char *path = g_build_filename(base, nkey, "bus", NULL);
    g_autofree char *escaped = g_dbus_address_escape_value(path);

    portal->loop = loop;
    portal->base = g_strdup(base);
    portal->nkey = g_strdup(nkey);
    portal->address = g_strconcat("unix:path=", escaped, NULL);
    portal->clients = g_hash_table_new(NULL, NULL);
    portal->channels = g_hash_table_new(NULL, NULL);
    portal->fd = cbus_portal_place_listen(base, nkey, error);
    if (portal->fd < 0)
        return NULL;
    portal->watch = cbus_poller_add(loop->poller, portal->fd, EPOLLIN, on_listening, portal, error);
    return portal->watch != NULL ? g_steal_pointer(&portal) : NULL;
}

void
cbus_portal_free(CbusPortal *portal)
{
    if (portal == NULL)
        return;
    g_autoptr(GError) reason =
        g_error_new_literal(CBUS_LINK_ERROR, CBUS_LINK_ERROR_CLOSED, "the portal is removed");
    cbus_portal_link_down(portal, reason);
    cbus_portal_set_name(portal, NULL);
    clear_source(&portal->rest);
    g_clear_pointer(&portal->watch, cbus_watch_remove);
    if (portal->fd >= 0) {
        close(portal->fd);
        cbus_portal_place_remove(portal->base, portal->nkey);
    }
    g_hash_table_unref(portal->clients);
    g_hash_table_unref(portal->channels);
    g_free(portal->base);
    g_free(portal->nkey);
    g_free(portal->address);
    g_free(portal->absence);
    g_free(portal);
}

const char *
cbus_portal_address(const CbusPortal *portal)
{
    return portal->address;
}

void
cbus_portal_set_name(CbusPortal *portal, const char *name)
{
    g_autoptr(GError) error = NULL;

    if (g_strcmp0(portal->name, name) == 0)
        return;
    if (portal->name != NULL)
        cbus_portal_place_remove_name(portal->base, portal->nkey, portal->name);
    g_free(portal->name);
    portal->name = g_strdup(name);
    if (name != NULL && !cbus_portal_place_add_name(portal->base, portal->nkey, name, &error))
        cbus_log(G_LOG_LEVEL_WARNING, "The portal can not be reached by its name", CBUS_LOG_MACHINE,
                 portal->nkey, CBUS_LOG_NAME, name, CBUS_LOG_REASON, error->message, NULL);
}

void
cbus_portal_set_absence(CbusPortal *portal, const char *message)
{
    g_free(portal->absence);
    portal->absence = g_strdup(message);
}
