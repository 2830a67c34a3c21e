/* The three flights that make a link (design, "Identity and links"): hello, welcome, and T for finish.
 *
 * Pure: bytes in, bytes out; who signs is the caller's business, since a signature may come from another
 * process. Randomness is libsodium's unless a test fixes the ephemeral. */
#pragma once
#include "wire/key.h"
#include "wire/seal.h"

/* Versions of packets and records that we speak. A test sets others. */
#ifndef CBUS_PROTOCOL_MIN
#define CBUS_PROTOCOL_MIN 1
#define CBUS_PROTOCOL_MAX 1
#endif
/* In the headers of hello, welcome and presence, whatever we speak: their layouts never change. */
#define CBUS_LAYOUT_VERSION   1
#define CBUS_HEADER_BYTES     8 /* "CBUS", version, type, 0 u16 */
#define CBUS_HELLO_BYTES      144
#define CBUS_WELCOME_BYTES    144
#define CBUS_TRANSCRIPT_BYTES 64

typedef enum {
    CBUS_TYPE_HELLO = 1,
    CBUS_TYPE_WELCOME = 2,
    CBUS_TYPE_PACKET = 3,
    CBUS_TYPE_PRESENCE = 4,
} CbusType;

typedef enum {
    CBUS_HANDSHAKE_ERROR_FORMAT,   /* size, header, reserved bytes */
    CBUS_HANDSHAKE_ERROR_NOT_OURS, /* for another identity, instance or hello: count and drop */
    CBUS_HANDSHAKE_ERROR_SIGNATURE,
    CBUS_HANDSHAKE_ERROR_KEY,          /* a weak identity or an ephemeral whose product is zero */
    CBUS_HANDSHAKE_ERROR_INCOMPATIBLE, /* no common version */
} CbusHandshakeError;

#define CBUS_HANDSHAKE_ERROR (cbus_handshake_error_quark())
GQuark cbus_handshake_error_quark(void);

typedef struct _CbusHandshake CbusHandshake;
void cbus_handshake_free(CbusHandshake *handshake); /* wipes */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusHandshake, cbus_handshake_free)

/* Proxy: begins; HELLO is what to send. EPHEMERAL is a 32-byte X25519 secret for tests, else NULL. */
CbusHandshake *cbus_handshake_new_proxy(const CbusKey *agent, const CbusInstance *agent_instance,
                                        const CbusKey *proxy, const CbusInstance *proxy_instance,
                                        const guint8 *ephemeral, guint8 hello[CBUS_HELLO_BYTES]);

/* Proxy: checks a welcome (layout, our hello, version, agent's signature, key agreement). On success T is
 * what the proxy's identity must sign for finish, and cbus_handshake_take_session() may be called once. After
 * an error the handshake is unchanged and still waits: a forged welcome must not end it. */
gboolean cbus_handshake_read_welcome(CbusHandshake *handshake, const guint8 *welcome, gsize len,
                                     guint8 T[CBUS_TRANSCRIPT_BYTES],
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Agent: reads a hello meant for AGENT/INSTANCE. On success TH is what the agent's identity must sign. */
CbusHandshake *cbus_handshake_new_agent(const CbusKey *agent, const CbusInstance *instance,
                                        const guint8 *hello, gsize len, const guint8 *ephemeral,
                                        guint8 th[CBUS_TRANSCRIPT_BYTES],
                                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Agent: with the identity's signature over TH (checked); WELCOME is what to send. The session may be taken
 * afterwards. Without a common version the welcome is to be sent all the same, since it alone tells the proxy
 * so, but there is no session. */
gboolean cbus_handshake_write_welcome(CbusHandshake *handshake, const guint8 signature[CBUS_SIGNATURE_BYTES],
                                      guint8 welcome[CBUS_WELCOME_BYTES],
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Both, after success: who speaks, T, and the keys. The session is (transfer full); NULL if not ready, taken,
 * or if there is no common version: then the agent sends its welcome and forgets the handshake. */
const CbusKey *cbus_handshake_proxy(const CbusHandshake *handshake);
const CbusInstance *cbus_handshake_proxy_instance(const CbusHandshake *handshake);
const guint8 *cbus_handshake_transcript(const CbusHandshake *handshake); /* T, 64 bytes */
CbusSession *cbus_handshake_take_session(CbusHandshake *handshake);

/* Reads only who a hello claims to come from, for rate limits; FALSE if it is no hello. Nothing is verified.
 */
gboolean cbus_hello_peek(const guint8 *hello, gsize len, CbusKey *proxy, CbusInstance *proxy_instance);

/* Presence: an unsigned hint. 8 header, 32 identity, 16 instance, u64 beat, u8 flags (1 = farewell), 0 ×7. */
#define CBUS_PRESENCE_BYTES 72
typedef struct {
    CbusKey agent;
    CbusInstance instance;
    guint64 beat;
    gboolean farewell;
} CbusPresence;
void cbus_presence_write(const CbusPresence *presence, guint8 out[CBUS_PRESENCE_BYTES]);
/* The agent that DATA would be of, unchecked and borrowed, or NULL; costs nothing, where reading costs a
 * point's validation: a flood of fresh keys is dropped by it. */
const CbusKey *cbus_presence_peek(const guint8 *data, gsize len);
gboolean cbus_presence_read(const guint8 *data, gsize len, CbusPresence *out) G_GNUC_WARN_UNUSED_RESULT;
/* The same, of AGENT alone, a key that was checked when it was read: fleets announce themselves all day, and
 * checking a point costs more than all the rest. FALSE for any other's. */
gboolean cbus_presence_read_of(const CbusKey *agent, const guint8 *data, gsize len,
                               CbusPresence *out) G_GNUC_WARN_UNUSED_RESULT;
