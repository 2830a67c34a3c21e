/* Introspect on the mirror: from the cache, by TREE, or by asking one object.
 *
 * The machine's node lists services; it waits for the names if they are on their way. A service's node is
 * where browsers begin: unless its tree was fetched within two seconds, one TREE fetches all of it, and all
 * who ask meanwhile share the answer. Deeper nodes are answered from that tree for half a minute, else the
 * one object is asked; its XML joins the tree. Either way remote XML is parsed, validated and written anew.
 *
 * Browsing never starts a service: a service that is only activatable shows the tree it last had, or an empty
 * node, without asking; and what is asked of others carries NO_AUTO_START. A service without introspection
 * shows an empty node and can still be called. Other remote errors come back as they are.
 *
 * Trusts nothing in an answer: XML by introspect/node.c, trees by wire/tree.c, error names here. Waiting
 * callers are bounded per service and for the names; all of them are answered when the channel or the link
 * ends, or when a TREE takes longer than a minute. Loop thread only.
 */
#include "proxy/mirror_private.h"
#include <unistd.h>

#define FRESH_US (2 * G_USEC_PER_SEC)
#define KNOWN_US (30 * G_USEC_PER_SEC)

void
cbus_waiting_free(CbusWaiting *waiting)
{
    if (waiting->service != NULL)
        cbus_service_unref(waiting->service);
    cbus_caller_unref(waiting->caller);
    g_free(waiting->path);
    g_free(waiting);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusWaiting, cbus_waiting_free)

static CbusWaiting *
waiting_new(CbusMirror *self, const CbusMessage *call, CbusService *service, const char *path, gsize len)
{
    CbusWaiting *waiting = g_new0(CbusWaiting, 1);

    waiting->caller = cbus_mirror_caller(self, call->sender);
    waiting->serial = call->serial;
    waiting->service = service != NULL ? cbus_service_ref(service) : NULL;
    waiting->path = g_strndup(path, len);
    return waiting;
}

static CbusMessage
waiting_call(const CbusWaiting *waiting)
{
    return (CbusMessage){.endian = 'l',
                         .type = CBUS_MESSAGE_CALL,
                         .serial = waiting->serial,
                         .sender = cbus_span(waiting->caller->name)};
}

static void
answer(CbusMirror *self, const CbusWaiting *waiting, const char *xml)
{
    const CbusMessage call = waiting_call(waiting);

    if (!waiting->caller->gone)
        cbus_front_reply_string(self->front, &call, xml);
}

static void
answer_error(CbusMirror *self, const CbusWaiting *waiting, const char *name, const char *message)
{
    cbus_mirror_answer_error(self, waiting->caller, waiting->serial, name, message);
}

static void
answer_empty(CbusMirror *self, const CbusWaiting *waiting)
{
    g_autofree char *xml = cbus_node_document(NULL, NULL, NULL);

    answer(self, waiting, xml);
}

void
cbus_service_invalidate(CbusService *service)
{
    if (service->tree != NULL)
        cbus_service_tree_invalidate(service->tree);
    service->tree_outdated = service->tree_id != 0;
}

static void
tree_ended(CbusService *service)
{
    CbusMirror *self = service->mirror;
    CbusChannel *channel = cbus_mirror_pool_find(self, service->tree_channel);

    if (channel != NULL)
        channel->trees--;
    self->pending--;
    service->tree_id = 0;
}

static void
tree_request(CbusMirror *self, CbusService *service)
{
    if (service->tree_id != 0)
        return;
    if (++self->next_tree == 0)
        self->next_tree = 1;
    service->tree_id = self->next_tree;
    service->tree_channel = self->main->id;
    service->tree_asked_at = cbus_mirror_now(self);
    service->tree_outdated = FALSE;
    self->main->trees++;
    self->pending++;
    cbus_mirror_pool_wake(self);
    cbus_link_send_tree_request(self->link, self->main->id, service->tree_id, service->name);
}

/* Asks the object itself. Takes WAITING. */
static void
ask_object(CbusMirror *self, CbusWaiting *waiting)
{
    const CbusHeader header = {.flags = CBUS_FLAG_NO_AUTO_START,
                               .path = cbus_span(waiting->path),
                               .interface = CBUS_SPAN_LITERAL(CBUS_INTROSPECTABLE),
                               .member = CBUS_SPAN_LITERAL("Introspect"),
                               .destination = cbus_span(waiting->service->name)};
    const CbusPending pending = {.asked = CBUS_ASKED_OBJECT, .waiting = waiting};
    const char *error_name = CBUS_DBUS_ERROR("LimitsExceeded");
    const char *cause = "too much waits to be sent to this machine";
    CbusChannel *channel = cbus_mirror_pool_pick(self, (guint32)geteuid(), TRUE, &error_name, &cause);
    g_autofree char *text = NULL;

    if (channel != NULL && cbus_mirror_pool_ask(self, channel, header, NULL, &pending))
        return;
    text = g_strdup_printf("%s: %s; the object was not introspected: try again later", self->label, cause);
    answer_error(self, waiting, error_name, text);
    cbus_waiting_free(waiting);
}

/* The document of SERVICE's PATH if what is known of it is at most MAX_AGE µs old. (transfer full) */
static char *
known_document(const CbusService *service, const char *path, gint64 max_age)
{
    gint64 filled_at = service->tree != NULL ? cbus_service_tree_filled_at(service->tree) : 0;

    if (filled_at == 0 || cbus_mirror_now(service->mirror) - filled_at > max_age)
        return NULL;
    return cbus_service_tree_document(service->tree, path);
}

static void
queue_up(CbusMirror *self, GQueue *queue, CbusWaiting *waiting)
{
    g_autofree char *text = NULL;

    if (queue->length < CBUS_MIRROR_WAITING) {
        g_queue_push_tail(queue, waiting);
        return;
    }
    text = g_strdup_printf("%s: too many introspections wait for one answer; try again later", self->label);
    answer_error(self, waiting, CBUS_DBUS_ERROR("LimitsExceeded"), text);
    cbus_waiting_free(waiting);
}

/* Takes WAITING. */
static void
introspect_service(CbusMirror *self, CbusWaiting *waiting)
{
    CbusService *service = waiting->service;
    g_return_if_fail(service != NULL);
    gboolean is_root = g_str_equal(waiting->path, "/");
    gboolean away = service->name[0] != ':' && service->activatable && !service->owned;
    g_autofree char *xml = NULL;

    if (self->main == NULL) {
        g_autofree char *text = g_strdup_printf("%s: %s; try again later", self->label, self->away);

        answer_error(self, waiting, CBUS_ERROR_OFFLINE, text);
        cbus_waiting_free(waiting);
        return;
    }
    if (away)
        xml = service->tree != NULL ? cbus_service_tree_document(service->tree, waiting->path) : NULL;
    else
        xml = known_document(service, waiting->path, is_root ? FRESH_US : KNOWN_US);
    if (xml != NULL || away) {
        if (xml != NULL)
            answer(self, waiting, xml);
        else
            answer_empty(self, waiting);
        cbus_waiting_free(waiting);
    } else if (is_root) {
        tree_request(self, service);
        queue_up(self, &service->tree_waiting, waiting);
    } else {
        ask_object(self, waiting);
    }
}

void
cbus_mirror_introspect(CbusMirror *self, CbusService *service, CbusSpan path, const CbusMessage *call)
{
    CbusWaiting *waiting;

    if (call->flags & CBUS_FLAG_NO_REPLY)
        return;
    waiting = waiting_new(self, call, service, path.text, path.len);
    if (cbus_mirror_names_settled(self))
        introspect_service(self, waiting);
    else
        queue_up(self, &self->waiting, waiting);
}

static void
answer_machine(CbusMirror *self, const CbusMessage *call, const char *extra_interfaces)
{
    const char *const *services = cbus_mirror_services(self);
    g_autoptr(GPtrArray) children = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *xml = NULL;

    for (guint i = 0; services[i] != NULL; i++) {
        GString *element = g_string_new(NULL);

        cbus_service_escape(element, services[i]);
        g_ptr_array_add(children, g_string_free(element, FALSE));
    }
    g_ptr_array_add(children, NULL);
    xml = cbus_node_document(NULL, extra_interfaces, (const char *const *)children->pdata);
    cbus_front_reply_string(self->front, call, xml);
}

void
cbus_mirror_introspect_machine(CbusMirror *self, const CbusMessage *call, const char *extra_interfaces)
{
    if (call->flags & CBUS_FLAG_NO_REPLY)
        return;
    if (cbus_mirror_names_settled(self))
        answer_machine(self, call, extra_interfaces);
    else
        queue_up(self, &self->waiting,
                 waiting_new(self, call, NULL, extra_interfaces, strlen(extra_interfaces)));
}

static void
resume_one(CbusMirror *self, CbusWaiting *waiting)
{
    const CbusMessage call = waiting_call(waiting);

    if (waiting->caller->gone) {
        cbus_waiting_free(waiting);
    } else if (waiting->service == NULL) {
        answer_machine(self, &call, waiting->path);
        cbus_waiting_free(waiting);
    } else if (self->link == NULL) {
        answer_error(self, waiting, self->absence_error, self->absence_message);
        cbus_waiting_free(waiting);
    } else if (cbus_mirror_names_absent(self, waiting->service)) {
        g_autofree char *text = g_strdup_printf("%s has no service %s, neither running nor activatable",
                                                self->label, waiting->service->name);

        answer_error(self, waiting, CBUS_DBUS_ERROR("UnknownObject"), text);
        cbus_waiting_free(waiting);
    } else {
        introspect_service(self, waiting);
    }
}

void
cbus_mirror_introspect_resume(CbusMirror *self)
{
    CbusWaiting *waiting;

    while ((waiting = g_queue_pop_head(&self->waiting)) != NULL)
        resume_one(self, waiting);
}

/* A service that does not implement Introspectable at all, as the various bindings say it. */
static gboolean
means_no_introspection(const char *error_name)
{
    return g_str_equal(error_name, CBUS_DBUS_ERROR("UnknownMethod")) ||
           g_str_equal(error_name, CBUS_DBUS_ERROR("UnknownObject")) ||
           g_str_equal(error_name, CBUS_DBUS_ERROR("UnknownInterface"));
}

gboolean
cbus_mirror_introspect_replied(CbusMirror *self, CbusWaiting *waiting, const CbusMessage *reply,
                               GError **error)
{
    CbusService *service = waiting->service;
    CbusCursor cursor = cbus_cursor(reply);
    g_autoptr(GError) fault = NULL;
    g_autoptr(CbusNode) node = NULL;
    g_autofree char *text = NULL;
    CbusSpan xml;

    if (reply->type == CBUS_MESSAGE_ERROR)
        return cbus_mirror_relay(self, waiting->caller, waiting->serial, service, reply, error);
    if (!cbus_span_is(reply->signature, "s") || !cbus_cursor_string(&cursor, &xml))
        g_set_error(&fault, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID, "the reply is not one string");
    else
        node = cbus_node_store_get(self->store, xml.text, xml.len, &fault);
    if (node == NULL) {
        text = g_strdup_printf("%s: the introspection XML of %s at %s is not valid (%s); its methods can "
                               "still be called",
                               self->label, service->name, waiting->path, fault->message);
        answer_error(self, waiting, CBUS_DBUS_ERROR("Failed"), text);
        return TRUE;
    }
    if (service->tree == NULL)
        service->tree = cbus_service_tree_new(self->store);
    cbus_service_tree_put(service->tree, waiting->path, node);
    text = cbus_node_document(node, NULL, cbus_node_children(node));
    answer(self, waiting, text);
    return TRUE;
}

static CbusService *
find_tree(CbusMirror *self, guint32 channel, guint32 id)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->services);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CbusService *service = value;

        if (service->tree_id != 0 && service->tree_id == id && service->tree_channel == channel)
            return service;
    }
    return NULL;
}

static void
answer_from_tree(CbusMirror *self, const CbusService *service, const CbusWaiting *waiting, const char *fault)
{
    g_autofree char *text = NULL, *xml = NULL;

    if (fault != NULL) {
        text = g_strdup_printf("%s: the introspection XML of %s is not valid (%s); its methods can still be "
                               "called",
                               self->label, service->name, fault);
        answer_error(self, waiting, CBUS_DBUS_ERROR("Failed"), text);
        return;
    }
    xml = cbus_service_tree_document(service->tree, waiting->path);
    if (xml != NULL)
        answer(self, waiting, xml);
    else
        answer_empty(self, waiting);
}

/* What is wrong with the XML of the service's node, or NULL. A fault further down only leaves that object
 * without interfaces until it is asked itself. */
static char *
root_fault(CbusMirror *self, const CbusTree *tree)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusNode) node = NULL;
    const char *xml;
    gsize len = 0;

    xml = cbus_tree_lookup(tree, "/", &len);
    if (xml == NULL)
        return NULL;
    node = cbus_node_store_get(self->store, xml, len, &error);
    return node == NULL ? g_strdup(error->message) : NULL;
}

static void
tree_arrived(CbusMirror *self, CbusService *service, const CbusTree *tree)
{
    g_autofree char *fault = root_fault(self, tree);
    CbusWaiting *waiting;

    if (service->tree == NULL)
        service->tree = cbus_service_tree_new(self->store);
    (void)cbus_service_tree_fill(service->tree, tree, cbus_mirror_now(self));
    while ((waiting = g_queue_pop_head(&service->tree_waiting)) != NULL) {
        answer_from_tree(self, service, waiting, fault);
        cbus_waiting_free(waiting);
    }
    if (service->tree_outdated)
        cbus_service_tree_invalidate(service->tree);
    service->tree_outdated = FALSE;
}

static void
tree_failed(CbusMirror *self, CbusService *service, const char *error_name, const char *message)
{
    CbusWaiting *waiting;

    while ((waiting = g_queue_pop_head(&service->tree_waiting)) != NULL) {
        if (means_no_introspection(error_name))
            answer_empty(self, waiting);
        else
            answer_error(self, waiting, error_name, message);
        cbus_waiting_free(waiting);
    }
}

/* wire/tree.h reads an answer from its id on, which the link has taken off. */
static CbusTree *
read_answer(guint32 id, const guint8 *bytes, gsize len, char **error_name, char **message)
{
    g_autoptr(GByteArray) whole = g_byte_array_sized_new(4 + len);
    guint8 head[4];

    cbus_put_be32(head, id);
    g_byte_array_append(whole, head, sizeof head);
    g_byte_array_append(whole, bytes, len);
    return cbus_tree_read(whole->data, whole->len, &id, error_name, message);
}

gboolean
cbus_mirror_tree(CbusMirror *self, guint32 channel, guint32 id, const guint8 *bytes, gsize len)
{
    g_autofree char *error_name = NULL, *message = NULL;
    g_autoptr(CbusService) service = NULL;
    g_autoptr(CbusTree) tree = NULL;
    CbusService *asked;

    if (cbus_mirror_pool_find(self, channel) == NULL)
        return FALSE;
    asked = find_tree(self, channel, id);
    if (asked == NULL)
        return TRUE;
    service = cbus_service_ref(asked);
    tree_ended(service);
    tree = read_answer(id, bytes, len, &error_name, &message);
    if (tree != NULL) {
        tree_arrived(self, service, tree);
    } else if (error_name != NULL) {
        tree_failed(self, service, error_name, message);
    } else {
        message = g_strdup_printf("%s: its agent's answer about the objects of %s is malformed; are both "
                                  "sides of the same version?",
                                  self->label, service->name);
        tree_failed(self, service, CBUS_DBUS_ERROR("Failed"), message);
    }
    return TRUE;
}

static void
tree_abandon(CbusMirror *self, CbusService *service, const char *cause)
{
    g_autofree char *text = g_strdup_printf("%s: %s while %s was introspected; try again later", self->label,
                                            cause, service->name);

    tree_ended(service);
    tree_failed(self, service, CBUS_DBUS_ERROR("NoReply"), text);
}

void
cbus_mirror_introspect_lost(CbusMirror *self, guint32 channel, const char *cause)
{
    g_autoptr(GPtrArray) services = cbus_mirror_services_snapshot(self);

    for (guint i = 0; i < services->len; i++) {
        CbusService *service = g_ptr_array_index(services, i);

        if (service->tree_id != 0 && (channel == 0 || service->tree_channel == channel))
            tree_abandon(self, service, cause);
    }
}

void
cbus_mirror_introspect_expire(CbusMirror *self, gint64 since)
{
    g_autoptr(GPtrArray) services = cbus_mirror_services_snapshot(self);

    for (guint i = 0; i < services->len; i++) {
        CbusService *service = g_ptr_array_index(services, i);

        if (service->tree_id != 0 && service->tree_asked_at < since)
            tree_abandon(self, service, "no answer came within a minute");
    }
}
