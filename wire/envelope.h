/* The eight bytes that begin everything CBus publishes: "CBUS", version, type, 0 u16. */
#pragma once
#include "wire/bytes.h"
#include "wire/handshake.h"

static inline void
cbus_envelope_write(guint8 out[CBUS_HEADER_BYTES], guint8 version, CbusType type)
{
    memcpy(out, "CBUS", 4);
    out[4] = version;
    out[5] = (guint8)type;
    cbus_put_be16(out + 6, 0);
}

/* The version (1 to 255) that the header of a TYPE says; 0 if it is no such header. */
static inline guint8
cbus_envelope_version(const guint8 header[CBUS_HEADER_BYTES], CbusType type)
{
    return memcmp(header, "CBUS", 4) == 0 && header[5] == type && cbus_be16(header + 6) == 0 ? header[4] : 0;
}
