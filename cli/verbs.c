/* The verbs of cbus: main.c finds one by its name, complete.c offers them. */
#include "cli/verbs.h"

const CbusVerb cbus_verbs[] = {
    {"get", "read a property on many machines", cbus_cli_get},
    {"invoke", "call a method on many machines", cbus_cli_invoke},
    {"keyscan", "print the NKeys of machines from their SSH host keys", cbus_cli_keyscan},
    {"machines", "list the machines that the proxy knows", cbus_cli_machines},
    {"monitor", "show the signals of machines as they come", cbus_cli_monitor},
    {"nkey", "print the NKey of an SSH public key", cbus_cli_nkey},
    {"run", "run a command whose system bus is a machine's", cbus_cli_run},
    {"trust", "pin a name to a machine's NKey", cbus_cli_trust},
    {"wait", "wait until a property has a value", cbus_cli_wait},
    /* What the shells ask; not for people. */
    {"complete", NULL, cbus_cli_complete},
    {NULL, NULL, NULL},
};
