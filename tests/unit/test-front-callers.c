/* Whose calls these are: asked once, calls wait in order, within bounds, and nothing of who left stays. */
#include "proxy/front_callers.h"

typedef struct {
    CbusFrontCallers *callers;
    GString *asked, *delivered;
    guint32 serial;
    guint refused;
    GByteArray *message;
} Fixture;

static guint32
ask(const char *name, gpointer user_data)
{
    Fixture *f = user_data;

    g_string_append_printf(f->asked, "%s ", name);
    return ++f->serial;
}

static void
deliver(const CbusMessage *call, const guint8 *bytes, gpointer user_data)
{
    Fixture *f = user_data;

    g_string_append_printf(f->delivered, "%s/%s=%d ", call->sender.text, call->member.text,
                           (int)cbus_front_callers_uid(f->callers, call->sender));
}

static void
refuse(const CbusMessage *call, gpointer user_data)
{
    ((Fixture *)user_data)->refused++;
}

static void
set_up(Fixture *f, gconstpointer data)
{
    static const CbusFrontCallersHandler handler = {.ask = ask, .deliver = deliver, .refuse = refuse};

    f->callers = cbus_front_callers_new(&handler, f);
    f->asked = g_string_new(NULL);
    f->delivered = g_string_new(NULL);
    f->message = g_byte_array_new();
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    cbus_front_callers_free(f->callers);
    g_string_free(f->asked, TRUE);
    g_string_free(f->delivered, TRUE);
    g_byte_array_unref(f->message);
}

static gboolean
call_with(Fixture *f, const char *sender, const char *member, const char *argument)
{
    const CbusHeader header = {.endian = CBUS_ENDIAN_NATIVE,
                               .type = CBUS_MESSAGE_CALL,
                               .serial = 1,
                               .path = CBUS_SPAN_LITERAL("/a"),
                               .member = cbus_span(member),
                               .sender = cbus_span(sender)};
    CbusMessage view;

    g_byte_array_set_size(f->message, 0);
    cbus_message_append(f->message, &header, "s", argument);
    g_assert_true(cbus_message_view(&view, f->message->data, f->message->len, NULL));
    return cbus_front_callers_take(f->callers, &view, f->message->data);
}

static gboolean
call(Fixture *f, const char *sender, const char *member)
{
    return call_with(f, sender, member, "");
}

static gboolean
reply(Fixture *f, guint32 serial, CbusMessageType type, guint32 uid)
{
    const CbusHeader header = {.endian = CBUS_ENDIAN_NATIVE,
                               .type = (guint8)type,
                               .serial = 1,
                               .reply_serial = serial,
                               .error_name = cbus_span(type == CBUS_MESSAGE_ERROR ? "a.b" : NULL)};
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    CbusMessage view;

    if (type == CBUS_MESSAGE_ERROR)
        cbus_message_append(bytes, &header, "");
    else
        cbus_message_append(bytes, &header, "u", uid);
    g_assert_true(cbus_message_view(&view, bytes->data, bytes->len, NULL));
    return cbus_front_callers_reply(f->callers, &view);
}

static void
test_calls_wait_for_the_answer(Fixture *f, gconstpointer data)
{
    g_assert_true(call(f, ":1.1", "A"));
    g_assert_true(call(f, ":1.2", "B"));
    g_assert_true(call(f, ":1.1", "C"));
    g_assert_cmpstr(f->asked->str, ==, ":1.1 :1.2 ");
    g_assert_cmpstr(f->delivered->str, ==, "");
    g_assert_true(reply(f, 2, CBUS_MESSAGE_RETURN, 1002));
    g_assert_true(reply(f, 1, CBUS_MESSAGE_RETURN, 1001));
    g_assert_cmpstr(f->delivered->str, ==, ":1.2/B=1002 :1.1/A=1001 :1.1/C=1001 ");
    g_assert_false(call(f, ":1.1", "D"));
    g_assert_cmpstr(f->asked->str, ==, ":1.1 :1.2 ");
    g_assert_false(reply(f, 1, CBUS_MESSAGE_RETURN, 0));
}

static void
test_an_error_is_no_user(Fixture *f, gconstpointer data)
{
    g_assert_true(call(f, ":1.1", "A"));
    g_assert_true(reply(f, 1, CBUS_MESSAGE_ERROR, 0));
    g_assert_cmpstr(f->delivered->str, ==, ":1.1/A=-1 ");
}

static void
test_who_left_is_forgotten(Fixture *f, gconstpointer data)
{
    g_assert_true(call(f, ":1.1", "A"));
    g_assert_true(call(f, ":1.1", "B"));
    /* Whoever asked is told how much of it was not executed. */
    g_assert_cmpuint(cbus_front_callers_gone(f->callers, ":1.1"), ==, 2);
    g_assert_false(reply(f, 1, CBUS_MESSAGE_RETURN, 1001));
    g_assert_cmpstr(f->delivered->str, ==, "");
    g_assert_cmpuint(cbus_front_callers_uid(f->callers, CBUS_SPAN_LITERAL(":1.1")), ==, G_MAXUINT32);
    g_assert_true(call(f, ":1.2", "B"));
    g_assert_true(reply(f, 2, CBUS_MESSAGE_RETURN, 1002));
    g_assert_cmpuint(cbus_front_callers_gone(f->callers, ":1.2"), ==, 0);
    g_assert_cmpuint(cbus_front_callers_uid(f->callers, CBUS_SPAN_LITERAL(":1.2")), ==, G_MAXUINT32);
    g_assert_cmpuint(cbus_front_callers_gone(f->callers, ":1.3"), ==, 0);
}

static void
test_what_waits_is_bounded(Fixture *f, gconstpointer data)
{
    g_autofree char *megabyte = g_strnfill(1024 * 1024, 'x');

    for (guint i = 0; i < 20; i++)
        g_assert_true(call_with(f, ":1.1", "A", megabyte));
    g_assert_cmpuint(f->refused, ==, 5);
    /* What is given up or handled makes room. */
    cbus_front_callers_gone(f->callers, ":1.1");
    for (guint i = 0; i < 15; i++)
        g_assert_true(call_with(f, ":1.2", "A", megabyte));
    g_assert_cmpuint(f->refused, ==, 5);
    g_assert_true(reply(f, 2, CBUS_MESSAGE_RETURN, 1002));
    for (guint i = 0; i < 15; i++)
        g_assert_true(call_with(f, ":1.3", "A", megabyte));
    g_assert_cmpuint(f->refused, ==, 5);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/front-callers/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("calls-wait-for-the-answer-in-order", test_calls_wait_for_the_answer);
    ADD("an-error-is-no-user", test_an_error_is_no_user);
    ADD("who-left-is-forgotten", test_who_left_is_forgotten);
    ADD("what-waits-is-bounded", test_what_waits_is_bounded);
    return g_test_run();
}
