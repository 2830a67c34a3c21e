/* Walking a service.
 *
 * Browsing an object tree by one Introspect call at a time costs a round trip per object; from here it costs
 * one on the local bus, sixteen at a time, and the link carries one answer. First the name's owner is asked
 * for, then that connection is introspected: no service is ever started by browsing, and a service that is
 * replaced in mid-walk does not give half of one tree and half of another. Breadth first, so that a walk that
 * is cut short by a limit or by the clock has the upper levels whole.
 *
 * The calls are made on the channel's own connection, with serials that the channel keeps for us, so that
 * the bus applies the same policy to them as to the caller's. Ours does, too: an object that the caller could
 * not introspect by itself is left out, with all below it. Replies are taken out of the stream; whoever
 * answers late finds no call and is dropped.
 *
 * Services are hostile: documents are bounded by cbus_tree_add, objects and bytes too, levels to 32, what is
 * queued by the number of objects, each walk to ten seconds, walks to eight a channel. An object that does
 * not answer with a document is left out; when that is the root, its error is the answer.
 *
 * Loop thread only. */
#include "agent/tree.h"
#include "agent/children.h"
#include "wire/body.h"
#include "wire/key.h"
#include "wire/tree.h"

#define FLIGHT     16
#define DEPTH      32
#define WALKS      8
#define TIMEOUT_MS 10000
#define DRIVER     "org.freedesktop.DBus"

typedef struct {
    CbusWalker *walker;
    guint32 id;
    char *destination, *owner; /* OWNER: NULL until it is known */
    CbusTree *tree;
    GQueue paths;     /* char *, to be asked for */
    GHashTable *seen; /* char * */
    guint flying;
    GSource *timeout;
} Walk;

typedef struct {
    Walk *walk;
    char *path; /* NULL: the call for the owner */
} Call;

struct _CbusWalker {
    CbusLoop *loop;
    CbusBus *bus;
    CbusWalkerMay may;
    CbusWalkerFunc func;
    gpointer user_data;
    guint32 serial;
    GHashTable *calls; /* serial → Call */
    GPtrArray *walks;  /* Walk */
};

static void
call_free(Call *call)
{
    g_free(call->path);
    g_free(call);
}

static gboolean
is_of_walk(gpointer serial, gpointer call, gpointer walk)
{
    return ((Call *)call)->walk == walk;
}

static void
walk_free(Walk *walk)
{
    g_hash_table_foreach_remove(walk->walker->calls, is_of_walk, walk);
    if (walk->timeout != NULL) {
        g_source_destroy(walk->timeout);
        g_source_unref(walk->timeout);
    }
    g_queue_clear_full(&walk->paths, g_free);
    g_hash_table_unref(walk->seen);
    cbus_tree_free(walk->tree);
    g_free(walk->destination);
    g_free(walk->owner);
    g_free(walk);
}

/* Answers and ends WALK. NAME NULL: with the tree. */
static void
finish(Walk *walk, const char *name, const char *message)
{
    CbusWalker *self = walk->walker;
    g_autoptr(GByteArray) answer = g_byte_array_new();

    if (name != NULL)
        cbus_tree_write_error(walk->id, name, message, answer);
    else
        cbus_tree_write(walk->tree, walk->id, answer);
    g_ptr_array_remove_fast(self->walks, walk);
    self->func(answer->data, answer->len, self->user_data);
}

static guint32
next_serial(CbusWalker *self)
{
    do
        self->serial = self->serial == G_MAXUINT32 ? CBUS_WALKER_SERIAL : self->serial + 1;
    while (g_hash_table_contains(self->calls, GUINT_TO_POINTER(self->serial)));
    return self->serial;
}

/* Sends a call of WALK; ARGUMENT NULL: without. PATH is kept (transfer full), NULL for the owner's call. */
static void
send_call(Walk *walk, const CbusHeader *header, char *path, const char *argument)
{
    CbusWalker *self = walk->walker;
    CbusHeader call = *header;
    Call *waiting = g_new0(Call, 1);

    call.type = CBUS_MESSAGE_CALL;
    call.flags = CBUS_FLAG_NO_AUTO_START;
    call.serial = next_serial(self);
    waiting->walk = walk;
    waiting->path = path;
    g_hash_table_insert(self->calls, GUINT_TO_POINTER(call.serial), waiting);
    walk->flying++;
    cbus_message_append(cbus_bus_begin(self->bus), &call, argument != NULL ? "s" : "", argument);
    cbus_bus_end(self->bus);
}

static void
ask_owner(Walk *walk)
{
    const CbusHeader header = {.path = CBUS_SPAN_LITERAL("/org/freedesktop/DBus"),
                               .interface = CBUS_SPAN_LITERAL(DRIVER),
                               .member = CBUS_SPAN_LITERAL("GetNameOwner"),
                               .destination = CBUS_SPAN_LITERAL(DRIVER)};

    send_call(walk, &header, NULL, walk->destination);
}

static void
introspect(Walk *walk, char *path)
{
    const CbusHeader header = {.path = cbus_span(path),
                               .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus.Introspectable"),
                               .member = CBUS_SPAN_LITERAL("Introspect"),
                               .destination = cbus_span(walk->owner)};

    send_call(walk, &header, path, NULL);
}

/* Keeps up to FLIGHT calls going; ends the walk when none is left. */
static void
advance(Walk *walk)
{
    while (walk->flying < FLIGHT && !g_queue_is_empty(&walk->paths))
        introspect(walk, g_queue_pop_head(&walk->paths));
    if (walk->flying == 0)
        finish(walk, NULL, NULL);
}

typedef struct {
    Walk *walk;
    const char *parent;
} Below;

static guint
depth_of(const char *path)
{
    guint depth = 0;

    for (const char *p = path; *p != '\0'; p++)
        depth += *p == '/' && p[1] != '\0';
    return depth;
}

static void
found_child(const char *name, gpointer user_data)
{
    Below *below = user_data;
    Walk *walk = below->walk;
    gboolean is_root = below->parent[1] == '\0';

    if (depth_of(below->parent) >= DEPTH || g_hash_table_size(walk->seen) >= CBUS_TREE_MAX_OBJECTS) {
        cbus_tree_set_cut(walk->tree);
        return;
    }
    char *path = g_strconcat(is_root ? "" : below->parent, "/", name, NULL);
    gboolean may = walk->walker->may(walk->destination, path, walk->walker->user_data);
    if (g_hash_table_add(walk->seen, path) && may)
        g_queue_push_tail(&walk->paths, g_strdup(path));
}

/* The string that REPLY begins with, checked: a bus need not have looked into the body. */
static gboolean
read_string(const CbusMessage *reply, CbusSpan *out)
{
    CbusCursor cursor = cbus_cursor(reply);

    return reply->signature.len > 0 && reply->signature.text[0] == 's' &&
           cbus_body_check(reply->body, reply->body_len, reply->endian, reply->signature, NULL) &&
           cbus_cursor_string(&cursor, out);
}

/* The document of one object arrived, or its error. */
static void
take_document(Walk *walk, const char *path, const CbusMessage *reply)
{
    Below below = {walk, path};
    CbusSpan text;

    if (reply->type == CBUS_MESSAGE_ERROR && path[1] == '\0') {
        g_autofree char *name = g_strndup(reply->error_name.text, reply->error_name.len);
        finish(walk, name, read_string(reply, &text) ? text.text : "");
        return;
    }
    if (reply->type == CBUS_MESSAGE_RETURN && read_string(reply, &text) &&
        cbus_tree_add(walk->tree, path, text.text, text.len))
        (void)cbus_children_parse(text.text, text.len, found_child, &below);
    if (cbus_tree_size(walk->tree) == 0)
        finish(walk, CBUS_DBUS_ERROR("Failed"), "the service's root object gives no usable introspection");
    else
        advance(walk);
}

static void
take_owner(Walk *walk, const CbusMessage *reply)
{
    CbusSpan owner;

    if (reply->type != CBUS_MESSAGE_RETURN || !read_string(reply, &owner) || !cbus_is_bus_name(owner)) {
        finish(walk, CBUS_DBUS_ERROR("NameHasNoOwner"),
               "nobody owns this name now, and browsing does not start a service");
        return;
    }
    walk->owner = g_strndup(owner.text, owner.len);
    g_hash_table_add(walk->seen, g_strdup("/"));
    g_queue_push_tail(&walk->paths, g_strdup("/"));
    advance(walk);
}

static gboolean
timed_out(gpointer user_data)
{
    Walk *walk = user_data;

    if (cbus_tree_size(walk->tree) == 0) {
        finish(walk, CBUS_DBUS_ERROR("NoReply"), "the service did not answer Introspect within ten seconds");
    } else {
        cbus_tree_set_cut(walk->tree);
        finish(walk, NULL, NULL);
    }
    return G_SOURCE_REMOVE;
}

void
cbus_walker_start(CbusWalker *self, guint32 id, const char *destination)
{
    Walk *walk = g_new0(Walk, 1);

    walk->walker = self;
    walk->id = id;
    walk->destination = g_strdup(destination);
    walk->tree = cbus_tree_new();
    walk->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_queue_init(&walk->paths);
    g_ptr_array_add(self->walks, walk);
    if (self->walks->len > WALKS) {
        finish(walk, CBUS_DBUS_ERROR("LimitsExceeded"), "too many trees are being read at once: try again");
        return;
    }
    walk->timeout = g_timeout_source_new(TIMEOUT_MS);
    g_source_set_callback(walk->timeout, timed_out, walk, NULL);
    g_source_attach(walk->timeout, self->loop->context);
    ask_owner(walk);
}

gboolean
cbus_walker_take(CbusWalker *self, const CbusMessage *message)
{
    Call *call;

    if (message->type != CBUS_MESSAGE_RETURN && message->type != CBUS_MESSAGE_ERROR)
        return FALSE;
    if (message->reply_serial < CBUS_WALKER_SERIAL)
        return FALSE;
    call = g_hash_table_lookup(self->calls, GUINT_TO_POINTER(message->reply_serial));
    if (call == NULL)
        return TRUE;
    Walk *walk = call->walk;
    /* Anyone on the bus may send a reply with a guessed serial. */
    if (!cbus_span_is(message->sender, DRIVER) &&
        (walk->owner == NULL || !cbus_span_is(message->sender, walk->owner)))
        return TRUE;
    g_autofree char *path = g_steal_pointer(&call->path);
    g_hash_table_remove(self->calls, GUINT_TO_POINTER(message->reply_serial));
    walk->flying--;
    if (path == NULL)
        take_owner(walk, message);
    else
        take_document(walk, path, message);
    return TRUE;
}

CbusWalker *
cbus_walker_new(CbusLoop *loop, CbusBus *bus, CbusWalkerMay may, CbusWalkerFunc func, gpointer user_data)
{
    CbusWalker *self = g_new0(CbusWalker, 1);

    self->loop = loop;
    self->bus = bus;
    self->may = may;
    self->func = func;
    self->user_data = user_data;
    self->serial = CBUS_WALKER_SERIAL;
    self->calls = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)call_free);
    self->walks = g_ptr_array_new_with_free_func((GDestroyNotify)walk_free);
    return self;
}

void
cbus_walker_free(CbusWalker *self)
{
    g_ptr_array_unref(self->walks);
    g_hash_table_unref(self->calls);
    g_free(self);
}
