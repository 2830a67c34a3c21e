/* Names, object paths and strings: the smallest rules of D-Bus.
 *
 * What is promised: each function answers exactly what the D-Bus specification ("Valid Object Paths", "Valid
 * Names", "Marshaling": strings) says, in time linear in the length, without allocation, and never looks past
 * the span. A bus that sees a wrong name disconnects whoever sent it, so nothing here is laxer than libdbus.
 *
 * What is trusted: only that a span of length n has n readable bytes; a NUL after them is not needed.
 *
 * The checks are on every message's path, several times. Hence one table of character classes instead of
 * comparisons, and strings looked at eight bytes at a time as long as they are ASCII, which nearly all are.
 *
 * Pure functions, any thread. */
#include "wire/message.h"

#define NAME_MAX_BYTES 255

enum {
    WORD = 1,  /* [A-Za-z0-9_] */
    DIGIT = 2, /* [0-9] */
    DASH = 4,  /* '-', in bus names alone */
};

static const guint8 class_of[256] = {
    ['A' ... 'Z'] = WORD, ['a' ... 'z'] = WORD, ['_'] = WORD, ['0' ... '9'] = WORD | DIGIT, ['-'] = DASH,
};

gboolean
cbus_is_object_path(CbusSpan path)
{
    if (path.len == 0 || path.text[0] != '/')
        return FALSE;
    if (path.len == 1)
        return TRUE;
    guint8 before = '/';
    for (gsize i = 1; i < path.len; i++) {
        guint8 c = (guint8)path.text[i];
        if (!(class_of[c] & WORD) && (c != '/' || before == '/'))
            return FALSE;
        before = c;
    }
    return before != '/';
}

/* Elements between dots from FIRST on, each of the characters of ALLOWED and not empty; at least two. */
static gboolean
is_dotted(CbusSpan name, gsize first, guint8 allowed, gboolean digit_first)
{
    if (name.len > NAME_MAX_BYTES)
        return FALSE;
    gboolean dotted = FALSE, begins = TRUE;
    for (gsize i = first; i < name.len; i++) {
        guint8 c = (guint8)name.text[i];
        if (c == '.') {
            if (begins)
                return FALSE;
            dotted = begins = TRUE;
            continue;
        }
        if (!(class_of[c] & allowed) || (begins && !digit_first && (class_of[c] & DIGIT)))
            return FALSE;
        begins = FALSE;
    }
    return dotted && !begins;
}

gboolean
cbus_is_interface(CbusSpan name)
{
    return is_dotted(name, 0, WORD, FALSE);
}

gboolean
cbus_is_member(CbusSpan name)
{
    if (name.len == 0 || name.len > NAME_MAX_BYTES || (class_of[(guint8)name.text[0]] & DIGIT))
        return FALSE;
    for (gsize i = 0; i < name.len; i++)
        if (!(class_of[(guint8)name.text[i]] & WORD))
            return FALSE;
    return TRUE;
}

gboolean
cbus_is_bus_name(CbusSpan name)
{
    if (name.len > 0 && name.text[0] == ':')
        return is_dotted(name, 1, WORD | DASH, TRUE);
    return is_dotted(name, 0, WORD | DASH, FALSE);
}

gboolean
cbus_is_string(CbusSpan text)
{
    const guint64 ones = G_GUINT64_CONSTANT(0x0101010101010101), tops = ones << 7;
    gsize i = 0;
    /* A top bit remains where a byte is not ASCII, or is NUL and borrows. */
    for (guint64 word; text.len - i >= sizeof word; i += sizeof word) {
        memcpy(&word, text.text + i, sizeof word);
        if ((word | (word - ones)) & tops)
            return g_utf8_validate_len(text.text + i, text.len - i, NULL);
    }
    for (; i < text.len; i++)
        if ((guint8)(text.text[i] - 1) >= 0x7f)
            return g_utf8_validate_len(text.text + i, text.len - i, NULL);
    return TRUE;
}
