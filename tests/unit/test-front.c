/* The front between a real dbus-daemon, GDBus and the hot path: one connection, one name, one order. */
#include "proxy/front.h"
#include "tests/unit/private_bus.h"
#include "wire/key.h"

#define NAME      "ie.bmcgee.Test"
#define PATH      "/ie/bmcgee/Test"
#define INTERFACE "ie.bmcgee.Test1"

static const char xml[] =
    "<node><interface name='" INTERFACE "'>"
    "<method name='Count'><arg type='u' direction='out'/></method>"
    "<method name='Echo'><arg type='s' direction='in'/><arg type='s' direction='out'/></method>"
    "<property name='Answer' type='i' access='read'/>"
    "</interface></node>";

typedef struct {
    PrivateBus bus;
    CbusFront *front;
    GDBusConnection *connection;
    guint ready, owned, released, lost;
    GError *reason;
    guint registration;
    guint32 count;
    char *expected; /* a unique name that is to vanish */
    guint vanished;
    GAsyncQueue *order; /* what the client's filter saw */
} Fixture;

/* The hot path of the test: whatever is below PATH/hot. */
static gboolean
on_call(CbusFront *front, const CbusMessage *call, const guint8 *bytes, gpointer user_data)
{
    if (cbus_span_is(call->path, PATH "/hot/string")) {
        cbus_front_reply_string(front, call, "hot");
        return TRUE;
    }
    if (cbus_span_is(call->path, PATH "/hot/empty")) {
        cbus_front_reply_empty(front, call);
        return TRUE;
    }
    if (cbus_span_is(call->path, PATH "/hot/error")) {
        cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("UnknownObject"), "no %s here", "fish");
        return TRUE;
    }
    return FALSE;
}

static void
on_caller_gone(CbusFront *front, const char *unique_name, gpointer user_data)
{
    Fixture *fixture = user_data;
    if (g_strcmp0(fixture->expected, unique_name) == 0) {
        fixture->vanished++;
    }
}

/* Answers the count, then changes it and says so: the answer is older than the signals. */
static void
on_method(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
          const char *method, GVariant *arguments, GDBusMethodInvocation *invocation, gpointer user_data)
{
    Fixture *fixture = user_data;
    if (g_str_equal(method, "Echo")) {
        g_dbus_method_invocation_return_value(invocation, arguments);
        return;
    }
    g_dbus_method_invocation_return_value(invocation, g_variant_new("(u)", fixture->count));
    fixture->count++;
    cbus_front_emit(fixture->front, PATH, INTERFACE, "Changed", g_variant_new("(u)", fixture->count));
    /* As a mirrored signal would: into the same queue, by hand. */
    CbusHeader header = {.endian = G_BYTE_ORDER == G_LITTLE_ENDIAN ? 'l' : 'B',
                         .type = CBUS_MESSAGE_SIGNAL,
                         .flags = CBUS_FLAG_NO_REPLY,
                         .serial = cbus_front_serial(fixture->front),
                         .path = CBUS_SPAN_LITERAL(PATH),
                         .interface = CBUS_SPAN_LITERAL(INTERFACE),
                         .member = CBUS_SPAN_LITERAL("Mirrored")};
    cbus_message_append(cbus_front_begin(fixture->front), &header, "u", fixture->count);
    cbus_front_end(fixture->front);
}

static GVariant *
on_get(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
       const char *name, GError **error, gpointer user_data)
{
    return g_variant_new_int32(42);
}

static void
on_ready(CbusFront *front, GDBusConnection *connection, gpointer user_data)
{
    static const GDBusInterfaceVTable vtable = {.method_call = on_method, .get_property = on_get};
    Fixture *fixture = user_data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(xml, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(fixture->ready++, ==, 0);
    g_assert_cmpuint(fixture->owned, ==, 0);
    fixture->connection = g_object_ref(connection);
    fixture->registration = g_dbus_connection_register_object(connection, PATH, node->interfaces[0], &vtable,
                                                              fixture, NULL, &error);
    g_assert_no_error(error);
}

static void
on_owned(CbusFront *front, gpointer user_data)
{
    ((Fixture *)user_data)->owned++;
}

static void
on_released(CbusFront *front, gpointer user_data)
{
    ((Fixture *)user_data)->released++;
}

static void
on_lost(CbusFront *front, const GError *reason, gpointer user_data)
{
    Fixture *fixture = user_data;
    fixture->lost++;
    fixture->reason = g_error_copy(reason);
    g_clear_pointer(&fixture->front, cbus_front_free);
}

static const CbusFrontHandler handler = {
    .call = on_call,
    .caller_gone = on_caller_gone,
    .ready = on_ready,
    .owned = on_owned,
    .released = on_released,
    .lost = on_lost,
};

static CbusFront *
open_front(Fixture *fixture, gpointer user_data)
{
    g_autoptr(GError) error = NULL;
    CbusFront *front =
        cbus_front_new(&fixture->bus.loop, fixture->bus.address, NAME, &handler, user_data, &error);
    g_assert_no_error(error);
    return front;
}

/* DATA: the bus is the machine's system bus, if not NULL. */
static void
set_up(Fixture *fixture, gconstpointer data)
{
    private_bus_up(&fixture->bus);
    if (data != NULL)
        g_setenv("DBUS_SYSTEM_BUS_ADDRESS", fixture->bus.address, TRUE);
    fixture->order = g_async_queue_new_full(g_free);
    fixture->front = open_front(fixture, fixture);
    private_bus_wait(&fixture->bus, &fixture->owned);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_dbus_connection_unregister_object(fixture->connection, fixture->registration);
    g_clear_object(&fixture->connection);
    g_clear_pointer(&fixture->front, cbus_front_free);
    private_bus_down(&fixture->bus);
    g_clear_error(&fixture->reason);
    g_clear_pointer(&fixture->expected, g_free);
    g_async_queue_unref(fixture->order);
    g_unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
}

static void
test_gdbus_objects_are_served(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) echo =
        private_bus_call(&fixture->bus, NAME, PATH, INTERFACE, "Echo", g_variant_new("(s)", "hello"), &error);
    g_assert_no_error(error);
    const char *text;
    g_variant_get(echo, "(&s)", &text);
    g_assert_cmpstr(text, ==, "hello");

    g_autoptr(GVariant) got = private_bus_call(&fixture->bus, NAME, PATH, "org.freedesktop.DBus.Properties",
                                               "Get", g_variant_new("(ss)", INTERFACE, "Answer"), &error);
    g_assert_no_error(error);
    g_autofree char *printed = g_variant_print(got, FALSE);
    g_assert_cmpstr(printed, ==, "(<42>,)");

    g_autoptr(GVariant) pong =
        private_bus_call(&fixture->bus, NAME, "/", "org.freedesktop.DBus.Peer", "Ping", NULL, &error);
    g_assert_no_error(error);
    g_assert_nonnull(pong);
}

static void
test_hot_path_answers_by_itself(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) hot =
        private_bus_call(&fixture->bus, NAME, PATH "/hot/string", INTERFACE, "X", NULL, &error);
    g_assert_no_error(error);
    g_assert_true(g_variant_is_of_type(hot, G_VARIANT_TYPE("(s)")));
    g_autoptr(GVariant) empty =
        private_bus_call(&fixture->bus, NAME, PATH "/hot/empty", INTERFACE, "X", NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(g_variant_n_children(empty), ==, 0);
    private_bus_assert_error(&fixture->bus, NAME, PATH "/hot/error", INTERFACE, "X", NULL,
                             "org.freedesktop.DBus.Error.UnknownObject", "no fish here");
}

static void
test_a_call_that_wants_no_reply_gets_none(Fixture *fixture, gconstpointer data)
{
    static const char *const paths[] = {PATH "/hot/string", PATH "/hot/empty", PATH "/hot/error"};
    CbusMessage call = {.flags = CBUS_FLAG_NO_REPLY, .serial = 7, .sender = CBUS_SPAN_LITERAL(":1.1")};
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        call.path = cbus_span(paths[i]);
        g_assert_true(on_call(fixture->front, &call, NULL, fixture));
    }
    g_assert_cmpuint(cbus_front_pending(fixture->front), ==, 0);
}

static void
ignore(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
       const char *signal, GVariant *parameters, gpointer user_data)
{
}

/* What leaves the front, in the order in which the client's worker thread reads it. */
static GDBusMessage *
record(GDBusConnection *connection, GDBusMessage *message, gboolean incoming, gpointer user_data)
{
    Fixture *fixture = user_data;
    GVariant *body = g_dbus_message_get_body(message);
    if (incoming && body != NULL && g_variant_is_of_type(body, G_VARIANT_TYPE("(u)"))) {
        guint32 value;
        g_variant_get(body, "(u)", &value);
        const char *member = g_dbus_message_get_member(message);
        g_async_queue_push(fixture->order,
                           g_strdup_printf("%s %u", member != NULL ? member : "answer", value));
    }
    return message;
}

static void
assert_next(Fixture *fixture, const char *what, guint value)
{
    g_autofree char *expected = g_strdup_printf("%s %u", what, value);
    g_autofree char *seen = g_async_queue_pop(fixture->order);
    g_assert_cmpstr(seen, ==, expected);
}

static void
test_signals_never_overtake_older_answers(Fixture *fixture, gconstpointer data)
{
    guint filter = g_dbus_connection_add_filter(fixture->bus.client, record, fixture, NULL);
    guint subscription = g_dbus_connection_signal_subscribe(
        fixture->bus.client, NULL, INTERFACE, NULL, PATH, NULL, G_DBUS_SIGNAL_FLAGS_NONE, ignore, NULL, NULL);
    /* The subscription is in place once the daemon answered something after it. */
    g_autoptr(GVariant) id = private_bus_call(&fixture->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                              "org.freedesktop.DBus", "GetId", NULL, NULL);
    enum { ROUNDS = 200 };
    PrivateAnswer answers[ROUNDS] = {0};
    for (guint i = 0; i < ROUNDS; i++) {
        g_dbus_connection_call(fixture->bus.client, NAME, PATH, INTERFACE, "Count", NULL, NULL,
                               G_DBUS_CALL_FLAGS_NONE, -1, NULL, private_bus_on_answer, &answers[i]);
    }
    for (guint i = 0; i < ROUNDS; i++) {
        private_bus_wait(&fixture->bus, &answers[i].done);
        g_assert_no_error(answers[i].error);
        g_variant_unref(answers[i].value);
    }
    while (g_async_queue_length(fixture->order) < 3 * ROUNDS) {
        g_main_context_iteration(fixture->bus.loop.context, FALSE);
    }
    /* Answers may be early, a signal never: each answer N stands before signal N + 1. */
    guint answered = 0, changed = 0, mirrored = 0;
    for (guint i = 0; i < 3 * ROUNDS; i++) {
        g_autofree char *seen = g_async_queue_pop(fixture->order);
        if (g_str_has_prefix(seen, "answer")) {
            answered++;
        } else if (g_str_has_prefix(seen, "Changed")) {
            g_assert_cmpuint(++changed, <=, answered);
        } else {
            g_assert_cmpuint(++mirrored, ==, changed);
        }
    }
    g_assert_cmpuint(answered, ==, ROUNDS);
    g_assert_cmpuint(mirrored, ==, ROUNDS);

    cbus_front_emit(fixture->front, PATH, INTERFACE, "Changed", g_variant_new("(u)", 7777));
    while (g_async_queue_length(fixture->order) == 0) {
        g_main_context_iteration(fixture->bus.loop.context, FALSE);
    }
    assert_next(fixture, "Changed", 7777);
    g_dbus_connection_signal_unsubscribe(fixture->bus.client, subscription);
    g_dbus_connection_remove_filter(fixture->bus.client, filter);
}

/* More calls at once than may be unanswered: each is answered, if only by a refusal, and all is well after.
 */
static void
test_a_flood_is_answered_whole(Fixture *fixture, gconstpointer data)
{
    enum { CALLS = 3000 };
    g_autofree PrivateAnswer *answers = g_new0(PrivateAnswer, CALLS);
    guint good = 0;
    for (guint i = 0; i < CALLS; i++) {
        g_dbus_connection_call(fixture->bus.client, NAME, PATH, INTERFACE, "Echo", g_variant_new("(s)", "x"),
                               NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL, private_bus_on_answer, &answers[i]);
    }
    for (guint i = 0; i < CALLS; i++) {
        private_bus_wait(&fixture->bus, &answers[i].done);
        if (answers[i].value != NULL) {
            good++;
            g_variant_unref(answers[i].value);
        } else {
            g_assert_error(answers[i].error, G_DBUS_ERROR, G_DBUS_ERROR_LIMITS_EXCEEDED);
            g_error_free(answers[i].error);
        }
    }
    g_assert_cmpuint(good, >=, 1024);
    test_gdbus_objects_are_served(fixture, data);
}

static void
test_an_oversized_call_is_refused(Fixture *fixture, gconstpointer data)
{
    g_autofree char *text = g_strnfill(5 * 1000 * 1000, 'x');
    private_bus_assert_error(&fixture->bus, NAME, PATH, INTERFACE, "Echo", g_variant_new("(s)", text),
                             CBUS_DBUS_ERROR("LimitsExceeded"), "too large");
}

static void
test_a_vanished_caller_is_told(Fixture *fixture, gconstpointer data)
{
    GDBusConnection *caller = private_bus_connect(&fixture->bus);
    fixture->expected = g_strdup(g_dbus_connection_get_unique_name(caller));
    g_assert_true(g_dbus_connection_close_sync(caller, NULL, NULL));
    g_object_unref(caller);
    private_bus_wait(&fixture->bus, &fixture->vanished);
}

static void
test_a_name_that_is_owned_is_refused(Fixture *fixture, gconstpointer data)
{
    Fixture second = {.bus = fixture->bus};
    second.front = open_front(fixture, &second);
    private_bus_wait(&fixture->bus, &second.lost);
    g_assert_cmpuint(second.owned, ==, 0);
    g_assert_error(second.reason, CBUS_FRONT_ERROR, CBUS_FRONT_ERROR_OWNED);
    g_assert_nonnull(strstr(second.reason->message, NAME));
    g_clear_error(&second.reason);
    g_dbus_connection_unregister_object(second.connection, second.registration);
    g_object_unref(second.connection);
    g_assert_cmpuint(fixture->lost, ==, 0);
}

static void
test_release_gives_the_name_back(Fixture *fixture, gconstpointer data)
{
    cbus_front_release(fixture->front);
    private_bus_wait(&fixture->bus, &fixture->released);
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) owned =
        private_bus_call(&fixture->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                         "org.freedesktop.DBus", "NameHasOwner", g_variant_new("(s)", NAME), &error);
    g_assert_no_error(error);
    gboolean has;
    g_variant_get(owned, "(b)", &has);
    g_assert_false(has);
    g_assert_cmpuint(fixture->lost, ==, 0);
}

static void
test_a_bus_that_goes_away_is_final(Fixture *fixture, gconstpointer data)
{
    g_dbus_connection_set_exit_on_close(fixture->bus.client, FALSE);
    g_clear_object(&fixture->bus.client);
    private_bus_stop(&fixture->bus);
    private_bus_wait(&fixture->bus, &fixture->lost);
    g_assert_error(fixture->reason, CBUS_FRONT_ERROR, CBUS_FRONT_ERROR_BUS);
}

/* Which has smaller messages, and callers of many users. */
static void
test_the_system_bus_is_known_by_its_address(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_assert_cmpuint(cbus_front_message_max(fixture->front), ==, 32 * 1024 * 1024);
    g_assert_cmpuint(cbus_front_uid(fixture->front, CBUS_SPAN_LITERAL(":1.4096")), ==, G_MAXUINT32);
    g_autoptr(GVariant) echo =
        private_bus_call(&fixture->bus, NAME, PATH, INTERFACE, "Echo", g_variant_new("(s)", "hello"), &error);
    g_assert_no_error(error);
}

static void
test_no_bus_is_an_error(void)
{
    PrivateBus bus;
    private_bus_up(&bus);
    g_autoptr(GError) error = NULL;
    CbusFront *front = cbus_front_new(&bus.loop, "unix:path=/nonexistent/bus", NAME, &handler, NULL, &error);
    g_assert_null(front);
    g_assert_nonnull(strstr(error->message, "/nonexistent/bus"));
    private_bus_down(&bus);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/front/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("gdbus-objects-are-served", test_gdbus_objects_are_served);
    ADD("hot-path-answers-by-itself", test_hot_path_answers_by_itself);
    ADD("a-call-that-wants-no-reply-gets-none", test_a_call_that_wants_no_reply_gets_none);
    ADD("signals-never-overtake-older-answers", test_signals_never_overtake_older_answers);
    ADD("a-flood-is-answered-whole", test_a_flood_is_answered_whole);
    ADD("an-oversized-call-is-refused", test_an_oversized_call_is_refused);
    ADD("a-vanished-caller-is-told", test_a_vanished_caller_is_told);
    ADD("a-name-that-is-owned-is-refused", test_a_name_that_is_owned_is_refused);
    ADD("release-gives-the-name-back", test_release_gives_the_name_back);
    ADD("a-bus-that-goes-away-is-final", test_a_bus_that_goes_away_is_final);
    g_test_add("/front/the-system-bus-is-known-by-its-address", Fixture, "system", set_up,
               test_the_system_bus_is_known_by_its_address, tear_down);
    g_test_add_func("/front/no-bus-is-an-error", test_no_bus_is_an_error);
    return g_test_run();
}
