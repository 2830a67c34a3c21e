/* Where a remote object lives locally, and back (design, "The mirror, precisely").
 *
 *     /ie/bmcgee/CBus / <nkey> / <service, escaped> / <remote path>
 *
 * What is promised: a path names at most one thing. A service element decodes only if it is, byte for byte,
 * what encoding a valid bus name gives: letters and digits stand for themselves, every other byte is '_' and
 * two lower-case hexadecimal digits. So "_zz", "_4", "_2E", "_61" (an 'a' that needed no escape) and "_" are
 * unknown objects, not second names for known ones. The same holds for the NKey: alphabet, role and checksum.
 *
 * What is not checked is that the NKey's 32 bytes are a point of the curve: that costs ten times a call's
 * budget, and a key that belongs to nobody is not in the roster, which is where the caller looks next.
 *
 * What is trusted: that the path is a valid object path (a viewed message's is). Nothing is allocated by
 * parsing. Spans borrow from the path given.
 *
 * Pure functions, any thread. */
#include "introspect/path.h"
#include "wire/message.h"

#define SERVICE_MAX 255

void
cbus_service_escape(GString *out, const char *service)
{
    static const char digits[] = "0123456789abcdef";
    for (const guint8 *p = (const guint8 *)service; *p != '\0'; p++) {
        if (g_ascii_isalnum(*p)) {
            g_string_append_c(out, (char)*p);
            continue;
        }
        const char escaped[] = {'_', digits[*p >> 4], digits[*p & 15]};
        g_string_append_len(out, escaped, sizeof escaped);
    }
}

/* The value of a lower-case hexadecimal digit, else −1. */
static int
hex_value(char c)
{
    if (g_ascii_isdigit(c))
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the three characters at TEXT escape, else −1; what needs no escape has none. */
static int
unescape_byte(const char *text)
{
    int high = hex_value(text[1]), low = hex_value(text[2]);
    if (text[0] != '_' || high < 0 || low < 0)
        return -1;
    int byte = high << 4 | low;
    return g_ascii_isalnum(byte) ? -1 : byte;
}

gboolean
cbus_service_unescape(CbusSpan element, char out[256])
{
    char service[SERVICE_MAX + 1];
    gsize len = 0;
    for (gsize i = 0; i < element.len;) {
        if (len == SERVICE_MAX)
            return FALSE;
        if (g_ascii_isalnum(element.text[i])) {
            service[len++] = element.text[i++];
            continue;
        }
        int byte = element.len - i >= 3 ? unescape_byte(element.text + i) : -1;
        if (byte < 0)
            return FALSE;
        service[len++] = (char)byte;
        i += 3;
    }
    if (!cbus_is_bus_name((CbusSpan){service, len}))
        return FALSE;
    memcpy(out, service, len);
    out[len] = '\0';
    return TRUE;
}

/* Takes the element after the '/' at REST's begin; REST is left at the next '/', or empty. */
static CbusSpan
take_element(CbusSpan *rest)
{
    const char *text = rest->text + 1;
    gsize left = rest->len - 1;
    const char *slash = left > 0 ? memchr(text, '/', left) : NULL;
    gsize len = slash != NULL ? (gsize)(slash - text) : left;
    *rest = (CbusSpan){text + len, left - len};
    return (CbusSpan){text, len};
}

void
cbus_place_parse(CbusSpan path, CbusPlace *out)
{
    *out = (CbusPlace){.kind = CBUS_PLACE_OUTSIDE};
    if (path.len < CBUS_ROOT_PATH_LEN || memcmp(path.text, CBUS_ROOT_PATH, CBUS_ROOT_PATH_LEN) != 0)
        return;
    CbusSpan rest = {path.text + CBUS_ROOT_PATH_LEN, path.len - CBUS_ROOT_PATH_LEN};
    if (rest.len > 0 && rest.text[0] != '/')
        return;
    if (rest.len == 0) {
        out->kind = CBUS_PLACE_ROOT;
        return;
    }
    out->kind = CBUS_PLACE_UNKNOWN;
    CbusSpan nkey = take_element(&rest);
    if (!cbus_nkey_read(nkey.text, nkey.len, &out->machine))
        return;
    out->nkey = nkey;
    if (rest.len == 0) {
        out->kind = CBUS_PLACE_MACHINE;
        return;
    }
    CbusSpan service = take_element(&rest);
    if (!cbus_service_unescape(service, out->service))
        return;
    out->kind = CBUS_PLACE_SERVICE;
    out->service_element = service;
    out->path = rest.len > 0 ? rest : CBUS_SPAN_LITERAL("/");
}

void
cbus_place_append_machine(GString *out, const char *nkey)
{
    g_string_append_len(out, CBUS_ROOT_PATH "/", CBUS_ROOT_PATH_LEN + 1);
    g_string_append(out, nkey);
}

void
cbus_place_append_service(GString *out, const char *nkey, const char *service)
{
    cbus_place_append_machine(out, nkey);
    g_string_append_c(out, '/');
    cbus_service_escape(out, service);
}
