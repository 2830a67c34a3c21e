/* The keys of one link and the packets sealed under them (design, "Keys" and "Packet").
 *
 * Packet: header 8, link id 16, number u64, ciphertext, tag 16. Numbers are consecutive from 0 per direction;
 * the packet key rolls every 4096 by number alone. State moves only after a packet opened. */
#pragma once
#include <glib.h>

#define CBUS_LINK_ID_BYTES       16
#define CBUS_PACKET_PREFIX_BYTES 32 /* header, link id, number */
#define CBUS_PACKET_TAG_BYTES    16
#define CBUS_PACKET_OVERHEAD     (CBUS_PACKET_PREFIX_BYTES + CBUS_PACKET_TAG_BYTES)
#define CBUS_PACKET_LEAST        8192 /* bytes of a packet that every way must carry */
#define CBUS_KEY_ROLL            4096

typedef struct _CbusSession CbusSession;
void cbus_session_free(CbusSession *session); /* wipes */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusSession, cbus_session_free)

/* From the chains that the handshake derived (all 32 bytes; copied). SEND is our direction. */
CbusSession *cbus_session_new(guint8 version, const guint8 link_id[CBUS_LINK_ID_BYTES],
                              const guint8 send_chain[32], const guint8 receive_chain[32]);

const guint8 *cbus_session_link_id(const CbusSession *session);
guint64 cbus_session_next_to_send(const CbusSession *session);

/* Seals in place: BUFFER holds 32 bytes of room, LEN bytes of plaintext, 16 bytes of room; all of it is the
 * packet afterwards. Never fails: numbers can not run out. */
void cbus_session_seal(CbusSession *session, guint8 *buffer, gsize len);

typedef enum {
    CBUS_OPEN_OK,
    CBUS_OPEN_DROP, /* not ours, not now, or does not decrypt: count and drop, state untouched */
    CBUS_OPEN_GAP,  /* genuine, but a packet before it is missing: the link must end */
} CbusOpenResult;

/* The link id of something that has the size and header of a packet, else NULL. Borrowed from PACKET. */
const guint8 *cbus_packet_link_id(const guint8 *packet, gsize len);

/* Opens in place: on CBUS_OPEN_OK *PLAIN (inside PACKET) and *PLAIN_LEN are set. PACKET is scratch
 * afterwards, whatever the result. */
CbusOpenResult cbus_session_open(CbusSession *session, guint8 *packet, gsize len, guint8 **plain,
                                 gsize *plain_len);
