/* The walk over marshalled values (D-Bus specification, "Marshaling (Wire Format)").
 *
 * What is promised: one pass that checks every rule (bounds, alignment, zero padding, booleans, UTF-8, object
 * paths, signatures, array lengths, nesting) and, when asked to, writes the same values to another buffer
 * with each object path replaced. Both are the same code, so that what is forwarded is what was checked. The
 * walk never reads outside the bytes given, takes time linear in them, and its recursion is bounded: a value
 * may lie in at most 64 containers, variants counted, as in libdbus. No allocation but the output's growth.
 *
 * How rewriting works: input bytes are not copied value by value. They gather in a *run*, from `run` to `at`,
 * and are flushed only where output must differ from input: a path that changes, or padding whose length
 * changed since the distance between the two is no longer a multiple of the alignment. Where nothing changes
 * a whole body is one memcpy; arrays of bytes or numbers always are. An array's length is patched when its
 * content shrank or grew. The output keeps the byte order of the input.
 *
 * What is trusted: the caller's sizes and the function that maps paths (its result must be a valid path).
 *
 * On failure the output is cut back to where it began. Pure functions, any thread. */
#include "wire/body.h"

#define NESTING_MAX 64

typedef struct {
    const guint8 *in;
    gsize at;  /* the next byte to read; never past end */
    gsize end; /* of the innermost array, else of all */
    gboolean swap;
    GError **error;
    /* For rewriting; out is NULL when only checking. */
    GByteArray *out;
    gsize base; /* where the body begins in out */
    gsize run;  /* the first byte read and not yet written */
    gsize limit;
    CbusPathFunc map;
    gconstpointer map_data;
} Walk;

static gboolean walk_value(Walk *walk, const CbusSignature *signature, guint at, guint depth);

static gboolean
invalid(Walk *walk, const char *what)
{
    g_set_error(walk->error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID,
                "invalid D-Bus message: %s at byte %" G_GSIZE_FORMAT, what, walk->at);
    return FALSE;
}

static gboolean
descriptor(Walk *walk)
{
    g_set_error_literal(walk->error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_DESCRIPTORS,
                        "the message holds a file descriptor (type h), which can not leave its machine");
    return FALSE;
}

/* Where the next byte read will stand in the output's body. */
static inline gsize
written(const Walk *walk)
{
    return walk->out->len - walk->base + (walk->at - walk->run);
}

/* Writes the run, then EXTRA zero bytes. */
static gboolean
flush(Walk *walk, gsize extra)
{
    gsize length = walk->at - walk->run;
    guint old = walk->out->len;
    if (old - walk->base + length + extra > walk->limit) {
        g_set_error(walk->error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT,
                    "the message would outgrow %" G_GSIZE_FORMAT
                    " bytes with its object paths translated: ask for less at a time",
                    walk->limit);
        return FALSE;
    }
    if (length + extra == 0)
        return TRUE;
    g_byte_array_set_size(walk->out, (guint)(old + length + extra));
    if (length > 0)
        memcpy(walk->out->data + old, walk->in + walk->run, length);
    memset(walk->out->data + old + length, 0, extra);
    walk->run = walk->at;
    return TRUE;
}

static void
put_u32(Walk *walk, gsize at, guint32 value)
{
    value = walk->swap ? GUINT32_SWAP_LE_BE(value) : value;
    memcpy(walk->out->data + at, &value, sizeof value);
}

static inline gboolean
align(Walk *walk, gsize alignment)
{
    gsize padding = -walk->at & (alignment - 1);
    if (padding > walk->end - walk->at)
        return invalid(walk, "a value is cut off");
    for (gsize i = 0; i < padding; i++)
        if (walk->in[walk->at + i] != 0)
            return invalid(walk, "padding is not zero");
    if (walk->out != NULL) {
        gsize wanted = -written(walk) & (alignment - 1);
        if (wanted != padding) {
            if (!flush(walk, wanted))
                return FALSE;
            walk->run = walk->at + padding;
        }
    }
    walk->at += padding;
    return TRUE;
}

static inline gboolean
walk_fixed(Walk *walk, gsize size)
{
    if (!align(walk, size))
        return FALSE;
    if (size > walk->end - walk->at)
        return invalid(walk, "a value is cut off");
    walk->at += size;
    return TRUE;
}

static inline guint32
load_u32(const Walk *walk, gsize at)
{
    guint32 value;
    memcpy(&value, walk->in + at, sizeof value);
    return walk->swap ? GUINT32_SWAP_LE_BE(value) : value;
}

static inline gboolean
read_u32(Walk *walk, guint32 *out)
{
    if (!walk_fixed(walk, 4))
        return FALSE;
    *out = load_u32(walk, walk->at - 4);
    return TRUE;
}

/* LENGTH bytes and a NUL. */
static inline gboolean
read_text(Walk *walk, guint32 length, CbusSpan *out)
{
    if (length >= walk->end - walk->at)
        return invalid(walk, "a string is cut off");
    if (walk->in[walk->at + length] != '\0')
        return invalid(walk, "a string does not end with NUL");
    *out = (CbusSpan){(const char *)walk->in + walk->at, length};
    walk->at += (gsize)length + 1;
    return TRUE;
}

static gboolean
walk_boolean(Walk *walk)
{
    guint32 value;
    if (!read_u32(walk, &value))
        return FALSE;
    return value <= 1 || invalid(walk, "a boolean is neither 0 nor 1");
}

static gboolean
walk_string(Walk *walk)
{
    guint32 length;
    CbusSpan text;
    if (!read_u32(walk, &length) || !read_text(walk, length, &text))
        return FALSE;
    return cbus_is_string(text) || invalid(walk, "a string is not UTF-8 without NUL");
}

/* Writes HEAD and TAIL in place of the path whose length stood at START. */
static gboolean
replace_path(Walk *walk, gsize start, CbusSpan head, CbusSpan tail)
{
    gsize after = walk->at, length = head.len + tail.len;
    walk->at = start;
    if (!flush(walk, sizeof(guint32) + length + 1))
        return FALSE;
    walk->at = walk->run = after;
    gsize to = walk->out->len - length - 1;
    put_u32(walk, to - sizeof(guint32), (guint32)length);
    if (head.len > 0)
        memcpy(walk->out->data + to, head.text, head.len);
    if (tail.len > 0)
        memcpy(walk->out->data + to + head.len, tail.text, tail.len);
    return TRUE;
}

static gboolean
walk_path(Walk *walk)
{
    guint32 length;
    CbusSpan path;
    if (!read_u32(walk, &length))
        return FALSE;
    gsize start = walk->at - sizeof length;
    if (!read_text(walk, length, &path))
        return FALSE;
    if (!cbus_is_object_path(path))
        return invalid(walk, "an object path is malformed");
    if (walk->out == NULL)
        return TRUE;
    CbusSpan head = {NULL, 0}, tail = path;
    if (!walk->map(path, &head, &tail, walk->map_data, walk->error))
        return FALSE;
    if (head.len == 0 && tail.len == path.len)
        return TRUE;
    return replace_path(walk, start, head, tail);
}

static gboolean
read_signature(Walk *walk, CbusSignature *out)
{
    CbusSpan text;
    if (!walk_fixed(walk, 1) || !read_text(walk, walk->in[walk->at - 1], &text))
        return FALSE;
    return cbus_signature_parse(text, out) || invalid(walk, "a signature is malformed");
}

static gboolean
walk_variant(Walk *walk, guint depth)
{
    CbusSignature signature;
    if (!read_signature(walk, &signature))
        return FALSE;
    if (signature.len == 0 || signature.ends[0] != signature.len)
        return invalid(walk, "a variant does not hold one complete type");
    return walk_value(walk, &signature, 0, depth + 1);
}

static gboolean
walk_struct(Walk *walk, const CbusSignature *signature, guint at, guint depth)
{
    guint close = signature->ends[at] - 1u;
    if (!align(walk, 8))
        return FALSE;
    for (at++; at < close; at = signature->ends[at])
        if (!walk_value(walk, signature, at, depth + 1))
            return FALSE;
    return TRUE;
}

static gsize
fixed_size(char type)
{
    switch (type) {
        case 'y':
        case 'n':
        case 'q':
        case 'i':
        case 'u':
        case 'b':
        case 'h':
        case 'x':
        case 't':
        case 'd':
            return cbus_type_alignment(type);
        default:
            return 0;
    }
}

/* From at to end, which is where the array ends. */
static gboolean
walk_elements(Walk *walk, const CbusSignature *signature, guint element, guint depth)
{
    char type = signature->text[element];
    gsize size = fixed_size(type);
    if (size == 0) {
        while (walk->at < walk->end)
            if (!walk_value(walk, signature, element, depth + 1))
                return FALSE;
        return TRUE;
    }
    if ((walk->end - walk->at) % size != 0)
        return invalid(walk, "an array ends inside an element");
    if (type == 'h' && walk->at < walk->end)
        return descriptor(walk);
    if (type == 'b')
        for (gsize at = walk->at; at < walk->end; at += size)
            if (load_u32(walk, at) > 1)
                return invalid(walk, "a boolean is neither 0 nor 1");
    walk->at = walk->end;
    return TRUE;
}

static gboolean
set_array_length(Walk *walk, gsize at, gsize length)
{
    if (length > CBUS_ARRAY_MAX) {
        g_set_error_literal(walk->error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT,
                            "an array would outgrow D-Bus's 64 MiB with its object paths translated: ask for "
                            "less at a time");
        return FALSE;
    }
    if (!flush(walk, 0))
        return FALSE;
    put_u32(walk, walk->base + at, (guint32)length);
    return TRUE;
}

static gboolean
walk_array(Walk *walk, const CbusSignature *signature, guint element, guint depth)
{
    guint32 length;
    if (!read_u32(walk, &length))
        return FALSE;
    if (length > CBUS_ARRAY_MAX)
        return invalid(walk, "an array is longer than 64 MiB");
    gsize length_at = walk->out != NULL ? written(walk) - sizeof length : 0;
    if (!align(walk, cbus_type_alignment(signature->text[element])))
        return FALSE;
    if (length > walk->end - walk->at)
        return invalid(walk, "an array is cut off");
    gsize outer_end = walk->end, begin = walk->out != NULL ? written(walk) : 0;
    walk->end = walk->at + length;
    if (!walk_elements(walk, signature, element, depth))
        return FALSE;
    walk->end = outer_end;
    if (walk->out == NULL || written(walk) - begin == length)
        return TRUE;
    return set_array_length(walk, length_at, written(walk) - begin);
}

/* DEPTH: in how many containers the value lies. */
static gboolean
walk_value(Walk *walk, const CbusSignature *signature, guint at, guint depth)
{
    CbusSignature ignored;
    if (depth > NESTING_MAX)
        return invalid(walk, "values are nested more than 64 deep");
    switch (signature->text[at]) {
        case 'y':
            return walk_fixed(walk, 1);
        case 'n':
        case 'q':
            return walk_fixed(walk, 2);
        case 'i':
        case 'u':
            return walk_fixed(walk, 4);
        case 'x':
        case 't':
        case 'd':
            return walk_fixed(walk, 8);
        case 'b':
            return walk_boolean(walk);
        case 's':
            return walk_string(walk);
        case 'o':
            return walk_path(walk);
        case 'g':
            return read_signature(walk, &ignored);
        case 'v':
            return walk_variant(walk, depth);
        case 'a':
            return walk_array(walk, signature, at + 1, depth);
        case '(':
        case '{':
            return walk_struct(walk, signature, at, depth);
        case 'h':
            return descriptor(walk);
        default:
            g_assert_not_reached();
    }
}

static gboolean
walk_body(Walk *walk, CbusSpan signature)
{
    CbusSignature parsed;
    if (!cbus_signature_parse(signature, &parsed))
        return invalid(walk, "the body's signature is malformed");
    for (guint at = 0; at < parsed.len; at = parsed.ends[at])
        if (!walk_value(walk, &parsed, at, 0))
            return FALSE;
    return walk->at == walk->end || invalid(walk, "the body is longer than its signature says");
}

gboolean
cbus_body_check(const guint8 *body, gsize len, guint8 endian, CbusSpan signature, GError **error)
{
    Walk walk = {.in = body, .end = len, .swap = endian != CBUS_ENDIAN_NATIVE, .error = error};
    return walk_body(&walk, signature);
}

gboolean
cbus_body_rewrite(GByteArray *out, const guint8 *body, gsize len, guint8 endian, CbusSpan signature,
                  CbusPathFunc map, gconstpointer map_data, gsize limit, GError **error)
{
    Walk walk = {
        .in = body,
        .end = len,
        .swap = endian != CBUS_ENDIAN_NATIVE,
        .error = error,
        .out = out,
        .base = out->len,
        .limit = MIN(limit, CBUS_MESSAGE_MAX),
        .map = map,
        .map_data = map_data,
    };
    if (walk_body(&walk, signature) && flush(&walk, 0))
        return TRUE;
    g_byte_array_set_size(out, (guint)walk.base);
    return FALSE;
}

gboolean
cbus_variant_check(const guint8 *data, gsize len, guint8 endian, gsize *at, guint depth, GError **error)
{
    Walk walk = {.in = data, .at = *at, .end = len, .swap = endian != CBUS_ENDIAN_NATIVE, .error = error};
    if (!walk_variant(&walk, depth))
        return FALSE;
    *at = walk.at;
    return TRUE;
}
