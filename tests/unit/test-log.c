/* What a log line may hold: fields, no forged lines, nothing below the level. The writer goes to standard
 * error, so each case runs in a child whose standard error is a pipe. */
#include "link/log.h"

static void
log_all(void)
{
    cbus_log_init("cbus-test", 1);
    cbus_log(G_LOG_LEVEL_INFO, "machine is here", CBUS_LOG_MACHINE, "UABC", CBUS_LOG_NAME, NULL,
             CBUS_LOG_REASON, "because", NULL);
    cbus_log(G_LOG_LEVEL_DEBUG, "not shown", NULL);
    cbus_log(G_LOG_LEVEL_WARNING, "bad name \x1b[2J\nforged: line \xff", NULL);
    g_info("a message of a library");
}

static void
test_text(void)
{
    if (g_test_subprocess()) {
        log_all();
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*cbus-test: machine is here machine=UABC reason=because\n*");
    g_test_trap_assert_stderr("*cbus-test: warning: bad name \\x1b[2J\\x0aforged: line ?\n*");
    g_test_trap_assert_stderr("*cbus-test: a message of a library*\n*");
    g_test_trap_assert_stderr_unmatched("*not shown*");
    g_test_trap_assert_stderr_unmatched("*\nforged*");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log/text-has-fields-and-can-not-be-forged", test_text);
    return g_test_run();
}
