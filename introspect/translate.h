/* One streaming pass that checks a body and rewrites the object paths in it (design, "The mirror,
 * precisely").
 *
 * Type o is translated at any depth, in variants too; s never is. Alignment and array lengths are made anew.
 */
#pragma once
#include "wire/key.h"
#include "wire/message.h"

typedef enum {
    CBUS_TO_LOCAL,  /* remote → mirror: "/" stays, any other path gets the prefix */
    CBUS_TO_REMOTE, /* mirror → remote: "/" stays; below the same machine and any service loses both (the
                       service node becomes "/"); the machine's own node, another machine or an undecodable
                       service below this one: CBUS_MESSAGE_FAULT_PATH; any other stays */
} CbusDirection;

typedef struct {
    CbusDirection direction;
    CbusSpan prefix;  /* TO_LOCAL: "/ie/bmcgee/CBus/<nkey>/<service>" */
    CbusSpan machine; /* TO_REMOTE: "/ie/bmcgee/CBus/<nkey>" */
} CbusTranslation;

/* Appends the body, checked and translated, to OUT as if it began 8-aligned at OUT's current end. OUT is cut
 * back on failure. LIMIT bounds what is appended (CBUS_MESSAGE_FAULT_LIMIT). Same faults as cbus_body_check
 * otherwise. */
gboolean cbus_translate_body(GByteArray *out, const guint8 *body, gsize len, guint8 endian,
                             CbusSpan signature, const CbusTranslation *translation, gsize limit,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
