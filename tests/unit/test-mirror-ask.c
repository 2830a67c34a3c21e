/* Calls of the proxy itself through a mirror: answered once, as any caller's are. */
#include "fake-mirror.h"

static const char *const names[] = {"com.example.A=:1.5", NULL};
#define A "com.example.A"

typedef struct {
    guint count;
    GDBusMessage *message; /* the last answer */
} Answer;

static void
on_answer(const CbusMessage *message, const guint8 *bytes, gpointer user_data)
{
    Answer *answer = user_data;
    g_autoptr(GError) error = NULL;

    answer->count++;
    g_clear_object(&answer->message);
    answer->message = g_dbus_message_new_from_blob((guchar *)bytes, message->size, 0, &error);
    g_assert_no_error(error);
}

static Fake *
settled(void)
{
    Fake *fake = fake_new();

    fake_up(fake);
    fake_settle(fake, 0, names, NULL);
    return fake;
}

/* Asks SERVICE's MEMBER. */
static guint64
ask(Fake *fake, const char *service, const char *member, GDBusMessageFlags flags, Answer *answer)
{
    g_autoptr(GDBusMessage) message =
        g_dbus_message_new_method_call(service, "/a", "com.example.Test", member);
    CbusPlace place = {.kind = CBUS_PLACE_SERVICE, .path = CBUS_SPAN_LITERAL("/a")};
    g_autoptr(GError) error = NULL;
    g_autofree guchar *bytes = NULL;
    CbusMessage view;
    gsize size;

    g_strlcpy(place.service, service, sizeof place.service);
    g_dbus_message_set_serial(message, 9);
    g_dbus_message_set_flags(message, flags);
    bytes = g_dbus_message_to_blob(message, &size, 0, &error);
    g_assert_no_error(error);
    g_assert_true(cbus_message_view(&view, bytes, size, &error));
    return cbus_mirror_ask(fake->mirror, &place, &view, on_answer, answer);
}

static void
test_a_reply_comes_once_with_local_paths_and_not_on_the_bus(void)
{
    Fake *fake = settled();
    Answer answer = {0};
    g_autofree char *expected = g_strdup_printf("(objectpath '%s/com_2eexample_2eA/x',)", fake->root);
    g_autofree char *body = NULL;

    ask(fake, A, "Do", 0, &answer);
    g_assert_cmpuint(answer.count, ==, 0);
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 0)), ==, "Do");
    g_assert_cmpstr(g_dbus_message_get_path(fake_last(fake, 0)), ==, "/a");
    fake_reply(fake, 0, fake_last(fake, 0), g_variant_new("(o)", "/x"));
    g_assert_cmpuint(answer.count, ==, 1);
    body = g_variant_print(g_dbus_message_get_body(answer.message), TRUE);
    g_assert_cmpstr(body, ==, expected);
    fake_assert_silent(fake);
    g_clear_object(&answer.message);
    fake_free(fake);
}

static void
assert_error(Answer *answer, const char *name)
{
    g_assert_cmpuint(answer->count, ==, 1);
    g_assert_cmpstr(g_dbus_message_get_error_name(answer->message), ==, name);
    g_clear_object(&answer->message);
    answer->count = 0;
}

static void
test_what_can_not_be_sent_is_answered_at_once(void)
{
    Fake *fake = fake_new();
    Answer answer = {0};

    ask(fake, A, "Do", 0, &answer);
    assert_error(&answer, CBUS_ERROR_OFFLINE);
    fake_up(fake);
    fake_settle(fake, 0, names, NULL);
    ask(fake, "com.example.None", "Do", 0, &answer);
    assert_error(&answer, CBUS_DBUS_ERROR("UnknownObject"));
    ask(fake, "org.freedesktop.DBus", "BecomeMonitor", 0, &answer);
    assert_error(&answer, CBUS_DBUS_ERROR("AccessDenied"));
    fake_assert_silent(fake);
    fake_free(fake);
}

static void
test_errors_of_the_machine_and_a_lost_link_are_answers(void)
{
    Fake *fake = settled();
    Answer answer = {0};

    ask(fake, A, "Do", 0, &answer);
    fake_reply_error(fake, 0, fake_last(fake, 0), "com.example.Error");
    assert_error(&answer, "com.example.Error");
    ask(fake, A, "Do", 0, &answer);
    cbus_mirror_link_down(fake->mirror, NULL);
    assert_error(&answer, CBUS_DBUS_ERROR("NoReply"));
    fake_assert_silent(fake);
    fake_free(fake);
}

static void
test_nothing_comes_after_a_cancel_and_the_next_call_has_its_own_answer(void)
{
    Fake *fake = settled();
    Answer first = {0}, second = {0};
    g_autoptr(GDBusMessage) call = NULL;
    guint64 id = ask(fake, A, "One", 0, &first);

    call = g_object_ref(fake_last(fake, 0));
    cbus_mirror_ask_cancel(fake->mirror, id);
    ask(fake, A, "Two", 0, &second);
    fake_reply(fake, 0, call, NULL);
    g_assert_cmpuint(first.count + second.count, ==, 0);
    fake_reply(fake, 0, fake_last(fake, 0), NULL);
    g_assert_cmpuint(first.count, ==, 0);
    g_assert_cmpuint(second.count, ==, 1);
    cbus_mirror_ask_cancel(fake->mirror, id);
    g_clear_object(&second.message);
    fake_free(fake);
}

static void
test_a_call_that_wants_no_reply_leaves_nothing(void)
{
    Fake *fake = settled();
    Answer answer = {0};

    ask(fake, A, "Do", G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED, &answer);
    g_assert_cmpstr(g_dbus_message_get_member(fake_last(fake, 0)), ==, "Do");
    cbus_mirror_link_down(fake->mirror, NULL);
    ask(fake, A, "Do", G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED, &answer);
    g_assert_cmpuint(answer.count, ==, 0);
    fake_assert_silent(fake);
    fake_free(fake);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mirror-ask/reply", test_a_reply_comes_once_with_local_paths_and_not_on_the_bus);
    g_test_add_func("/mirror-ask/refused", test_what_can_not_be_sent_is_answered_at_once);
    g_test_add_func("/mirror-ask/errors", test_errors_of_the_machine_and_a_lost_link_are_answers);
    g_test_add_func("/mirror-ask/cancel",
                    test_nothing_comes_after_a_cancel_and_the_next_call_has_its_own_answer);
    g_test_add_func("/mirror-ask/no-reply", test_a_call_that_wants_no_reply_leaves_nothing);
    return g_test_run();
}
