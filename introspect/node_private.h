/* How node_parse.c hands over what it read; for introspect/node*.c alone. */
#pragma once
#include "introspect/node.h"

/* Takes all three: the rebuilt text, and two sorted, NULL-terminated vectors without doubles. */
CbusNode *cbus_node_new_take(GString *xml, char **interfaces, char **children);
