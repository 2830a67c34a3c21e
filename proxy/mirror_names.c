/* Who is on the remote bus: well-known names, their owners, and what can be activated.
 *
 * Asked once per main channel (ListNames, ListActivatableNames, GetNameOwner of each name), then kept current
 * by NameOwnerChanged, which comes over the same channel behind the match: in that order the answers and the
 * signals never contradict each other. Unique names are not kept; `owners` holds only those that own a
 * well-known name, since that is what a signal's sender is looked up in.
 *
 * A service is "listed" while it is owned or activatable. The list holds a reference to it; pending calls and
 * waiting introspections hold others, so that a service that vanishes in mid-call still lends its prefix to
 * the reply. An activatable service keeps its tree while it is away. When the names become unknown (link or
 * main channel lost) services with a tree are kept, unlisted, until the next list says which still exist.
 *
 * Trusts only what the driver itself sent: the remote bus stamps senders. Counts and names are bounded and
 * checked all the same, since the whole remote may be hostile. Loop thread only.
 */
#include "link/log.h"
#include "proxy/mirror_private.h"

CbusService *
cbus_service_ref(CbusService *service)
{
    service->refs++;
    return service;
}

void
cbus_service_unref(CbusService *service)
{
    if (--service->refs > 0)
        return;
    g_assert(g_queue_is_empty(&service->tree_waiting));
    g_hash_table_remove(service->mirror->services, service->name);
    g_clear_pointer(&service->tree, cbus_service_tree_free);
    g_free(service->name);
    g_free(service->prefix);
    g_free(service->owner);
    g_free(service);
}

const char *
cbus_service_prefix(CbusService *service)
{
    if (service->prefix == NULL) {
        g_autoptr(GString) prefix = g_string_new(NULL);
        cbus_place_append_service(prefix, service->mirror->nkey, service->name);
        service->prefix = g_strdup(prefix->str);
    }
    return service->prefix;
}

CbusService *
cbus_mirror_service(CbusMirror *self, const char *name)
{
    CbusService *service = g_hash_table_lookup(self->services, name);

    if (service != NULL)
        return cbus_service_ref(service);
    service = g_new0(CbusService, 1);
    service->mirror = self;
    service->refs = 1;
    service->name = g_strdup(name);
    g_queue_init(&service->tree_waiting);
    g_hash_table_insert(self->services, service->name, service);
    return service;
}

static void
owner_remove(CbusService *service)
{
    GHashTable *owners = service->mirror->owners;
    GPtrArray *owned;

    if (service->owner == NULL)
        return;
    owned = g_hash_table_lookup(owners, service->owner);
    if (owned != NULL) {
        g_ptr_array_remove(owned, service);
        if (owned->len == 0)
            g_hash_table_remove(owners, service->owner);
    }
    g_clear_pointer(&service->owner, g_free);
}

static void
owner_set(CbusService *service, const char *owner)
{
    GHashTable *owners = service->mirror->owners;
    GPtrArray *owned;

    if (g_strcmp0(service->owner, owner) == 0)
        return;
    owner_remove(service);
    if (owner == NULL)
        return;
    service->owner = g_strdup(owner);
    owned = g_hash_table_lookup(owners, owner);
    if (owned == NULL) {
        owned = g_ptr_array_new();
        g_hash_table_insert(owners, g_strdup(owner), owned);
    }
    g_ptr_array_add(owned, service);
}

/* TRUE when no more names are listed: what is not may exist all the same. */
static gboolean
is_full(const CbusMirror *self)
{
    return self->listed >= CBUS_MIRROR_SERVICES || self->listed_bytes >= CBUS_MIRROR_SERVICES_BYTES;
}

/* Lists or unlists SERVICE as its flags say; TRUE if that changed. May drop the last reference. */
static gboolean
service_update(CbusService *service)
{
    CbusMirror *self = service->mirror;
    gboolean wanted = service->owned || service->activatable;
    gboolean differs = wanted != service->listed;

    if (differs) {
        service->listed = wanted;
        self->listed += wanted ? 1 : -1;
        self->listed_bytes += wanted ? strlen(service->name) : -strlen(service->name);
        g_clear_pointer(&self->names, g_strfreev);
    }
    if (wanted && !service->kept) {
        service->kept = TRUE;
        cbus_service_ref(service);
    } else if (!wanted && service->kept && (self->names_ok == CBUS_NAMES_ALL || service->tree == NULL)) {
        service->kept = FALSE;
        g_clear_pointer(&service->tree, cbus_service_tree_free);
        cbus_service_unref(service);
    }
    return differs;
}

static void
changed(CbusMirror *self)
{
    if (cbus_mirror_names_settled(self) && self->handler.services_changed != NULL)
        self->handler.services_changed(self, self->user_data);
}

static CbusHeader
driver_header(const char *member)
{
    return (CbusHeader){.path = CBUS_SPAN_LITERAL(CBUS_DRIVER_PATH),
                        .interface = CBUS_SPAN_LITERAL(CBUS_DRIVER_NAME),
                        .member = cbus_span(member),
                        .destination = CBUS_SPAN_LITERAL(CBUS_DRIVER_NAME)};
}

void
cbus_mirror_names_ask_activatable(CbusMirror *self, CbusChannel *channel)
{
    static const CbusPending activatable = {.asked = CBUS_ASKED_ACTIVATABLE};

    /* However often the list changes, one question is under way. */
    channel->ask_activatable = channel->asked_activatable;
    if (!channel->asked_activatable)
        channel->asked_activatable =
            cbus_mirror_pool_ask(self, channel, driver_header("ListActivatableNames"), NULL, &activatable);
}

void
cbus_mirror_names_ask(CbusMirror *self, CbusChannel *channel)
{
    static const CbusPending names = {.asked = CBUS_ASKED_NAMES};

    (void)cbus_mirror_pool_ask(self, channel, driver_header("ListNames"), NULL, &names);
    cbus_mirror_names_ask_activatable(self, channel);
}

static void
ask_owner(CbusMirror *self, CbusChannel *channel, CbusService *service)
{
    const CbusPending owner = {.asked = CBUS_ASKED_OWNER, .service = cbus_service_ref(service)};

    if (!cbus_mirror_pool_ask(self, channel, driver_header("GetNameOwner"), service->name, &owner))
        cbus_service_unref(service);
}

static void
ask_owners(CbusMirror *self, CbusChannel *channel)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->services);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CbusService *service = value;

        if (service->owned)
            ask_owner(self, channel, service);
    }
}

/* Marks what a ListNames or ListActivatableNames says. FALSE: it is no list of names. */
static gboolean
read_list(CbusMirror *self, const CbusMessage *reply, gboolean owned)
{
    CbusCursor cursor = cbus_cursor(reply);
    gsize end;

    if (!cbus_span_is(reply->signature, "as") || !cbus_cursor_array(&cursor, 4, &end))
        return FALSE;
    while (cursor.at < end) {
        g_autoptr(CbusService) service = NULL;
        CbusSpan name;

        if (!cbus_cursor_string(&cursor, &name) || !cbus_is_bus_name(name))
            return FALSE;
        if (name.text[0] == ':')
            continue;
        if (is_full(self) && !g_hash_table_contains(self->services, name.text))
            continue;
        service = cbus_mirror_service(self, name.text);
        if (owned)
            service->owned = TRUE;
        else
            service->activatable = TRUE;
        service_update(service);
    }
    return TRUE;
}

GPtrArray *
cbus_mirror_services_snapshot(CbusMirror *self)
{
    GPtrArray *all =
        g_ptr_array_new_full(g_hash_table_size(self->services), (GDestroyNotify)cbus_service_unref);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, self->services);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(all, cbus_service_ref(value));
    return all;
}

static void
replace_list(CbusMirror *self, CbusChannel *channel, const CbusMessage *reply, gboolean owned)
{
    guint flag = owned ? CBUS_NAMES_OWNED : CBUS_NAMES_ACTIVATABLE;
    g_autoptr(GPtrArray) known = cbus_mirror_services_snapshot(self);

    for (guint i = 0; i < known->len; i++) {
        CbusService *service = g_ptr_array_index(known, i);

        if (owned)
            service->owned = FALSE;
        else
            service->activatable = FALSE;
    }
    self->names_answered |= flag;
    self->names_ok &= ~flag;
    if (reply->type == CBUS_MESSAGE_RETURN && read_list(self, reply, owned))
        self->names_ok |= flag;
    else
        cbus_log(G_LOG_LEVEL_WARNING, "The names on a machine's bus can not be listed", CBUS_LOG_MACHINE,
                 self->nkey, CBUS_LOG_REASON,
                 reply->type == CBUS_MESSAGE_ERROR ? reply->error_name.text : "malformed list", NULL);
    for (guint i = 0; i < known->len; i++) {
        CbusService *service = g_ptr_array_index(known, i);

        if (!service->owned)
            owner_remove(service);
        service_update(service);
    }
    if (owned)
        ask_owners(self, channel);
    changed(self);
    if (cbus_mirror_names_settled(self))
        cbus_mirror_introspect_resume(self);
}

void
cbus_mirror_names_replied(CbusMirror *self, CbusChannel *channel, const CbusPending *pending,
                          const CbusMessage *reply)
{
    CbusCursor cursor = cbus_cursor(reply);
    CbusSpan owner;

    if (pending->asked == CBUS_ASKED_ACTIVATABLE)
        channel->asked_activatable = FALSE;
    if (channel != self->main)
        return;
    if (channel->ask_activatable && pending->asked == CBUS_ASKED_ACTIVATABLE) {
        cbus_mirror_names_ask_activatable(self, channel); /* this answer may be older than the change */
    }
    if (pending->asked != CBUS_ASKED_OWNER) {
        replace_list(self, channel, reply, pending->asked == CBUS_ASKED_NAMES);
        return;
    }
    /* An error means that the name is gone again, which NameOwnerChanged says too. */
    if (reply->type != CBUS_MESSAGE_RETURN || !cbus_span_is(reply->signature, "s") ||
        !cbus_cursor_string(&cursor, &owner) || !cbus_is_bus_name(owner) || !pending->service->owned)
        return;
    owner_set(pending->service, owner.text);
    if (g_str_equal(pending->service->name, CBUS_SYSTEMD_NAME))
        cbus_mirror_systemd_subscribe(self);
}

void
cbus_mirror_names_owner_changed(CbusMirror *self, const CbusMessage *signal)
{
    CbusCursor cursor = cbus_cursor(signal);
    g_autoptr(CbusService) service = NULL;
    CbusSpan name, old_owner, new_owner;

    if (!cbus_span_is(signal->signature, "sss") || !cbus_cursor_string(&cursor, &name) ||
        !cbus_cursor_string(&cursor, &old_owner) || !cbus_cursor_string(&cursor, &new_owner) ||
        !cbus_is_bus_name(name) || (new_owner.len > 0 && !cbus_is_bus_name(new_owner)))
        return;
    if (name.text[0] == ':' || (self->names_answered & CBUS_NAMES_OWNED) == 0)
        return;
    if (new_owner.len > 0 && is_full(self) && !g_hash_table_contains(self->services, name.text))
        return;
    service = cbus_mirror_service(self, name.text);
    service->owned = new_owner.len > 0;
    owner_set(service, new_owner.len > 0 ? new_owner.text : NULL);
    cbus_service_invalidate(service);
    if (service_update(service))
        changed(self);
    if (new_owner.len > 0 && g_str_equal(service->name, CBUS_SYSTEMD_NAME))
        cbus_mirror_systemd_subscribe(self);
}

void
cbus_mirror_names_forget(CbusMirror *self)
{
    g_autoptr(GPtrArray) known = cbus_mirror_services_snapshot(self);
    gboolean had_names = self->listed > 0;

    self->names_answered = self->names_ok = 0;
    for (guint i = 0; i < known->len; i++) {
        CbusService *service = g_ptr_array_index(known, i);

        service->owned = service->activatable = FALSE;
        owner_remove(service);
        cbus_service_invalidate(service);
        service_update(service);
    }
    if (had_names)
        changed(self);
}

void
cbus_mirror_names_clear(CbusMirror *self)
{
    g_autoptr(GPtrArray) known = NULL;

    cbus_mirror_names_forget(self);
    known = cbus_mirror_services_snapshot(self);
    self->names_ok = CBUS_NAMES_ALL;
    for (guint i = 0; i < known->len; i++)
        service_update(g_ptr_array_index(known, i));
}

gboolean
cbus_mirror_names_settled(const CbusMirror *self)
{
    return self->main == NULL || self->names_answered == CBUS_NAMES_ALL;
}

gboolean
cbus_mirror_names_absent(const CbusMirror *self, const CbusService *service)
{
    return self->names_ok == CBUS_NAMES_ALL && service->name[0] != ':' && !service->listed && !is_full(self);
}

const GPtrArray *
cbus_mirror_names_of(const CbusMirror *self, CbusSpan owner)
{
    return g_hash_table_lookup(self->owners, owner.text);
}

static gint
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *const *
cbus_mirror_services(const CbusMirror *mirror)
{
    /* The list is a cache: making it changes nothing that anybody could see. */
    CbusMirror *self = (CbusMirror *)mirror;
    g_autoptr(GPtrArray) names = NULL;
    GHashTableIter iter;
    gpointer value;

    if (self->names != NULL)
        return (const char *const *)self->names;
    names = g_ptr_array_new();
    g_hash_table_iter_init(&iter, self->services);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        CbusService *service = value;

        if (service->listed)
            g_ptr_array_add(names, g_strdup(service->name));
    }
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    self->names = (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
    return (const char *const *)self->names;
}
