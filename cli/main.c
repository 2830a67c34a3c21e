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
#include "cli/verbs.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

static char *
usage(void)
{
    GString *out = g_string_new("Usage: cbus VERB [ARGUMENT…]\n\n");

    for (const CbusVerb *verb = cbus_verbs; verb->name != NULL; verb++) {
        if (verb->summary != NULL)
            g_string_append_printf(out, "  %-10s %s\n", verb->name, verb->summary);
    }
    g_string_append(out, "\ncbus VERB --help shows the options of a verb; cbus --version the version.\n");
    return g_string_free(out, FALSE);
}

static int
run(const CbusVerb *verb, int argc, char **argv)
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
    for (const CbusVerb *verb = cbus_verbs; verb->name != NULL; verb++)
        if (strcmp(word, verb->name) == 0)
            return run(verb, argc, argv);
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
