/* The keys of one link, and the packets sealed under them.
 *
 *     0  header 8   "CBUS", version, type 3, 0 u16
 *     8  link id 16
 *    24  number u64
 *    32  ciphertext, tag 16
 *
 * AEAD: ChaCha20-Poly1305 (RFC 8439); nonce: 0 u32 ‖ number; additional data: the 32 bytes before the
 * ciphertext. Numbers of one direction are consecutive from 0 and each direction has keys of its own, so no
 * nonce is used twice with a key.
 *
 * Promise: who learns the memory of this process learns no packet older than the current generation (4096
 * packets, number >> 12). Of generation g only the packet key and the chain c_{g+1} are held; rolling
 * replaces both. A packet that does not open changes nothing, whatever it says: everything a stranger can
 * send ends in CBUS_OPEN_DROP at the cost of at most one key derivation and one failed tag. A packet that
 * opens, but is not the next, is proof that the broker lost one before it: CBUS_OPEN_GAP, and the link must
 * end. One that opens twice does not exist: an old number is dropped unread.
 *
 * Only numbers of the current generation and the next are tried: a gap that long is lost anyway, and a
 * stranger can not make us roll through 2^52 keys.
 *
 * Trust: the chains are uniformly random and known to the two ends alone (wire/handshake.c).
 *
 * Threads: any one at a time. Keys live in guarded, locked memory (wire/vault.h) and are wiped by
 * cbus_session_free(). */
#include "wire/seal.h"

#include "wire/bytes.h"
#include "wire/crypto.h"
#include "wire/envelope.h"
#include "wire/vault.h"
#include <sodium.h>

#define KEY_BYTES  crypto_aead_chacha20poly1305_ietf_KEYBYTES
#define CONTEXT    "cbuschan"
#define NEXT_CHAIN 1
#define PACKET_KEY 2
#define ROLL_SHIFT 12
#define OFFSET_ID  8
#define OFFSET_NO  24

G_STATIC_ASSERT(CBUS_KEY_ROLL == 1 << ROLL_SHIFT);
G_STATIC_ASSERT(KEY_BYTES == crypto_kdf_KEYBYTES);
G_STATIC_ASSERT(CBUS_PACKET_TAG_BYTES == crypto_aead_chacha20poly1305_ietf_ABYTES);

typedef struct {
    guint64 next;                 /* number of the next packet */
    guint8 key[KEY_BYTES];        /* of next's generation */
    guint8 next_chain[KEY_BYTES]; /* c of the generation after it */
} Direction;

struct _CbusSession {
    Direction send, receive;
    guint8 link_id[CBUS_LINK_ID_BYTES];
    guint8 version;
};

static void
derive(guint8 out[KEY_BYTES], guint64 id, const guint8 chain[KEY_BYTES])
{
    if (crypto_kdf_derive_from_key(out, KEY_BYTES, id, CONTEXT, chain) != 0)
        g_assert_not_reached();
}

/* To the generation whose chain is DIRECTION->next_chain. */
static void
roll(Direction *direction)
{
    guint8 chain[KEY_BYTES];
    derive(direction->key, PACKET_KEY, direction->next_chain);
    derive(chain, NEXT_CHAIN, direction->next_chain);
    memcpy(direction->next_chain, chain, sizeof chain);
    sodium_memzero(chain, sizeof chain);
    sodium_stackzero(CBUS_STACK_WIPED);
}

static void
advance(Direction *direction)
{
    direction->next++;
    if ((direction->next & (CBUS_KEY_ROLL - 1)) == 0)
        roll(direction);
}

CbusSession *
cbus_session_new(guint8 version, const guint8 link_id[CBUS_LINK_ID_BYTES], const guint8 send_chain[32],
                 const guint8 receive_chain[32])
{
    cbus_crypto_init();
    G_STATIC_ASSERT(sizeof(CbusSession) <= CBUS_VAULT_BYTES);
    CbusSession *session = cbus_vault_take();
    session->version = version;
    memcpy(session->link_id, link_id, CBUS_LINK_ID_BYTES);
    session->send.next = session->receive.next = 0;
    memcpy(session->send.next_chain, send_chain, KEY_BYTES);
    memcpy(session->receive.next_chain, receive_chain, KEY_BYTES);
    roll(&session->send);
    roll(&session->receive);
    return session;
}

void
cbus_session_free(CbusSession *session)
{
    cbus_vault_give(session);
}

const guint8 *
cbus_session_link_id(const CbusSession *session)
{
    return session->link_id;
}

guint64
cbus_session_next_to_send(const CbusSession *session)
{
    return session->send.next;
}

static void
make_nonce(guint8 nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES], const guint8 *number)
{
    memset(nonce, 0, 4);
    memcpy(nonce + 4, number, 8);
}

void
cbus_session_seal(CbusSession *session, guint8 *buffer, gsize len)
{
    guint8 nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    cbus_envelope_write(buffer, session->version, CBUS_TYPE_PACKET);
    memcpy(buffer + OFFSET_ID, session->link_id, CBUS_LINK_ID_BYTES);
    cbus_put_be64(buffer + OFFSET_NO, session->send.next);
    make_nonce(nonce, buffer + OFFSET_NO);
    guint8 *text = buffer + CBUS_PACKET_PREFIX_BYTES;
    crypto_aead_chacha20poly1305_ietf_encrypt(text, NULL, text, len, buffer, CBUS_PACKET_PREFIX_BYTES, NULL,
                                              nonce, session->send.key);
    advance(&session->send);
}

const guint8 *
cbus_packet_link_id(const guint8 *packet, gsize len)
{
    if (len < CBUS_PACKET_OVERHEAD || cbus_envelope_version(packet, CBUS_TYPE_PACKET) == 0)
        return NULL;
    return packet + OFFSET_ID;
}

static gboolean
decrypt(guint8 *packet, gsize len, const guint8 key[KEY_BYTES])
{
    guint8 nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    make_nonce(nonce, packet + OFFSET_NO);
    guint8 *text = packet + CBUS_PACKET_PREFIX_BYTES;
    return crypto_aead_chacha20poly1305_ietf_decrypt(text, NULL, NULL, text, len - CBUS_PACKET_PREFIX_BYTES,
                                                     packet, CBUS_PACKET_PREFIX_BYTES, nonce, key) == 0;
}

CbusOpenResult
cbus_session_open(CbusSession *session, guint8 *packet, gsize len, guint8 **plain, gsize *plain_len)
{
    const guint8 *id = cbus_packet_link_id(packet, len);
    if (id == NULL || memcmp(id, session->link_id, CBUS_LINK_ID_BYTES) != 0 ||
        cbus_envelope_version(packet, CBUS_TYPE_PACKET) != session->version)
        return CBUS_OPEN_DROP;
    Direction *receive = &session->receive;
    guint64 number = cbus_be64(packet + OFFSET_NO);
    guint64 generation = receive->next >> ROLL_SHIFT;
    if (number < receive->next || number >> ROLL_SHIFT > generation + 1)
        return CBUS_OPEN_DROP;
    gboolean opened;
    if (number >> ROLL_SHIFT == generation) {
        opened = decrypt(packet, len, receive->key);
    } else {
        guint8 key[KEY_BYTES];
        derive(key, PACKET_KEY, receive->next_chain);
        opened = decrypt(packet, len, key);
        sodium_memzero(key, sizeof key);
        sodium_stackzero(CBUS_STACK_WIPED);
    }
    if (!opened)
        return CBUS_OPEN_DROP;
    if (number != receive->next)
        return CBUS_OPEN_GAP;
    advance(receive);
    *plain = packet + CBUS_PACKET_PREFIX_BYTES;
    *plain_len = len - CBUS_PACKET_OVERHEAD;
    return CBUS_OPEN_OK;
}
