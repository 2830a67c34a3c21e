/* Policies: what is read from a configuration, what is refused and on which line; and the verdicts of
 * data/policy-matrix.tsv, a row a promise. */
#include "wire/policy_decide.h"

#define SELF ":1.42"

/* Who owns what on the bus of the matrix. */
static const struct {
    const char *unique;
    const char *const names[3];
} owners[] = {
    {":1.10", {"com.example.One", "com.example.Two"}},
    {":1.11", {"com.example.Three"}},
    {":1.12", {NULL}},
    {":1.2", {"org.freedesktop.systemd1"}},
    {":1.3", {"org.freedesktop.login1"}},
    {":1.4", {"org.freedesktop.NetworkManager"}},
    {SELF, {"com.example.Mine"}},
};

static const char *const *
names_of(CbusSpan name, gpointer user_data)
{
    for (guint i = 0; i < G_N_ELEMENTS(owners); i++) {
        if (cbus_span_is(name, owners[i].unique))
            return owners[i].names;
        for (guint j = 0; owners[i].names[j] != NULL; j++)
            if (cbus_span_is(name, owners[i].names[j]))
                return owners[i].names;
    }
    return NULL;
}

static void
no_fault(guint line, const char *reason, gpointer user_data)
{
    g_error("line %u: %s", line, reason);
}

static CbusSpan
column(char **columns, guint n)
{
    return g_str_equal(columns[n], "-") ? (CbusSpan){NULL, 0} : cbus_span(columns[n]);
}

/* call, call-nostart, call-odd (arguments of other types), signal, reply, reply-requested; what the caller
 * would receive begins with in-, a signal to it alone is in-directed. */
static void
facts_of_row(char **row, CbusFacts *facts)
{
    const char *kind = row[1];
    g_auto(GStrv) arguments = NULL;

    *facts = (CbusFacts){.path = column(row, 3), .interface = column(row, 4), .member = column(row, 5)};
    facts->from_bus = g_str_has_prefix(kind, "in-");
    facts->is_regular = !g_str_equal(kind, "call-odd");
    facts->flags = g_str_equal(kind, "call-nostart") ? CBUS_FLAG_NO_AUTO_START : 0;
    facts->requested = g_str_equal(kind, "reply-requested");
    if (facts->from_bus)
        facts->sender = column(row, 2);
    else
        facts->destination = column(row, 2);
    if (g_str_equal(kind, "in-directed"))
        facts->destination = cbus_span(SELF);
    if (g_str_has_prefix(kind, "reply"))
        facts->type = CBUS_MESSAGE_RETURN;
    else if (g_str_equal(kind, "signal") || g_str_equal(kind, "in-signal") ||
             g_str_equal(kind, "in-directed"))
        facts->type = CBUS_MESSAGE_SIGNAL;
    else if (g_str_has_prefix(kind, "call") || g_str_equal(kind, "in-call"))
        facts->type = CBUS_MESSAGE_CALL;
    else
        g_error("an unknown kind: %s", kind);
}

/* Returns the number of rows with another verdict or rule. */
static guint
check_row(const CbusPolicies *policies, char **row, guint number)
{
    static const char *const verdicts[] = {"allow", "deny", "hide"};
    g_auto(GStrv) arguments = NULL;
    CbusFacts facts;

    g_assert_cmpuint(g_strv_length(row), ==, 9);
    facts_of_row(row, &facts);
    if (!g_str_equal(row[6], "-")) {
        arguments = g_strsplit(row[6], "|", 2);
        for (guint i = 0; arguments[i] != NULL; i++)
            facts.arguments[i] = cbus_span(arguments[i]);
        if (arguments[0] == NULL)
            facts.arguments[0] = cbus_span(row[6]);
    }
    CbusJudge judge = {cbus_policies_lookup(policies, row[0]), names_of, NULL, cbus_span(SELF)};
    if (judge.policy == NULL)
        g_error("row %u: no policy %s", number, row[0]);
    CbusDecision decision = cbus_judge(&judge, &facts);
    const char *rule = decision.rule != NULL ? decision.rule->text : "-";
    if (g_str_equal(verdicts[decision.verdict], row[7]) && g_str_equal(rule, row[8]))
        return 0;
    g_test_message("row %u: %s %s %s %s %s.%s(%s): %s by %s, expected %s by %s", number, row[0], row[1],
                   row[2], row[3], row[4], row[5], row[6], verdicts[decision.verdict], rule, row[7], row[8]);
    return 1;
}

static char *
read_data(const char *name)
{
    g_autofree char *file = g_test_build_filename(G_TEST_DIST, "data", name, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    g_file_get_contents(file, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

static void
test_matrix(void)
{
    g_autofree char *configuration = read_data("policies.conf");
    g_autofree char *text = read_data("policy-matrix.tsv");
    g_autoptr(CbusPolicies) policies =
        cbus_policies_parse(configuration, strlen(configuration), "policies.conf", no_fault, NULL);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    guint rows = 0, wrong = 0;

    for (guint i = 0; lines[i] != NULL; i++) {
        if (lines[i][0] == '\0' || lines[i][0] == '#')
            continue;
        g_auto(GStrv) row = g_strsplit(lines[i], "\t", -1);
        wrong += check_row(policies, row, i + 1);
        rows++;
    }
    g_assert_cmpuint(wrong, ==, 0);
    g_assert_cmpuint(rows, >=, 200);
}

static void
gather_fault(guint line, const char *reason, gpointer user_data)
{
    g_string_append_printf(user_data, "%u ", line);
    g_assert_cmpuint(strlen(reason), >, 5);
}

static char *
faults_of(const char *text, CbusPolicies **policies)
{
    GString *faults = g_string_new(NULL);
    CbusPolicies *read = cbus_policies_parse(text, strlen(text), "agent.conf", gather_fault, faults);

    if (policies != NULL)
        *policies = read;
    else
        cbus_policies_free(read);
    return g_string_free(faults, FALSE);
}

static void
test_faults_name_their_line(void)
{
    static const char *const rules[] = {
        "see",
        "see=",
        "see=;",
        "sea=a.b",
        "see=:1.5",
        "see=a",
        "see=a.b=c.d.E",
        "see=a..b",
        "see=.*",
        "talk=a.b.*.c",
        "talk=org.freedesktop.DBus",
        "call=a.b",
        "call=a.b=",
        "call=a.b=Method",
        "call=a.b=1.b.C",
        "call=a.b=a.b.C@p",
        "call=a.b=a.b.C@/p/",
        "call=a.b=a.b.C@",
        "call=a.b=a.b.C@/p*",
        "call=a.b=a.b.*.*",
        "call==a.b.C",
        "read=a.b=org.freedesktop.DBus.Properties.Get",
        "broadcast=a.b=a.b.c-d",
        "deny=a.b",
        "include=",
        "include=nobody",
        "include=a b",
        "include=p",
        "own=a.b c.d",
        "see=a.b,c.d",
        "see=\xff",
    };
    for (guint i = 0; i < G_N_ELEMENTS(rules); i++) {
        CbusPolicies *policies = NULL;
        g_autofree char *text = g_strdup_printf("[agent]\nx=y\n[policy p]\nsee=a.b\n%s\n", rules[i]);
        g_autofree char *faults = faults_of(text, &policies);
        g_assert_null(cbus_policies_lookup(policies, "p"));
        g_assert_nonnull(cbus_policies_lookup(policies, "readonly"));
        cbus_policies_free(policies);
        g_assert_cmpstr(faults, ==, "5 ");
    }
}

static void
test_groups_that_can_not_be(void)
{
    CbusPolicies *policies = NULL;
    g_autofree char *twice = faults_of("[policy a]\nsee=a.b\n[policy a]\ntalk=c.d\n", &policies);
    g_assert_cmpstr(twice, ==, "3 ");
    g_assert_null(cbus_policies_lookup(policies, "a"));
    cbus_policies_free(policies);
    g_autofree char *ready = faults_of("[policy full]\nsee=a.b\n", &policies);
    g_assert_cmpstr(ready, ==, "1 ");
    g_assert_cmpuint(cbus_policy_size(cbus_policies_lookup(policies, "full")), ==, 1);
    cbus_policies_free(policies);
    g_autofree char *name = faults_of("[policy a.b]\nsee=a.b\n[policy ]\n[policy]\n", NULL);
    g_assert_cmpstr(name, ==, "1 3 4 ");
    g_autofree char *circle = faults_of("[policy a]\ninclude=b\n[policy b]\ninclude=a\n", &policies);
    g_assert_null(cbus_policies_lookup(policies, "a"));
    g_assert_null(cbus_policies_lookup(policies, "b"));
    cbus_policies_free(policies);
    g_autofree char *broken = faults_of("[policy a]\ninclude=b\n[policy b]\nsea=a.b\n", &policies);
    g_assert_null(cbus_policies_lookup(policies, "a"));
    cbus_policies_free(policies);
}

static void
test_rules_keep_their_line(void)
{
    g_autofree char *configuration = read_data("policies.conf");
    g_autoptr(CbusPolicies) policies =
        cbus_policies_parse(configuration, strlen(configuration), "policies.conf", no_fault, NULL);
    const CbusPolicy *policy = cbus_policies_lookup(policies, "call");
    g_assert_cmpstr(cbus_policy_name(policy), ==, "call");
    g_assert_cmpuint(cbus_policy_size(policy), ==, 3);
    const CbusRule *rule = cbus_policy_rule(policy, 2);
    g_assert_cmpstr(rule->file, ==, "policies.conf");
    g_assert_cmpuint(rule->line, ==, 25);
    g_assert_cmpstr(rule->text, ==, "call=com.example.Lazy=com.example.K.Wake");
    const CbusPolicy *nginx = cbus_policies_lookup(policies, "nginx");
    g_assert_cmpuint(cbus_policy_size(nginx), ==,
                     cbus_policy_size(cbus_policies_lookup(policies, "readonly")) + 1);
    g_assert_cmpstr(cbus_policy_rule(nginx, 1)->file, ==, "ready-made");
}

static void
test_size_is_bounded(void)
{
    g_autoptr(GString) text = g_string_new("[policy p]\nsee=");
    for (guint i = 0; i < 2000; i++)
        g_string_append(text, "a.b;");
    g_autofree char *line = faults_of(text->str, NULL);
    g_assert_cmpstr(line, ==, "2 ");
    g_string_assign(text, "[policy p]\n");
    for (guint i = 0; i <= CBUS_POLICY_RULES; i++)
        g_string_append(text, "see=a.b\n");
    g_autofree char *rules = faults_of(text->str, NULL);
    g_assert_cmpstr(rules, ==, "2050 ");
    while (text->len <= CBUS_POLICY_TEXT_MAX)
        g_string_append(text, "# a comment\n");
    g_autofree char *size = faults_of(text->str, NULL);
    g_assert_cmpstr(size, ==, "0 ");
}

static void
test_parts_of_an_interface(void)
{
    g_autofree char *configuration = read_data("policies.conf");
    g_autoptr(CbusPolicies) policies =
        cbus_policies_parse(configuration, strlen(configuration), "policies.conf", no_fault, NULL);
    const CbusSpan one = CBUS_SPAN_LITERAL("com.example.One"), three = CBUS_SPAN_LITERAL("com.example.Three"),
                   path = CBUS_SPAN_LITERAL("/three"), i = CBUS_SPAN_LITERAL("com.example.I"),
                   j = CBUS_SPAN_LITERAL("com.example.J"), every = CBUS_SPAN_LITERAL(""),
                   level = CBUS_SPAN_LITERAL("Level"), secret = CBUS_SPAN_LITERAL("Secret");
    CbusJudge judge = {cbus_policies_lookup(policies, "read"), names_of, NULL, cbus_span(SELF)};
    g_assert_cmpint(cbus_judge_interface(&judge, one, path, i), ==, CBUS_ACCESS_ALL);
    g_assert_cmpint(cbus_judge_interface(&judge, one, path, j), ==, CBUS_ACCESS_NONE);
    g_assert_cmpint(cbus_judge_interface(&judge, one, path, every), ==, CBUS_ACCESS_NONE);
    g_assert_cmpint(cbus_judge_interface(&judge, three, path, j), ==, CBUS_ACCESS_SOME);
    g_assert_cmpint(cbus_judge_interface(&judge, three, cbus_span("/else"), j), ==, CBUS_ACCESS_NONE);
    g_assert_true(cbus_judge_property(&judge, three, path, j, level));
    g_assert_false(cbus_judge_property(&judge, three, path, j, secret));
    judge.policy = cbus_policies_lookup(policies, "deny");
    g_assert_cmpint(cbus_judge_interface(&judge, one, path, i), ==, CBUS_ACCESS_SOME);
    g_assert_cmpint(cbus_judge_interface(&judge, one, path, every), ==, CBUS_ACCESS_SOME);
    g_assert_false(cbus_judge_property(&judge, one, path, every, secret));
    g_assert_true(cbus_judge_property(&judge, one, path, i, level));
    g_assert_cmpint(cbus_judge_interface(&judge, one, path, cbus_span("com.example.H")), ==,
                    CBUS_ACCESS_NONE);
}

/* What a denial proposes would have allowed the message. */
static void
test_hints_help(void)
{
    static const char *const rows[] = {
        "none\tcall\tcom.example.One\t/p\tcom.example.I\tDo\t-\t\t",
        "none\tcall\tcom.example.One\t/p\torg.freedesktop.DBus.Properties\tGet\tcom.example.I|Level\t\t",
        "none\tcall\tcom.example.One\t/p\torg.freedesktop.DBus.Properties\tSet\tcom.example.I|Level\t\t",
        "none\tcall\tcom.example.One\t/p\torg.freedesktop.DBus.Properties\tGetAll\t\t\t",
        "none\tcall\tcom.example.One\t/p\t-\tDo\t-\t\t",
        "none\tcall\torg.freedesktop.DBus\t/p\torg.freedesktop.DBus.Monitoring\tBecomeMonitor\t-\t\t",
        "none\tcall\torg.freedesktop.DBus\t/p\torg.freedesktop.DBus\tRequestName\tcom.example.X\t\t",
        "none\tcall\torg.freedesktop.DBus\t/p\torg.freedesktop.DBus\tStartServiceByName\tcom.example.X\t\t",
        "none\tcall\t-\t/p\tcom.example.I\tDo\t-\t\t",
        "none\tsignal\tcom.example.One\t/p\tcom.example.I\tDone\t-\t\t",
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(GStrv) row = g_strsplit(rows[i], "\t", -1);
        g_auto(GStrv) arguments = g_strsplit(row[6], "|", 2);
        CbusFacts facts;
        facts_of_row(row, &facts);
        for (guint n = 0; !g_str_equal(row[6], "-") && arguments[n] != NULL; n++)
            facts.arguments[n] = cbus_span(arguments[n]);
        if (row[6][0] == '\0')
            facts.arguments[0] = cbus_span(row[6]);
        g_autofree char *hint = cbus_judge_hint(&facts);
        g_autofree char *text = g_strdup_printf("[policy p]\n%s\n", hint);
        g_autoptr(CbusPolicies) policies = cbus_policies_parse(text, strlen(text), "hint", no_fault, NULL);
        CbusJudge judge = {cbus_policies_lookup(policies, "p"), names_of, NULL, cbus_span(SELF)};
        g_test_message("%s", hint);
        g_assert_cmpint(cbus_judge(&judge, &facts).verdict, ==, CBUS_VERDICT_ALLOW);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/policy/matrix", test_matrix);
    g_test_add_func("/policy/faults-name-their-line", test_faults_name_their_line);
    g_test_add_func("/policy/groups-that-can-not-be", test_groups_that_can_not_be);
    g_test_add_func("/policy/rules-keep-their-line", test_rules_keep_their_line);
    g_test_add_func("/policy/size-is-bounded", test_size_is_bounded);
    g_test_add_func("/policy/parts-of-an-interface", test_parts_of_an_interface);
    g_test_add_func("/policy/hints-help", test_hints_help);
    return g_test_run();
}
