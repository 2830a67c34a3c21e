/* A D-Bus message seen in place, and its header built anew (D-Bus specification, "Message Protocol").
 *
 * The view checks every byte of the header (bounds, alignment, zero padding, UTF-8, names, required fields)
 * in either endianness, and borrows from the message. The body is checked apart (wire/body.h), so that who
 * translates it walks it once. No allocation on success. */
#pragma once
#include "wire/bytes.h"

#define CBUS_MESSAGE_MAX (128u * 1024 * 1024)
#define CBUS_MESSAGE_MIN 16
#define CBUS_ARRAY_MAX   (64u * 1024 * 1024)

typedef enum {
    CBUS_MESSAGE_CALL = 1,
    CBUS_MESSAGE_RETURN = 2,
    CBUS_MESSAGE_ERROR = 3,
    CBUS_MESSAGE_SIGNAL = 4,
} CbusMessageType;

/* Codes of the header fields; 0 is invalid, others are skipped. */
typedef enum {
    CBUS_FIELD_PATH = 1,
    CBUS_FIELD_INTERFACE = 2,
    CBUS_FIELD_MEMBER = 3,
    CBUS_FIELD_ERROR_NAME = 4,
    CBUS_FIELD_REPLY_SERIAL = 5,
    CBUS_FIELD_DESTINATION = 6,
    CBUS_FIELD_SENDER = 7,
    CBUS_FIELD_SIGNATURE = 8,
    CBUS_FIELD_UNIX_FDS = 9,
    CBUS_FIELD_LAST = CBUS_FIELD_UNIX_FDS,
} CbusField;

#define CBUS_ENDIAN_NATIVE (G_BYTE_ORDER == G_LITTLE_ENDIAN ? 'l' : 'B')

#define CBUS_FLAG_NO_REPLY      0x1
#define CBUS_FLAG_NO_AUTO_START 0x2
#define CBUS_FLAG_INTERACTIVE   0x4

typedef enum {
    CBUS_MESSAGE_FAULT_INVALID,     /* not a D-Bus message: the connection it came from is lost */
    CBUS_MESSAGE_FAULT_LIMIT,       /* over a limit of the specification or of the caller */
    CBUS_MESSAGE_FAULT_DESCRIPTORS, /* holds an 'h' or a UNIX_FDS header */
    CBUS_MESSAGE_FAULT_PATH,        /* an object path of another machine */
} CbusMessageFault;

#define CBUS_MESSAGE_FAULT (cbus_message_fault_quark())
GQuark cbus_message_fault_quark(void);

typedef struct {
    guint8 endian; /* 'l' or 'B' */
    guint8 type;   /* 1 to 4; unknown types are refused */
    guint8 flags;  /* as sent; unknown bits are to be ignored */
    guint32 serial;
    guint32 reply_serial; /* 0 when absent */
    guint32 unix_fds;     /* 0 when absent */
    CbusSpan path, interface, member, error_name, destination, sender, signature;
    const guint8 *body; /* inside the message */
    gsize body_len;
    gsize size; /* of the whole message */
} CbusMessage;

/* How long the message that begins at DATA is: 0 when fewer than 16 bytes are there, −1 with ERROR when it is
 * no message or longer than LIMIT. */
gssize cbus_message_frame(const guint8 *data, gsize available, gsize limit,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Views a whole message of exactly SIZE bytes. OUT is untouched on failure. */
gboolean cbus_message_view(CbusMessage *out, const guint8 *data, gsize size,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A header to write. Absent spans are left out. The path written is path_prefix followed by path, where a
 * path of
 * "/" after a prefix adds nothing. */
typedef struct {
    guint8 endian, type, flags;
    guint32 serial, reply_serial;
    CbusSpan path_prefix, path, interface, member, error_name, destination, sender, signature;
} CbusHeader;

/* Appends header and padding to OUT, as if the message began at OUT's current end; the caller appends
 * BODY_LEN bytes of body. Values are trusted to be valid. Returns the offset in OUT where the message begins.
 */
gsize cbus_header_append(GByteArray *out, const CbusHeader *header, gsize body_len);
/* Sets the body length of the message at OFFSET to what was appended since its header; BODY_OFFSET is OUT's
 * length after cbus_header_append. FALSE if the message outgrew 128 MiB or its header fields 64 MiB, as a
 * path from outside may with a prefix (OUT is cut back to OFFSET). */
gboolean cbus_header_close(GByteArray *out, gsize offset, gsize body_offset) G_GNUC_WARN_UNUSED_RESULT;

/* Small whole messages that CBus itself sends (native endian): a body of strings only (TYPES is "", "s",
 * "ss", "su", … of s, o and u: spans and guint32 as varargs: s and o take const char *). */
void cbus_message_append(GByteArray *out, const CbusHeader *header, const char *types, ...);
/* An error reply to CALL from SENDER-less us: reply serial and destination set from it. */
void cbus_message_append_error(GByteArray *out, guint32 serial, const CbusMessage *call,
                               const char *error_name, const char *message);

/* Names (D-Bus specification, "Valid Names" and "Valid Object Paths"). */
gboolean cbus_is_object_path(CbusSpan path);
gboolean cbus_is_interface(CbusSpan name);
gboolean cbus_is_member(CbusSpan name);
gboolean cbus_is_bus_name(CbusSpan name); /* well-known or unique */
gboolean cbus_is_string(CbusSpan text);   /* UTF-8 without NUL */
