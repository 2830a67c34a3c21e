/* JSON written from marshalled values.
 *
 * One pass over a body that was checked before, straight to text: a signal on a busy bus costs what its bytes
 * cost. Strings hold printable characters as they are and everything else as \uNNNN, so that a remote name
 * can neither break the JSON nor the terminal that shows it. Integers beyond 2^53, which readers that keep
 * numbers as doubles would change without a word, are strings, and so are the doubles that JSON can not
 * spell.
 *
 * What is trusted: that the body was checked against its signature; the reads are bounded all the same. The
 * recursion is bounded by that check (64 containers). Output stops growing soon after LIMIT. Pure functions,
 * any thread. */
#include "wire/json.h"
#include <math.h>

#define SAFE_INTEGER (G_GINT64_CONSTANT(1) << 53)

G_DEFINE_QUARK(cbus_json_error_quark, cbus_json_error)

typedef struct {
    GString *out;
    CbusCursor cursor;
    gsize most; /* OUT's length at most */
} Writer;

static gboolean write_value(Writer *writer, const CbusSignature *signature, guint at);

static void
append_escaped(GString *out, gunichar c)
{
    if (c < 0x10000)
        g_string_append_printf(out, "\\u%04x", c);
    else
        g_string_append_printf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                               0xdc00 + ((c - 0x10000) & 0x3ff));
}

static gboolean
is_plain(guint8 c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void
cbus_json_append_span(GString *out, CbusSpan text)
{
    g_string_append_c(out, '"');
    for (gsize at = 0; at < text.len;) {
        gsize run = at;

        while (run < text.len && is_plain((guint8)text.text[run]))
            run++;
        g_string_append_len(out, text.text + at, (gssize)(run - at));
        if ((at = run) == text.len)
            break;
        gunichar c = g_utf8_get_char(text.text + at);
        gsize size = (gsize)(g_utf8_next_char(text.text + at) - (text.text + at));
        if (c == '"' || c == '\\')
            g_string_append_printf(out, "\\%c", (char)c);
        else if (g_unichar_isprint(c))
            g_string_append_len(out, text.text + at, (gssize)size);
        else
            append_escaped(out, c);
        at += size;
    }
    g_string_append_c(out, '"');
}

/* The SIZE bytes of a number, in native order. */
static gboolean
read_number(Writer *writer, gsize size, guint64 *out)
{
    CbusCursor *cursor = &writer->cursor;
    gsize at = (cursor->at + size - 1) & ~(size - 1);
    guint64 value = 0;

    if (at > cursor->len || size > cursor->len - at)
        return FALSE;
    for (gsize i = 0; i < size; i++)
        value |= (guint64)cursor->body[at + i] << 8 * (cursor->endian == 'l' ? i : size - 1 - i);
    cursor->at = at + size;
    *out = value;
    return TRUE;
}

static void
append_double(GString *out, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    if (isfinite(value))
        g_string_append(out, g_ascii_dtostr(text, sizeof text, value));
    else
        g_string_append(out, isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
}

static void
append_signed(GString *out, gint64 value)
{
    const char *quote = value > SAFE_INTEGER || value < -SAFE_INTEGER ? "\"" : "";

    g_string_append_printf(out, "%s%" G_GINT64_FORMAT "%s", quote, value, quote);
}

static void
append_unsigned(GString *out, guint64 value)
{
    const char *quote = value > (guint64)SAFE_INTEGER ? "\"" : "";

    g_string_append_printf(out, "%s%" G_GUINT64_FORMAT "%s", quote, value, quote);
}

static gsize
size_of(char type)
{
    return type == 'y' ? 1 : type == 'b' ? 4 : cbus_type_alignment(type);
}

static gboolean
write_number(Writer *writer, char type)
{
    guint64 bits;
    double number;

    if (!read_number(writer, size_of(type), &bits))
        return FALSE;
    switch (type) {
        case 'b':
            g_string_append(writer->out, bits != 0 ? "true" : "false");
            break;
        case 'n':
            append_signed(writer->out, (gint16)bits);
            break;
        case 'i':
            append_signed(writer->out, (gint32)bits);
            break;
        case 'x':
            append_signed(writer->out, (gint64)bits);
            break;
        case 'd':
            memcpy(&number, &bits, sizeof number);
            append_double(writer->out, number);
            break;
        default: /* y, q, u, t */
            append_unsigned(writer->out, bits);
    }
    return TRUE;
}

/* A signature on the wire: one byte of length, the text, a NUL. */
static gboolean
read_signature(Writer *writer, CbusSpan *out)
{
    CbusCursor *cursor = &writer->cursor;
    guint64 len;

    if (!read_number(writer, 1, &len) || len >= cursor->len - cursor->at)
        return FALSE;
    *out = (CbusSpan){(const char *)cursor->body + cursor->at, (gsize)len};
    cursor->at += (gsize)len + 1;
    return TRUE;
}

static gboolean
write_text(Writer *writer, char type)
{
    CbusSpan text;

    if (type == 'g' ? !read_signature(writer, &text) : !cbus_cursor_text(&writer->cursor, &text))
        return FALSE;
    cbus_json_append_span(writer->out, text);
    return TRUE;
}

static gboolean
write_variant(Writer *writer)
{
    CbusSignature inner;
    CbusSpan type;

    if (!read_signature(writer, &type) || !cbus_signature_parse(type, &inner))
        return FALSE;
    g_string_append(writer->out, "{\"type\":");
    cbus_json_append_span(writer->out, type);
    g_string_append(writer->out, ",\"data\":");
    if (!write_value(writer, &inner, 0))
        return FALSE;
    g_string_append_c(writer->out, '}');
    return TRUE;
}

static gboolean
align(Writer *writer, gsize alignment)
{
    writer->cursor.at = (writer->cursor.at + alignment - 1) & ~(alignment - 1);
    return writer->cursor.at <= writer->cursor.len;
}

/* A struct, or an entry that is no member of an object. */
static gboolean
write_struct(Writer *writer, const CbusSignature *signature, guint at)
{
    char end = signature->text[at] == '(' ? ')' : '}';

    if (!align(writer, 8))
        return FALSE;
    for (guint field = at + 1; signature->text[field] != end; field = signature->ends[field]) {
        g_string_append_c(writer->out, field == at + 1 ? '[' : ',');
        if (!write_value(writer, signature, field))
            return FALSE;
    }
    g_string_append_c(writer->out, ']');
    return TRUE;
}

static gboolean
write_member(Writer *writer, const CbusSignature *signature, guint entry)
{
    if (!align(writer, 8) || !write_value(writer, signature, entry + 1))
        return FALSE;
    g_string_append_c(writer->out, ':');
    return write_value(writer, signature, entry + 2);
}

static gboolean
write_array(Writer *writer, const CbusSignature *signature, guint element)
{
    char key = signature->text[element] == '{' ? signature->text[element + 1] : '\0';
    gboolean is_object = key == 's' || key == 'o' || key == 'g';
    gboolean first = TRUE;
    gsize end;

    if (!cbus_cursor_array(&writer->cursor, cbus_type_alignment(signature->text[element]), &end))
        return FALSE;
    g_string_append_c(writer->out, is_object ? '{' : '[');
    for (; writer->cursor.at < end; first = FALSE) {
        if (!first)
            g_string_append_c(writer->out, ',');
        if (!(is_object ? write_member(writer, signature, element) : write_value(writer, signature, element)))
            return FALSE;
    }
    g_string_append_c(writer->out, is_object ? '}' : ']');
    return TRUE;
}

static gboolean
write_value(Writer *writer, const CbusSignature *signature, guint at)
{
    char type = signature->text[at];

    if (writer->out->len > writer->most)
        return FALSE;
    switch (type) {
        case 's':
        case 'o':
        case 'g':
            return write_text(writer, type);
        case 'v':
            return write_variant(writer);
        case 'a':
            return write_array(writer, signature, at + 1);
        case '(':
        case '{':
            return write_struct(writer, signature, at);
        case 'h':
            return FALSE;
        default:
            return write_number(writer, type);
    }
}

static gboolean
finish(Writer *writer, gsize begin, gboolean good)
{
    if (good && writer->out->len <= writer->most)
        return TRUE;
    g_string_truncate(writer->out, begin);
    return FALSE;
}

gboolean
cbus_json_append_body(GString *out, const guint8 *body, gsize len, guint8 endian, CbusSpan signature,
                      gsize limit)
{
    Writer writer = {.out = out, .cursor = {body, len, 0, endian}, .most = out->len + limit};
    gsize begin = out->len;
    CbusSignature parsed;
    gboolean good = cbus_signature_parse(signature, &parsed);

    g_string_append_c(out, '[');
    for (guint at = 0; good && at < parsed.len; at = parsed.ends[at]) {
        if (at > 0)
            g_string_append_c(out, ',');
        good = write_value(&writer, &parsed, at);
    }
    g_string_append_c(out, ']');
    return finish(&writer, begin, good);
}

gboolean
cbus_json_append_variant(GString *out, const guint8 *body, gsize len, guint8 endian, CbusSpan *type,
                         gsize limit)
{
    Writer writer = {.out = out, .cursor = {body, len, 0, endian}, .most = out->len + limit};
    gsize begin = out->len;
    CbusSignature inner;
    gboolean good = read_signature(&writer, type) && cbus_signature_parse(*type, &inner) && inner.len > 0 &&
                    write_value(&writer, &inner, 0);

    return finish(&writer, begin, good);
}
