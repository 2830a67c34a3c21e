/* Packets: whatever a stranger sends is dropped without a trace, and what was sealed opens once.
 *
 * The first byte says how the rest is used: as a packet as it is; as a packet with the true header and link
 * id and a number from the input; or as changes to a genuine packet. After each, the genuine next packet must
 * still open: state moves only by packets that do. */
#include "tests/fuzz/fuzz.h"
#include "wire/bytes.h"
#include "wire/seal.h"

#define PLAIN_MAX 256

static const guint8 link_id[CBUS_LINK_ID_BYTES] = "a link's 16 byte";
static const guint8 chains[2][32] = {"the chain of the one who sends..", "the chain of the one who answers"};

static CbusOpenResult
open_copy(CbusSession *session, const guint8 *packet, gsize len)
{
    g_autofree guint8 *copy = g_malloc(len > 0 ? len : 1);
    guint8 *plain = NULL;
    gsize plain_len = 0;
    if (len > 0)
        memcpy(copy, packet, len);
    CbusOpenResult result = cbus_session_open(session, copy, len, &plain, &plain_len);
    FUZZ_CHECK((result == CBUS_OPEN_OK) == (plain != NULL));
    FUZZ_CHECK(plain == NULL ||
               (plain == copy + CBUS_PACKET_PREFIX_BYTES && plain_len == len - CBUS_PACKET_OVERHEAD));
    return result;
}

static void
send_junk(CbusSession *receiver, const guint8 *genuine, const guint8 *data, gsize len, gboolean addressed)
{
    g_autofree guint8 *junk = g_memdup2(data, len);
    if (addressed && len >= 24)
        memcpy(junk, genuine, 24);
    FUZZ_CHECK(open_copy(receiver, junk, len) == CBUS_OPEN_DROP);
}

/* XORs the input over the genuine packet; unchanged it would open. */
static void
send_changed(CbusSession *receiver, const guint8 *genuine, gsize size, const guint8 *data, gsize len)
{
    g_autofree guint8 *changed = g_memdup2(genuine, size);
    gboolean differs = FALSE;
    for (gsize i = 0; i < MIN(len, size); i++) {
        changed[i] ^= data[i];
        differs = differs || data[i] != 0;
    }
    if (differs)
        FUZZ_CHECK(open_copy(receiver, changed, size) == CBUS_OPEN_DROP);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    guint8 packet[CBUS_PACKET_OVERHEAD + PLAIN_MAX];
    if (len < 1)
        return 0;
    guint8 how = data[0];
    data++, len--;
    g_autoptr(CbusSession) sender = cbus_session_new(1, link_id, chains[0], chains[1]);
    g_autoptr(CbusSession) receiver = cbus_session_new(1, link_id, chains[1], chains[0]);
    gsize plain = MIN(len, PLAIN_MAX), size = plain + CBUS_PACKET_OVERHEAD;
    if (plain > 0)
        memcpy(packet + CBUS_PACKET_PREFIX_BYTES, data, plain);
    cbus_session_seal(sender, packet, plain);

    if (how % 3 == 0)
        send_junk(receiver, packet, data, len, FALSE);
    else if (how % 3 == 1)
        send_junk(receiver, packet, data, len, TRUE);
    else
        send_changed(receiver, packet, size, data, len);
    FUZZ_CHECK(open_copy(receiver, packet, size) == CBUS_OPEN_OK);
    FUZZ_CHECK(open_copy(receiver, packet, size) == CBUS_OPEN_DROP);
    return 0;
}
