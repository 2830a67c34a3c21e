/* The connector's children.
 *
 * One process for each user that a caller's line names, made at the first request and kept: the bus, polkit
 * and logind look at its pid for as long as its connections live, those of links that ended included. How
 * many there can be is up to who writes authorized-keys.
 *
 * Requests are remembered by the child that works on them, since a child is not trusted with another's: what
 * it answers unasked, or in a wrong form, ends it, and a child that ends has all its requests answered with a
 * failure. MAX_ASKED requests wait in all. Answers pass to the client as they are, descriptor and all; that
 * socket blocks, and its other end has nothing better to do than to read it.
 *
 * The children's sockets stand in an epoll set, so that the connector polls one descriptor. A socket is taken
 * out before it is closed: a child of another user that is being forked may hold it for a moment. */
#include "agent/user_children.h"
#include "agent/connector_wire.h"
#include "agent/user_child.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_ASKED  512
#define MAX_EVENTS 16

typedef struct {
    char *user; /* its key below */
    CbusUserChild *process;
    GArray *asked; /* guint32 ids that it works on */
} Child;

struct _CbusUserChildren {
    int client, epoll;
    char *default_user, *bus;
    void (*in_child)(gpointer user_data);
    gpointer user_data;
    GHashTable *children; /* user, "" for the default: in the value → Child */
    guint asked;          /* over all children */
    CbusDatagram in;
};

static void
child_free(Child *child)
{
    cbus_user_child_free(child->process);
    g_free(child->user);
    g_array_unref(child->asked);
    g_free(child);
}

static gboolean
refuse(CbusUserChildren *self, guint32 id, const char *reason, GError **error)
{
    return cbus_datagram_send_failed(self->client, id, reason, error) == 1;
}

/* Ends a child; what it had not answered fails. */
static gboolean
drop(CbusUserChildren *self, Child *child, GError **error)
{
    g_autoptr(GArray) asked = g_array_ref(child->asked);

    (void)epoll_ctl(self->epoll, EPOLL_CTL_DEL, cbus_user_child_fd(child->process), NULL);
    self->asked -= asked->len;
    g_hash_table_remove(self->children, child->user);
    for (guint i = 0; i < asked->len; i++)
        if (!refuse(self, g_array_index(asked, guint32, i),
                    "the process that connects to the bus ended: try again", error))
            return FALSE;
    return TRUE;
}

static Child *
child_of(CbusUserChildren *self, const char *user, GError **error)
{
    const char *key = user != NULL ? user : "";
    Child *child = g_hash_table_lookup(self->children, key);
    struct epoll_event event = {.events = EPOLLIN};
    CbusUserChild *process;

    if (child != NULL)
        return child;
    process = cbus_user_child_new(user != NULL ? user : self->default_user, self->bus, self->in_child,
                                  self->user_data, error);
    if (process == NULL)
        return NULL;
    child = g_new0(Child, 1);
    child->user = g_strdup(key);
    child->process = process;
    child->asked = g_array_new(FALSE, FALSE, sizeof(guint32));
    event.data.ptr = child;
    if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, cbus_user_child_fd(process), &event) != 0) {
        g_set_error(error, CBUS_DATAGRAM_ERROR, CBUS_DATAGRAM_ERROR_IO, "epoll: %s", g_strerror(errno));
        child_free(child);
        return NULL;
    }
    g_hash_table_insert(self->children, child->user, child);
    return child;
}

gboolean
cbus_user_children_connect(CbusUserChildren *self, const char *user, guint32 id, GError **error)
{
    g_autoptr(GError) failure = NULL;
    Child *child;

    if (self->asked >= MAX_ASKED)
        return refuse(self, id, "too many connections to the bus are being made: try again later", error);
    child = child_of(self, user, &failure);
    if (child == NULL || !cbus_user_child_connect(child->process, id, &failure))
        return refuse(self, id, failure->message, error);
    g_array_append_val(child->asked, id);
    self->asked++;
    return TRUE;
}

static gboolean
was_asked(CbusUserChildren *self, Child *child, guint32 id)
{
    for (guint i = 0; i < child->asked->len; i++)
        if (g_array_index(child->asked, guint32, i) == id) {
            g_array_remove_index(child->asked, i);
            self->asked--;
            return TRUE;
        }
    return FALSE;
}

/* Passes one answer of CHILD on. */
static gboolean
serve_child(CbusUserChildren *self, Child *child, GError **error)
{
    CbusDatagram *in = &self->in;
    int got = cbus_datagram_receive(cbus_user_child_fd(child->process), in, MSG_DONTWAIT, NULL);
    gboolean sane;
    int sent;

    if (got == 0)
        return TRUE;
    if (got < 0)
        return drop(self, child, error);
    sane = in->type == CBUS_DATAGRAM_CONNECTED
               ? in->fd >= 0 && in->len >= sizeof(guint32) && in->len <= sizeof(guint32) + CBUS_USER_MAX
               : in->type == CBUS_DATAGRAM_FAILED && in->fd < 0;
    if (!sane || !was_asked(self, child, in->id)) {
        if (in->fd >= 0)
            close(in->fd);
        return drop(self, child, error);
    }
    sent = cbus_datagram_send(self->client, in->type, in->id, in->payload, in->len, in->fd, error);
    if (in->fd >= 0)
        close(in->fd);
    return sent == 1;
}

gboolean
cbus_user_children_serve(CbusUserChildren *self, GError **error)
{
    struct epoll_event events[MAX_EVENTS];
    int n = epoll_wait(self->epoll, events, MAX_EVENTS, 0);

    /* A child is in the set once, so that none of these was freed by one before it. */
    for (int i = 0; i < n; i++)
        if (!serve_child(self, events[i].data.ptr, error))
            return FALSE;
    return TRUE;
}

int
cbus_user_children_fd(const CbusUserChildren *self)
{
    return self->epoll;
}

CbusUserChildren *
cbus_user_children_new(int client, const char *default_user, const char *bus,
                       void (*in_child)(gpointer user_data), gpointer user_data)
{
    CbusUserChildren *self = g_new0(CbusUserChildren, 1);

    self->client = client;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll < 0)
        g_error("epoll_create1: %s", g_strerror(errno));
    self->default_user = g_strdup(default_user);
    self->bus = g_strdup(bus);
    self->in_child = in_child;
    self->user_data = user_data;
    self->children = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)child_free);
    return self;
}

void
cbus_user_children_free(CbusUserChildren *self)
{
    g_hash_table_unref(self->children);
    close(self->epoll);
    g_free(self->default_user);
    g_free(self->bus);
    g_free(self);
}
