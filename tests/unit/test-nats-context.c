/* Contexts of the `nats` command: what of them is served, and what is refused by name. */
#include "link/nats_context.h"
#include <string.h>

static CbusNatsContext *
parse(const char *text, GError **error)
{
    return cbus_nats_context_parse(text, strlen(text), "/x/demo.json", error);
}

static void
test_every_login(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *expected = g_build_filename(g_get_home_dir(), "c/ca.pem", NULL);
    g_autoptr(CbusNatsContext) password =
        parse("{\"description\":\"d\",\"url\":\"nats://a,nats://"
              "b\",\"user\":\"u\",\"password\":\"p\",\"token\":\"\","
              "\"ca\":\"~/c/ca.pem\",\"cert\":\"/c\",\"key\":\"/k\",\"nsc\":\"\",\"tls_first\":false,"
              "\"jetstream_domain\":\"x\",\"what\":[1,{}]}",
              &error);
    CbusNatsOptions options = {.urls = "nats://default"};

    g_assert_no_error(error);
    cbus_nats_context_apply(password, &options);
    g_assert_cmpstr(options.urls, ==, "nats://a,nats://b");
    g_assert_cmpstr(options.user, ==, "u");
    g_assert_cmpstr(options.password, ==, "p");
    g_assert_null(options.token);
    g_assert_cmpstr(options.ca_file, ==, expected);
    g_assert_cmpstr(options.cert_file, ==, "/c");
    g_assert_cmpstr(options.cert_key_file, ==, "/k");

    g_autoptr(CbusNatsContext) others = parse("{\"nkey\":\"/n\"}", &error);
    g_assert_no_error(error);
    options = (CbusNatsOptions){.urls = "nats://default"};
    cbus_nats_context_apply(others, &options);
    g_assert_cmpstr(options.urls, ==, "nats://default");
    g_assert_cmpstr(options.nkey_file, ==, "/n");
}

static void
test_refused_by_name(void)
{
    static const struct {
        const char *text, *names;
    } cases[] = {
        {"", "no JSON object"},
        {"[]", "no JSON object"},
        {"{\"url\":", "no JSON object"},
        {"{\"url\":4222}", "\"url\" is no string"},
        {"{\"user\":[\"u\"]}", "\"user\" is no string"},
        {"{\"nsc\":\"nsc://o/a/u\"}", "\"nsc\" can not be served"},
        {"{\"socks_proxy\":\"h:1\"}", "\"socks_proxy\" can not be served"},
        {"{\"tls_first\":true}", "\"tls_first\" can not be served"},
        {"{\"user_jwt\":\"secret\"}", "\"user_jwt\" can not be served"},
        {"{\"password\":\"secret\"}", "\"password\" needs"},
        {"{\"cert\":\"/c\"}", "\"cert\" and \"key\""},
        {"{\"user\":\"u\",\"creds\":\"/c\"}", "\"creds\" is one login of several"},
        {"{\"token\":\"secret\",\"nkey\":\"/n\"}", "is one login of several"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(parse(cases[i].text, &error));
        g_assert_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS);
        g_assert_nonnull(strstr(error->message, cases[i].names));
        g_assert_nonnull(strstr(error->message, "/x/demo.json"));
        g_assert_null(strstr(error->message, "secret"));
    }
}

static void
test_a_huge_file_is_refused(void)
{
    g_autoptr(GString) text = g_string_new("{\"url\":\"");
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < 20000; i++)
        g_string_append_c(text, 'a');
    g_string_append(text, "\"}");
    g_assert_null(parse(text->str, &error));
    g_assert_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS);
}

static void
test_names_lead_nowhere_else(void)
{
    static const char *const names[] = {"",        ".",   "..",   "../x",           "a/b",
                                        ".hidden", "a b", "a\nb", "no-such-context"};

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(cbus_nats_context_load(names[i], &error));
        g_assert_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS);
        g_assert_nonnull(strstr(error->message, "nats context ls"));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nats-context/every-login", test_every_login);
    g_test_add_func("/nats-context/refused-by-name", test_refused_by_name);
    g_test_add_func("/nats-context/a-huge-file-is-refused", test_a_huge_file_is_refused);
    g_test_add_func("/nats-context/names-lead-nowhere-else", test_names_lead_nowhere_else);
    return g_test_run();
}
