/* Plain subjects: read from the end, strictly; names found by their spelling alone. */
#include "wire/plain_subject.h"

#define AGENT "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
#define OTHER "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L"

static CbusKey agent;

static void
test_requests(void)
{
    static const struct {
        const char *subject, *service, *path, *member;
        gboolean is_property;
    } cases[] = {
        {"dbus.agent." AGENT ".a_b.c.d.method.Do", "a_b", "/c/d", "Do", FALSE},
        {"dbus.agent." AGENT ".a_b.method.Do", "a_b", "/", "Do", FALSE},
        {"dbus.agent." AGENT "._1_42.c_2ed.prop.P", "_1_42", "/c_2ed", "P", TRUE},
        {"dbus.agent." AGENT ".a-b.method.method.method", "a-b", "/method", "method", FALSE},
        {"dbus.agent." AGENT ".method.prop.x-y", "method", "/", "x-y", TRUE},
        {"dbus.broadcast.a_b.c.prop.P", "a_b", "/c", "P", TRUE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *why = NULL;
        CbusPlainRequest request;
        g_assert_true(cbus_plain_request_parse(cases[i].subject, &agent, &request, &why));
        g_assert_true(cbus_span_is(request.service, cases[i].service));
        g_assert_cmpstr(request.path, ==, cases[i].path);
        g_assert_true(cbus_span_is(request.member, cases[i].member));
        g_assert_cmpint(request.is_property, ==, cases[i].is_property);
        cbus_plain_request_clear(&request);
    }
}

static void
test_no_requests(void)
{
    static const char *const cases[] = {
        "",
        "dbus",
        "dbus.agent." AGENT,
        "dbus.agent." AGENT ".",
        "dbus.agent." AGENT ".method.Do",
        "dbus.agent." AGENT "..method.Do",
        "dbus.agent." AGENT ".a_b.method",
        "dbus.agent." AGENT ".a_b.method.",
        "dbus.agent." AGENT ".a_b.call.Do",
        "dbus.agent." AGENT ".a_b.Method.Do",
        "dbus.agent." AGENT ".a_b..method.Do",
        "dbus.agent." AGENT ".a_b.c..d.method.Do",
        "dbus.agent." AGENT ".a_b.c-d.method.Do",
        "dbus.agent." AGENT ".a_b./c.method.Do",
        "dbus.agent." AGENT ".a_b.c.method.1Do",
        "dbus.agent." AGENT ".a_b.c.method.D-o",
        "dbus.agent." AGENT ".a_b.c.prop.\xc3\xa4",
        "dbus.agent." OTHER ".a_b.method.Do",
        "dbus.agent.*.a_b.method.Do",
        "dbus.broadcast.method.Do",
        "dbus.signals." AGENT ".a_b.method.Do",
        "dbus.agent." AGENT ".a_b\xff.method.Do",
        "dbus.agent." AGENT ".\xf0.method.Do",
        "dbus.agent." AGENT ".:1_42.method.Do",
        "dbus.agent." AGENT ".a\x1b[31m.method.Do",
    };
    g_autofree char *long_name = g_strnfill(256, 'a');
    g_autofree char *long_one = g_strconcat("dbus.agent." AGENT ".", long_name, ".method.Do", NULL);

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *why = NULL;
        CbusPlainRequest request;
        g_assert_false(cbus_plain_request_parse(cases[i], &agent, &request, &why));
        g_assert_nonnull(why);
    }
    const char *too_long = NULL;
    CbusPlainRequest unused;
    g_assert_false(cbus_plain_request_parse(long_one, &agent, &unused, &too_long));
}

static gboolean
spells(const char *service, const char *name)
{
    return cbus_plain_is_spelling(cbus_span(service), cbus_span(name));
}

static void
test_spelling(void)
{
    g_assert_true(spells("org_freedesktop_systemd1", "org.freedesktop.systemd1"));
    g_assert_true(spells("a_b", "a.b"));
    g_assert_true(spells("a_b_c", "a_b.c"));
    g_assert_true(spells("_1_42", ":1.42"));
    g_assert_true(spells("a-b_c", "a-b.c"));
    g_assert_false(spells("a.b", "a.b"));
    g_assert_false(spells("a_b", "a.bc"));
    g_assert_false(spells("a_b", "A.b"));
    g_assert_false(spells("a-b", "a.b"));
}

static void
test_signals(void)
{
    g_autofree char *subject = cbus_plain_signal(&agent, cbus_span(":1.42"), cbus_span("/a/b_1"));
    g_autofree char *root = cbus_plain_signal(&agent, cbus_span("org.freedesktop.DBus"), cbus_span("/"));
    g_autofree char *requests = cbus_plain_requests(&agent);
    g_autoptr(GString) path = g_string_new(NULL);

    g_assert_cmpstr(subject, ==, "dbus.signals." AGENT "._1_42.a.b_1");
    g_assert_cmpstr(root, ==, "dbus.signals." AGENT ".org_freedesktop_DBus");
    g_assert_cmpstr(requests, ==, "dbus.agent." AGENT ".>");
    while (path->len < CBUS_PLAIN_SUBJECT_MAX)
        g_string_append(path, "/a");
    g_assert_null(cbus_plain_signal(&agent, cbus_span(":1.42"), cbus_span(path->str)));
    g_assert_null(cbus_plain_signal(&agent, (CbusSpan){NULL, 0}, cbus_span("/a")));
}

static void
test_answers_are_no_requests(void)
{
    static const char *const bad[] = {"dbus.agent." OTHER ".a_b.method.Do",
                                      "dbus.broadcast.a_b.method.Do",
                                      "dbus.signals." OTHER ".a",
                                      "cbus.v1." OTHER ".in",
                                      "$SRV.PING",
                                      "$JS.API.STREAM.DELETE.x"};
    static const char *const good[] = {"_INBOX.abc.def", "my.inbox.1", "dbusbox.1"};

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(cbus_plain_may_answer(bad[i]));
    for (guint i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_true(cbus_plain_may_answer(good[i]));
    g_autofree char *longest = g_strnfill(CBUS_PLAIN_SUBJECT_MAX, 'a');
    g_autofree char *too_long = g_strnfill(CBUS_PLAIN_SUBJECT_MAX + 1, 'a');
    g_assert_true(cbus_plain_may_answer(longest));
    g_assert_false(cbus_plain_may_answer(too_long));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_true(cbus_nkey_decode(AGENT, -1, &agent, NULL));
    g_test_add_func("/plain-subject/requests", test_requests);
    g_test_add_func("/plain-subject/no-requests", test_no_requests);
    g_test_add_func("/plain-subject/spelling", test_spelling);
    g_test_add_func("/plain-subject/signals", test_signals);
    g_test_add_func("/plain-subject/answers-are-no-requests", test_answers_are_no_requests);
    return g_test_run();
}
