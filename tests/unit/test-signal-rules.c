/* `signals=`: what each machine's bus is asked for. */
#include "proxy/signal_rules.h"

#include "wire/match_rule.h"

static char **
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    char **rules = cbus_signal_rules_parse(text, &error);

    g_assert_no_error(error);
    return rules;
}

static void
test_everything(void)
{
    static const char *const texts[] = {NULL, "", " ; ;"};

    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_auto(GStrv) rules = parse(texts[i]);
        g_assert_cmpuint(g_strv_length(rules), ==, 1);
        g_assert_cmpstr(rules[0], ==, "type='signal'");
    }
}

static void
test_narrowed(void)
{
    g_auto(GStrv) rules = parse(" type='signal',arg0='a;b' ;type='signal',member='M';");

    g_assert_cmpstr(rules[0], ==, "type='signal',arg0='a;b'");
    g_assert_cmpstr(rules[1], ==, "type='signal',member='M'");
    g_assert_true(g_strv_contains((const char *const *)rules, "type='signal',sender='org.freedesktop.DBus'"));
    g_assert_false(g_strv_contains((const char *const *)rules, "type='signal'"));
    for (guint i = 0; rules[i] != NULL; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(CbusMatchRule) rule = cbus_match_rule_parse(cbus_span(rules[i]), &error);
        g_assert_no_error(error);
    }
}

static void
test_refused(void)
{
    static const char *const texts[] = {"type=signal'", "nonsense", "type='signal',eavesdrop='true'",
                                        "type='signal';type='signal',member='a b'"};

    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(cbus_signal_rules_parse(texts[i], &error));
        g_assert_error(error, CBUS_MATCH_ERROR, CBUS_MATCH_ERROR_INVALID);
        g_assert_true(g_str_has_prefix(error->message, "signals: the match rule \""));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/signal-rules/unset-is-everything", test_everything);
    g_test_add_func("/signal-rules/what-the-mirror-needs-is-added", test_narrowed);
    g_test_add_func("/signal-rules/a-bad-rule-is-quoted", test_refused);
    return g_test_run();
}
