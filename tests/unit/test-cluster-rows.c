/* The answer of a call to the most machines that there may be: the bus takes it, whatever they said. */
#include "proxy/cluster.h"
#include "proxy/cluster_rows.h"
#include "wire/body.h"

#define NKEY "UBMGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGNGPY"

/* (transfer floating) BODY in a reply, or in an error of the longest name. */
static guchar *
make_answer(GVariant *body, gboolean error, CbusMessage *view)
{
    g_autoptr(GDBusMessage) message = g_dbus_message_new();
    g_autoptr(GError) failure = NULL;
    gsize size;

    g_dbus_message_set_message_type(message,
                                    error ? G_DBUS_MESSAGE_TYPE_ERROR : G_DBUS_MESSAGE_TYPE_METHOD_RETURN);
    g_dbus_message_set_serial(message, 1);
    g_dbus_message_set_reply_serial(message, 1);
    if (error) {
        g_autofree char *fill = g_strnfill(253, 'e');
        g_autofree char *name = g_strconcat("e.", fill, NULL);
        g_dbus_message_set_error_name(message, name);
    }
    g_dbus_message_set_body(message, body);
    guchar *bytes = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_NONE, &failure);
    g_assert_no_error(failure);
    g_assert_true(cbus_message_view(view, bytes, size, &failure));
    g_assert_no_error(failure);
    return bytes;
}

/* An error text that is longest when it is cut within a character. */
static guchar *
make_error(CbusMessage *view)
{
    g_autoptr(GString) text = g_string_new("x");

    while (text->len < 8192)
        g_string_append(text, "\360\237\232\214");
    return make_answer(g_variant_new("(s)", text->str), TRUE, view);
}

/* A reply of 255 values: LARGE bytes of text, and numbers, which grow most in their variants. */
static guchar *
make_reply(gsize large, CbusMessage *view)
{
    g_autofree char *text = g_strnfill(large, 'x');
    GVariant *values[255] = {g_variant_new_string(text)};

    for (guint i = 1; i < G_N_ELEMENTS(values); i++)
        values[i] = g_variant_new_uint64(i);
    return make_answer(g_variant_new_tuple(values, G_N_ELEMENTS(values)), FALSE, view);
}

/* Ends ROWS and has the answer checked as a bus does. Returns it. */
static GVariant *
end(CbusClusterRows *rows)
{
    g_autoptr(GVariant) answer = g_variant_ref_sink(cbus_cluster_rows_end(rows));
    CbusMessage view;
    g_autoptr(GError) error = NULL;
    g_autofree guchar *bytes = make_answer(answer, FALSE, &view);

    g_assert_true(cbus_body_check(view.body, view.body_len, view.endian, view.signature, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(view.body_len, <, 64 * 1024 * 1024);
    return g_variant_get_child_value(answer, 0);
}

static const char *
row_message(GVariant *answer, gsize i)
{
    g_autoptr(GVariant) row = g_variant_get_child_value(answer, i);
    const char *message;

    g_variant_get_child(row, 4, "&s", &message);
    return message;
}

static void
test_errors_of_thousands_fit_behind_replies(void)
{
    g_autoptr(CbusClusterRows) rows = cbus_cluster_rows_new(CBUS_CLUSTER_INVOKE);
    CbusMessage reply, error;
    g_autofree guchar *reply_bytes = make_reply(47 * 1024 * 1024, &reply), *error_bytes = make_error(&error);

    cbus_cluster_rows_take(rows, cbus_cluster_rows_add(rows, NKEY), &reply, reply_bytes);
    for (guint i = 1; i < CBUS_CLUSTER_MACHINES; i++)
        cbus_cluster_rows_take(rows, cbus_cluster_rows_add(rows, NKEY), &error, error_bytes);
    g_autoptr(GVariant) answer = end(rows);
    g_assert_cmpuint(g_variant_n_children(answer), ==, CBUS_CLUSTER_MACHINES);
    /* The first are as long as one may be, the last still say something. */
    g_assert_cmpuint(strlen(row_message(answer, 1)), >, 4000);
    g_assert_cmpuint(strlen(row_message(answer, 1)), <=, 4096);
    g_assert_cmpuint(strlen(row_message(answer, CBUS_CLUSTER_MACHINES - 1)), >, 200);
    g_assert_cmpuint(strlen(row_message(answer, CBUS_CLUSTER_MACHINES - 1)), <=, 256);
    g_assert_cmpuint(cbus_cluster_rows_bytes(rows), <, 60 * 1024 * 1024);
}

static void
test_values_that_grow_by_wrapping_fit(void)
{
    g_autoptr(CbusClusterRows) rows = cbus_cluster_rows_new(CBUS_CLUSTER_INVOKE);
    CbusMessage reply;
    g_autofree guchar *bytes = make_reply(4096, &reply);

    for (guint i = 0; i < CBUS_CLUSTER_MACHINES; i++)
        cbus_cluster_rows_take(rows, cbus_cluster_rows_add(rows, NKEY), &reply, bytes);
    g_autoptr(GVariant) answer = end(rows);
    g_assert_cmpuint(g_variant_n_children(answer), ==, CBUS_CLUSTER_MACHINES);
    g_assert_cmpstr(row_message(answer, 0), ==, "");
    g_assert_true(g_str_has_prefix(row_message(answer, CBUS_CLUSTER_MACHINES - 1), "The answers of all"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cluster-rows/errors-of-thousands-fit-behind-replies",
                    test_errors_of_thousands_fit_behind_replies);
    g_test_add_func("/cluster-rows/values-that-grow-by-wrapping-fit", test_values_that_grow_by_wrapping_fit);
    return g_test_run();
}
