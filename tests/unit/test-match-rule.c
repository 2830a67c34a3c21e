/* Match rules: the grammar of the specification, read as dbus-daemon reads it, and no other. */
#include "wire/match_rule.h"

static const CbusSpan changed = CBUS_SPAN_LITERAL("NameOwnerChanged");

static CbusMatchRule *
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    CbusMatchRule *rule = cbus_match_rule_parse(cbus_span(text), &error);

    g_assert_true((rule == NULL) == (error != NULL));
    if (error != NULL)
        g_assert_error(error, CBUS_MATCH_ERROR, CBUS_MATCH_ERROR_INVALID);
    return rule;
}

static void
test_spellings_of_one_rule(void)
{
    static const char *const spellings[] = {
        "type='signal',arg0='it''s'", "type=signal,arg0=its",        " type='signal', arg0=it's'",
        "arg0='its',type='signal',",  "type ='sig'nal,\targ0=i'ts'",
    };
    g_autoptr(CbusMatchRule) first = parse(spellings[0]);
    g_assert_nonnull(first);
    for (guint i = 0; i < G_N_ELEMENTS(spellings); i++) {
        g_autoptr(CbusMatchRule) rule = parse(spellings[i]);
        g_assert_nonnull(rule);
        g_assert_true(cbus_match_rule_equal(first, rule));
        g_assert_true(cbus_match_rule_equal(rule, first));
    }
    g_autoptr(CbusMatchRule) other = parse("type='signal',arg0='it'\\''s'");
    g_assert_nonnull(other);
    g_assert_false(cbus_match_rule_equal(first, other));
    g_autoptr(CbusMatchRule) shorter = parse("type='signal'");
    g_assert_false(cbus_match_rule_equal(first, shorter));
    g_assert_false(cbus_match_rule_equal(shorter, first));
}

static void
test_escapes_as_in_the_specification(void)
{
    /* The five examples of the specification ask for the same. */
    static const char *const same[] = {"arg0=''\\''',arg1='\\',arg2=',',arg3='\\\\'",
                                       "arg0=\\',arg1=\\,arg2=',',arg3=\\\\"};
    g_autoptr(CbusMatchRule) a = parse(same[0]);
    g_autoptr(CbusMatchRule) b = parse(same[1]);
    g_assert_nonnull(a);
    g_assert_nonnull(b);
    g_assert_true(cbus_match_rule_equal(a, b));
}

static void
test_what_no_bus_takes_is_refused(void)
{
    static const char *const bad[] = {
        "type",
        "type=",
        "type='signals'",
        "=x",
        "unknown='x'",
        "type='signal',type='signal'",
        "type='signal'x'",
        "type='signal',,member='A'",
        ",",
        "sender='nodots'",
        "sender=':'",
        "interface='one'",
        "member='a.b'",
        "path='x'",
        "path='/a/'",
        "path='/a',path_namespace='/a'",
        "path_namespace='/a/'",
        "arg0namespace='a..b'",
        "arg0namespace=':1.5'",
        "arg64='x'",
        "arg100='x'",
        "arg01='x'",
        "arg='x'",
        "arg0pat='x'",
        "argpath='x'",
        "eavesdrop='yes'",
        "eavesdrop=''",
        "eavesdrop=' true'",
        "destination='x'",
        "member='\xff'",
        "TYPE='signal'",
        "type;signal",
        "type = 'signal'",
    };
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(CbusMatchRule) rule = parse(bad[i]);
        if (rule != NULL)
            g_error("accepted: %s", bad[i]);
    }
    g_autoptr(GString) keys = g_string_new("type='signal'");
    for (guint i = 0; i < 16; i++)
        g_string_append_printf(keys, ",arg%u='x'", i);
    g_assert_null(parse(keys->str));
    g_autoptr(GString) text = g_string_new("arg0='");
    while (text->len < CBUS_MATCH_RULE_MAX)
        g_string_append_c(text, 'x');
    g_string_append_c(text, '\'');
    g_assert_null(parse(text->str));
    g_assert_null(cbus_match_rule_parse(CBUS_SPAN_LITERAL("type=\0'signal'"), NULL));
}

static void
test_eavesdropping_is_seen_however_it_is_written(void)
{
    static const char *const yes[] = {"eavesdrop='true'",       "eavesdrop=true",
                                      "eavesdrop =true",        "arg0='\\',eavesdrop=true",
                                      "eavesdrop=t'r'ue",       "type='signal',\n eavesdrop='true'",
                                      "arg0=\\',eavesdrop=true"};
    static const char *const no[] = {"", "eavesdrop='false'", "arg0='eavesdrop=true'",
                                     "arg0=','',eavesdrop=true'", "arg0='a,eavesdrop=true'"};
    for (guint i = 0; i < G_N_ELEMENTS(yes); i++) {
        g_autoptr(CbusMatchRule) rule = parse(yes[i]);
        g_assert_nonnull(rule);
        g_assert_true(cbus_match_rule_eavesdrops(rule));
    }
    for (guint i = 0; i < G_N_ELEMENTS(no); i++) {
        g_autoptr(CbusMatchRule) rule = parse(no[i]);
        g_assert_nonnull(rule);
        g_assert_false(cbus_match_rule_eavesdrops(rule));
    }
}

static void
test_who_asked_for_owner_changes(void)
{
    static const char *const yes[] = {
        "",
        "type='signal'",
        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus'",
        "member='NameOwnerChanged',path='/org/freedesktop/DBus'",
        "path_namespace='/org/freedesktop'",
        "path_namespace='/'",
        "arg0='com.example.One'",
        "arg0namespace='com.example'",
        "arg0namespace='com.example.One'",
        "arg1='',arg2=':1.5'",
        "eavesdrop='false'",
    };
    static const char *const no[] = {
        "type='method_call'",
        "sender='com.example.One'",
        "sender=':1.5'",
        "member='NameAcquired'",
        "path='/'",
        "path_namespace='/org/free'",
        "arg0='com.example.Two'",
        "arg0namespace='com.exam'",
        "arg0namespace='com.example.One.X'",
        "arg3='x'",
        "destination=':1.42'",
        "arg0path='/'",
        "interface='org.freedesktop.DBus.Properties'",
    };
    const CbusSpan arguments[3] = {CBUS_SPAN_LITERAL("com.example.One"), CBUS_SPAN_LITERAL(""),
                                   CBUS_SPAN_LITERAL(":1.5")};
    for (guint i = 0; i < G_N_ELEMENTS(yes); i++) {
        g_autoptr(CbusMatchRule) rule = parse(yes[i]);
        g_assert_nonnull(rule);
        if (!cbus_match_rule_wants_driver_signal(rule, changed, arguments))
            g_error("does not want it: %s", yes[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(no); i++) {
        g_autoptr(CbusMatchRule) rule = parse(no[i]);
        g_assert_nonnull(rule);
        if (cbus_match_rule_wants_driver_signal(rule, changed, arguments))
            g_error("wants it: %s", no[i]);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/match-rule/spellings-of-one-rule", test_spellings_of_one_rule);
    g_test_add_func("/match-rule/escapes-as-in-the-specification", test_escapes_as_in_the_specification);
    g_test_add_func("/match-rule/what-no-bus-takes-is-refused", test_what_no_bus_takes_is_refused);
    g_test_add_func("/match-rule/eavesdropping-is-seen", test_eavesdropping_is_seen_however_it_is_written);
    g_test_add_func("/match-rule/who-asked-for-owner-changes", test_who_asked_for_owner_changes);
    return g_test_run();
}
