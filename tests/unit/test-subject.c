/* Subjects: spelled as the protocol says, and read back strictly. */
#include "wire/subject.h"

#include <glib.h>
#include <string.h>

#define AGENT    "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
#define PROXY    "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L"
#define INSTANCE "000102030405060708090a0b0c0d0eff"

static CbusKey agent, proxy;
static CbusInstance instance;

static void
test_spelling(void)
{
    char out[CBUS_SUBJECT_MAX];
    cbus_subject_hello(out, &agent);
    g_assert_cmpstr(out, ==, "cbus.v1." AGENT ".in");
    cbus_subject_in(out, &agent, &instance);
    g_assert_cmpstr(out, ==, "cbus.v1." AGENT ".in." INSTANCE);
    cbus_subject_out(out, &agent, &proxy, &instance);
    g_assert_cmpstr(out, ==, "cbus.v1." AGENT ".out." PROXY "." INSTANCE);
    cbus_subject_out(out, NULL, &proxy, &instance);
    g_assert_cmpstr(out, ==, "cbus.v1.*.out." PROXY "." INSTANCE);
    cbus_subject_gone(out, &agent, &proxy, &instance);
    g_assert_cmpstr(out, ==, "cbus.v1." AGENT ".gone." PROXY "." INSTANCE);
    cbus_subject_gone(out, NULL, &proxy, &instance);
    g_assert_cmpstr(out, ==, "cbus.v1.*.gone." PROXY "." INSTANCE);
    cbus_subject_here(out, &agent);
    g_assert_cmpstr(out, ==, "cbus.v1." AGENT ".here");
}

static void
test_agent_is_read_back(void)
{
    static const char *const good[] = {"cbus.v1." AGENT ".out." PROXY "." INSTANCE,
                                       "cbus.v1." AGENT ".gone." PROXY "." INSTANCE,
                                       "cbus.v1." AGENT ".here"};
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        CbusKey key = {{0}};
        g_assert_true(cbus_subject_agent(good[i], &key));
        g_assert_true(cbus_key_equal(&key, &agent));
    }
}

static void
test_anything_else_is_not(void)
{
    static const char *const bad[] = {
        "",
        "cbus.v1.",
        "cbus.v1.who",
        "cbus.v1." AGENT,
        "cbus.v1." AGENT ".in",
        "cbus.v1." AGENT ".in." INSTANCE,
        "cbus.v1." AGENT ".here.",
        "cbus.v1." AGENT ".heresy",
        "cbus.v1." AGENT ".out.",
        "cbus.v1." AGENT ".out." PROXY,
        "cbus.v1." AGENT ".out." PROXY ".",
        "cbus.v1." AGENT ".out." PROXY "." INSTANCE "0",
        "cbus.v1." AGENT ".out." PROXY "." INSTANCE ".x",
        "cbus.v1." AGENT ".gone." PROXY "-" INSTANCE,
        "cbus.v2." AGENT ".here",
        "xcbus.v1." AGENT ".here",
        "cbus.v1.*.here",
        "cbus.v1.SDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4.here",
        "cbus.v1.UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF5.here"};
    CbusKey key = proxy;
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(cbus_subject_agent(bad[i], &key));
    g_assert_true(cbus_key_equal(&key, &proxy));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_true(cbus_nkey_decode(AGENT, -1, &agent, NULL));
    g_assert_true(cbus_nkey_decode(PROXY, -1, &proxy, NULL));
    g_assert_true(cbus_instance_parse(INSTANCE, strlen(INSTANCE), &instance));
    g_test_add_func("/subject/spelling", test_spelling);
    g_test_add_func("/subject/agent-is-read-back", test_agent_is_read_back);
    g_test_add_func("/subject/anything-else-is-not", test_anything_else_is_not);
    return g_test_run();
}
