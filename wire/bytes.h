/* Unaligned loads and stores, and spans: the alphabet of every parser in wire/.
 *
 * A span borrows bytes of somebody else's buffer. Spans of D-Bus strings point into the message, where the
 * byte after the last is a NUL; a span made elsewhere promises no NUL. */
#pragma once
#include <glib.h>
#include <string.h>

typedef struct {
    const char *text; /* NULL when absent */
    gsize len;
} CbusSpan;

#define CBUS_SPAN_LITERAL(s) ((CbusSpan){(s), sizeof(s) - 1})

static inline CbusSpan
cbus_span(const char *text)
{
    return (CbusSpan){text, text != NULL ? strlen(text) : 0};
}

static inline gboolean
cbus_span_equal(CbusSpan a, CbusSpan b)
{
    return a.len == b.len &&
           (a.len == 0 || (a.text != NULL && b.text != NULL && memcmp(a.text, b.text, a.len) == 0));
}

static inline gboolean
cbus_span_is(CbusSpan a, const char *text)
{
    return cbus_span_equal(a, cbus_span(text));
}

static inline guint16
cbus_be16(const void *p)
{
    guint16 v;
    memcpy(&v, p, sizeof v);
    return GUINT16_FROM_BE(v);
}

static inline guint32
cbus_be32(const void *p)
{
    guint32 v;
    memcpy(&v, p, sizeof v);
    return GUINT32_FROM_BE(v);
}

static inline guint64
cbus_be64(const void *p)
{
    guint64 v;
    memcpy(&v, p, sizeof v);
    return GUINT64_FROM_BE(v);
}

static inline void
cbus_put_be16(void *p, guint16 v)
{
    v = GUINT16_TO_BE(v);
    memcpy(p, &v, sizeof v);
}

static inline void
cbus_put_be32(void *p, guint32 v)
{
    v = GUINT32_TO_BE(v);
    memcpy(p, &v, sizeof v);
}

static inline void
cbus_put_be64(void *p, guint64 v)
{
    v = GUINT64_TO_BE(v);
    memcpy(p, &v, sizeof v);
}
