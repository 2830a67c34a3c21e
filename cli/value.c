/* D-Bus values as text, as busctl(1) writes them.
 *
 * What is printed can be given back: `busctl call` and `cbus invoke` take as arguments what they print as
 * answers. A value is its type followed by its content on one line; arrays begin with their length, variants
 * with their type, strings stand in double quotes. Everything that is not printable ASCII is escaped in
 * octal, as busctl has it, which also keeps remote text from driving the terminal.
 *
 * The mirror moves each object path below the machine it came from. A list of what fifty machines said is
 * about their own objects, and PATH arguments name those: so paths are moved back before they are shown.
 *
 * Trusts that values come from GDBus: valid, and at most 64 containers deep. Pure. */
#include "cli/value.h"

#include <string.h>

static void
append_string(GString *out, const char *text)
{
    static const char plain[] = "abfnrtv";
    static const char codes[] = "\a\b\f\n\r\t\v";

    g_string_append_c(out, '"');
    for (; *text != '\0'; text++) {
        const char *code = strchr(codes, *text);
        guchar c = (guchar)*text;

        if (code != NULL)
            g_string_append_printf(out, "\\%c", plain[code - codes]);
        else if (c == '"' || c == '\'' || c == '\\')
            g_string_append_printf(out, "\\%c", c);
        else if (c < ' ' || c >= 127)
            g_string_append_printf(out, "\\%03o", c);
        else
            g_string_append_c(out, *text);
    }
    g_string_append_c(out, '"');
}

void
cbus_value_append_plain(GString *out, GVariant *value)
{
    switch (g_variant_classify(value)) {
        case G_VARIANT_CLASS_BOOLEAN:
            g_string_append(out, g_variant_get_boolean(value) ? "true" : "false");
            break;
        case G_VARIANT_CLASS_BYTE:
            g_string_append_printf(out, "%u", g_variant_get_byte(value));
            break;
        case G_VARIANT_CLASS_INT16:
            g_string_append_printf(out, "%d", g_variant_get_int16(value));
            break;
        case G_VARIANT_CLASS_UINT16:
            g_string_append_printf(out, "%u", g_variant_get_uint16(value));
            break;
        case G_VARIANT_CLASS_INT32:
            g_string_append_printf(out, "%d", g_variant_get_int32(value));
            break;
        case G_VARIANT_CLASS_UINT32:
            g_string_append_printf(out, "%u", g_variant_get_uint32(value));
            break;
        case G_VARIANT_CLASS_INT64:
            g_string_append_printf(out, "%" G_GINT64_FORMAT, g_variant_get_int64(value));
            break;
        case G_VARIANT_CLASS_UINT64:
            g_string_append_printf(out, "%" G_GUINT64_FORMAT, g_variant_get_uint64(value));
            break;
        case G_VARIANT_CLASS_HANDLE:
            g_string_append_printf(out, "%d", g_variant_get_handle(value));
            break;
        default:
            g_assert_not_reached();
    }
}

static void append(GString *out, GVariant *value);

static void
append_children(GString *out, GVariant *value)
{
    for (gsize i = 0; i < g_variant_n_children(value); i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(value, i);

        append(out, child);
    }
}

static void
append_double(GString *out, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append(out, g_ascii_formatd(text, sizeof text, "%g", value));
}

/* A space and the content of VALUE. */
static void
append(GString *out, GVariant *value)
{
    if (!g_variant_is_of_type(value, G_VARIANT_TYPE_TUPLE) &&
        !g_variant_is_of_type(value, G_VARIANT_TYPE_DICT_ENTRY))
        g_string_append_c(out, ' ');
    switch (g_variant_classify(value)) {
        case G_VARIANT_CLASS_DOUBLE:
            append_double(out, g_variant_get_double(value));
            break;
        case G_VARIANT_CLASS_STRING:
        case G_VARIANT_CLASS_OBJECT_PATH:
        case G_VARIANT_CLASS_SIGNATURE:
            append_string(out, g_variant_get_string(value, NULL));
            break;
        case G_VARIANT_CLASS_VARIANT: {
            g_autoptr(GVariant) inner = g_variant_get_variant(value);

            g_string_append(out, g_variant_get_type_string(inner));
            append(out, inner);
            break;
        }
        case G_VARIANT_CLASS_ARRAY:
            g_string_append_printf(out, "%" G_GSIZE_FORMAT, g_variant_n_children(value));
            append_children(out, value);
            break;
        case G_VARIANT_CLASS_TUPLE:
        case G_VARIANT_CLASS_DICT_ENTRY:
        case G_VARIANT_CLASS_MAYBE: /* never on D-Bus */
            append_children(out, value);
            break;
        default:
            cbus_value_append_plain(out, value);
    }
}

char *
cbus_value_text(GVariant *value)
{
    GString *out = g_string_new(g_variant_get_type_string(value));

    append(out, value);
    return g_string_free(out, FALSE);
}

char *
cbus_value_body_text(GVariant *body)
{
    const char *type = g_variant_get_type_string(body);
    GString *out = g_string_new_len(type + 1, (gssize)strlen(type) - 2);

    append_children(out, body);
    return g_string_free(out, FALSE);
}

static GVariant *
move_path(GVariant *value, const char *prefix)
{
    const char *path = g_variant_get_string(value, NULL);
    gsize length = strlen(prefix);

    if (!g_str_has_prefix(path, prefix) || (path[length] != '\0' && path[length] != '/'))
        return g_variant_ref(value);
    return g_variant_ref_sink(g_variant_new_object_path(path[length] == '\0' ? "/" : path + length));
}

static GVariant *
rebuild(GVariant *value, GPtrArray *children)
{
    GVariant *const *all = (GVariant *const *)children->pdata;

    if (g_variant_is_of_type(value, G_VARIANT_TYPE_VARIANT))
        return g_variant_new_variant(all[0]);
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_DICT_ENTRY))
        return g_variant_new_dict_entry(all[0], all[1]);
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_TUPLE))
        return g_variant_new_tuple(all, children->len);
    return g_variant_new_array(g_variant_type_element(g_variant_get_type(value)), all, children->len);
}

GVariant *
cbus_value_unmirror(GVariant *value, const char *prefix)
{
    g_autoptr(GPtrArray) children = NULL;

    if (strpbrk(g_variant_get_type_string(value), "ov") == NULL)
        return g_variant_ref(value);
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_OBJECT_PATH))
        return move_path(value, prefix);
    children = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);
    for (gsize i = 0; i < g_variant_n_children(value); i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(value, i);

        g_ptr_array_add(children, cbus_value_unmirror(child, prefix));
    }
    return g_variant_ref_sink(rebuild(value, children));
}
