/* D-Bus values as text, as busctl(1) writes them. */
#pragma once
#include <gio/gio.h>

/* VALUE as `busctl get-property` prints it: its type, then its content. (transfer full) */
char *cbus_value_text(GVariant *value);
/* BODY, a tuple, as `busctl call` prints it: its signature, then its values; "" for no values. (transfer
 * full) */
char *cbus_value_body_text(GVariant *body);
/* A boolean or an integer, which JSON writes alike. */
void cbus_value_append_plain(GString *out, GVariant *value);
/* VALUE with object paths as the machine knows them: at or below PREFIX, a service's node of the mirror, they
 * lose it. (transfer full) */
GVariant *cbus_value_unmirror(GVariant *value, const char *prefix);
