/* Arguments of a method call from JSON, by their signature.
 *
 *     cbus invoke DEST PATH METHOD sa{sv} --args-json '["web", {"Level": {"type": "u", "data": 7}}]'
 *
 * The same form as --json prints: arrays and structs are arrays, dictionaries with string keys are objects
 * (with other keys arrays of pairs), variants are {"type":…,"data":…}. Numbers must fit their type exactly;
 * one that JSON readers could not hold (64 bits) may be a string, as may any basic value.
 *
 * The text is the operator's own but often another program's output: its depth is bounded by the signature,
 * and by a count where variants bring their own. Errors say which value has which type. Pure. */
#include "cli/arguments.h"

#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

#define DEPTH_MAX 32

static GVariant *convert(JsonNode *node, const GVariantType *type, guint depth, GError **error);

static void
set_mismatch(GError **error, JsonNode *node, const GVariantType *type)
{
    g_autofree char *text = json_to_string(node, FALSE);

    g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_VALUE, "%.60s%s is no JSON of type %.*s",
                text, strlen(text) > 60 ? "…" : "", (int)g_variant_type_get_string_length(type),
                g_variant_type_peek_string(type));
}

static GVariant *
convert_basic(JsonNode *node, const GVariantType *type, GError **error)
{
    char code = *g_variant_type_peek_string(type);
    GType held = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_INVALID;
    g_autofree char *word = NULL;

    if (held == G_TYPE_STRING && code != 'b')
        return cbus_arguments_basic(code, json_node_get_string(node), error);
    if (held == G_TYPE_BOOLEAN && code == 'b')
        return g_variant_new_boolean(json_node_get_boolean(node));
    if (held == G_TYPE_DOUBLE && code == 'd')
        return g_variant_new_double(json_node_get_double(node));
    if (held != G_TYPE_INT64 || strchr("bsog", code) != NULL) {
        set_mismatch(error, node, type);
        return NULL;
    }
    word = g_strdup_printf("%" G_GINT64_FORMAT, json_node_get_int(node));
    return cbus_arguments_basic(code, word, error);
}

static GVariant *
convert_variant(JsonNode *node, const GVariantType *type, guint depth, GError **error)
{
    JsonObject *object = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    const char *inner =
        object != NULL ? json_object_get_string_member_with_default(object, "type", NULL) : NULL;
    JsonNode *data = object != NULL ? json_object_get_member(object, "data") : NULL;
    g_autoptr(GVariantType) tuple = NULL;
    GVariant *value;

    if (inner == NULL || data == NULL || json_object_get_size(object) != 2) {
        set_mismatch(error, node, type);
        g_prefix_error(error, "a variant is {\"type\":…,\"data\":…}: ");
        return NULL;
    }
    tuple = cbus_arguments_type(inner, error);
    if (tuple == NULL)
        return NULL;
    if (g_variant_type_n_items(tuple) != 1) {
        set_mismatch(error, node, type);
        return NULL;
    }
    value = convert(data, g_variant_type_first(tuple), depth, error);
    return value != NULL ? g_variant_new_variant(value) : NULL;
}

static GVariant *
convert_object(JsonNode *node, const GVariantType *type, guint depth, GError **error)
{
    const GVariantType *entry = g_variant_type_element(type);
    const GVariantType *key_type = g_variant_type_key(entry), *value_type = g_variant_type_value(entry);
    g_autoptr(GVariantBuilder) builder = g_variant_builder_new(type);
    JsonObjectIter iter;
    const char *name;
    JsonNode *member;

    json_object_iter_init_ordered(&iter, json_node_get_object(node));
    while (json_object_iter_next_ordered(&iter, &name, &member)) {
        GVariant *key = cbus_arguments_basic(*g_variant_type_peek_string(key_type), name, error);
        g_autoptr(GVariant) held = key != NULL ? g_variant_ref_sink(key) : NULL;
        GVariant *value = held != NULL ? convert(member, value_type, depth, error) : NULL;

        if (value == NULL)
            return NULL;
        g_variant_builder_add_value(builder, g_variant_new_dict_entry(held, value));
    }
    return g_variant_builder_end(builder);
}

/* An array for an array, a struct or a pair. */
static GVariant *
convert_list(JsonNode *node, const GVariantType *type, guint depth, GError **error)
{
    JsonArray *array = json_node_get_array(node);
    guint length = json_array_get_length(array);
    gboolean fixed = !g_variant_type_is_array(type);
    const GVariantType *item = fixed ? g_variant_type_first(type) : g_variant_type_element(type);
    g_autoptr(GVariantBuilder) builder = g_variant_builder_new(type);

    if (fixed && length != g_variant_type_n_items(type)) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_COUNT,
                    "%u JSON values are given, and %.*s holds %" G_GSIZE_FORMAT, length,
                    (int)g_variant_type_get_string_length(type), g_variant_type_peek_string(type),
                    g_variant_type_n_items(type));
        return NULL;
    }
    for (guint i = 0; i < length; i++) {
        GVariant *value = convert(json_array_get_element(array, i), item, depth, error);

        if (value == NULL)
            return NULL;
        g_variant_builder_add_value(builder, value);
        if (fixed)
            item = g_variant_type_next(item);
    }
    return g_variant_builder_end(builder);
}

/* Floating. */
static GVariant *
convert(JsonNode *node, const GVariantType *type, guint depth, GError **error)
{
    if (g_variant_type_is_basic(type))
        return convert_basic(node, type, error);
    if (depth >= DEPTH_MAX) {
        g_set_error_literal(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_SIGNATURE,
                            "the arguments are nested deeper than D-Bus allows");
        return NULL;
    }
    if (g_variant_type_is_variant(type))
        return convert_variant(node, type, depth + 1, error);
    if (JSON_NODE_HOLDS_OBJECT(node) && g_variant_type_is_subtype_of(type, G_VARIANT_TYPE_DICTIONARY))
        return convert_object(node, type, depth + 1, error);
    if (JSON_NODE_HOLDS_ARRAY(node))
        return convert_list(node, type, depth + 1, error);
    set_mismatch(error, node, type);
    return NULL;
}

GVariant *
cbus_arguments_from_json(const char *signature, const char *json, GError **error)
{
    g_autoptr(GVariantType) type = cbus_arguments_type(signature, error);
    g_autoptr(JsonNode) root = NULL;
    g_autoptr(GError) fault = NULL;
    GVariant *body;

    if (type == NULL)
        return NULL;
    root = json_from_string(json, &fault);
    if (root == NULL || !JSON_NODE_HOLDS_ARRAY(root)) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_VALUE,
                    "the arguments are no JSON array with a value for each argument%s%s",
                    fault != NULL ? ": " : "", fault != NULL ? fault->message : "");
        return NULL;
    }
    body = convert(root, type, 0, error);
    return body != NULL ? g_variant_ref_sink(body) : NULL;
}
