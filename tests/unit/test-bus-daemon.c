/* What a raw bus connection promises with a real dbus-daemon at the other end. */
#include "link/bus.h"
#include <gio/gio.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT (64 * 1024 * 1024)
#define QUOTA (64 * 1024 * 1024)

typedef struct {
    GTestDBus *daemon;
    CbusLoop loop;
} Fixture;

typedef struct {
    CbusBus *bus;
    char *name; /* unique */
    guint32 serial;
    guint ready;
    GPtrArray *messages; /* GDBusMessage */
    GError *reason;
} Client;

static void
on_ready(CbusBus *bus, gpointer user_data)
{
    ((Client *)user_data)->ready++;
}

static void
on_message(CbusBus *bus, const guint8 *message, gsize size, gpointer user_data)
{
    Client *client = user_data;
    g_autoptr(GError) error = NULL;
    GDBusMessage *parsed =
        g_dbus_message_new_from_blob((guchar *)message, size, G_DBUS_CAPABILITY_FLAGS_NONE, &error);

    g_assert_no_error(error);
    g_ptr_array_add(client->messages, parsed);
}

static void
on_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    ((Client *)user_data)->reason = g_error_copy(reason);
}

static const CbusBusHandler handler = {.ready = on_ready, .message = on_message, .closed = on_closed};

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    fixture->daemon = g_test_dbus_new(G_TEST_DBUS_NONE);
    g_test_dbus_up(fixture->daemon);
    fixture->loop.context = g_main_context_default();
    fixture->loop.turn = cbus_turn_new(NULL);
    fixture->loop.poller = cbus_poller_new(NULL, fixture->loop.turn, &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    if (fixture->daemon != NULL) {
        g_test_dbus_down(fixture->daemon);
        g_object_unref(fixture->daemon);
    }
    cbus_poller_free(fixture->loop.poller);
    cbus_turn_free(fixture->loop.turn);
}

static gboolean
on_too_late(gpointer user_data)
{
    g_error("waited too long");
    return G_SOURCE_REMOVE;
}

#define WAIT_UNTIL(condition)                                                                                \
    G_STMT_START                                                                                             \
    {                                                                                                        \
        guint alarm_id = g_timeout_add_seconds(20, on_too_late, NULL);                                       \
        while (!(condition))                                                                                 \
            g_main_context_iteration(NULL, TRUE);                                                            \
        g_source_remove(alarm_id);                                                                           \
    }                                                                                                        \
    G_STMT_END

static void
send_message(Client *client, GDBusMessage *message)
{
    g_autofree guchar *blob = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;

    g_dbus_message_set_serial(message, ++client->serial);
    blob = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_NONE, &error);
    g_assert_no_error(error);
    cbus_bus_send(client->bus, blob, size);
}

static void
call_driver(Client *client, const char *method)
{
    g_autoptr(GDBusMessage) call = g_dbus_message_new_method_call(
        "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", method);

    send_message(client, call);
}

static Client *
client_new(Fixture *fixture, guint32 uid)
{
    g_autoptr(GError) error = NULL;
    Client *client = g_new0(Client, 1);
    int fd = cbus_bus_connect(g_test_dbus_get_bus_address(fixture->daemon), &error);

    g_assert_no_error(error);
    client->messages = g_ptr_array_new_with_free_func(g_object_unref);
    client->bus =
        cbus_bus_new(&fixture->loop, fd, CBUS_BUS_CLIENT, uid, LIMIT, QUOTA, &handler, client, &error);
    g_assert_no_error(error);
    return client;
}

/* Hello is sent before authentication: it must wait. Its reply and NameAcquired are taken off. */
static Client *
client_new_named(Fixture *fixture)
{
    Client *client = client_new(fixture, getuid());

    call_driver(client, "Hello");
    WAIT_UNTIL(client->messages->len == 2);
    g_assert_cmpuint(client->ready, ==, 1);
    g_variant_get(g_dbus_message_get_body(client->messages->pdata[0]), "(s)", &client->name);
    g_assert_true(g_dbus_is_unique_name(client->name));
    g_ptr_array_set_size(client->messages, 0);
    return client;
}

static void
client_free(Client *client)
{
    cbus_bus_free(client->bus);
    g_ptr_array_unref(client->messages);
    g_clear_error(&client->reason);
    g_free(client->name);
    g_free(client);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Client, client_free)

static void
test_list_names(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = client_new_named(fixture);
    g_autofree const char **names = NULL;

    call_driver(client, "ListNames");
    WAIT_UNTIL(client->messages->len == 1);
    g_variant_get(g_dbus_message_get_body(client->messages->pdata[0]), "(^a&s)", &names);
    g_assert_true(g_strv_contains(names, client->name));
}

static void
send_bytes(Client *from, Client *to, guint32 number, gsize len)
{
    g_autoptr(GDBusMessage) message = g_dbus_message_new_method_call(to->name, "/x", "x.Y", "Z");
    g_autofree guint8 *bytes = g_malloc(len + 1);

    memset(bytes, (int)number, len);
    g_dbus_message_set_flags(message, G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
    g_dbus_message_set_body(
        message,
        g_variant_new("(u@ay)", number, g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, bytes, len, 1)));
    send_message(from, message);
}

static void
assert_bytes(GDBusMessage *message, guint32 number, gsize len)
{
    g_autoptr(GVariant) bytes = NULL;
    guint32 got;
    gsize n;
    const guint8 *data;

    g_variant_get(g_dbus_message_get_body(message), "(u@ay)", &got, &bytes);
    data = g_variant_get_fixed_array(bytes, &n, 1);
    g_assert_cmpuint(got, ==, number);
    g_assert_cmpuint(n, ==, len);
    for (gsize i = 0; i < n; i += 977)
        g_assert_cmpuint(data[i], ==, (guint8)number);
}

static void
test_many_in_order(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) a = client_new_named(fixture);
    g_autoptr(Client) b = client_new_named(fixture);

    for (guint i = 0; i < 2000; i++)
        send_bytes(a, b, i, i * 13 % 3000);
    WAIT_UNTIL(b->messages->len == 2000);
    for (guint i = 0; i < 2000; i++)
        assert_bytes(b->messages->pdata[i], i, i * 13 % 3000);
    g_assert_cmpuint(cbus_bus_pending(a->bus), ==, 0);
}

static void
test_large(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) a = client_new_named(fixture);
    g_autoptr(Client) b = client_new_named(fixture);

    send_bytes(a, b, 1, 10);
    send_bytes(a, b, 2, 20 * 1000 * 1000);
    send_bytes(a, b, 3, 10);
    WAIT_UNTIL(b->messages->len == 3);
    assert_bytes(b->messages->pdata[0], 1, 10);
    assert_bytes(b->messages->pdata[1], 2, 20 * 1000 * 1000);
    assert_bytes(b->messages->pdata[2], 3, 10);
}

static void
test_wrong_uid(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = client_new(fixture, getuid() + 12345);

    call_driver(client, "Hello");
    WAIT_UNTIL(client->reason != NULL);
    g_assert_error(client->reason, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH);
    g_assert_cmpuint(client->ready, ==, 0);
}

static void
test_daemon_goes(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Client) client = client_new_named(fixture);

    g_test_dbus_down(fixture->daemon);
    g_clear_object(&fixture->daemon);
    WAIT_UNTIL(client->reason != NULL);
    g_assert_error(client->reason, CBUS_BUS_ERROR, CBUS_BUS_ERROR_CLOSED);
}

int
main(int argc, char **argv)
{
    g_autofree char *daemon = g_find_program_in_path("dbus-daemon");

    g_test_init(&argc, &argv, NULL);
    if (daemon == NULL) {
        g_print("1..0 # SKIP no dbus-daemon\n");
        return 0;
    }
#define ADD(name, func) g_test_add("/bus-daemon/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("hello-and-list-names", test_list_names);
    ADD("many-messages-in-order", test_many_in_order);
    ADD("large-message-arrives-whole", test_large);
    ADD("wrong-uid-is-refused", test_wrong_uid);
    ADD("daemon-that-goes-is-noticed", test_daemon_goes);
    return g_test_run();
}
