/* D-Bus bodies as JSON and back: bytes in, bytes out, no tree of values in between.
 *
 * Arrays and structs are arrays, dictionaries with string keys are objects (others arrays of pairs), variants
 * are {"type":…,"data":…}. 64-bit integers beyond 2^53, NaN and infinities are strings, and any basic value
 * but a boolean may come as one. */
#pragma once
#include "wire/body.h"

typedef enum {
    CBUS_JSON_ERROR_SYNTAX, /* not JSON */
    CBUS_JSON_ERROR_TYPE,   /* JSON, but not of the type that is asked for */
} CbusJsonError;
#define CBUS_JSON_ERROR (cbus_json_error_quark())
GQuark cbus_json_error_quark(void);

/* A string in quotes. TEXT is UTF-8. All but printable characters are escaped: the output is safe on a
 * terminal, too. */
void cbus_json_append_span(GString *out, CbusSpan text);

/* Appends the values of a body as one array. The body was checked (cbus_body_check). FALSE, with OUT as it
 * was, when that takes more than LIMIT bytes. */
gboolean cbus_json_append_body(GString *out, const guint8 *body, gsize len, guint8 endian, CbusSpan signature,
                               gsize limit) G_GNUC_WARN_UNUSED_RESULT;
/* The same for a body that is one variant: appends its value without the array and tells the value's TYPE,
 * borrowed from BODY. FALSE also when the body is something else. */
gboolean cbus_json_append_variant(GString *out, const guint8 *body, gsize len, guint8 endian, CbusSpan *type,
                                  gsize limit) G_GNUC_WARN_UNUSED_RESULT;

/* Reads TEXT, an array with a value for each type of SIGNATURE (or nothing, which is an empty one), and
 * appends the body, in native byte order, as if OUT's current end were 8-aligned. OUT is cut back on failure;
 * ERROR says where and why. */
gboolean cbus_json_read_body(GByteArray *out, const char *text, gsize len, CbusSpan signature,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
