/* Tokens of JSON, strictly as RFC 8259 has them: no comment, no single quote, no word of JavaScript's.
 *
 * A string's escapes are undone; half a surrogate pair is refused, and so is NUL, which no D-Bus string can
 * hold. A number is checked for its spelling and kept as text, since who reads it knows its type. No function
 * recurses, whatever the text is.
 *
 * Trust: the text is a stranger's; that it is UTF-8 without NUL was checked. Pure, any thread. */
#include "wire/json_scan.h"

gboolean
cbus_json_scan_fail(CbusJsonScan *scan, CbusJsonError code, const char *format, ...)
{
    va_list values;

    va_start(values, format);
    g_autofree char *what = g_strdup_vprintf(format, values);
    va_end(values);
    g_set_error(scan->error, CBUS_JSON_ERROR, code, "%s, at byte %" G_GSIZE_FORMAT " of the JSON", what,
                scan->at);
    return FALSE;
}

static void
skip_space(CbusJsonScan *scan)
{
    while (scan->at < scan->len && strchr(" \t\r\n", scan->text[scan->at]) != NULL)
        scan->at++;
}

/* The next byte that is no space; 0 at the end. */
char
cbus_json_scan_peek(CbusJsonScan *scan)
{
    skip_space(scan);
    return scan->at < scan->len ? scan->text[scan->at] : '\0';
}

gboolean
cbus_json_scan_take(CbusJsonScan *scan, char c)
{
    if (cbus_json_scan_peek(scan) != c)
        return FALSE;
    scan->at++;
    return TRUE;
}

gboolean
cbus_json_scan_expect(CbusJsonScan *scan, char c)
{
    return cbus_json_scan_take(scan, c) ||
           cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "'%c' is missing", c);
}

/* The four digits of \uNNNN. */
static gboolean
read_unit(CbusJsonScan *scan, gunichar *out)
{
    *out = 0;
    for (guint i = 0; i < 4; i++) {
        int digit = scan->at < scan->len ? g_ascii_xdigit_value(scan->text[scan->at]) : -1;
        if (digit < 0)
            return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "\\u takes four digits");
        *out = *out << 4 | (gunichar)digit;
        scan->at++;
    }
    return TRUE;
}

static gboolean
read_unicode(CbusJsonScan *scan)
{
    gunichar c, low;

    if (!read_unit(scan, &c))
        return FALSE;
    if (c >= 0xd800 && c < 0xdc00 && scan->len - scan->at >= 2 && scan->text[scan->at] == '\\' &&
        scan->text[scan->at + 1] == 'u') {
        scan->at += 2;
        if (!read_unit(scan, &low))
            return FALSE;
        if (low < 0xdc00 || low > 0xdfff)
            return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "half a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if (c >= 0xd800 && c <= 0xdfff)
        return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "half a surrogate pair");
    if (c == 0)
        return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_TYPE, "D-Bus has no string with a NUL in it");
    g_string_append_unichar(scan->string, c);
    return TRUE;
}

static gboolean
read_escape(CbusJsonScan *scan)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = scan->at < scan->len ? scan->text[scan->at++] : '\0';
    const char *found = c != '\0' ? strchr(names, c) : NULL;

    if (c == 'u')
        return read_unicode(scan);
    if (found == NULL)
        return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "an escape that JSON does not have");
    g_string_append_c(scan->string, values[found - names]);
    return TRUE;
}

/* Into scan->string. The text is known to be UTF-8 without NUL. */
gboolean
cbus_json_scan_string(CbusJsonScan *scan)
{
    if (!cbus_json_scan_expect(scan, '"'))
        return FALSE;
    g_string_truncate(scan->string, 0);
    for (;;) {
        gsize run = scan->at;
        while (run < scan->len && scan->text[run] != '"' && scan->text[run] != '\\' &&
               (guint8)scan->text[run] >= 0x20)
            run++;
        g_string_append_len(scan->string, scan->text + scan->at, (gssize)(run - scan->at));
        scan->at = run;
        if (run == scan->len || (guint8)scan->text[run] < 0x20)
            return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "a string without end");
        scan->at++;
        if (scan->text[run] == '"')
            return TRUE;
        if (!read_escape(scan))
            return FALSE;
    }
}

static gsize
digits(const CbusJsonScan *scan, gsize at)
{
    while (at < scan->len && g_ascii_isdigit(scan->text[at]))
        at++;
    return at;
}

/* JSON's own spelling of a number, into scan->string. */
gboolean
cbus_json_scan_number(CbusJsonScan *scan)
{
    gsize begin = scan->at, at = begin, end;

    if (at < scan->len && scan->text[at] == '-')
        at++;
    end = digits(scan, at);
    gboolean good = end > at && (scan->text[at] != '0' || end == at + 1);
    if (good && end < scan->len && scan->text[end] == '.') {
        at = end + 1;
        end = digits(scan, at);
        good = end > at;
    }
    if (good && end < scan->len && (scan->text[end] == 'e' || scan->text[end] == 'E')) {
        at = end + 1;
        if (at < scan->len && (scan->text[at] == '+' || scan->text[at] == '-'))
            at++;
        end = digits(scan, at);
        good = end > at;
    }
    if (!good)
        return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "no JSON value");
    g_string_truncate(scan->string, 0);
    g_string_append_len(scan->string, scan->text + begin, (gssize)(end - begin));
    scan->at = end;
    return TRUE;
}

gboolean
cbus_json_scan_word(CbusJsonScan *scan, const char *word)
{
    gsize len = strlen(word);

    if (scan->len - scan->at < len || memcmp(scan->text + scan->at, word, len) != 0)
        return FALSE;
    scan->at += len;
    return TRUE;
}

/* Steps over one value, whatever it is: brackets and strings alone are looked at. Who reads it later finds
 * its faults. */
gboolean
cbus_json_scan_skip(CbusJsonScan *scan)
{
    guint open = 0;

    do {
        char c = cbus_json_scan_peek(scan);
        if (c == '\0')
            return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "the text ends too early");
        if (c == '"') {
            if (!cbus_json_scan_string(scan))
                return FALSE;
            continue;
        }
        if (open == 0 && strchr("}],:", c) != NULL)
            return cbus_json_scan_fail(scan, CBUS_JSON_ERROR_SYNTAX, "no JSON value");
        scan->at++;
        if (c == '[' || c == '{')
            open++;
        else if (c == ']' || c == '}')
            open--;
        else if (strchr(",:", c) == NULL) /* a number or a word */
            while (scan->at < scan->len && strchr(" \t\r\n,:]}[{\"", scan->text[scan->at]) == NULL)
                scan->at++;
    } while (open > 0);
    return TRUE;
}
