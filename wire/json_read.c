/* Marshalled values read from JSON, led by their signature.
 *
 * The signature says at each place what must come, so that there is no tree and no recursion that the text
 * could choose: a value of the wrong kind is refused where it begins. Only the data of a variant may stand
 * before its type; then it is stepped over, without recursion, and read when its type is known.
 *
 * Strict: RFC 8259 and nothing else, no comment, no trailing comma, no lone surrogate, no NUL (which D-Bus
 * has no room for). Numbers must fit their type exactly: 300 is no byte, 1.0 and 1e2 are no integers. Any
 * basic value but a boolean may be a string, for the 64-bit integers that JSON readers spoil, for NaN and
 * infinities, and because keys of an object are strings.
 *
 * Trust: the text is a stranger's. Time is linear in it, times the depth of variants whose data comes first;
 * that depth is bounded as D-Bus has it. What is written satisfies cbus_body_check(). Pure, any thread. */
#include "wire/json.h"
#include "wire/json_scan.h"
#include <math.h>

#define DEPTH_MAX 64 /* containers in each other, as D-Bus has it */
#define QUOTED    48 /* bytes of the text that an error shows */

typedef struct {
    CbusJsonScan scan;
    GByteArray *out;
    gsize base; /* where the body begins in OUT */
} Reader;

static gboolean read_value(Reader *reader, const CbusSignature *signature, guint at, guint depth);

/* What stands at AT is no value of TYPE. */
static gboolean
mismatch(Reader *reader, gsize at, const CbusSignature *signature, guint type)
{
    gsize len = MIN(reader->scan.len - at, QUOTED);
    const char *end = NULL;

    (void)g_utf8_validate_len(reader->scan.text + at, len, &end);
    reader->scan.at = at;
    return cbus_json_scan_fail(&reader->scan, CBUS_JSON_ERROR_TYPE, "%.*s is no value of type %.*s",
                               (int)(end - reader->scan.text - at), reader->scan.text + at,
                               (int)(signature->ends[type] - type), signature->text + type);
}

static void
align(Reader *reader, gsize alignment)
{
    static const guint8 zeros[8];

    g_byte_array_append(reader->out, zeros, (guint)(-(reader->out->len - reader->base) & (alignment - 1)));
}

static void
put(Reader *reader, const void *value, gsize size)
{
    align(reader, size);
    g_byte_array_append(reader->out, value, (guint)size);
}

static void
put_string(Reader *reader)
{
    guint32 len = (guint32)reader->scan.string->len;

    put(reader, &len, sizeof len);
    g_byte_array_append(reader->out, (const guint8 *)reader->scan.string->str, len + 1);
}

static void
put_signature(Reader *reader, CbusSpan text)
{
    guint8 len = (guint8)text.len, nul = 0;

    g_byte_array_append(reader->out, &len, 1);
    g_byte_array_append(reader->out, (const guint8 *)text.text, (guint)text.len);
    g_byte_array_append(reader->out, &nul, 1);
}

static gboolean
put_signed(Reader *reader, char type)
{
    gint64 least = type == 'n' ? G_MININT16 : type == 'i' ? G_MININT32 : G_MININT64, value;
    gint64 most = type == 'n' ? G_MAXINT16 : type == 'i' ? G_MAXINT32 : G_MAXINT64;

    if (!g_ascii_string_to_signed(reader->scan.string->str, 10, least, most, &value, NULL))
        return FALSE;
    gint16 n = (gint16)value;
    gint32 i = (gint32)value;
    if (type == 'n')
        put(reader, &n, sizeof n);
    else if (type == 'i')
        put(reader, &i, sizeof i);
    else
        put(reader, &value, sizeof value);
    return TRUE;
}

static gboolean
put_unsigned(Reader *reader, char type)
{
    guint64 most = type == 'y'   ? G_MAXUINT8
                   : type == 'q' ? G_MAXUINT16
                   : type == 'u' ? G_MAXUINT32
                                 : G_MAXUINT64;
    guint64 value;

    if (!g_ascii_string_to_unsigned(reader->scan.string->str, 10, 0, most, &value, NULL))
        return FALSE;
    guint8 y = (guint8)value;
    guint16 q = (guint16)value;
    guint32 u = (guint32)value;
    if (type == 'y')
        put(reader, &y, sizeof y);
    else if (type == 'q')
        put(reader, &q, sizeof q);
    else if (type == 'u')
        put(reader, &u, sizeof u);
    else
        put(reader, &value, sizeof value);
    return TRUE;
}

static gboolean
put_double(Reader *reader)
{
    const char *text = reader->scan.string->str;
    const char *digits = text + (text[0] == '-');
    char *end = NULL;
    double value;

    if (g_str_equal(text, "NaN"))
        value = NAN;
    else if (g_str_equal(text, "Infinity"))
        value = INFINITY;
    else if (g_str_equal(text, "-Infinity"))
        value = -INFINITY;
    else if (!g_ascii_isdigit(digits[0]) || digits[1] == 'x' || digits[1] == 'X')
        return FALSE;
    else if (value = g_ascii_strtod(text, &end), *end != '\0' || !isfinite(value))
        return FALSE;
    put(reader, &value, sizeof value);
    return TRUE;
}

/* reader->scan.string as a value of TYPE, basic but no boolean. FALSE: it is none; nothing was said. */
static gboolean
put_basic(Reader *reader, char type, gboolean is_number)
{
    CbusSpan text = {reader->scan.string->str, reader->scan.string->len};

    if (strlen(text.text) != text.len)
        return FALSE;
    switch (type) {
        case 's':
        case 'o':
            if (is_number || (type == 'o' && !cbus_is_object_path(text)))
                return FALSE;
            put_string(reader);
            return TRUE;
        case 'g':
            if (is_number || !cbus_signature_is_valid(text))
                return FALSE;
            put_signature(reader, text);
            return TRUE;
        case 'd':
            return put_double(reader);
        case 'n':
        case 'i':
        case 'x':
            return put_signed(reader, type);
        case 'y':
        case 'q':
        case 'u':
        case 't':
            return put_unsigned(reader, type);
        default: /* b, h */
            return FALSE;
    }
}

static gboolean
read_basic(Reader *reader, const CbusSignature *signature, guint at)
{
    char type = signature->text[at], next = cbus_json_scan_peek(&reader->scan);
    gsize begin = reader->scan.at;
    guint32 yes = 1, no = 0;

    if (type == 'b') {
        gboolean is_true = cbus_json_scan_word(&reader->scan, "true");
        if (!is_true && !cbus_json_scan_word(&reader->scan, "false"))
            return mismatch(reader, begin, signature, at);
        put(reader, is_true ? &yes : &no, sizeof yes);
        return TRUE;
    }
    if (next != '"' && next != '-' && !g_ascii_isdigit(next))
        return mismatch(reader, begin, signature, at);
    if (!(next == '"' ? cbus_json_scan_string(&reader->scan) : cbus_json_scan_number(&reader->scan)))
        return FALSE;
    return put_basic(reader, type, next != '"') || mismatch(reader, begin, signature, at);
}

/* {"type":…,"data":…}, in either order. */
static gboolean
read_variant(Reader *reader, const CbusSignature *signature, guint at, guint depth)
{
    char text[CBUS_SIGNATURE_MAX + 1] = "";
    gsize begin = (cbus_json_scan_peek(&reader->scan), reader->scan.at), data = 0, data_end = 0, end;
    CbusSignature inner = {0};

    if (!cbus_json_scan_take(&reader->scan, '{'))
        return mismatch(reader, begin, signature, at);
    do {
        if (!cbus_json_scan_string(&reader->scan) || !cbus_json_scan_expect(&reader->scan, ':'))
            return FALSE;
        if (g_str_equal(reader->scan.string->str, "type") && inner.text == NULL &&
            cbus_json_scan_peek(&reader->scan) == '"') {
            if (!cbus_json_scan_string(&reader->scan))
                return FALSE;
            if (g_strlcpy(text, reader->scan.string->str, sizeof text) >= sizeof text ||
                !cbus_signature_parse(cbus_span(text), &inner) || inner.len == 0 ||
                inner.ends[0] != inner.len)
                return mismatch(reader, begin, signature, at);
        } else if (g_str_equal(reader->scan.string->str, "data") && data == 0) {
            (void)cbus_json_scan_peek(&reader->scan);
            data = reader->scan.at;
            if (!cbus_json_scan_skip(&reader->scan))
                return FALSE;
            data_end = reader->scan.at;
        } else {
            return mismatch(reader, begin, signature, at);
        }
    } while (cbus_json_scan_take(&reader->scan, ','));
    if (!cbus_json_scan_expect(&reader->scan, '}'))
        return FALSE;
    end = reader->scan.at;
    if (inner.text == NULL || data == 0)
        return mismatch(reader, begin, signature, at);
    put_signature(reader, cbus_span(text));
    reader->scan.at = data;
    if (!read_value(reader, &inner, 0, depth))
        return FALSE;
    if (reader->scan.at != data_end)
        return cbus_json_scan_fail(&reader->scan, CBUS_JSON_ERROR_SYNTAX, "more than one value in a variant");
    reader->scan.at = end;
    return TRUE;
}

/* A struct, or an entry of a dictionary that is written as pairs. */
static gboolean
read_struct(Reader *reader, const CbusSignature *signature, guint at, guint depth)
{
    char close = signature->text[at] == '(' ? ')' : '}';
    gsize begin = (cbus_json_scan_peek(&reader->scan), reader->scan.at);

    if (!cbus_json_scan_take(&reader->scan, '['))
        return mismatch(reader, begin, signature, at);
    align(reader, 8);
    for (guint field = at + 1; signature->text[field] != close; field = signature->ends[field]) {
        if ((field > at + 1 && !cbus_json_scan_take(&reader->scan, ',')) ||
            cbus_json_scan_peek(&reader->scan) == ']')
            return mismatch(reader, begin, signature, at);
        if (!read_value(reader, signature, field, depth))
            return FALSE;
    }
    if (cbus_json_scan_peek(&reader->scan) == ',')
        return mismatch(reader, begin, signature, at);
    return cbus_json_scan_expect(&reader->scan, ']');
}

/* "KEY": VALUE of an object. */
static gboolean
read_member(Reader *reader, const CbusSignature *signature, guint entry, guint depth)
{
    gsize begin = (cbus_json_scan_peek(&reader->scan), reader->scan.at);

    align(reader, 8);
    if (!cbus_json_scan_string(&reader->scan))
        return FALSE;
    if (!put_basic(reader, signature->text[entry + 1], FALSE))
        return mismatch(reader, begin, signature, entry + 1);
    return cbus_json_scan_expect(&reader->scan, ':') && read_value(reader, signature, entry + 2, depth);
}

static gboolean
read_array(Reader *reader, const CbusSignature *signature, guint at, guint depth)
{
    guint element = at + 1;
    gboolean is_dictionary = signature->text[element] == '{';
    gboolean is_object = is_dictionary && cbus_json_scan_peek(&reader->scan) == '{';
    gsize begin = (cbus_json_scan_peek(&reader->scan), reader->scan.at), length_at, first;
    guint32 length = 0;
    char close = is_object ? '}' : ']';

    if (!cbus_json_scan_take(&reader->scan, is_object ? '{' : '['))
        return mismatch(reader, begin, signature, at);
    put(reader, &length, sizeof length);
    length_at = reader->out->len - sizeof length;
    align(reader, cbus_type_alignment(signature->text[element]));
    first = reader->out->len;
    if (!cbus_json_scan_take(&reader->scan, close)) {
        do {
            if (!(is_object ? read_member(reader, signature, element, depth + 1)
                            : read_value(reader, signature, element, depth)))
                return FALSE;
        } while (cbus_json_scan_take(&reader->scan, ','));
        if (!cbus_json_scan_expect(&reader->scan, close))
            return FALSE;
    }
    if (reader->out->len - first > CBUS_ARRAY_MAX)
        return cbus_json_scan_fail(&reader->scan, CBUS_JSON_ERROR_TYPE, "an array is longer than 64 MiB");
    length = (guint32)(reader->out->len - first);
    memcpy(reader->out->data + length_at, &length, sizeof length);
    return TRUE;
}

/* DEPTH: in how many containers the value lies. */
static gboolean
read_value(Reader *reader, const CbusSignature *signature, guint at, guint depth)
{
    if (depth > DEPTH_MAX)
        return cbus_json_scan_fail(&reader->scan, CBUS_JSON_ERROR_TYPE,
                                   "values are nested more than 64 deep");
    switch (signature->text[at]) {
        case 'v':
            return read_variant(reader, signature, at, depth + 1);
        case 'a':
            return read_array(reader, signature, at, depth + 1);
        case '(':
        case '{':
            return read_struct(reader, signature, at, depth + 1);
        default:
            return read_basic(reader, signature, at);
    }
}

static gboolean
wrong_count(Reader *reader, const char *how, CbusSpan signature)
{
    return cbus_json_scan_fail(&reader->scan, CBUS_JSON_ERROR_TYPE,
                               "too %s values for the signature \"%.*s\"", how, (int)signature.len,
                               signature.text);
}

static gboolean
read_all(Reader *reader, CbusSpan signature)
{
    CbusSignature parsed;

    if (!cbus_signature_parse(signature, &parsed) || cbus_signature_has_descriptor(signature))
        return cbus_json_scan_fail(&reader->scan, CBUS_JSON_ERROR_TYPE,
                                   "the signature is none, or has a descriptor in it");
    if (cbus_json_scan_peek(&reader->scan) == '\0')
        return parsed.len == 0 || wrong_count(reader, "few", signature);
    if (!cbus_json_scan_take(&reader->scan, '['))
        return cbus_json_scan_fail(&reader->scan, CBUS_JSON_ERROR_SYNTAX,
                                   "no array with a value for each argument");
    for (guint at = 0; at < parsed.len; at = parsed.ends[at]) {
        if (cbus_json_scan_peek(&reader->scan) == ']')
            return wrong_count(reader, "few", signature);
        if ((at > 0 && !cbus_json_scan_expect(&reader->scan, ',')) || !read_value(reader, &parsed, at, 0))
            return FALSE;
    }
    if (cbus_json_scan_peek(&reader->scan) != ']' &&
        (parsed.len == 0 || cbus_json_scan_peek(&reader->scan) == ','))
        return wrong_count(reader, "many", signature);
    if (!cbus_json_scan_expect(&reader->scan, ']'))
        return FALSE;
    return cbus_json_scan_peek(&reader->scan) == '\0' ||
           cbus_json_scan_fail(&reader->scan, CBUS_JSON_ERROR_SYNTAX, "more than one value");
}

gboolean
cbus_json_read_body(GByteArray *out, const char *text, gsize len, CbusSpan signature, GError **error)
{
    g_autoptr(GString) string = g_string_new(NULL);
    Reader reader = {
        .scan = {.text = text, .len = len, .string = string, .error = error}, .out = out, .base = out->len};
    gboolean good = cbus_is_string((CbusSpan){text, len})
                        ? read_all(&reader, signature)
                        : cbus_json_scan_fail(&reader.scan, CBUS_JSON_ERROR_SYNTAX, "no UTF-8 text");

    if (!good)
        g_byte_array_set_size(out, (guint)reader.base);
    return good;
}
