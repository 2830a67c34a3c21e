/* Which source of a setting counts, and what is refused. */
#include "link/settings.h"
#include <glib/gstdio.h>

static const CbusSetting table[] = {
    {"nats", "CBUS_TEST_NATS", "nats://default", "servers", "URL"},
    {"key", NULL, NULL, "key", "FILE"},
    {"known-only", "CBUS_TEST_KNOWN_ONLY", NULL, "a flag", NULL},
    {NULL},
};

typedef struct {
    char *dir, *file;
    const char *files[3];
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data)
{
    fixture->dir = g_dir_make_tmp("cbus-settings-XXXXXX", NULL);
    fixture->file = g_build_filename(fixture->dir, "proxy.conf", NULL);
    fixture->files[0] = "/nonexistent/proxy.conf";
    fixture->files[1] = fixture->file;
    g_unsetenv("CBUS_TEST_NATS");
    g_unsetenv("CBUS_TEST_KNOWN_ONLY");
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_unlink(fixture->file);
    g_rmdir(fixture->dir);
    g_free(fixture->file);
    g_free(fixture->dir);
}

static void
write_file(Fixture *fixture, const char *text)
{
    g_assert_true(g_file_set_contents(fixture->file, text, -1, NULL));
}

static CbusSettings *
parse(Fixture *fixture, const char *arguments, GError **error)
{
    g_autofree char *line = g_strconcat("program ", arguments, NULL);
    g_auto(GStrv) words = NULL;
    g_autofree char **argv = NULL;
    int argc;

    g_assert_true(g_shell_parse_argv(line, &argc, &words, NULL));
    argv = g_memdup2(words, sizeof(char *) * (argc + 1));
    return cbus_settings_parse(table, "proxy", fixture->files, "summary", &argc, &argv, error);
}

static void
assert_nats(Fixture *fixture, const char *arguments, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSettings) settings = parse(fixture, arguments, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(cbus_settings_get(settings, "nats"), ==, expected);
}

static void
assert_refused(Fixture *fixture, const char *arguments, const char *part, const char *other_part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(parse(fixture, arguments, &error));
    g_assert_nonnull(error);
    g_assert_nonnull(g_strstr_len(error->message, -1, part));
    g_assert_nonnull(g_strstr_len(error->message, -1, other_part));
}

static void
test_order(Fixture *fixture, gconstpointer data)
{
    assert_nats(fixture, "", "nats://default");
    write_file(fixture, "[proxy]\nnats=nats://file\n");
    assert_nats(fixture, "", "nats://file");
    g_setenv("CBUS_TEST_NATS", "", TRUE);
    assert_nats(fixture, "", "nats://file");
    g_setenv("CBUS_TEST_NATS", "nats://environment", TRUE);
    assert_nats(fixture, "", "nats://environment");
    assert_nats(fixture, "--nats nats://flag", "nats://flag");
}

static void
test_flags(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *arguments, *environment, *file;
        gboolean expected;
    } cases[] = {
        {"", NULL, "", FALSE},
        {"--known-only", NULL, "", TRUE},
        {"", "yes", "", TRUE},
        {"", NULL, "[proxy]\nknown-only=true\n", TRUE},
        {"", "false", "[proxy]\nknown-only=true\n", FALSE},
        {"--known-only", "false", "[proxy]\nknown-only=false\n", TRUE},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(CbusSettings) settings = NULL;

        g_unsetenv("CBUS_TEST_KNOWN_ONLY");
        if (cases[i].environment != NULL)
            g_setenv("CBUS_TEST_KNOWN_ONLY", cases[i].environment, TRUE);
        write_file(fixture, cases[i].file);
        settings = parse(fixture, cases[i].arguments, &error);
        g_assert_no_error(error);
        g_assert_cmpint(cbus_settings_flag(settings, "known-only"), ==, cases[i].expected);
    }
}

static void
test_config_replaces_the_default_files(Fixture *fixture, gconstpointer data)
{
    g_autofree char *other = g_build_filename(fixture->dir, "other.conf", NULL);
    g_autofree char *arguments = g_strconcat("--config ", other, NULL);

    write_file(fixture, "[proxy]\nnats=nats://file\n");
    assert_refused(fixture, arguments, other, "");
    g_assert_true(g_file_set_contents(other, "[proxy]\nkey=/k\n", -1, NULL));
    assert_nats(fixture, arguments, "nats://default");
    g_unlink(other);
}

static void
test_misspelt(Fixture *fixture, gconstpointer data)
{
    write_file(fixture, "[proxy]\nnatz=nats://file\n");
    assert_refused(fixture, "", "natz", fixture->file);
    write_file(fixture, "[proxy]\nnats=nats://file\n[policy p]\nsee=a.b\n");
    assert_refused(fixture, "", "[policy p]", "[proxy]");
    write_file(fixture, "[proxy]\nnats=nats://file\n[gateway]\nuser=a\n");
    assert_refused(fixture, "", "[gateway]", "[proxy]");
    write_file(fixture, "[prxy]\nnats=nats://file\n");
    assert_refused(fixture, "", "[prxy]", "[proxy]");
    write_file(fixture, "nats=nats://file\n");
    assert_refused(fixture, "", fixture->file, "");
    write_file(fixture, "\n# x\n[proxy]\n key = /k\n[proxy]\nkey=/other\n");
    assert_refused(fixture, "", "proxy.conf:6: ", "line 4");
    write_file(fixture, "[proxy]\r\nkey=/k\r\nnatz=x\r\n");
    assert_refused(fixture, "", "proxy.conf:3: ", "'natz'");
    write_file(fixture, "[proxy]\nkey\n");
    assert_refused(fixture, "", "proxy.conf:2: ", "NAME=VALUE");
    write_file(fixture, "[proxy\nkey=/k\n");
    assert_refused(fixture, "", "proxy.conf:1: ", "[proxy]");
    write_file(fixture, "[proxy]\nknown-only=maybe\n");
    assert_refused(fixture, "", "maybe", "known-only");
    write_file(fixture, "");
    assert_refused(fixture, "--natz x", "natz", "");
    assert_refused(fixture, "word", "word", "--help");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/settings/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("flag-beats-environment-beats-file-beats-default", test_order);
    ADD("flags-can-be-set-and-unset-anywhere", test_flags);
    ADD("config-replaces-the-default-files", test_config_replaces_the_default_files);
    ADD("misspelt-settings-are-refused-by-name", test_misspelt);
    return g_test_run();
}
