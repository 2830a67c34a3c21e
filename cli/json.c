/* JSON from strings and D-Bus values, written and never read.
 *
 * json-glib's generator leaves some control characters as they are (U+001F, which makes the text invalid, and
 * the C1 range, which terminals obey), and needs a tree of nodes first. Here a value goes straight to text.
 *
 * Strings hold printable characters as they are and everything else as \uNNNN, so that a remote name can
 * neither break the JSON nor the terminal that shows it. Integers are written whole: readers that keep
 * numbers as doubles lose the last digits of very large ones, as they do with busctl's. NaN and infinities,
 * for which JSON has no spelling, become null.
 *
 * Trusts that GVariant strings are UTF-8, which GDBus checked. */
#include "cli/json.h"

#include "cli/value.h"
#include "wire/json.h"

#include <math.h>

void
cbus_json_append_string(GString *out, const char *text)
{
    cbus_json_append_span(out, cbus_span(text));
}

static void
append_double(GString *out, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append(out, isfinite(value) ? g_ascii_dtostr(text, sizeof text, value) : "null");
}

static void
append_container(GString *out, GVariant *value)
{
    gboolean object = g_variant_is_of_type(value, G_VARIANT_TYPE("a{s*}"));

    g_string_append_c(out, object ? '{' : '[');
    for (gsize i = 0; i < g_variant_n_children(value); i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(value, i);

        if (i > 0)
            g_string_append_c(out, ',');
        if (object) {
            g_autoptr(GVariant) key = g_variant_get_child_value(child, 0);
            g_autoptr(GVariant) element = g_variant_get_child_value(child, 1);

            cbus_json_append_string(out, g_variant_get_string(key, NULL));
            g_string_append_c(out, ':');
            cbus_json_append_value(out, element);
        } else {
            cbus_json_append_value(out, child);
        }
    }
    g_string_append_c(out, object ? '}' : ']');
}

void
cbus_json_append_value(GString *out, GVariant *value)
{
    switch (g_variant_classify(value)) {
        case G_VARIANT_CLASS_DOUBLE:
            append_double(out, g_variant_get_double(value));
            break;
        case G_VARIANT_CLASS_STRING:
        case G_VARIANT_CLASS_OBJECT_PATH:
        case G_VARIANT_CLASS_SIGNATURE:
            cbus_json_append_string(out, g_variant_get_string(value, NULL));
            break;
        case G_VARIANT_CLASS_VARIANT: {
            g_autoptr(GVariant) inner = g_variant_get_variant(value);

            g_string_append(out, "{\"type\":");
            cbus_json_append_string(out, g_variant_get_type_string(inner));
            g_string_append(out, ",\"data\":");
            cbus_json_append_value(out, inner);
            g_string_append_c(out, '}');
            break;
        }
        case G_VARIANT_CLASS_ARRAY:
        case G_VARIANT_CLASS_TUPLE:
        case G_VARIANT_CLASS_DICT_ENTRY:
        case G_VARIANT_CLASS_MAYBE: /* never on D-Bus */
            append_container(out, value);
            break;
        default:
            cbus_value_append_plain(out, value);
    }
}
