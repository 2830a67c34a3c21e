/* Presence: "I am here", said by an agent every few seconds on cbus.v1.<agent>.here.
 *
 *     0  header 8   "CBUS", version 1, type 4, 0 u16
 *     8  agent identity 32
 *    40  agent instance 16
 *    56  beat u64   grows by one with each announcement of an instance
 *    64  flags u8   1 = farewell; 0 ×7
 *
 * Promise: the layout is checked to the last reserved byte, and the identity is a good point.
 *
 * Trust: none whatever. Presence is not signed; any NATS user can publish one. It may start a hello or a
 * ping, whose outcome decides. It holds no name and no machine id, since the broker and all its users can
 * read it.
 *
 * Threads: any; pure. */
#include "wire/envelope.h"
#include "wire/handshake.h"

#include "wire/crypto.h"
#include <sodium.h>

#define OFFSET_AGENT    8
#define OFFSET_INSTANCE 40
#define OFFSET_BEAT     56
#define OFFSET_FLAGS    64
#define FLAG_FAREWELL   1

void
cbus_presence_write(const CbusPresence *presence, guint8 out[CBUS_PRESENCE_BYTES])
{
    memset(out, 0, CBUS_PRESENCE_BYTES);
    cbus_envelope_write(out, CBUS_LAYOUT_VERSION, CBUS_TYPE_PRESENCE);
    memcpy(out + OFFSET_AGENT, presence->agent.bytes, CBUS_KEY_BYTES);
    memcpy(out + OFFSET_INSTANCE, presence->instance.bytes, CBUS_INSTANCE_BYTES);
    cbus_put_be64(out + OFFSET_BEAT, presence->beat);
    out[OFFSET_FLAGS] = presence->farewell ? FLAG_FAREWELL : 0;
}

const CbusKey *
cbus_presence_peek(const guint8 *data, gsize len)
{
    return len == CBUS_PRESENCE_BYTES ? (const CbusKey *)(data + OFFSET_AGENT) : NULL;
}

static gboolean
read_fields(const guint8 *data, gsize len, CbusPresence *out)
{
    if (len != CBUS_PRESENCE_BYTES ||
        cbus_envelope_version(data, CBUS_TYPE_PRESENCE) != CBUS_LAYOUT_VERSION ||
        data[OFFSET_FLAGS] > FLAG_FAREWELL ||
        !sodium_is_zero(data + OFFSET_FLAGS + 1, CBUS_PRESENCE_BYTES - OFFSET_FLAGS - 1))
        return FALSE;
    memcpy(out->agent.bytes, data + OFFSET_AGENT, CBUS_KEY_BYTES);
    memcpy(out->instance.bytes, data + OFFSET_INSTANCE, CBUS_INSTANCE_BYTES);
    out->beat = cbus_be64(data + OFFSET_BEAT);
    out->farewell = data[OFFSET_FLAGS] == FLAG_FAREWELL;
    return TRUE;
}

gboolean
cbus_presence_read_of(const CbusKey *agent, const guint8 *data, gsize len, CbusPresence *out)
{
    const CbusKey *claimed = cbus_presence_peek(data, len);

    return claimed != NULL && cbus_key_equal(claimed, agent) && read_fields(data, len, out);
}

gboolean
cbus_presence_read(const guint8 *data, gsize len, CbusPresence *out)
{
    const CbusKey *claimed = cbus_presence_peek(data, len);

    cbus_crypto_init();
    return claimed != NULL && crypto_core_ed25519_is_valid_point(claimed->bytes) == 1 &&
           read_fields(data, len, out);
}
