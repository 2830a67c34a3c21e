/* cbus: the command line.
 *
 * A verb is a function of its own file; this one finds it, and says which there are. Verbs talk D-Bus to
 * cbus-proxy as any other client does, or do without it: nothing here knows NATS, links or private keys.
 *
 * Exit status, for all verbs: 0 all answered, 1 at least one failed (each named on standard error), 2 usage,
 * 3 no machine to ask or no proxy; run has its command's, or 255. What was asked for goes to standard output
 * and everything else to standard error, so that `$(cbus nkey …)` is what it says.
 *
 * Text is UTF-8 in a UTF-8 locale and transliterated in others (g_print does that), JSON is always UTF-8;
 * arguments are taken as the locale has them. Output that can not be written is a failure. One thread. */
#include "cli/cli.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *name;
    const char *summary;
    CbusExit (*run)(int argc, char **argv);
} Verb;

static const Verb verbs[] = {
    {"get", "read a property on many machines", cbus_cli_get},
    {"invoke", "call a method on many machines", cbus_cli_invoke},
    {"keyscan", "print the NKeys of machines from their SSH host keys", cbus_cli_keyscan},
    {"machines", "list the machines that the proxy knows", cbus_cli_machines},
    {"monitor", "show the signals of machines as they come", cbus_cli_monitor},
    {"nkey", "print the NKey of an SSH public key", cbus_cli_nkey},
    {"run", "run a command whose system bus is a machine's", cbus_cli_run},
    {"trust", "pin a name to a machine's NKey", cbus_cli_trust},
    {"wait", "wait until a property has a value", cbus_cli_wait},
};

static char *
usage(void)
{
    GString *out = g_string_new("Usage: cbus VERB [ARGUMENT…]\n\n");

    for (guint i = 0; i < G_N_ELEMENTS(verbs); i++)
        g_string_append_printf(out, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
    g_string_append(out, "\ncbus VERB --help shows the options of a verb; cbus --version the version.\n");
    return g_string_free(out, FALSE);
}

static int
run(const Verb *verb, int argc, char **argv)
{
    /* A vector that GOption may cut; the words stay the kernel's. */
    g_autofree char **words = g_memdup2(argv + 1, sizeof(char *) * (gsize)argc);
    g_autofree char *name = g_strdup_printf("cbus %s", verb->name);
    CbusExit status;

    words[0] = name;
    g_set_prgname(name);
    status = verb->run(argc - 1, words);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == CBUS_EXIT_OK) {
        cbus_cli_complain("can not write to standard output");
        return CBUS_EXIT_FAILED;
    }
    return (int)status;
}

int
main(int argc, char **argv)
{
    g_autofree char *text = usage();
    const char *word = argc > 1 ? argv[1] : NULL;

    setlocale(LC_ALL, "");
    if (word == NULL) {
        g_printerr("%s", text);
        return CBUS_EXIT_USAGE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(verbs); i++)
        if (strcmp(word, verbs[i].name) == 0)
            return run(&verbs[i], argc, argv);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        g_print("%s", text);
        return CBUS_EXIT_OK;
    }
    if (strcmp(word, "--version") == 0) {
        g_print("cbus %s\n", CBUS_VERSION);
        return CBUS_EXIT_OK;
    }
    cbus_cli_complain("there is no verb \"%s\"", word);
    g_printerr("%s", text);
    return CBUS_EXIT_USAGE;
}
