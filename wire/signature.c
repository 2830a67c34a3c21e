/* Signatures (D-Bus specification, "Type System").
 *
 * What is promised: cbus_signature_parse() accepts a sequence of complete types and nothing else: at most 255
 * bytes, 32 arrays and 32 parentheses deep, no empty struct, dict entries only as array elements, with a
 * basic key and one value. Beside the verdict it leaves a table: for each byte that begins a type, where that
 * type ends. The walk over a body (body.c) skips the element type of an empty array with it in one step;
 * without it, a body of many empty arrays with a long element type would cost its length times 255.
 *
 * What is trusted: cbus_signature_next(), cbus_signature_may_hold_path() and cbus_signature_has_descriptor()
 * trust their argument to have been parsed before; on anything else they answer nonsense but stay inside.
 *
 * The recursion is bounded by the depths above: at most 32 arrays, 32 dict entries in them and 32 structs.
 *
 * Pure functions, any thread. */
#include "wire/body.h"

#define DEPTH_MAX 32

/* A string for strchr would accept its NUL: a switch does not. */
static gboolean
is_basic(char type)
{
    switch (type) {
        case 'y':
        case 'b':
        case 'n':
        case 'q':
        case 'i':
        case 'u':
        case 'x':
        case 't':
        case 'd':
        case 's':
        case 'o':
        case 'g':
        case 'h':
            return TRUE;
        default:
            return FALSE;
    }
}

guint
cbus_type_alignment(char type)
{
    switch (type) {
        case 'n':
        case 'q':
            return 2;
        case 'b':
        case 'i':
        case 'u':
        case 'h':
        case 's':
        case 'o':
        case 'a':
            return 4;
        case 'x':
        case 't':
        case 'd':
        case '(':
        case '{':
            return 8;
        default:
            return 1;
    }
}

static gsize parse_type(CbusSpan text, gsize at, guint arrays, guint structs, guint8 *ends);

/* Each of these returns the offset after what it read, or 0. */
static gsize
parse_struct(CbusSpan text, gsize at, guint arrays, guint structs, guint8 *ends)
{
    gsize first = ++at;
    while (at < text.len && text.text[at] != ')') {
        at = parse_type(text, at, arrays, structs, ends);
        if (at == 0)
            return 0;
    }
    return at < text.len && at > first ? at + 1 : 0;
}

static gsize
parse_entry(CbusSpan text, gsize at, guint arrays, guint structs, guint8 *ends)
{
    at++;
    if (at >= text.len || !is_basic(text.text[at]))
        return 0;
    ends[at] = (guint8)(at + 1);
    at = parse_type(text, at + 1, arrays, structs, ends);
    return at != 0 && at < text.len && text.text[at] == '}' ? at + 1 : 0;
}

static gsize
parse_array(CbusSpan text, gsize at, guint arrays, guint structs, guint8 *ends)
{
    gsize element = at + 1;
    if (element >= text.len || text.text[element] != '{')
        return parse_type(text, element, arrays, structs, ends);
    gsize end = parse_entry(text, element, arrays, structs, ends);
    ends[element] = (guint8)end;
    return end;
}

static gsize
parse_type(CbusSpan text, gsize at, guint arrays, guint structs, guint8 *ends)
{
    if (at >= text.len)
        return 0;
    char type = text.text[at];
    gsize end;
    if (type == 'v' || is_basic(type))
        end = at + 1;
    else if (type == 'a' && arrays < DEPTH_MAX)
        end = parse_array(text, at, arrays + 1, structs, ends);
    else if (type == '(' && structs < DEPTH_MAX)
        end = parse_struct(text, at, arrays, structs + 1, ends);
    else
        return 0;
    ends[at] = (guint8)end;
    return end;
}

gboolean
cbus_signature_parse(CbusSpan text, CbusSignature *out)
{
    if (text.len > CBUS_SIGNATURE_MAX)
        return FALSE;
    for (gsize at = 0; at < text.len;) {
        at = parse_type(text, at, 0, 0, out->ends);
        if (at == 0)
            return FALSE;
    }
    out->text = text.text;
    out->len = (guint)text.len;
    return TRUE;
}

gboolean
cbus_signature_is_valid(CbusSpan signature)
{
    CbusSignature parsed;
    return cbus_signature_parse(signature, &parsed);
}

gsize
cbus_signature_next(const char *text, gsize len)
{
    gsize at = 0;
    while (at < len && text[at] == 'a')
        at++;
    if (at == len || (text[at] != '(' && text[at] != '{'))
        return MIN(at + 1, len);
    for (guint open = 0; at < len; at++) {
        if (text[at] == '(' || text[at] == '{')
            open++;
        else if ((text[at] == ')' || text[at] == '}') && --open == 0)
            return at + 1;
    }
    return len;
}

gboolean
cbus_signature_may_hold_path(CbusSpan signature)
{
    for (gsize i = 0; i < signature.len; i++)
        if (signature.text[i] == 'o' || signature.text[i] == 'v')
            return TRUE;
    return FALSE;
}

gboolean
cbus_signature_has_descriptor(CbusSpan signature)
{
    return signature.len > 0 && memchr(signature.text, 'h', signature.len) != NULL;
}
