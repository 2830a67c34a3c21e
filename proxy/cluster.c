/* ie.bmcgee.CBus1.Cluster.Get and Invoke: one call to many machines, one answer with a row for each.
 *
 * The call is built once; each machine's mirror sends it and answers as it would to any caller
 * (cbus_mirror_ask), so that paths, limits and errors are the mirror's. Each machine is on its own: one that
 * is offline has its row at once, one that hangs has it at the deadline, as NoReply, and none holds up
 * another. The answer leaves when the last row is filled. What comes later is dropped.
 *
 * "All" are the pinned machines when there are any, since anybody can announce a fresh key; else all that
 * are listed. A machine that is named and not known has a row that says so.
 *
 * Bounds: 32 calls at once (each may gather 48 MiB, and all of them together four times that), 8192 machines
 * in one. The calls of a client that left the bus are given up.
 *
 * Trusts GDBus for the types of the arguments and the bus for the sender; names in the arguments are checked.
 * The mirror is never entered from an answer. Loop thread only. */
#include "proxy/cluster.h"

#include "introspect/path.h"
#include "proxy/cluster_rows.h"

#define BYTES_ALL (4 * (gsize)CBUS_CLUSTER_BYTES)

struct _CbusCluster {
    CbusLoop *loop;
    CbusRoster *roster;
    GPtrArray *gatherings; /* of Gathering, owned */
};

typedef struct _Gathering Gathering;

/* One machine that has been asked. */
typedef struct {
    Gathering *gathering;
    CbusMirror *mirror; /* valid until it answered */
    guint64 ask;
    guint row;
} Asked;

struct _Gathering {
    CbusCluster *cluster;
    GDBusMethodInvocation *invocation;
    CbusClusterRows *rows;
    GArray *asked;
    guint waiting;
    guint timeout_ms;
    GSource *timer;
    gboolean asking; /* machines are still being asked: not yet to be ended */
};

/* What is called everywhere. */
typedef struct {
    CbusPlace place;
    guchar *bytes;
    CbusMessage message;
} Call;

static void
call_clear(Call *call)
{
    g_free(call->bytes);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Call, call_clear)

/* ---- the call ---- */

static gboolean
check_names(const char *destination, const char *interface, const char *member, gboolean method,
            GError **error)
{
    const char *wrong = NULL, *what = NULL;

    if (!cbus_is_bus_name(cbus_span(destination))) {
        wrong = destination;
        what = "bus name";
    } else if (interface[0] != '\0' && !cbus_is_interface(cbus_span(interface))) {
        wrong = interface;
        what = "interface";
    } else if (method && !cbus_is_member(cbus_span(member))) {
        wrong = member;
        what = "method name";
    }
    if (wrong == NULL)
        return TRUE;
    g_set_error(error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS, "\"%s\" is no %s; nothing was executed",
                wrong, what);
    return FALSE;
}

/* An av as the tuple of its values, floating; NULL for none. */
static GVariant *
values_to_body(GVariant *values)
{
    gsize n = g_variant_n_children(values);
    g_autoptr(GPtrArray) children = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);

    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) boxed = g_variant_get_child_value(values, i);

        g_ptr_array_add(children, g_variant_get_variant(boxed));
    }
    return n > 0 ? g_variant_new_tuple((GVariant *const *)children->pdata, n) : NULL;
}

static gboolean
call_build(Call *call, CbusClusterKind kind, GVariant *arguments, GDBusMessageFlags flags, GError **error)
{
    const char *destination, *path, *interface, *member;
    g_autoptr(GDBusMessage) message = NULL;
    g_autoptr(GVariant) body = NULL;
    gsize size;

    g_variant_get_child(arguments, 0, "&s", &destination);
    g_variant_get_child(arguments, 1, "&o", &path);
    g_variant_get_child(arguments, 2, "&s", &interface);
    g_variant_get_child(arguments, 3, "&s", &member);
    if (!check_names(destination, interface, member, kind == CBUS_CLUSTER_INVOKE, error))
        return FALSE;
    if (kind == CBUS_CLUSTER_GET) {
        body = g_variant_ref_sink(g_variant_new("(ss)", interface, member));
        message = g_dbus_message_new_method_call(destination, path, "org.freedesktop.DBus.Properties", "Get");
    } else {
        g_autoptr(GVariant) values = g_variant_get_child_value(arguments, 4);
        GVariant *tuple = values_to_body(values);

        body = tuple != NULL ? g_variant_ref_sink(tuple) : NULL;
        message = g_dbus_message_new_method_call(destination, path, interface[0] != '\0' ? interface : NULL,
                                                 member);
    }
    if (body != NULL && strlen(g_variant_get_type_string(body)) > 255 + 2) {
        g_set_error_literal(error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS,
                            "the signature of the arguments is longer than 255; nothing was executed");
        return FALSE;
    }
    if (body != NULL)
        g_dbus_message_set_body(message, body);
    g_dbus_message_set_flags(message, flags);
    g_dbus_message_set_serial(message, 1);
    call->bytes = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_NONE, error);
    if (call->bytes == NULL || !cbus_message_view(&call->message, call->bytes, size, error))
        return FALSE;
    call->place.kind = CBUS_PLACE_SERVICE;
    g_strlcpy(call->place.service, destination, sizeof call->place.service);
    call->place.path = call->message.path;
    return TRUE;
}

/* ---- who is asked ---- */

/* The NKeys of all that "all" means. (transfer full) */
static GPtrArray *
everybody(CbusRoster *roster)
{
    g_autoptr(GPtrArray) machines = cbus_roster_list(roster);
    GPtrArray *nkeys = g_ptr_array_new_with_free_func(g_free);
    gboolean pinned = FALSE;

    for (guint i = 0; i < machines->len && !pinned; i++)
        pinned = cbus_machine_is_pinned(machines->pdata[i]);
    for (guint i = 0; i < machines->len; i++) {
        if (!pinned || cbus_machine_is_pinned(machines->pdata[i]))
            g_ptr_array_add(nkeys, g_strdup(cbus_machine_nkey(machines->pdata[i])));
    }
    return nkeys;
}

/* The NKeys that ARGUMENTS end in, each once and valid; else everybody's. NULL with ERROR. */
static GPtrArray *
select_machines(CbusCluster *cluster, GVariant *arguments, gsize index, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(arguments, index);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) nkeys = g_ptr_array_new_with_free_func(g_free);
    gsize n = g_variant_n_children(list);

    if (n == 0)
        return everybody(cluster->roster);
    if (n > CBUS_CLUSTER_MACHINES) {
        g_set_error(error, G_DBUS_ERROR, G_DBUS_ERROR_LIMITS_EXCEEDED,
                    "more than %d machines at once; nothing was executed", CBUS_CLUSTER_MACHINES);
        return NULL;
    }
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GError) cause = NULL;
        const char *nkey;
        CbusKey key;

        g_variant_get_child(list, i, "&s", &nkey);
        if (!cbus_nkey_decode(nkey, -1, &key, &cause)) {
            g_set_error(error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS,
                        "\"%s\" is no machine's NKey (%s); nothing was executed", nkey, cause->message);
            return NULL;
        }
        if (!g_hash_table_contains(seen, nkey)) {
            g_ptr_array_add(nkeys, g_strdup(nkey));
            g_hash_table_add(seen, nkeys->pdata[nkeys->len - 1]);
        }
    }
    return g_steal_pointer(&nkeys);
}

static CbusMachine *
find_machine(CbusCluster *cluster, const char *nkey)
{
    CbusKey key;

    return cbus_nkey_decode(nkey, -1, &key, NULL) ? cbus_roster_lookup(cluster->roster, &key) : NULL;
}

/* ---- gathering ---- */

static void
gathering_free(gpointer data)
{
    Gathering *gathering = data;

    if (gathering->timer != NULL) {
        g_source_destroy(gathering->timer);
        g_source_unref(gathering->timer);
    }
    g_clear_object(&gathering->invocation);
    cbus_cluster_rows_free(gathering->rows);
    g_array_unref(gathering->asked);
    g_free(gathering);
}

static void
answer(Gathering *gathering)
{
    g_dbus_method_invocation_return_value(g_steal_pointer(&gathering->invocation),
                                          cbus_cluster_rows_end(gathering->rows));
    g_ptr_array_remove_fast(gathering->cluster->gatherings, gathering);
}

/* Gives up on all that have not answered, saying why in their rows. */
static void
give_up(Gathering *gathering, const char *why)
{
    for (guint i = 0; i < gathering->asked->len; i++) {
        const Asked *asked = &g_array_index(gathering->asked, Asked, i);

        if (cbus_cluster_rows_filled(gathering->rows, asked->row))
            continue;
        cbus_mirror_ask_cancel(asked->mirror, asked->ask);
        cbus_cluster_rows_fail(gathering->rows, asked->row, CBUS_DBUS_ERROR("NoReply"), why);
    }
    gathering->waiting = 0;
}

static gboolean
on_deadline(gpointer user_data)
{
    Gathering *gathering = user_data;
    g_autofree char *why =
        g_strdup_printf("The machine did not answer within %u ms; whether the call was executed is unknown: "
                        "look before you repeat it",
                        gathering->timeout_ms);

    give_up(gathering, why);
    answer(gathering);
    return G_SOURCE_REMOVE;
}

static gsize
bytes_of_all(const CbusCluster *cluster)
{
    gsize bytes = 0;

    for (guint i = 0; i < cluster->gatherings->len; i++)
        bytes += cbus_cluster_rows_bytes(((Gathering *)cluster->gatherings->pdata[i])->rows);
    return bytes;
}

static void
on_answer(const CbusMessage *message, const guint8 *bytes, gpointer user_data)
{
    const Asked *asked = user_data;
    Gathering *gathering = asked->gathering;
    gsize held = bytes_of_all(gathering->cluster);

    /* What says so is held, too. */
    if (held > BYTES_ALL || message->body_len > BYTES_ALL - held)
        cbus_cluster_rows_fail(gathering->rows, asked->row, CBUS_DBUS_ERROR("LimitsExceeded"),
                               "The proxy holds too many answers to calls of the whole fleet, and this one "
                               "is left out; the call was executed");
    else
        cbus_cluster_rows_take(gathering->rows, asked->row, message, bytes);
    gathering->waiting--;
    if (gathering->waiting == 0 && !gathering->asking)
        answer(gathering);
}

static void
ask_all(Gathering *gathering, const GPtrArray *nkeys, const Call *call)
{
    CbusMessage message = call->message;

    message.sender = cbus_span(g_dbus_method_invocation_get_sender(gathering->invocation));
    gathering->asking = TRUE;
    /* Entries must not move: answers point to them. */
    g_array_set_size(gathering->asked, nkeys->len);
    for (guint i = 0; i < nkeys->len; i++) {
        CbusMachine *machine = find_machine(gathering->cluster, nkeys->pdata[i]);
        Asked *asked = &g_array_index(gathering->asked, Asked, i);

        asked->gathering = gathering;
        asked->row = cbus_cluster_rows_add(gathering->rows, nkeys->pdata[i]);
        if (machine == NULL) {
            cbus_cluster_rows_fail(gathering->rows, asked->row, CBUS_DBUS_ERROR("UnknownObject"),
                                   "There is no such machine: it is neither pinned in known_machines nor "
                                   "there; the call was not executed");
            continue;
        }
        gathering->waiting++;
        asked->mirror = cbus_machine_mirror(machine);
        asked->ask = cbus_mirror_ask(asked->mirror, &call->place, &message, on_answer, asked);
    }
    gathering->asking = FALSE;
}

/* INVOCATION: (transfer full). */
static void
gather(CbusCluster *cluster, CbusClusterKind kind, const GPtrArray *nkeys, const Call *call,
       guint32 timeout_ms, GDBusMethodInvocation *invocation)
{
    Gathering *gathering = g_new0(Gathering, 1);

    gathering->cluster = cluster;
    gathering->invocation = invocation;
    gathering->rows = cbus_cluster_rows_new(kind);
    gathering->asked = g_array_new(FALSE, TRUE, sizeof(Asked));
    gathering->timeout_ms = timeout_ms != 0 ? timeout_ms : CBUS_CLUSTER_DEFAULT_MS;
    g_ptr_array_add(cluster->gatherings, gathering);
    ask_all(gathering, nkeys, call);
    if (gathering->waiting == 0) {
        answer(gathering);
        return;
    }
    gathering->timer = g_timeout_source_new(gathering->timeout_ms);
    g_source_set_callback(gathering->timer, on_deadline, gathering, NULL);
    g_source_attach(gathering->timer, cluster->loop->context);
}

/* ---- the object's methods ---- */

void
cbus_cluster_call(CbusCluster *cluster, const char *method, GVariant *arguments,
                  GDBusMethodInvocation *invocation)
{
    CbusClusterKind kind = g_str_equal(method, "Get") ? CBUS_CLUSTER_GET : CBUS_CLUSTER_INVOKE;
    GDBusMessage *message = g_dbus_method_invocation_get_message(invocation);
    gsize after = kind == CBUS_CLUSTER_GET ? 4 : 5;
    g_autoptr(GPtrArray) nkeys = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(Call) call = {0};
    guint32 timeout_ms;

    if (cluster->gatherings->len >= CBUS_CLUSTER_CALLS) {
        g_dbus_method_invocation_return_dbus_error(
            invocation, CBUS_DBUS_ERROR("LimitsExceeded"),
            "cbus-proxy gathers the answers to 32 calls of the whole fleet already; nothing was executed: "
            "try again when one is answered");
        return;
    }
    nkeys = select_machines(cluster, arguments, after, &error);
    if (nkeys == NULL || !call_build(&call, kind, arguments, g_dbus_message_get_flags(message), &error)) {
        g_dbus_method_invocation_return_gerror(invocation, error);
        return;
    }
    g_variant_get_child(arguments, after + 1, "u", &timeout_ms);
    gather(cluster, kind, nkeys, &call, timeout_ms, invocation);
}

void
cbus_cluster_send(CbusCluster *cluster, const CbusMessage *call, const guint8 *bytes)
{
    g_autoptr(GDBusMessage) message = NULL;
    g_autoptr(GPtrArray) nkeys = NULL;
    g_auto(Call) each = {0};
    GVariant *arguments;

    if (!cbus_span_is(call->member, "Invoke") || !cbus_span_is(call->signature, "sossavasu"))
        return;
    message = g_dbus_message_new_from_blob((guchar *)bytes, call->size, G_DBUS_CAPABILITY_FLAGS_NONE, NULL);
    arguments = message != NULL ? g_dbus_message_get_body(message) : NULL;
    if (arguments == NULL)
        return;
    nkeys = select_machines(cluster, arguments, 5, NULL);
    if (nkeys == NULL ||
        !call_build(&each, CBUS_CLUSTER_INVOKE, arguments, g_dbus_message_get_flags(message), NULL))
        return;
    each.message.sender = call->sender;
    for (guint i = 0; i < nkeys->len; i++) {
        CbusMachine *machine = find_machine(cluster, nkeys->pdata[i]);

        if (machine != NULL)
            (void)cbus_mirror_ask(cbus_machine_mirror(machine), &each.place, &each.message, NULL, NULL);
    }
}

void
cbus_cluster_caller_gone(CbusCluster *cluster, const char *unique_name)
{
    for (guint i = cluster->gatherings->len; i-- > 0;) {
        Gathering *gathering = cluster->gatherings->pdata[i];

        if (!g_str_equal(g_dbus_method_invocation_get_sender(gathering->invocation), unique_name))
            continue;
        give_up(gathering, "nobody waits for it");
        answer(gathering);
    }
}

CbusCluster *
cbus_cluster_new(CbusLoop *loop, CbusRoster *roster)
{
    CbusCluster *cluster = g_new0(CbusCluster, 1);

    cluster->loop = loop;
    cluster->roster = roster;
    cluster->gatherings = g_ptr_array_new_with_free_func(gathering_free);
    return cluster;
}

void
cbus_cluster_free(CbusCluster *cluster)
{
    if (cluster == NULL)
        return;
    g_assert(cluster->gatherings->len == 0);
    g_ptr_array_unref(cluster->gatherings);
    g_free(cluster);
}
