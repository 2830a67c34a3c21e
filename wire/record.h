/* Records: what the plaintext of a packet is made of (docs/protocol.md).
 *
 * A record is type u8, flags u8, 0 u16, channel u32, length u32 (big-endian), then the payload. A packet
 * holds whole records only. A D-Bus message or a tree that does not fit is cut into records of the same type
 * and channel, all but the last with CBUS_RECORD_MORE. Channel 0 is the link itself. */
#pragma once
#include "wire/bytes.h"

#define CBUS_RECORD_HEADER_BYTES 12
#define CBUS_RECORD_MORE         0x01 /* the next record of this type and channel continues this one */
#define CBUS_RECORD_ANSWER       0x02 /* TREE: an answer, not a request */

typedef enum {
    CBUS_RECORD_FINISH = 1,  /* channel 0: 64 bytes of signature; alone in packet 0 */
    CBUS_RECORD_OPEN = 2,    /* u32 local uid claim (0xffffffff: none), u32 flags 0 */
    CBUS_RECORD_OPENED = 3,  /* empty */
    CBUS_RECORD_REFUSED = 4, /* s D-Bus error name, s message; channel 0: the whole link */
    CBUS_RECORD_CLOSE = 5,   /* s D-Bus error name, s message; both may be empty */
    CBUS_RECORD_CREDIT =
        6,                /* u64 limit that the receiver grants, u64 wanted by the sender; both cumulative */
    CBUS_RECORD_PING = 7, /* u64 opaque */
    CBUS_RECORD_PONG = 8, /* the same u64 */
    CBUS_RECORD_TREE = 9, /* request: u32 id, s destination; answer: u32 id, then see wire/tree.h */
    CBUS_RECORD_SERVERINFO = 10, /* s name, s machine id, s boot id, s version */
    CBUS_RECORD_MESSAGE = 11,    /* a D-Bus message */
} CbusRecordType;

typedef struct {
    guint8 type;
    guint8 flags;
    guint32 channel;
    const guint8 *payload; /* borrowed */
    guint32 len;
} CbusRecord;

/* Writes a record's header. */
void cbus_record_header(guint8 out[CBUS_RECORD_HEADER_BYTES], CbusRecordType type, guint8 flags,
                        guint32 channel, guint32 len);

/* Appends a whole small record. */
void cbus_record_append(GByteArray *out, CbusRecordType type, guint8 flags, guint32 channel,
                        const guint8 *payload, gsize len);

/* Takes the next record off (*DATA, *LEN). Returns 1 with RECORD set, 0 at the end, −1 if the bytes are no
 * record (unknown type or flag, reserved bits, wrong payload size for the type, running over the end). */
int cbus_record_next(const guint8 **data, gsize *len, CbusRecord *record);

/* Strings inside payloads: u32 length, bytes of UTF-8 without NUL. MAX bounds the length. */
void cbus_put_string(GByteArray *out, const char *text);
/* The same for words to people, which may be longer than the reader takes: cut to MAX bytes, at a character.
 */
void cbus_put_string_cut(GByteArray *out, const char *text, gsize max);
gboolean cbus_get_string(const guint8 **data, gsize *len, gsize max, CbusSpan *out) G_GNUC_WARN_UNUSED_RESULT;

/* Both strings of REFUSED and CLOSE (at most 255 and 4096 bytes; newly allocated copies). */
gboolean cbus_record_reason(const CbusRecord *record, char **error_name,
                            char **message) G_GNUC_WARN_UNUSED_RESULT;
