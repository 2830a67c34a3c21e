/* JSON from strings and D-Bus values. */
#pragma once
#include <glib.h>

/* A string in quotes. All but printable characters are escaped: the output is safe on a terminal, too. */
void cbus_json_append_string(GString *out, const char *text);
/* A D-Bus value as `busctl --json=short` writes its data:
 * variants are {"type":…,"data":…}. */
void cbus_json_append_value(GString *out, GVariant *value);
