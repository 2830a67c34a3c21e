/* Words of the command line, and what is said when they are wrong.
 *
 * GOption reads options wherever they stand, so that `cbus get D P X --json` and `cbus get --json D P X` are
 * the same. Two things it does not know: how many words a verb wants, and that words can be values, of which
 * some begin with a minus. A negative number is no option, whatever else begins with a minus is one, and
 * behind "--" everything is a word.
 *
 * Complaints go to standard error, escaped: names and error texts of machines may be in them. One thread. */
#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

void
cbus_cli_complain(const char *format, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *escaped = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    escaped = cbus_text_escape(text, 0);
    g_printerr("cbus: %s\n", escaped);
}

/* "Usage:" and its line: the help up to its first empty line. */
static void
show_usage(GOptionContext *context)
{
    g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
    g_auto(GStrv) lines = g_strsplit(help, "\n", -1);

    for (char **line = lines; *line != NULL && **line != '\0'; line++)
        g_printerr("%s\n", *line);
}

gboolean
cbus_cli_parse(GOptionContext *context, int *argc, char ***argv, int least, int most)
{
    g_autoptr(GError) error = NULL;

    if (!g_option_context_parse(context, argc, argv, &error)) {
        cbus_cli_complain("%s (%s --help shows the options)", error->message, (*argv)[0]);
        return FALSE;
    }
    /* GOption leaves a "--" that stood before the words. */
    if (*argc > 1 && strcmp((*argv)[1], "--") == 0) {
        (*argv)[1] = (*argv)[0];
        (*argv)++;
        (*argc)--;
    }
    if (*argc - 1 < least || *argc - 1 > most) {
        if (*argc - 1 < least)
            cbus_cli_complain("too few arguments");
        else
            cbus_cli_complain("too many arguments: \"%s\"", (*argv)[most + 1]);
        show_usage(context);
        return FALSE;
    }
    return TRUE;
}

/* Takes the first "--" out. Returns how many words stand behind it. */
static int
cut_separator(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--") != 0)
            continue;
        memmove(argv + i, argv + i + 1, sizeof(char *) * (size_t)(*argc - i));
        *argc -= 1;
        return *argc - i;
    }
    return 0;
}

gboolean
cbus_cli_parse_values(GOptionContext *context, int *argc, char ***argv, int least)
{
    int literal = cut_separator(argc, *argv), before = *argc - literal;
    g_autofree char **behind = g_memdup2(*argv + before, sizeof(char *) * (gsize)(literal + 1));

    (*argv)[before] = NULL;
    g_option_context_set_ignore_unknown_options(context, TRUE);
    if (!cbus_cli_parse(context, &before, argv, 0, G_MAXINT))
        return FALSE;
    for (int i = 1; i < before; i++) {
        const char *word = (*argv)[i];

        if (word[0] == '-' && word[1] != '\0' && !g_ascii_isdigit(word[1]) && word[1] != '.') {
            cbus_cli_complain(
                "unknown option %s (%s --help shows the options; values that begin with - stand "
                "behind --)",
                word, (*argv)[0]);
            return FALSE;
        }
    }
    memcpy(*argv + before, behind, sizeof(char *) * (size_t)(literal + 1));
    *argc = before + literal;
    if (*argc - 1 >= least)
        return TRUE;
    cbus_cli_complain("too few arguments (%s --help shows them)", (*argv)[0]);
    return FALSE;
}
