/* How many strangers an agent listens to. */
#include "agent/hello_limits.h"

#include <string.h>

static CbusKey
key_of(guint n)
{
    CbusKey key = {{0}};

    memcpy(key.bytes, &n, sizeof n);
    return key;
}

static guint
admitted(CbusHelloLimits *limits, guint first, guint count, gint64 now)
{
    guint in = 0;

    for (guint i = 0; i < count; i++) {
        CbusKey key = key_of(first + i);
        in += cbus_hello_limits_admit(limits, &key, now) ? 1 : 0;
    }
    return in;
}

static void
test_one_name_has_a_limit_of_its_own(void)
{
    g_autoptr(CbusHelloLimits) limits = cbus_hello_limits_new();
    CbusKey one = key_of(1), other = key_of(2);
    guint in = 0;

    for (guint i = 0; i < 100; i++)
        in += cbus_hello_limits_admit(limits, &one, 1000) ? 1 : 0;
    g_assert_cmpuint(in, ==, 32);
    g_assert_true(cbus_hello_limits_admit(limits, &other, 1000));
    /* A second later it is let in again. */
    g_assert_false(cbus_hello_limits_admit(limits, &one, 1000 + G_USEC_PER_SEC - 1));
    g_assert_true(cbus_hello_limits_admit(limits, &one, 1000 + G_USEC_PER_SEC));
}

static void
test_all_together_have_a_limit(void)
{
    g_autoptr(CbusHelloLimits) limits = cbus_hello_limits_new();

    g_assert_cmpuint(admitted(limits, 10, 5000, 1000), ==, 500);
    g_assert_cmpuint(admitted(limits, 10000, 5, 1000 + G_USEC_PER_SEC), ==, 5);
}

static void
test_refusals_are_few(void)
{
    g_autoptr(CbusHelloLimits) limits = cbus_hello_limits_new();
    guint told = 0;

    for (guint i = 0; i < 100; i++)
        told += cbus_hello_limits_refusal(limits, 1000) ? 1 : 0;
    g_assert_cmpuint(told, ==, 10);
    g_assert_true(cbus_hello_limits_refusal(limits, 1000 + G_USEC_PER_SEC));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hello-limits/one_name_has_a_limit_of_its_own", test_one_name_has_a_limit_of_its_own);
    g_test_add_func("/hello-limits/all_together_have_a_limit", test_all_together_have_a_limit);
    g_test_add_func("/hello-limits/refusals_are_few", test_refusals_are_few);
    return g_test_run();
}
