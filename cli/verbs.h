/* The verbs of cbus. */
#pragma once
#include "cli/cli.h"

typedef struct {
    const char *name;
    const char *summary; /* NULL: not shown */
    CbusExit (*run)(int argc, char **argv);
} CbusVerb;

extern const CbusVerb cbus_verbs[]; /* ends with one without a name */
