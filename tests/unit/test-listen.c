/* Match rules for the proxy's bus: narrow, and never too narrow. */
#include "cli/bus.h"
#include "cli/listen.h"
#include "cli/remote_signal.h"

#define WEB1 "UAWEB1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define WEB2 "UAWEB2AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define ONE  CBUS_PROXY_PATH "/" WEB1 "/com_2eexample_2eOne"
#define FROM "type='signal',sender='ie.bmcgee.CBus'"

static void
machine_free(gpointer data)
{
    CbusRosterMachine *machine = data;

    g_free(machine->nkey);
    g_free(machine);
}

static GPtrArray *
machines_new(guint n)
{
    GPtrArray *machines = g_ptr_array_new_with_free_func(machine_free);

    for (guint i = 0; i < n; i++) {
        CbusRosterMachine *machine = g_new0(CbusRosterMachine, 1);

        machine->nkey = i < 2 ? g_strdup(i == 0 ? WEB1 : WEB2) : g_strdup_printf("UA%054u", i);
        g_ptr_array_add(machines, machine);
    }
    return machines;
}

static GPtrArray *
rules_new(const char *text)
{
    GPtrArray *rules = g_ptr_array_new_with_free_func((GDestroyNotify)cbus_match_rule_free);
    g_autoptr(GError) error = NULL;
    CbusMatchRule *rule = text != NULL ? cbus_match_rule_parse(cbus_span(text), &error) : NULL;

    g_assert_no_error(error);
    if (rule != NULL)
        g_ptr_array_add(rules, rule);
    return rules;
}

static gboolean
holds(const GPtrArray *rules, const char *rule)
{
    return g_ptr_array_find_with_equal_func((GPtrArray *)rules, rule, g_str_equal, NULL);
}

static void
test_rules_are_in_terms_of_the_mirror(void)
{
    static const struct {
        const char *remote, *local;
    } cases[] = {
        {NULL, FROM ",path_namespace='" CBUS_PROXY_PATH "/" WEB1 "'"},
        {"sender='com.example.One'", FROM ",path_namespace='" ONE "'"},
        {"sender='com.example.One',path='/'", FROM ",path='" ONE "'"},
        {"sender='com.example.One',path='/a',member='M'", FROM ",path='" ONE "/a',member='M'"},
        {"sender='com.example.One',path_namespace='/a'", FROM ",path_namespace='" ONE "/a'"},
        /* Of any service: the machine is all that is known of the path. */
        {"path='/a',interface='a.b'", FROM ",path_namespace='" CBUS_PROXY_PATH "/" WEB1 "',interface='a.b'"},
        {"arg0='it'\\''s',arg63='',arg1path='/a/'",
         FROM ",path_namespace='" CBUS_PROXY_PATH "/" WEB1 "',arg0='it'\\''s',arg63=''"},
    };
    g_autoptr(GPtrArray) machines = machines_new(1);

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GPtrArray) remote = rules_new(cases[i].remote);
        g_autoptr(GPtrArray) local = cbus_listen_rules_for_signals(machines, FALSE, remote);

        if (!holds(local, cases[i].local))
            g_error("%s is no %s", cases[i].local, cases[i].remote);
        g_assert_cmpuint(local->len, ==, 3);
        g_assert_true(holds(local, FROM ",path='" CBUS_PROXY_PATH "'"));
        g_assert_true(holds(local, FROM ",path='" CBUS_PROXY_PATH "/" WEB1
                                        "',interface='org.freedesktop.DBus.Properties',"
                                        "member='PropertiesChanged',arg0='ie.bmcgee.CBus1.Machine'"));
    }
}

static void
test_a_thousand_machines_are_asked_for_at_once(void)
{
    g_autoptr(GPtrArray) few = machines_new(100), many = machines_new(1000);
    g_autoptr(GPtrArray) remote = rules_new("sender='a.b',path='/a',member='M'");
    g_autoptr(GPtrArray) narrow = cbus_listen_rules_for_signals(few, FALSE, remote);
    g_autoptr(GPtrArray) wide = cbus_listen_rules_for_signals(many, FALSE, remote);
    g_autoptr(GPtrArray) property = cbus_listen_rules_for_property(many, "a.b", "/a", "c.d");

    g_assert_cmpuint(narrow->len, ==, 201);
    g_assert_cmpuint(wide->len, ==, 3);
    g_assert_true(holds(wide, FROM ",path_namespace='" CBUS_PROXY_PATH "',member='M'"));
    g_autoptr(GPtrArray) open = cbus_listen_rules_for_signals(few, TRUE, remote);
    g_assert_cmpuint(open->len, ==, 102);
    g_assert_true(holds(open, FROM ",interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',"
                                   "arg0='ie.bmcgee.CBus1.Machine'"));
    g_assert_cmpuint(property->len, ==, 4);
    g_assert_true(holds(property, FROM ",interface='org.freedesktop.DBus.Properties',member="
                                       "'PropertiesChanged',arg0='c.d'"));
}

static void
test_what_is_too_long_for_a_bus_is_asked_for_more_broadly(void)
{
    g_autofree char *long_text = g_strnfill(1000, 'x');
    g_autofree char *text = g_strconcat("member='M',arg0='", long_text, "'", NULL);
    g_autoptr(GPtrArray) machines = machines_new(1), remote = rules_new(text);
    g_autoptr(GPtrArray) local = cbus_listen_rules_for_signals(machines, FALSE, remote);

    g_assert_true(holds(local, FROM ",path_namespace='" CBUS_PROXY_PATH "',member='M'"));
}

/* ---- never too narrow: random rules and signals out of few values, so that many fit ---- */

static const char *
pick(const char *const *values)
{
    return values[g_test_rand_int_range(0, (gint32)g_strv_length((char **)values))];
}

static const char *const senders[] = {"com.example.One", "com.example.Two", "org.freedesktop.DBus", NULL};
static const char *const paths[] = {"/", "/a", "/a/b", "/ab", NULL};
static const char *const interfaces[] = {"i.One", "i.Two", NULL};
static const char *const members[] = {"M", "N", NULL};
static const char *const texts[] = {"", "a", "a.b", "/a/", "it's", NULL};

static void
maybe(GString *rule, const char *key, const char *const *values)
{
    g_auto(GStrv) parts = g_strsplit(pick(values), "'", -1);
    g_autofree char *quoted = g_strjoinv("'\\''", parts);

    if (g_test_rand_bit())
        g_string_append_printf(rule, "%s%s='%s'", rule->len > 0 ? "," : "", key, quoted);
}

static char *
random_rule(void)
{
    GString *rule = g_string_new(NULL);

    maybe(rule, "sender", senders);
    maybe(rule, g_test_rand_bit() ? "path" : "path_namespace", paths);
    maybe(rule, "interface", interfaces);
    maybe(rule, "member", members);
    maybe(rule, "arg0", texts);
    maybe(rule, "arg1", texts);
    if (g_test_rand_bit())
        maybe(rule, "arg0path", paths);
    return g_string_free(rule, FALSE);
}

/* What the bus compares of a signal of the mirror. */
static gboolean
bus_delivers(const GPtrArray *rules, const char *path, const char *interface, const char *member,
             GVariant *body)
{
    CbusMatchArgument arguments[2] = {{.is_path = FALSE}};
    const CbusMatchSignal signal = {.sender = CBUS_SPAN_LITERAL("ie.bmcgee.CBus"),
                                    .path = cbus_span(path),
                                    .interface = cbus_span(interface),
                                    .member = cbus_span(member),
                                    .arguments = arguments,
                                    .n_arguments = 2};

    for (guint i = 0; i < 2; i++) {
        g_autoptr(GVariant) value = g_variant_get_child_value(body, i);

        arguments[i] =
            (CbusMatchArgument){.text = cbus_span(g_variant_get_string(value, NULL)),
                                .is_path = g_variant_is_of_type(value, G_VARIANT_TYPE_OBJECT_PATH)};
    }
    for (guint i = 0; i < rules->len; i++) {
        g_autoptr(CbusMatchRule) rule = cbus_match_rule_parse(cbus_span(rules->pdata[i]), NULL);

        g_assert_nonnull(rule);
        if (cbus_match_rule_wants_signal(rule, &signal))
            return TRUE;
    }
    return FALSE;
}

/* A signal of WEB1 or WEB2, as the mirror emits it. */
static gboolean
try_signal(const GPtrArray *machines, const GPtrArray *remote, const GPtrArray *local, guint *unwanted)
{
    const char *path = pick(paths), *interface = pick(interfaces), *member = pick(members);
    g_autofree char *service =
        cbus_fleet_service_path(machines->pdata[g_test_rand_int_range(0, 2)], pick(senders));
    g_autofree char *at = g_strconcat(service, g_str_equal(path, "/") ? "" : path, NULL);
    g_autofree char *object = g_strconcat(service, "/a", NULL);
    g_autoptr(GVariant) body =
        g_variant_ref_sink(g_test_rand_bit() ? g_variant_new("(ss)", pick(texts), pick(texts))
                                             : g_variant_new("(os)", object, pick(texts)));
    g_auto(CbusSignal) signal = {0};
    gboolean delivered = bus_delivers(local, at, interface, member, body);

    g_assert_true(cbus_signal_read(&signal, machines, at, interface, member, body));
    if (!cbus_signal_is_wanted(&signal, remote)) {
        *unwanted += delivered ? 0 : 1;
        return FALSE;
    }
    if (!delivered) {
        for (guint i = 0; i < local->len; i++)
            g_test_message("%s", (char *)local->pdata[i]);
        g_error("%s %s %s would be missed", at, interface, member);
    }
    return TRUE;
}

static void
test_nothing_that_is_wanted_is_left_out(void)
{
    g_autoptr(GPtrArray) machines = machines_new(2), many = machines_new(300);
    guint wanted = 0, unwanted = 0;

    for (guint i = 0; i < 4000; i++) {
        g_autofree char *text = random_rule();
        g_autoptr(GPtrArray) remote = rules_new(text);
        g_autoptr(GPtrArray) local =
            cbus_listen_rules_for_signals(i % 4 == 0 ? many : machines, i % 3 == 0, remote);

        for (guint j = 0; j < 8; j++)
            wanted += try_signal(machines, remote, local, &unwanted) ? 1 : 0;
    }
    g_test_message("%u were wanted, %u were kept away", wanted, unwanted);
    g_assert_cmpuint(wanted, >, 1000);
    g_assert_cmpuint(unwanted, >, 10000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/listen/mirror", test_rules_are_in_terms_of_the_mirror);
    g_test_add_func("/listen/many", test_a_thousand_machines_are_asked_for_at_once);
    g_test_add_func("/listen/long", test_what_is_too_long_for_a_bus_is_asked_for_more_broadly);
    g_test_add_func("/listen/complete", test_nothing_that_is_wanted_is_left_out);
    return g_test_run();
}
