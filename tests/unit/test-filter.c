/* A filter between a client and a bus that this test plays: what it holds back, remembers, answers and drops.
 */
#include "agent/filter.h"
#include "wire/body.h"
#include <gio/gio.h>

#define SELF   ":1.42"
#define DRIVER "org.freedesktop.DBus"

typedef struct {
    CbusPolicies *policies;
    CbusFilter *filter;
    GPtrArray *to_bus, *to_client; /* GDBusMessage */
    guint ready, failed, denied;
    char *reason; /* of the last denial, for the audit */
    CbusFilterSent sent;
} Fixture;

static void
keep(GPtrArray *where, const guint8 *data, gsize size)
{
    g_autoptr(GError) error = NULL;
    GDBusMessage *message = g_dbus_message_new_from_blob((guchar *)data, size, 0, &error);

    g_assert_no_error(error);
    g_ptr_array_add(where, message);
}

static CbusFilterSent
forward(const CbusMessage *message, const guint8 *data, gpointer user_data)
{
    Fixture *f = user_data;

    if (f->sent == CBUS_FILTER_SENT)
        keep(f->to_bus, data, message->size);
    return f->sent;
}

static void
ask(const guint8 *data, gsize size, gpointer user_data)
{
    keep(((Fixture *)user_data)->to_bus, data, size);
}

static gboolean
deliver(const guint8 *data, gsize size, gpointer user_data)
{
    keep(((Fixture *)user_data)->to_client, data, size);
    return TRUE;
}

static void
denied(const CbusMessage *message, const char *reason, gpointer user_data)
{
    Fixture *f = user_data;

    f->denied++;
    g_free(f->reason);
    f->reason = g_strdup(reason);
}

static void
ready(gpointer user_data)
{
    ((Fixture *)user_data)->ready++;
}

static void
failed(const char *error_name, const char *message, gpointer user_data)
{
    ((Fixture *)user_data)->failed++;
}

static const CbusFilterHandler handler = {forward, ask, deliver, denied, ready, failed};

static void
set_up(Fixture *f, gconstpointer rules)
{
    g_autofree char *text = g_strdup_printf("[policy p]\n%s\n", (const char *)rules);

    f->policies = cbus_policies_parse(text, strlen(text), "test", NULL, NULL);
    f->to_bus = g_ptr_array_new_with_free_func(g_object_unref);
    f->to_client = g_ptr_array_new_with_free_func(g_object_unref);
    f->filter = cbus_filter_new(cbus_policies_lookup(f->policies, "p"), "web1", &handler, f);
}

static void
tear_down(Fixture *f, gconstpointer rules)
{
    cbus_filter_free(f->filter);
    cbus_policies_free(f->policies);
    g_ptr_array_unref(f->to_bus);
    g_ptr_array_unref(f->to_client);
    g_free(f->reason);
}

/* Gives MESSAGE (consumed) with SERIAL to the filter. */
static void
give(Fixture *f, GDBusMessage *message, guint32 serial, gboolean from_bus)
{
    g_autoptr(GDBusMessage) owned = message;
    g_autofree guint8 *blob = NULL;
    CbusMessage view;
    gsize size;

    g_dbus_message_set_serial(message, serial);
    blob = g_dbus_message_to_blob(message, &size, 0, NULL);
    g_assert_true(cbus_message_view(&view, blob, size, NULL));
    if (from_bus)
        cbus_filter_from_bus(f->filter, &view, blob);
    else
        (void)cbus_filter_from_client(f->filter, &view, blob);
}

static void
call(Fixture *f, guint32 serial, const char *destination, const char *interface, const char *member,
     GVariant *body)
{
    GDBusMessage *message = g_dbus_message_new_method_call(destination, "/p", interface, member);

    if (body != NULL)
        g_dbus_message_set_body(message, body);
    give(f, message, serial, FALSE);
}

static void
reply(Fixture *f, guint32 serial, const char *sender, GVariant *body)
{
    g_autoptr(GDBusMessage) made_for = g_dbus_message_new_method_call("a.b", "/", NULL, "M");
    GDBusMessage *message;

    g_dbus_message_set_serial(made_for, serial);
    message = g_dbus_message_new_method_reply(made_for);
    g_dbus_message_set_sender(message, sender);
    g_dbus_message_set_destination(message, SELF);
    if (body != NULL)
        g_dbus_message_set_body(message, body);
    give(f, message, 77, TRUE);
}

static GDBusMessage *
last(GPtrArray *messages)
{
    return g_ptr_array_index(messages, messages->len - 1);
}

static void
clear(Fixture *f)
{
    g_ptr_array_set_size(f->to_bus, 0);
    g_ptr_array_set_size(f->to_client, 0);
    f->denied = 0;
}

/* Hello, and the census: a.One and a.Two are :1.10's, a.Other is :1.11's. */
static void
greet(Fixture *f)
{
    static const char *const names[] = {DRIVER, ":1.10", "a.One", "a.Two", "a.Other", NULL};
    static const char *const owners[] = {":1.10", ":1.10", ":1.11"};

    call(f, 1, DRIVER, DRIVER, "Hello", NULL);
    g_assert_cmpuint(f->to_bus->len, ==, 3);
    reply(f, 1, DRIVER, g_variant_new("(s)", SELF));
    g_assert_cmpuint(f->to_client->len, ==, 1);
    reply(f, CBUS_CENSUS_SERIAL, DRIVER, NULL);
    reply(f, CBUS_CENSUS_SERIAL + 1, DRIVER, g_variant_new("(^as)", names));
    g_assert_cmpuint(f->to_bus->len, ==, 6);
    g_assert_cmpuint(f->ready, ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(owners); i++)
        reply(f, CBUS_CENSUS_SERIAL + 2 + i, DRIVER, g_variant_new("(s)", owners[i]));
    g_assert_cmpuint(f->ready, ==, 1);
    g_assert_cmpuint(f->to_client->len, ==, 1);
}

static void
test_the_first_message_is_hello(Fixture *f, gconstpointer rules)
{
    call(f, 1, "a.One", "a.I", "Do", NULL);
    g_assert_cmpuint(f->failed, ==, 1);
    g_assert_cmpuint(f->to_bus->len, ==, 0);
}

static void
test_messages_wait_for_the_census(Fixture *f, gconstpointer rules)
{
    call(f, 1, DRIVER, DRIVER, "Hello", NULL);
    call(f, 2, "a.Two", "a.I", "Do", NULL);
    call(f, 3, "a.Other", "a.I", "Do", NULL);
    g_assert_cmpuint(f->to_bus->len, ==, 3);
    clear(f);
    const char *const names[] = {"a.One", "a.Two", NULL};
    reply(f, CBUS_CENSUS_SERIAL + 1, ":1.9", g_variant_new("(^as)", names));
    g_assert_cmpuint(f->to_bus->len, ==, 0);
    reply(f, CBUS_CENSUS_SERIAL + 1, DRIVER, g_variant_new("(^as)", names));
    reply(f, CBUS_CENSUS_SERIAL + 2, DRIVER, g_variant_new("(s)", ":1.10"));
    clear(f);
    reply(f, CBUS_CENSUS_SERIAL + 3, DRIVER, g_variant_new("(s)", ":1.10"));
    g_assert_cmpuint(f->to_bus->len, ==, 1);
    g_assert_cmpstr(g_dbus_message_get_destination(last(f->to_bus)), ==, "a.Two");
    g_assert_cmpuint(f->to_client->len, ==, 1);
    g_assert_cmpstr(g_dbus_message_get_error_name(last(f->to_client)), ==, DRIVER ".Error.ServiceUnknown");
    g_assert_cmpuint(g_dbus_message_get_reply_serial(last(f->to_client)), ==, 3);
}

/* With one serial for two calls, the answer to one would be judged as the other's. */
static void
test_a_serial_that_waits_is_refused(Fixture *f, gconstpointer rules)
{
    greet(f);
    clear(f);
    call(f, 5, "a.One", DRIVER ".Properties", "GetAll", g_variant_new("(s)", "a.I"));
    g_assert_cmpuint(f->to_bus->len, ==, 1);
    call(f, 5, "a.One", "a.I", "Do", NULL);
    g_assert_cmpuint(f->to_bus->len, ==, 1);
    g_assert_cmpuint(f->denied, ==, 1);
    clear(f);
    reply(f, 5, ":1.10", g_variant_new_parsed("({'Open': <1>, 'Secret': <2>},)"));
    g_assert_cmpuint(f->to_client->len, ==, 1);
    g_autofree char *text = g_variant_print(g_dbus_message_get_body(last(f->to_client)), FALSE);
    g_assert_cmpstr(text, ==, "({'Open': <1>},)");
    reply(f, 5, ":1.10", g_variant_new_parsed("({'Open': <1>, 'Secret': <2>},)"));
    g_assert_cmpuint(f->to_client->len, ==, 1);
    call(f, 5, "a.One", "a.I", "Do", NULL);
    g_assert_cmpuint(f->to_bus->len, ==, 1);
}

static void
test_answers_to_nothing_are_dropped(Fixture *f, gconstpointer rules)
{
    greet(f);
    clear(f);
    reply(f, 9, ":1.10", g_variant_new("(s)", "unasked"));
    g_assert_cmpuint(f->to_client->len, ==, 0);
    reply(f, CBUS_CENSUS_SERIAL + 2, DRIVER, g_variant_new("(s)", ":1.99"));
    g_assert_cmpuint(f->to_client->len, ==, 0);
}

static void
test_an_answer_of_another_type_is_refused(Fixture *f, gconstpointer rules)
{
    greet(f);
    clear(f);
    call(f, 5, "a.One", DRIVER ".Properties", "GetAll", g_variant_new("(s)", "a.I"));
    reply(f, 5, ":1.10", g_variant_new("(s)", "Secret=2"));
    g_assert_cmpuint(f->to_client->len, ==, 1);
    g_assert_cmpstr(g_dbus_message_get_error_name(last(f->to_client)), ==, DRIVER ".Error.AccessDenied");
    g_assert_cmpuint(g_dbus_message_get_reply_serial(last(f->to_client)), ==, 5);
}

static void
test_what_could_not_be_recorded_is_forgotten(Fixture *f, gconstpointer rules)
{
    greet(f);
    clear(f);
    f->sent = CBUS_FILTER_REFUSED;
    call(f, 5, "a.One", "a.I", "Do", NULL);
    f->sent = CBUS_FILTER_SENT;
    call(f, 5, "a.One", "a.I", "Do", NULL);
    g_assert_cmpuint(f->to_bus->len, ==, 1);
    g_assert_cmpuint(f->denied, ==, 0);
}

static void
change(Fixture *f, const char *name, const char *from, const char *to)
{
    GDBusMessage *message = g_dbus_message_new_signal("/org/freedesktop/DBus", DRIVER, "NameOwnerChanged");

    g_dbus_message_set_sender(message, DRIVER);
    g_dbus_message_set_body(message, g_variant_new("(sss)", name, from, to));
    give(f, message, 88, TRUE);
}

static void
test_owners_are_followed(Fixture *f, gconstpointer rules)
{
    greet(f);
    clear(f);
    change(f, "a.One", ":1.10", ":1.12");
    g_assert_cmpuint(f->to_client->len, ==, 0);
    call(f, 5, "a.Two", "a.I", "Do", NULL);
    call(f, 6, ":1.10", "a.I", "Do", NULL);
    g_assert_cmpuint(f->to_bus->len, ==, 0);
    g_assert_cmpuint(f->to_client->len, ==, 2);
    call(f, 7, ":1.12", "a.I", "Do", NULL);
    g_assert_cmpuint(f->to_bus->len, ==, 1);
    change(f, ":1.12", ":1.12", "");
    call(f, 8, ":1.12", "a.I", "Do", NULL);
    g_assert_cmpuint(f->to_bus->len, ==, 1);
    g_assert_cmpstr(g_dbus_message_get_error_name(last(f->to_client)), ==, DRIVER ".Error.ServiceUnknown");
}

static void
test_a_refused_match_does_not_count(Fixture *f, gconstpointer rules)
{
    greet(f);
    clear(f);
    call(f, 5, DRIVER, DRIVER, "AddMatch", g_variant_new("(s)", "type='signal'"));
    change(f, "a.One", ":1.10", "");
    g_assert_cmpuint(f->to_client->len, ==, 1);
    g_autoptr(GDBusMessage) made_for = g_dbus_message_new_method_call(DRIVER, "/", NULL, "M");
    g_dbus_message_set_serial(made_for, 5);
    GDBusMessage *error =
        g_dbus_message_new_method_error_literal(made_for, DRIVER ".Error.LimitsExceeded", "no");
    g_dbus_message_set_sender(error, DRIVER);
    give(f, error, 90, TRUE);
    clear(f);
    change(f, "a.One", "", ":1.10");
    g_assert_cmpuint(f->to_client->len, ==, 0);
}

/* Owners are followed by a rule on the client's own connection, and a bus knows rules by what they say: the
 * client must not be able to take it away. */
static void
test_the_rule_that_follows_owners_stays(Fixture *f, gconstpointer rules)
{
    static const char *const like_it[] = {
        CBUS_CENSUS_MATCH,
        "member=NameOwnerChanged,interface=" DRIVER ",sender=" DRIVER ",type=signal",
        CBUS_CENSUS_MATCH ",eavesdrop='false'",
    };

    greet(f);
    for (guint i = 0; i < G_N_ELEMENTS(like_it); i++) {
        clear(f);
        call(f, 10 * i + 5, DRIVER, DRIVER, "RemoveMatch", g_variant_new("(s)", like_it[i]));
        g_assert_cmpuint(f->to_bus->len, ==, 0);
        g_assert_cmpstr(g_dbus_message_get_error_name(last(f->to_client)), ==,
                        DRIVER ".Error.MatchRuleNotFound");
        /* Who has one of his own may remove it, once. */
        call(f, 10 * i + 6, DRIVER, NULL, "AddMatch", g_variant_new("(s)", like_it[i]));
        g_assert_null(g_dbus_message_get_error_name(last(f->to_client)));
        clear(f);
        change(f, "a.One", ":1.10", ":1.10");
        g_assert_cmpuint(f->to_client->len, ==, 1);
        call(f, 10 * i + 7, DRIVER, NULL, "RemoveMatch", g_variant_new("(s)", like_it[0]));
        g_assert_null(g_dbus_message_get_error_name(last(f->to_client)));
        g_assert_cmpuint(g_dbus_message_get_reply_serial(last(f->to_client)), ==, 10 * i + 7);
        clear(f);
        change(f, "a.One", ":1.10", ":1.10");
        g_assert_cmpuint(f->to_client->len, ==, 0);
        call(f, 10 * i + 8, DRIVER, NULL, "RemoveMatch", g_variant_new("(s)", like_it[i]));
        g_assert_nonnull(g_dbus_message_get_error_name(last(f->to_client)));
        g_assert_cmpuint(f->to_bus->len, ==, 0);
    }
    /* Others are the bus's affair. */
    call(f, 100, DRIVER, DRIVER, "RemoveMatch", g_variant_new("(s)", "type='signal'"));
    g_assert_cmpuint(f->to_bus->len, ==, 1);
}

static void
test_strangers_may_not_call(Fixture *f, gconstpointer rules)
{
    greet(f);
    clear(f);
    GDBusMessage *message = g_dbus_message_new_method_call(SELF, "/p", "a.I", "Do");
    g_dbus_message_set_sender(message, ":1.11");
    give(f, message, 91, TRUE);
    g_assert_cmpuint(f->to_client->len, ==, 0);
    g_assert_cmpuint(f->to_bus->len, ==, 1);
    g_assert_cmpstr(g_dbus_message_get_destination(last(f->to_bus)), ==, ":1.11");
    message = g_dbus_message_new_method_call(SELF, "/p", "a.I", "Do");
    g_dbus_message_set_sender(message, ":1.10");
    give(f, message, 92, TRUE);
    g_assert_cmpuint(f->to_client->len, ==, 1);
}

/* The client answers calls, once, and nothing else. */
static void
test_replies_go_to_calls(Fixture *f, gconstpointer rules)
{
    greet(f);
    clear(f);
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GDBusMessage) received = g_dbus_message_new_method_call(SELF, "/p", "a.I", "Do");
        g_dbus_message_set_sender(received, ":1.10");
        g_dbus_message_set_serial(received, 92);
        GDBusMessage *answer = g_dbus_message_new_method_reply(received);
        if (i == 0)
            give(f, g_object_ref(received), 92, TRUE);
        give(f, answer, 10, FALSE);
        g_assert_cmpuint(f->to_bus->len, ==, 1);
    }
    g_assert_cmpuint(f->denied, ==, 1);
}

/* An error in reply to the client's SERIAL. */
static void
reply_error(Fixture *f, guint32 serial, const char *name)
{
    g_autoptr(GDBusMessage) made_for = g_dbus_message_new_method_call(DRIVER, "/", NULL, "M");
    GDBusMessage *error;

    g_dbus_message_set_serial(made_for, serial);
    error = g_dbus_message_new_method_error_literal(made_for, name, "no");
    g_dbus_message_set_sender(error, DRIVER);
    give(f, error, 90, TRUE);
}

/* Properties of a.One are read with SERIAL; returns what the client gets of them, printed. */
static char *
read_all(Fixture *f, guint32 serial)
{
    clear(f);
    call(f, serial, "a.One", DRIVER ".Properties", "GetAll", g_variant_new("(s)", "a.I"));
    reply(f, serial, ":1.10", g_variant_new_parsed("({'Open': <1>, 'Secret': <2>},)"));
    g_assert_cmpuint(f->to_client->len, ==, 1);
    return g_variant_print(g_dbus_message_get_body(last(f->to_client)), FALSE);
}

/* Whoever monitors hears everything. Whoever only says so, on another interface or in vain, does not. */
static void
test_only_a_monitor_hears_everything(Fixture *f, gconstpointer rules)
{
    static const struct {
        const char *interface, *member, *argument;
    } vain[] = {
        {DRIVER, "BecomeMonitor", NULL},
        {DRIVER ".Monitoring", "BecomeMonitor", NULL},
        {DRIVER ".Monitoring", "AddMatch", "eavesdrop='true'"},
        {DRIVER, "AddMatch", "eavesdrop='true'"},
    };

    greet(f);
    for (guint i = 0; i < G_N_ELEMENTS(vain); i++) {
        clear(f);
        call(f, 10 + i, DRIVER, vain[i].interface, vain[i].member,
             vain[i].argument != NULL ? g_variant_new("(s)", vain[i].argument)
                                      : g_variant_new("(^asu)", (const char *const[]){NULL}, 0));
        g_assert_cmpuint(f->to_bus->len, ==, 1);
        /* Not before the bus said so. */
        g_autofree char *before = read_all(f, 20 + i);
        g_assert_cmpstr(before, ==, "({'Open': <1>},)");
        reply_error(f, 10 + i, DRIVER ".Error.AccessDenied");
        g_autofree char *after = read_all(f, 30 + i);
        g_assert_cmpstr(after, ==, "({'Open': <1>},)");
    }
    clear(f);
    call(f, 40, DRIVER, DRIVER ".Monitoring", "BecomeMonitor",
         g_variant_new("(^asu)", (const char *const[]){NULL}, 0));
    reply(f, 40, DRIVER, NULL);
    g_autofree char *heard = read_all(f, 41);
    g_assert_cmpstr(heard, ==, "({'Open': <1>, 'Secret': <2>},)");
}

/* The audit tells of no arguments, whatever they are; the caller may be told his own, within bounds. */
static void
test_reasons_hold_no_arguments(Fixture *f, gconstpointer rules)
{
    static const char *const words[] = {"an.Argument", "an argument\n", NULL};
    g_autofree char *large = g_strnfill(1000000, 'x');

    greet(f);
    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        const char *word = words[i] != NULL ? words[i] : large;
        GVariant *const bodies[] = {g_variant_new("(ss)", word, "Argument"),
                                    g_variant_new("(ss)", "an.I", word), g_variant_new("(s)", word),
                                    g_variant_new("(su)", word, 0)};
        const char *const members[] = {"Get", "Get", "GetAll", "RequestName"};

        for (guint j = 0; j < G_N_ELEMENTS(bodies); j++) {
            clear(f);
            call(f, 100 + 4 * i + j, j < 3 ? "a.One" : DRIVER, j < 3 ? DRIVER ".Properties" : DRIVER,
                 members[j], bodies[j]);
            g_assert_cmpuint(f->denied, ==, 1);
            g_assert_cmpuint(f->to_bus->len, ==, 0);
            g_assert_null(strstr(f->reason, "an."));
            g_assert_null(strstr(f->reason, "rgument"));
            g_assert_cmpuint(strlen(f->reason), <, 200);
            g_autofree char *text = NULL;
            g_variant_get(g_dbus_message_get_body(last(f->to_client)), "(s)", &text);
            g_assert_cmpuint(strlen(text), <, 1000);
            g_assert_null(strchr(text, '\n'));
        }
    }
}

#define ADD(name, rules, test) g_test_add("/filter/" name, Fixture, rules, set_up, test, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("the-first-message-is-hello", "talk=a.One", test_the_first_message_is_hello);
    ADD("messages-wait-for-the-census", "talk=a.One", test_messages_wait_for_the_census);
    ADD("a-serial-that-waits-is-refused", "call=a.One=a.I.*\ndeny=a.One=a.I.Secret",
        test_a_serial_that_waits_is_refused);
    ADD("answers-to-nothing-are-dropped", "talk=a.One", test_answers_to_nothing_are_dropped);
    ADD("an-answer-of-another-type-is-refused", "read=a.One=a.I.*",
        test_an_answer_of_another_type_is_refused);
    ADD("what-could-not-be-recorded-is-forgotten", "talk=a.One",
        test_what_could_not_be_recorded_is_forgotten);
    ADD("owners-are-followed", "talk=a.One", test_owners_are_followed);
    ADD("a-refused-match-does-not-count", "talk=a.One", test_a_refused_match_does_not_count);
    ADD("the-rule-that-follows-owners-stays", "talk=a.One", test_the_rule_that_follows_owners_stays);
    ADD("strangers-may-not-call", "talk=a.One", test_strangers_may_not_call);
    ADD("replies-go-to-calls", "talk=a.One", test_replies_go_to_calls);
    ADD("reasons-hold-no-arguments", "see=a.One", test_reasons_hold_no_arguments);
    ADD("only-a-monitor-hears-everything",
        "call=a.One=a.I.*\ndeny=a.One=a.I.Secret\ncall=org.freedesktop.DBus=org.freedesktop.DBus.*\n"
        "call=org.freedesktop.DBus=org.freedesktop.DBus.Monitoring.*\n"
        "call=org.freedesktop.DBus=org.freedesktop.DBus.Monitoring.BecomeMonitor",
        test_only_a_monitor_hears_everything);
    return g_test_run();
}
