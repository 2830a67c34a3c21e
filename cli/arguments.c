/* Arguments of a method call, as busctl(1) takes them.
 *
 *     cbus invoke DEST PATH METHOD a{sv}su 1 name s web   text  7
 *
 * One word a basic value, left to right through the signature; an array's word is its length, a variant's its
 * type, structs and dictionary entries have no word of their own. Integers may be decimal, 0x hexadecimal or
 * 0 octal and must fit their type; booleans are yes/no, true/false, on/off, y/n, t/f or 1/0.
 *
 * The words are the operator's own, so errors are for a person: they name the word, its type and what would
 * do. Still nothing is trusted: lengths are compared with the words that are left before anything is built,
 * and the depth of variants is bounded. Pure. */
#include "cli/arguments.h"

#include "wire/body.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define DEPTH_MAX 32

G_DEFINE_QUARK(cbus_arguments_error_quark, cbus_arguments_error)

typedef struct {
    char **next; /* the words that are left */
    guint depth; /* of containers around */
} Words;

static GVariant *parse(Words *words, const GVariantType *type, GError **error);

static gboolean
is_signature(const char *text)
{
    return cbus_signature_is_valid(cbus_span(text));
}

/* TRUE if TEXT is one type, and one that can cross. */
static gboolean
is_type(const char *text)
{
    gsize length = strlen(text);

    return length > 0 && is_signature(text) && cbus_signature_next(text, length) == length &&
           strchr(text, 'h') == NULL;
}

GVariantType *
cbus_arguments_type(const char *signature, GError **error)
{
    g_autofree char *tuple = NULL;

    if (!is_signature(signature)) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_SIGNATURE,
                    "\"%s\" is no D-Bus signature, such as s, as or a{sv}u", signature);
        return NULL;
    }
    if (strchr(signature, 'h') != NULL) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_SIGNATURE,
                    "\"%s\" holds a file descriptor, which can not cross to another machine", signature);
        return NULL;
    }
    tuple = g_strdup_printf("(%s)", signature);
    return g_variant_type_new(tuple);
}

/* ---- basic values ---- */

static gboolean
set_value_error(GError **error, const char *word, const char *what)
{
    g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_VALUE, "\"%s\" is no %s", word, what);
    return FALSE;
}

static gboolean
parse_unsigned(const char *word, guint64 max, guint64 *value, const char *what, GError **error)
{
    char *end;
    guint64 number;

    errno = 0;
    number = g_ascii_strtoull(word, &end, 0);
    if (!g_ascii_isdigit(word[0]) || *end != '\0' || errno != 0 || number > max)
        return set_value_error(error, word, what);
    *value = number;
    return TRUE;
}

static gboolean
parse_signed(const char *word, gint64 min, gint64 max, gint64 *value, const char *what, GError **error)
{
    const char *digits = word[0] == '-' || word[0] == '+' ? word + 1 : word;
    char *end;
    gint64 number;

    errno = 0;
    number = g_ascii_strtoll(word, &end, 0);
    if (!g_ascii_isdigit(digits[0]) || *end != '\0' || errno != 0 || number < min || number > max)
        return set_value_error(error, word, what);
    *value = number;
    return TRUE;
}

static GVariant *
basic_boolean(const char *word, GError **error)
{
    static const char *const yes[] = {"1", "yes", "y", "true", "t", "on", NULL};
    static const char *const no[] = {"0", "no", "n", "false", "f", "off", NULL};
    g_autofree char *lower = g_ascii_strdown(word, -1);

    if (g_strv_contains(yes, lower))
        return g_variant_new_boolean(TRUE);
    if (g_strv_contains(no, lower))
        return g_variant_new_boolean(FALSE);
    (void)set_value_error(error, word, "boolean (true or false)");
    return NULL;
}

static GVariant *
basic_double(const char *word, GError **error)
{
    char *end;
    double number;

    errno = 0;
    number = g_ascii_strtod(word, &end);
    if (end == word || *end != '\0' || (errno == ERANGE && isinf(number))) {
        (void)set_value_error(error, word, "number");
        return NULL;
    }
    return g_variant_new_double(number);
}

static GVariant *
basic_text(char type, const char *word, GError **error)
{
    switch (type) {
        case 'o':
            if (g_variant_is_object_path(word))
                return g_variant_new_object_path(word);
            (void)set_value_error(error, word, "object path");
            return NULL;
        case 'g':
            if (is_signature(word))
                return g_variant_new_signature(word);
            (void)set_value_error(error, word, "signature");
            return NULL;
        default:
            if (g_utf8_validate(word, -1, NULL))
                return g_variant_new_string(word);
            (void)set_value_error(error, word, "string of UTF-8");
            return NULL;
    }
}

static GVariant *
basic_integer(char type, const char *word, GError **error)
{
    guint64 u = 0;
    gint64 i = 0;

    switch (type) {
        case 'y':
            return parse_unsigned(word, G_MAXUINT8, &u, "byte (0 to 255)", error)
                       ? g_variant_new_byte((guint8)u)
                       : NULL;
        case 'q':
            return parse_unsigned(word, G_MAXUINT16, &u, "number from 0 to 65535", error)
                       ? g_variant_new_uint16((guint16)u)
                       : NULL;
        case 'u':
            return parse_unsigned(word, G_MAXUINT32, &u, "number from 0 to 4294967295", error)
                       ? g_variant_new_uint32((guint32)u)
                       : NULL;
        case 't':
            return parse_unsigned(word, G_MAXUINT64, &u, "number of 64 bits from 0 on", error)
                       ? g_variant_new_uint64(u)
                       : NULL;
        case 'n':
            return parse_signed(word, G_MININT16, G_MAXINT16, &i, "number from -32768 to 32767", error)
                       ? g_variant_new_int16((gint16)i)
                       : NULL;
        case 'i':
            return parse_signed(word, G_MININT32, G_MAXINT32, &i, "number of 32 bits", error)
                       ? g_variant_new_int32((gint32)i)
                       : NULL;
        default:
            return parse_signed(word, G_MININT64, G_MAXINT64, &i, "number of 64 bits", error)
                       ? g_variant_new_int64(i)
                       : NULL;
    }
}

static GVariant *
basic(char type, const char *word, GError **error)
{
    switch (type) {
        case 'b':
            return basic_boolean(word, error);
        case 'd':
            return basic_double(word, error);
        case 's':
        case 'o':
        case 'g':
            return basic_text(type, word, error);
        default:
            return basic_integer(type, word, error);
    }
}

/* ---- containers ---- */

static const char *
take_word(Words *words, const GVariantType *type, GError **error)
{
    if (*words->next != NULL)
        return *words->next++;
    g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_COUNT,
                "too few arguments: one of type %.*s is missing", (int)g_variant_type_get_string_length(type),
                g_variant_type_peek_string(type));
    return NULL;
}

static GVariant *
parse_array(Words *words, const GVariantType *type, GError **error)
{
    const GVariantType *element = g_variant_type_element(type);
    const char *word = take_word(words, type, error);
    g_autoptr(GVariantBuilder) builder = g_variant_builder_new(type);
    guint64 length;

    if (word == NULL || !parse_unsigned(word, G_MAXUINT32, &length,
                                        "length of an array: it comes before the elements", error))
        return NULL;
    /* An element takes a word at least. */
    if (length > g_strv_length(words->next)) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_COUNT,
                    "too few arguments: an array of %" G_GUINT64_FORMAT " is announced, and %u are left",
                    length, g_strv_length(words->next));
        return NULL;
    }
    for (guint64 i = 0; i < length; i++) {
        GVariant *value = parse(words, element, error);

        if (value == NULL)
            return NULL;
        g_variant_builder_add_value(builder, value);
    }
    return g_variant_builder_end(builder);
}

static GVariant *
parse_variant(Words *words, const GVariantType *type, GError **error)
{
    const char *word = take_word(words, type, error);
    GVariant *value;

    if (word == NULL)
        return NULL;
    if (!is_type(word)) {
        (void)set_value_error(error, word, "type of a variant: it comes before the value");
        return NULL;
    }
    value = parse(words, G_VARIANT_TYPE(word), error);
    return value != NULL ? g_variant_new_variant(value) : NULL;
}

static GVariant *
parse_members(Words *words, const GVariantType *type, GError **error)
{
    g_autoptr(GVariantBuilder) builder = g_variant_builder_new(type);

    for (const GVariantType *item = g_variant_type_first(type); item != NULL;
         item = g_variant_type_next(item)) {
        GVariant *value = parse(words, item, error);

        if (value == NULL)
            return NULL;
        g_variant_builder_add_value(builder, value);
    }
    return g_variant_builder_end(builder);
}

static GVariant *
parse_container(Words *words, const GVariantType *type, GError **error)
{
    if (g_variant_type_is_variant(type))
        return parse_variant(words, type, error);
    return g_variant_type_is_array(type) ? parse_array(words, type, error)
                                         : parse_members(words, type, error);
}

/* The value of TYPE that the next words hold; floating. */
static GVariant *
parse(Words *words, const GVariantType *type, GError **error)
{
    const char *word;
    GVariant *value;

    if (g_variant_type_is_basic(type)) {
        word = take_word(words, type, error);
        return word != NULL ? basic(*g_variant_type_peek_string(type), word, error) : NULL;
    }
    if (words->depth >= DEPTH_MAX) {
        g_set_error_literal(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_SIGNATURE,
                            "the arguments are nested deeper than D-Bus allows");
        return NULL;
    }
    words->depth++;
    value = parse_container(words, type, error);
    words->depth--;
    return value;
}

GVariant *
cbus_arguments_parse(const char *signature, char **words, GError **error)
{
    g_autoptr(GVariantType) type = cbus_arguments_type(signature, error);
    Words left = {.next = words};
    g_autoptr(GVariant) body = NULL;
    GVariant *value;

    if (type == NULL)
        return NULL;
    value = parse(&left, type, error);
    if (value == NULL)
        return NULL;
    body = g_variant_ref_sink(value);
    if (*left.next != NULL) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_COUNT,
                    "too many arguments for the signature \"%s\": \"%s\"", signature, *left.next);
        return NULL;
    }
    return g_steal_pointer(&body);
}
