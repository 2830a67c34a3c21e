/* Signatures and bodies: one walk over the marshalled bytes, with every rule of the D-Bus specification
 * checked (bounds, alignment, zero padding, booleans, UTF-8, object paths, signatures, array and nesting
 * limits). */
#pragma once
#include "wire/message.h"

/* A signature of any number of complete types, at most 255 bytes, 32 arrays and 32 structs deep. */
gboolean cbus_signature_is_valid(CbusSpan signature);
/* A signature with, for each byte that begins a type, the offset where that type ends. TEXT is borrowed. */
#define CBUS_SIGNATURE_MAX 255
typedef struct {
    const char *text;
    guint len;
    guint8 ends[CBUS_SIGNATURE_MAX + 1];
} CbusSignature;
/* As cbus_signature_is_valid; what OUT holds after FALSE means nothing. */
gboolean cbus_signature_parse(CbusSpan text, CbusSignature *out) G_GNUC_WARN_UNUSED_RESULT;
/* The length of the first complete type at TEXT (trusted to be a valid signature). */
gsize cbus_signature_next(const char *text, gsize len);
guint cbus_type_alignment(char type); /* 1, 2, 4 or 8 */

/* Checks BODY against SIGNATURE. Faults: INVALID, DESCRIPTORS when a value of type h is met (in variants
 * too). */
gboolean cbus_body_check(const guint8 *body, gsize len, guint8 endian, CbusSpan signature,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What stands in place of PATH: HEAD followed by TAIL, which come as nothing and PATH. Borrowed until the
 * next call; together a valid object path. FALSE with ERROR refuses the body. */
typedef gboolean (*CbusPathFunc)(CbusSpan path, CbusSpan *head, CbusSpan *tail, gconstpointer data,
                                 GError **error);
/* cbus_body_check, and appends the body with every object path mapped to OUT, as if it began 8-aligned at
 * OUT's current end. OUT is cut back on failure. Fault beside those of cbus_body_check and MAP: LIMIT when
 * more than LIMIT bytes would be appended or an array would outgrow 64 MiB. */
gboolean cbus_body_rewrite(GByteArray *out, const guint8 *body, gsize len, guint8 endian, CbusSpan signature,
                           CbusPathFunc map, gconstpointer map_data, gsize limit,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Checks the variant at *AT, which DEPTH containers hold, and moves *AT behind it. Offsets count from DATA.
 */
gboolean cbus_variant_check(const guint8 *data, gsize len, guint8 endian, gsize *at, guint depth,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* TRUE if a value of SIGNATURE may hold an object path: an 'o' or a 'v' is in it. */
gboolean cbus_signature_may_hold_path(CbusSpan signature);
gboolean cbus_signature_has_descriptor(CbusSpan signature); /* an 'h' in it */

/* A cursor for small, known bodies. All return FALSE past the end or on a malformed value, and never read
 * outside. */
typedef struct {
    const guint8 *body;
    gsize len, at;
    guint8 endian;
} CbusCursor;
CbusCursor cbus_cursor(const CbusMessage *message);
gboolean cbus_cursor_string(CbusCursor *cursor, CbusSpan *out) G_GNUC_WARN_UNUSED_RESULT; /* s or o */
/* As cbus_cursor_string, but for who checks the text by a stricter rule: it may be no UTF-8 and hold NUL. */
gboolean cbus_cursor_text(CbusCursor *cursor, CbusSpan *out) G_GNUC_WARN_UNUSED_RESULT;
gboolean cbus_cursor_u32(CbusCursor *cursor, guint32 *out) G_GNUC_WARN_UNUSED_RESULT;
gboolean cbus_cursor_u64(CbusCursor *cursor, guint64 *out) G_GNUC_WARN_UNUSED_RESULT;
/* Enters an array of ELEMENT alignment; END is the offset where it ends. */
gboolean cbus_cursor_array(CbusCursor *cursor, guint element_alignment, gsize *end) G_GNUC_WARN_UNUSED_RESULT;
