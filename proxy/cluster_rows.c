/* The rows of one answer of ie.bmcgee.CBus1.Cluster.
 *
 * Promises: an answer that the bus takes, whatever the machines said. Thousands of replies come together in
 * one message, and a message that breaks a limit would cost the proxy its connection, with all mirrors on it.
 * An array may have 64 MiB, and of 8192 rows at most these fill:
 *  - 48 MiB replies, each charged with its size on the wire and with what wrapping its values adds; a reply
 *    that goes past becomes a LimitsExceeded row;
 *  - 8 MiB error messages, each cut to 4 KiB; past that each is cut to 256 bytes, 2 MiB in all;
 *  - 4 MiB the rest: NKeys, error names, padding.
 * Values that are nested so deep that the row around them would break the bus's limit of 64 become a
 * LimitsExceeded row, too.
 *
 * Values are GVariants here: a row has to be built around them, and a call to a whole fleet is not the hot
 * path. Trusts that a reply's bytes were walked and are valid (the mirror does that), and nothing about their
 * size, type or depth. Loop thread only. */
#include "proxy/cluster_rows.h"

#include "wire/key.h"

#define MESSAGE_BYTES 4096                     /* of an error message */
#define MESSAGE_SHORT 256                      /* likewise, when there are many */
#define MESSAGES_ALL  ((gsize)8 * 1024 * 1024) /* bytes of those that are longer */
#define VALUE_BYTES   24 /* at most, that a value grows by in its variant: its signature's ends, padding */
#define DEPTH_MAX     56 /* of a value: the row around it needs some of the 64 */

typedef struct {
    char *nkey;
    gboolean filled;
    GVariant *body; /* a tuple, or NULL: not ok */
    char *error_name, *message;
} Row;

struct _CbusClusterRows {
    CbusClusterKind kind;
    GArray *rows;
    gsize replies, messages; /* bytes */
};

static void
row_clear(gpointer data)
{
    Row *row = data;

    g_free(row->nkey);
    g_clear_pointer(&row->body, g_variant_unref);
    g_free(row->error_name);
    g_free(row->message);
}

CbusClusterRows *
cbus_cluster_rows_new(CbusClusterKind kind)
{
    CbusClusterRows *rows = g_new0(CbusClusterRows, 1);

    rows->kind = kind;
    rows->rows = g_array_new(FALSE, TRUE, sizeof(Row));
    g_array_set_clear_func(rows->rows, row_clear);
    return rows;
}

void
cbus_cluster_rows_free(CbusClusterRows *rows)
{
    if (rows == NULL)
        return;
    g_array_unref(rows->rows);
    g_free(rows);
}

guint
cbus_cluster_rows_add(CbusClusterRows *rows, const char *nkey)
{
    const Row row = {.nkey = g_strdup(nkey)};

    g_array_append_val(rows->rows, row);
    return rows->rows->len - 1;
}

gboolean
cbus_cluster_rows_filled(const CbusClusterRows *rows, guint i)
{
    return g_array_index(rows->rows, Row, i).filled;
}

gsize
cbus_cluster_rows_bytes(const CbusClusterRows *rows)
{
    return rows->replies + rows->messages;
}

/* The beginning of TEXT, of at most MAX bytes. */
static char *
cut(const char *text, gsize max)
{
    g_autofree char *valid = g_utf8_make_valid(text, (gssize)strnlen(text, max));

    /* A character that was cut became a longer one. */
    if (strlen(valid) > max)
        *g_utf8_find_prev_char(valid, valid + max + 1) = '\0';
    return g_steal_pointer(&valid);
}

void
cbus_cluster_rows_fail(CbusClusterRows *rows, guint i, const char *error_name, const char *message)
{
    Row *row = &g_array_index(rows->rows, Row, i);
    gsize len = strnlen(message, MESSAGE_BYTES);

    g_return_if_fail(!row->filled);
    row->filled = TRUE;
    row->error_name = g_strdup(error_name);
    row->message =
        cut(message, rows->messages + len <= MESSAGES_ALL ? (gsize)MESSAGE_BYTES : (gsize)MESSAGE_SHORT);
    rows->messages += strlen(row->message);
}

/* At most what a reply takes in its row. */
static gsize
cost(const CbusMessage *reply)
{
    return reply->body_len + reply->signature.len * (gsize)(1 + VALUE_BYTES);
}

/* TRUE unless containers are more than LEFT deep in VALUE. */
static gboolean
is_shallow(GVariant *value, guint left)
{
    const char *type = g_variant_get_type_string(value);

    if (!g_variant_is_container(value))
        return TRUE;
    if (left == 0)
        return FALSE;
    /* Nothing below an array of basic values. */
    if (type[0] == 'a' && type[2] == '\0' && type[1] != 'v')
        return TRUE;
    for (gsize i = 0; i < g_variant_n_children(value); i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(value, i);

        if (!is_shallow(child, left - 1))
            return FALSE;
    }
    return TRUE;
}

static void
take_error(CbusClusterRows *rows, guint i, const CbusMessage *answer, GVariant *body)
{
    const char *text = "";

    if (body != NULL && g_variant_n_children(body) > 0) {
        g_autoptr(GVariant) first = g_variant_get_child_value(body, 0);

        if (g_variant_is_of_type(first, G_VARIANT_TYPE_STRING))
            g_variant_get_child(body, 0, "&s", &text);
    }
    cbus_cluster_rows_fail(rows, i, answer->error_name.text, text);
}

void
cbus_cluster_rows_take(CbusClusterRows *rows, guint i, const CbusMessage *answer, const guint8 *bytes)
{
    Row *row = &g_array_index(rows->rows, Row, i);
    g_autoptr(GDBusMessage) message = NULL;
    g_autoptr(GError) error = NULL;
    GVariant *body;

    g_return_if_fail(!row->filled);
    if (cost(answer) > CBUS_CLUSTER_BYTES - rows->replies) {
        cbus_cluster_rows_fail(rows, i, CBUS_DBUS_ERROR("LimitsExceeded"),
                               "The answers of all machines together are over 48 MiB, and this one's is left "
                               "out; the call was executed. Ask fewer machines at once");
        return;
    }
    message =
        g_dbus_message_new_from_blob((guchar *)bytes, answer->size, G_DBUS_CAPABILITY_FLAGS_NONE, &error);
    if (message == NULL) {
        cbus_cluster_rows_fail(rows, i, CBUS_DBUS_ERROR("InconsistentMessage"), error->message);
        return;
    }
    body = g_dbus_message_get_body(message);
    if (answer->type == CBUS_MESSAGE_ERROR) {
        take_error(rows, i, answer, body);
    } else if (rows->kind == CBUS_CLUSTER_GET && !cbus_span_is(answer->signature, "v")) {
        cbus_cluster_rows_fail(rows, i, CBUS_DBUS_ERROR("InvalidSignature"),
                               "The answer to Properties.Get is not one variant");
    } else if (body != NULL && !is_shallow(body, DEPTH_MAX)) {
        cbus_cluster_rows_fail(rows, i, CBUS_DBUS_ERROR("LimitsExceeded"),
                               "The answer is nested too deep for a row; the call was executed. Call the "
                               "mirrored object of this machine");
    } else {
        row->filled = TRUE;
        row->body = body != NULL ? g_variant_ref(body) : g_variant_ref_sink(g_variant_new_tuple(NULL, 0));
        rows->replies += cost(answer);
    }
}

static void
add_values(GVariantBuilder *builder, const Row *row)
{
    g_variant_builder_open(builder, G_VARIANT_TYPE("av"));
    for (gsize i = 0; row->body != NULL && i < g_variant_n_children(row->body); i++) {
        g_autoptr(GVariant) value = g_variant_get_child_value(row->body, i);

        g_variant_builder_add_value(builder, g_variant_new_variant(value));
    }
    g_variant_builder_close(builder);
}

GVariant *
cbus_cluster_rows_end(CbusClusterRows *rows)
{
    gboolean get = rows->kind == CBUS_CLUSTER_GET;
    const GVariantType *type = get ? G_VARIANT_TYPE("(sbvss)") : G_VARIANT_TYPE("(sbavss)");
    GVariantBuilder builder;

    g_variant_builder_init(&builder, get ? G_VARIANT_TYPE("a(sbvss)") : G_VARIANT_TYPE("a(sbavss)"));
    for (guint i = 0; i < rows->rows->len; i++) {
        const Row *row = &g_array_index(rows->rows, Row, i);

        g_variant_builder_open(&builder, type);
        g_variant_builder_add(&builder, "s", row->nkey);
        g_variant_builder_add(&builder, "b", row->body != NULL);
        if (!get) {
            add_values(&builder, row);
        } else if (row->body != NULL) {
            g_autoptr(GVariant) value = g_variant_get_child_value(row->body, 0);

            g_variant_builder_add_value(&builder, value);
        } else {
            g_variant_builder_add(&builder, "v", g_variant_new_string(""));
        }
        g_variant_builder_add(&builder, "s", row->error_name != NULL ? row->error_name : "");
        g_variant_builder_add(&builder, "s", row->message != NULL ? row->message : "");
        g_variant_builder_close(&builder);
    }
    return g_variant_new("(@*)", g_variant_builder_end(&builder));
}
