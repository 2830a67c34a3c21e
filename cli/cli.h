/* What a verb of the command line is, and how it ends. */
#pragma once
#include "cli/table.h"
#include <gio/gio.h>

typedef enum {
    CBUS_EXIT_OK = 0,     /* all answered */
    CBUS_EXIT_FAILED = 1, /* at least one failed; standard error names it */
    CBUS_EXIT_USAGE = 2,  /* the arguments, or a key or name in them, are wrong */
    CBUS_EXIT_NOBODY = 3, /* no machine to ask, or no proxy */
    CBUS_EXIT_OWN = 255,  /* run: cbus itself failed, the command was not run */
} CbusExit;

/* A verb gets its own arguments, argv[0] being "cbus VERB" for messages. */
CbusExit cbus_cli_complete(int argc, char **argv);
CbusExit cbus_cli_get(int argc, char **argv);
CbusExit cbus_cli_invoke(int argc, char **argv);
CbusExit cbus_cli_keyscan(int argc, char **argv);
CbusExit cbus_cli_machines(int argc, char **argv);
CbusExit cbus_cli_monitor(int argc, char **argv);
CbusExit cbus_cli_nkey(int argc, char **argv);
/* Returns CBUS_EXIT_OWN, or becomes the command. */
CbusExit cbus_cli_run(int argc, char **argv);
CbusExit cbus_cli_trust(int argc, char **argv);
CbusExit cbus_cli_wait(int argc, char **argv);

/* "cbus: " and the text on standard error, control characters escaped: remote text may be in it. */
void cbus_cli_complain(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Parses a verb's options and says what is wrong with them (--help ends the process). On success *ARGC and
 * *ARGV hold "cbus VERB" and between LEAST and MOST words, and FALSE means CBUS_EXIT_USAGE. */
gboolean cbus_cli_parse(GOptionContext *context, int *argc, char ***argv, int least,
                        int most) G_GNUC_WARN_UNUSED_RESULT;
/* As cbus_cli_parse, for words of which some are values: -5 is one, and after "--" everything is. */
gboolean cbus_cli_parse_values(GOptionContext *context, int *argc, char ***argv,
                               int least) G_GNUC_WARN_UNUSED_RESULT;
