/* What walking a service promises, against a bus and a service that the test plays by hand: honest, slow,
 * endless, or lying. */
#include "agent/children.h"
#include "agent/tree.h"
#include "wire/body.h"
#include "wire/key.h"
#include "wire/tree.h"
#include <sys/socket.h>

#define OWNER  ":1.7"
#define DRIVER "org.freedesktop.DBus"

typedef struct {
    CbusLoop loop;
    CbusBus *ours, *theirs;
    CbusWalker *walker;
    GByteArray *answer; /* of the last walk */
    guint answers;

    /* How the service behaves. */
    GHashTable *documents; /* path → XML */
    const char *endless;   /* the document of every path that has none of its own */
    const char *hidden;    /* a path that may not be looked at */
    gboolean no_owner, damaged, silent;
    guint calls, held, most_held;
    gboolean holding; /* Introspect calls are gathered, and answered by release() */
    GArray *pending;  /* of Pending */
} Fixture;

typedef struct {
    guint32 serial;
    char path[256];
} Pending;

static void
reply(Fixture *fixture, guint8 type, guint32 reply_serial, const char *sender, const char *error,
      const char *text)
{
    const CbusHeader header = {.type = type,
                               .flags = CBUS_FLAG_NO_REPLY,
                               .serial = 1,
                               .reply_serial = reply_serial,
                               .error_name = cbus_span(error),
                               .sender = cbus_span(sender)};
    GByteArray *out = cbus_bus_begin(fixture->theirs);
    gsize before = out->len;

    cbus_message_append(out, &header, "s", text);
    /* A bus need not look into bodies. */
    if (fixture->damaged && g_str_equal(sender, OWNER))
        out->data[out->len - 1] = 'x';
    g_assert_cmpuint(out->len, >, before);
    cbus_bus_end(fixture->theirs);
}

static void
answer_introspect(Fixture *fixture, guint32 serial, const char *path)
{
    const char *xml = g_hash_table_lookup(fixture->documents, path);

    if (xml == NULL)
        xml = fixture->endless;
    if (xml != NULL)
        reply(fixture, CBUS_MESSAGE_RETURN, serial, OWNER, NULL, xml);
    else
        reply(fixture, CBUS_MESSAGE_ERROR, serial, OWNER, "com.example.Error.None", "nothing here");
}

static void
on_call(CbusBus *bus, const guint8 *data, gsize size, gpointer user_data)
{
    Fixture *fixture = user_data;
    CbusMessage call;

    g_assert_true(cbus_message_view(&call, data, size, NULL));
    g_assert_cmpint(call.type, ==, CBUS_MESSAGE_CALL);
    g_assert_cmpint(call.flags, ==, CBUS_FLAG_NO_AUTO_START);
    g_assert_cmpuint(call.serial, >=, CBUS_WALKER_SERIAL);
    fixture->calls++;
    if (cbus_span_is(call.member, "GetNameOwner")) {
        g_assert_true(cbus_span_is(call.destination, DRIVER));
        if (fixture->no_owner)
            reply(fixture, CBUS_MESSAGE_ERROR, call.serial, DRIVER, CBUS_DBUS_ERROR("NameHasNoOwner"),
                  "none");
        else
            reply(fixture, CBUS_MESSAGE_RETURN, call.serial, DRIVER, NULL, OWNER);
        return;
    }
    g_assert_true(cbus_span_is(call.member, "Introspect"));
    g_assert_true(cbus_span_is(call.destination, OWNER));
    if (fixture->silent)
        return;
    if (!fixture->holding) {
        answer_introspect(fixture, call.serial, call.path.text);
        return;
    }
    Pending pending = {.serial = call.serial};
    g_strlcpy(pending.path, call.path.text, sizeof pending.path);
    g_array_append_val(fixture->pending, pending);
    fixture->most_held = MAX(fixture->most_held, fixture->pending->len);
}

static void
on_reply(CbusBus *bus, const guint8 *data, gsize size, gpointer user_data)
{
    Fixture *fixture = user_data;
    CbusMessage message;

    g_assert_true(cbus_message_view(&message, data, size, NULL));
    g_assert_true(cbus_walker_take(fixture->walker, &message));
}

static void
on_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    g_error("closed: %s", reason->message);
}

static void
on_answer(const guint8 *answer, gsize len, gpointer user_data)
{
    Fixture *fixture = user_data;

    fixture->answers++;
    g_byte_array_set_size(fixture->answer, 0);
    g_byte_array_append(fixture->answer, answer, len);
}

static gboolean
may_look(const char *destination, const char *path, gpointer user_data)
{
    const Fixture *fixture = user_data;

    return g_strcmp0(path, fixture->hidden) != 0;
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    static const CbusBusHandler ours = {.message = on_reply, .closed = on_closed},
                                theirs = {.message = on_call, .closed = on_closed};
    g_autoptr(GError) error = NULL;
    int pair[2];

    fixture->loop.context = g_main_context_new();
    fixture->loop.turn = cbus_turn_new(fixture->loop.context);
    fixture->loop.poller = cbus_poller_new(fixture->loop.context, fixture->loop.turn, &error);
    g_assert_no_error(error);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    fixture->ours = cbus_bus_new(&fixture->loop, pair[0], CBUS_BUS_NO_AUTH, 0, CBUS_MESSAGE_MAX,
                                 CBUS_MESSAGE_MAX, &ours, fixture, &error);
    g_assert_no_error(error);
    fixture->theirs = cbus_bus_new(&fixture->loop, pair[1], CBUS_BUS_NO_AUTH, 0, CBUS_MESSAGE_MAX,
                                   CBUS_MESSAGE_MAX, &theirs, fixture, &error);
    g_assert_no_error(error);
    fixture->walker = cbus_walker_new(&fixture->loop, fixture->ours, may_look, on_answer, fixture);
    fixture->answer = g_byte_array_new();
    fixture->documents = g_hash_table_new(g_str_hash, g_str_equal);
    fixture->pending = g_array_new(FALSE, FALSE, sizeof(Pending));
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    cbus_walker_free(fixture->walker);
    cbus_bus_free(fixture->ours);
    cbus_bus_free(fixture->theirs);
    cbus_poller_free(fixture->loop.poller);
    cbus_turn_free(fixture->loop.turn);
    g_main_context_unref(fixture->loop.context);
    g_byte_array_unref(fixture->answer);
    g_hash_table_unref(fixture->documents);
    g_array_unref(fixture->pending);
}

static void
put(Fixture *fixture, const char *path, const char *xml)
{
    g_hash_table_insert(fixture->documents, (gpointer)path, (gpointer)xml);
}

static void
settle(Fixture *fixture)
{
    while (g_main_context_iteration(fixture->loop.context, FALSE))
        continue;
}

/* Walks until the answer is there. NULL: it is the error in *NAME. */
static CbusTree *
walk(Fixture *fixture, char **name, char **message)
{
    guint32 id = 0;

    cbus_walker_start(fixture->walker, 42, "com.example.Service");
    while (fixture->answers == 0)
        g_main_context_iteration(fixture->loop.context, TRUE);
    g_assert_cmpuint(fixture->answers, ==, 1);
    CbusTree *tree = cbus_tree_read(fixture->answer->data, fixture->answer->len, &id, name, message);
    g_assert_cmpuint(id, ==, 42);
    return tree;
}

static void
assert_error(Fixture *fixture, const char *wanted)
{
    g_autofree char *name = NULL, *message = NULL;

    g_assert_null(walk(fixture, &name, &message));
    g_assert_cmpstr(name, ==, wanted);
}

static void
test_whole_service(Fixture *fixture, gconstpointer data)
{
    g_autofree char *name = NULL, *message = NULL;
    gsize len;

    put(fixture, "/", "<node><node name='com'/><node name='other'/></node>");
    put(fixture, "/com",
        "<node><interface name='a.b'><method name='node'/></interface><node name='x'/></node>");
    put(fixture, "/com/x", "<node name='/com/x'/>");
    put(fixture, "/other", "<node/>");
    g_autoptr(CbusTree) tree = walk(fixture, &name, &message);
    g_assert_cmpuint(cbus_tree_size(tree), ==, 4);
    g_assert_false(cbus_tree_is_cut(tree));
    g_assert_cmpstr(cbus_tree_lookup(tree, "/com/x", &len), ==, "<node name='/com/x'/>");
    g_assert_cmpuint(fixture->calls, ==, 5);
}

static void
test_object_with_error_is_left_out(Fixture *fixture, gconstpointer data)
{
    g_autofree char *name = NULL, *message = NULL;

    put(fixture, "/", "<node><node name='gone'/><node name='here'/></node>");
    put(fixture, "/here", "<node/>");
    g_autoptr(CbusTree) tree = walk(fixture, &name, &message);
    g_assert_cmpuint(cbus_tree_size(tree), ==, 2);
    g_assert_null(cbus_tree_lookup(tree, "/gone", NULL));
}

/* What the caller may not introspect by itself, with all that is below. */
static void
test_what_may_not_be_looked_at_is_left_out(Fixture *fixture, gconstpointer data)
{
    g_autofree char *name = NULL, *message = NULL;

    put(fixture, "/", "<node><node name='here'/><node name='secret'/></node>");
    put(fixture, "/here", "<node/>");
    put(fixture, "/secret", "<node><node name='below'/></node>");
    put(fixture, "/secret/below", "<node/>");
    fixture->hidden = "/secret";
    g_autoptr(CbusTree) tree = walk(fixture, &name, &message);
    g_assert_cmpuint(cbus_tree_size(tree), ==, 2);
    g_assert_nonnull(cbus_tree_lookup(tree, "/here", NULL));
    g_assert_null(cbus_tree_lookup(tree, "/secret", NULL));
    g_assert_cmpuint(fixture->calls, ==, 3);
}

static void
test_error_of_root_is_the_answer(Fixture *fixture, gconstpointer data)
{
    assert_error(fixture, "com.example.Error.None");
}

static void
test_no_owner_is_not_started(Fixture *fixture, gconstpointer data)
{
    fixture->no_owner = TRUE;
    assert_error(fixture, CBUS_DBUS_ERROR("NameHasNoOwner"));
    g_assert_cmpuint(fixture->calls, ==, 1);
}

static void
test_damaged_reply_is_no_document(Fixture *fixture, gconstpointer data)
{
    put(fixture, "/", "<node/>");
    fixture->damaged = TRUE;
    assert_error(fixture, CBUS_DBUS_ERROR("Failed"));
}

static void
test_endless_depth_is_cut(Fixture *fixture, gconstpointer data)
{
    g_autofree char *name = NULL, *message = NULL;

    fixture->endless = "<node><node name='deeper'/></node>";
    g_autoptr(CbusTree) tree = walk(fixture, &name, &message);
    g_assert_true(cbus_tree_is_cut(tree));
    g_assert_cmpuint(cbus_tree_size(tree), ==, 33);
}

static void
test_endless_width_is_cut(Fixture *fixture, gconstpointer data)
{
    g_autofree char *name = NULL, *message = NULL;
    g_autoptr(GString) xml = g_string_new("<node>");

    for (guint i = 0; i < CBUS_TREE_MAX_OBJECTS + 100; i++)
        g_string_append_printf(xml, "<node name='n%u'/>", i);
    g_string_append(xml, "</node>");
    put(fixture, "/", xml->str);
    fixture->endless = "<node/>";
    g_autoptr(CbusTree) tree = walk(fixture, &name, &message);
    g_assert_true(cbus_tree_is_cut(tree));
    g_assert_cmpuint(cbus_tree_size(tree), ==, CBUS_TREE_MAX_OBJECTS);
}

static void
test_sixteen_in_flight(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GString) xml = g_string_new("<node>");

    for (guint i = 0; i < 100; i++)
        g_string_append_printf(xml, "<node name='n%u'/>", i);
    g_string_append(xml, "</node>");
    put(fixture, "/", xml->str);
    fixture->endless = "<node/>";
    fixture->holding = TRUE;
    cbus_walker_start(fixture->walker, 1, "com.example.Service");
    settle(fixture);
    for (guint round = 0; fixture->answers == 0; round++) {
        g_assert_cmpuint(round, <, 100);
        g_autoptr(GArray) now = g_steal_pointer(&fixture->pending);
        fixture->pending = g_array_new(FALSE, FALSE, sizeof(Pending));
        for (guint i = 0; i < now->len; i++)
            answer_introspect(fixture, g_array_index(now, Pending, i).serial,
                              g_array_index(now, Pending, i).path);
        settle(fixture);
    }
    g_assert_cmpuint(fixture->most_held, ==, 16);
    g_assert_cmpuint(fixture->calls, ==, 102);
}

static void
test_forged_reply_is_dropped(Fixture *fixture, gconstpointer data)
{
    g_autofree char *name = NULL, *message = NULL;
    guint32 id;

    fixture->holding = TRUE;
    put(fixture, "/", "<node/>");
    cbus_walker_start(fixture->walker, 42, "com.example.Service");
    settle(fixture);
    g_assert_cmpuint(fixture->pending->len, ==, 1);
    guint32 serial = g_array_index(fixture->pending, Pending, 0).serial;
    reply(fixture, CBUS_MESSAGE_RETURN, serial, ":1.66", NULL, "<node><node name='forged'/></node>");
    settle(fixture);
    g_assert_cmpuint(fixture->answers, ==, 0);
    answer_introspect(fixture, serial, "/");
    /* Late, to a call that is answered: taken out of the stream all the same. */
    answer_introspect(fixture, serial, "/");
    settle(fixture);
    g_assert_cmpuint(fixture->answers, ==, 1);
    g_autoptr(CbusTree) tree =
        cbus_tree_read(fixture->answer->data, fixture->answer->len, &id, &name, &message);
    g_assert_cmpuint(cbus_tree_size(tree), ==, 1);
}

static void
test_replies_to_the_client_are_not_taken(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    const CbusHeader header = {.type = CBUS_MESSAGE_RETURN,
                               .serial = 1,
                               .reply_serial = CBUS_WALKER_SERIAL - 1,
                               .sender = CBUS_SPAN_LITERAL(OWNER)};
    CbusMessage message;

    cbus_message_append(bytes, &header, "");
    g_assert_true(cbus_message_view(&message, bytes->data, bytes->len, NULL));
    g_assert_false(cbus_walker_take(fixture->walker, &message));
}

static void
test_walks_are_bounded(Fixture *fixture, gconstpointer data)
{
    g_autofree char *name = NULL, *message = NULL;
    guint32 id;

    fixture->silent = TRUE;
    for (guint i = 0; i < 8; i++)
        cbus_walker_start(fixture->walker, i, "com.example.Service");
    settle(fixture);
    g_assert_cmpuint(fixture->answers, ==, 0);
    cbus_walker_start(fixture->walker, 9, "com.example.Service");
    g_assert_cmpuint(fixture->answers, ==, 1);
    g_assert_null(cbus_tree_read(fixture->answer->data, fixture->answer->len, &id, &name, &message));
    g_assert_cmpuint(id, ==, 9);
    g_assert_cmpstr(name, ==, CBUS_DBUS_ERROR("LimitsExceeded"));
}

static void
add_name(const char *name, gpointer user_data)
{
    g_string_append_printf(user_data, "%s,", name);
}

static void
test_children_are_direct_and_valid(void)
{
    g_autoptr(GString) names = g_string_new(NULL);
    static const char xml[] =
        "<!DOCTYPE node PUBLIC \"x\" \"y\"><node name='/a'><node name='one'><node name='no'/></node>"
        "<interface name='i'><node name='no'/></interface><node name='a/b'/><node name=''/>"
        "<node name='/abs'/><node name='&lt;'/><node/><node name='two'></node></node>";

    g_assert_true(cbus_children_parse(xml, sizeof xml - 1, add_name, names));
    g_assert_cmpstr(names->str, ==, "one,two,");
    g_assert_false(cbus_children_parse("<node><node name='x'>", 21, add_name, names));
    g_assert_false(cbus_children_parse("", 0, add_name, names));
}

#define ADD(name, test) g_test_add("/walker/" name, Fixture, NULL, set_up, test, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("whole-service", test_whole_service);
    ADD("object-with-error-is-left-out", test_object_with_error_is_left_out);
    ADD("what-may-not-be-looked-at-is-left-out", test_what_may_not_be_looked_at_is_left_out);
    ADD("error-of-root-is-the-answer", test_error_of_root_is_the_answer);
    ADD("no-owner-is-not-started", test_no_owner_is_not_started);
    ADD("damaged-reply-is-no-document", test_damaged_reply_is_no_document);
    ADD("endless-depth-is-cut", test_endless_depth_is_cut);
    ADD("endless-width-is-cut", test_endless_width_is_cut);
    ADD("sixteen-in-flight", test_sixteen_in_flight);
    ADD("forged-reply-is-dropped", test_forged_reply_is_dropped);
    ADD("replies-to-the-client-are-not-taken", test_replies_to_the_client_are_not_taken);
    ADD("walks-are-bounded", test_walks_are_bounded);
    g_test_add_func("/walker/children-are-direct-and-valid", test_children_are_direct_and_valid);
    return g_test_run();
}
