/* Packets: in order, once, under keys that roll; whatever does not open changes nothing. */
#include "wire/seal.h"

#include <glib.h>
#include <string.h>

#include "wire/bytes.h"

#define PLAIN  "plain text"
#define PLAINS (sizeof PLAIN - 1)
#define SIZE   (CBUS_PACKET_OVERHEAD + PLAINS)

typedef struct {
    CbusSession *sender, *receiver;
} Pair;

static const guint8 link_id[CBUS_LINK_ID_BYTES] = "a link's 16 byte";
static const guint8 chains[2][32] = {"the chain of the one who sends..", "the chain of the one who answers"};

static void
set_up(Pair *pair, gconstpointer data)
{
    pair->sender = cbus_session_new(1, link_id, chains[0], chains[1]);
    pair->receiver = cbus_session_new(1, link_id, chains[1], chains[0]);
}

static void
tear_down(Pair *pair, gconstpointer data)
{
    cbus_session_free(pair->sender);
    cbus_session_free(pair->receiver);
}

static void
seal(CbusSession *session, guint8 packet[SIZE])
{
    memcpy(packet + CBUS_PACKET_PREFIX_BYTES, PLAIN, PLAINS);
    cbus_session_seal(session, packet, PLAINS);
}

static CbusOpenResult
open_copy(CbusSession *session, const guint8 *packet, gsize len)
{
    g_autofree guint8 *copy = g_malloc(len + 1);
    guint8 *plain = NULL;
    gsize plain_len = 0;
    memcpy(copy, packet, len);
    CbusOpenResult result = cbus_session_open(session, copy, len, &plain, &plain_len);
    if (result == CBUS_OPEN_OK)
        g_assert_cmpmem(plain, plain_len, PLAIN, PLAINS);
    else
        g_assert_true(plain == NULL && plain_len == 0);
    return result;
}

static void
assert_opens(Pair *pair, const guint8 packet[SIZE])
{
    g_assert_cmpint(open_copy(pair->receiver, packet, SIZE), ==, CBUS_OPEN_OK);
}

static void
skip(Pair *pair, guint count, gboolean deliver)
{
    guint8 packet[SIZE];
    for (guint i = 0; i < count; i++) {
        seal(pair->sender, packet);
        if (deliver)
            assert_opens(pair, packet);
    }
}

static void
test_numbers_are_consecutive(Pair *pair, gconstpointer data)
{
    guint8 packet[SIZE];
    for (guint64 number = 0; number < 10; number++) {
        g_assert_cmpuint(cbus_session_next_to_send(pair->sender), ==, number);
        seal(pair->sender, packet);
        g_assert_cmpuint(cbus_be64(packet + 24), ==, number);
        g_assert_cmpmem(cbus_packet_link_id(packet, SIZE), 16, link_id, 16);
        g_assert_cmpmem(cbus_session_link_id(pair->receiver), 16, link_id, 16);
        assert_opens(pair, packet);
    }
}

static void
test_empty_and_large(Pair *pair, gconstpointer data)
{
    guint8 *plain;
    gsize len;
    guint8 empty[CBUS_PACKET_OVERHEAD];
    cbus_session_seal(pair->sender, empty, 0);
    g_assert_cmpint(cbus_session_open(pair->receiver, empty, sizeof empty, &plain, &len), ==, CBUS_OPEN_OK);
    g_assert_cmpuint(len, ==, 0);

    gsize size = 3 * 1024 * 1024;
    g_autofree guint8 *large = g_malloc(size + CBUS_PACKET_OVERHEAD);
    memset(large + CBUS_PACKET_PREFIX_BYTES, 'x', size);
    cbus_session_seal(pair->sender, large, size);
    g_assert_cmpint(cbus_session_open(pair->receiver, large, size + CBUS_PACKET_OVERHEAD, &plain, &len), ==,
                    CBUS_OPEN_OK);
    g_assert_cmpuint(len, ==, size);
    for (gsize i = 0; i < size; i++)
        g_assert_true(plain[i] == 'x');
}

static void
test_keys_roll_by_number(Pair *pair, gconstpointer data)
{
    guint8 packet[SIZE], early[SIZE];
    CbusSession *stale = cbus_session_new(1, link_id, chains[1], chains[0]);
    skip(pair, CBUS_KEY_ROLL - 1, TRUE);
    seal(pair->sender, packet); /* 4095: the last of its generation */
    seal(pair->sender, early);  /* 4096 */
    assert_opens(pair, packet);
    assert_opens(pair, early);
    skip(pair, 2 * CBUS_KEY_ROLL, TRUE);

    /* A receiver that stayed at 0: the next generation opens, as a gap; the one after is not tried. */
    g_assert_cmpint(open_copy(stale, early, SIZE), ==, CBUS_OPEN_GAP);
    seal(pair->sender, packet);
    g_assert_cmpint(open_copy(stale, packet, SIZE), ==, CBUS_OPEN_DROP);
    cbus_session_free(stale);
}

static void
test_generations_do_not_share_keys(Pair *pair, gconstpointer data)
{
    guint8 first[SIZE], other[SIZE];
    seal(pair->sender, first);
    skip(pair, CBUS_KEY_ROLL - 1, FALSE);
    seal(pair->sender, other);
    /* Were the key the same, a number written over would still not open; the ciphertexts would be alike under
     * equal nonces. So: give the packet of generation 1 the number of generation 0. */
    cbus_put_be64(other + 24, 0);
    g_assert_cmpint(open_copy(pair->receiver, other, SIZE), ==, CBUS_OPEN_DROP);
    g_assert_true(memcmp(first + 32, other + 32, PLAINS) != 0);
    assert_opens(pair, first);
}

static void
test_gap_is_found(Pair *pair, gconstpointer data)
{
    guint8 lost[SIZE], packet[SIZE];
    skip(pair, 3, TRUE);
    seal(pair->sender, lost);
    seal(pair->sender, packet);
    g_assert_cmpint(open_copy(pair->receiver, packet, SIZE), ==, CBUS_OPEN_GAP);
    /* A gap is a verdict, no step: what was missing is still next. */
    assert_opens(pair, lost);
    assert_opens(pair, packet);
}

static void
test_gap_across_the_roll_is_found(Pair *pair, gconstpointer data)
{
    guint8 last[SIZE], packet[SIZE];
    skip(pair, CBUS_KEY_ROLL - 1, TRUE);
    seal(pair->sender, last);
    seal(pair->sender, packet);
    g_assert_cmpint(open_copy(pair->receiver, packet, SIZE), ==, CBUS_OPEN_GAP);
    assert_opens(pair, last);
    assert_opens(pair, packet);
}

static void
test_replay_is_dropped(Pair *pair, gconstpointer data)
{
    guint8 packets[3][SIZE];
    for (gsize i = 0; i < 3; i++) {
        seal(pair->sender, packets[i]);
        assert_opens(pair, packets[i]);
        for (gsize old = 0; old <= i; old++)
            g_assert_cmpint(open_copy(pair->receiver, packets[old], SIZE), ==, CBUS_OPEN_DROP);
    }
    skip(pair, CBUS_KEY_ROLL, TRUE);
    for (gsize old = 0; old < 3; old++)
        g_assert_cmpint(open_copy(pair->receiver, packets[old], SIZE), ==, CBUS_OPEN_DROP);
}

static void
test_own_packets_do_not_open(Pair *pair, gconstpointer data)
{
    guint8 packet[SIZE];
    seal(pair->sender, packet);
    g_assert_cmpint(open_copy(pair->sender, packet, SIZE), ==, CBUS_OPEN_DROP);
}

static void
test_each_bit_counts(Pair *pair, gconstpointer data)
{
    guint8 packet[SIZE];
    skip(pair, 5, TRUE);
    seal(pair->sender, packet);
    for (gsize bit = 0; bit < SIZE * 8; bit++) {
        packet[bit / 8] ^= (guint8)(1u << bit % 8);
        g_assert_cmpint(open_copy(pair->receiver, packet, SIZE), ==, CBUS_OPEN_DROP);
        packet[bit / 8] ^= (guint8)(1u << bit % 8);
    }
    for (gsize len = 0; len < SIZE; len++)
        g_assert_cmpint(open_copy(pair->receiver, packet, len), ==, CBUS_OPEN_DROP);
    assert_opens(pair, packet);
}

static void
test_junk_changes_nothing(Pair *pair, gconstpointer data)
{
    static const guint64 numbers[] = {0, 1, 7, 4095, 4096, 8191, 8192, G_MAXUINT32, G_MAXUINT64};
    g_autoptr(GRand) random = g_rand_new_with_seed(1);
    guint8 junk[SIZE], packet[SIZE];
    for (int i = 0; i < 2000; i++) {
        seal(pair->sender, packet);
        memcpy(junk, packet, SIZE);
        for (gsize at = 32; at < SIZE; at++)
            junk[at] = (guint8)g_rand_int(random);
        cbus_put_be64(junk + 24, numbers[i % (int)G_N_ELEMENTS(numbers)]);
        g_assert_cmpint(open_copy(pair->receiver, junk, SIZE), ==, CBUS_OPEN_DROP);
        assert_opens(pair, packet);
    }
}

static void
test_other_versions_and_links_are_dropped(Pair *pair, gconstpointer data)
{
    g_autoptr(CbusSession) other_version = cbus_session_new(2, link_id, chains[0], chains[1]);
    g_autoptr(CbusSession) other_link = cbus_session_new(1, chains[0], chains[0], chains[1]);
    guint8 packet[SIZE];
    seal(other_version, packet);
    g_assert_cmpint(open_copy(pair->receiver, packet, SIZE), ==, CBUS_OPEN_DROP);
    seal(other_link, packet);
    g_assert_cmpint(open_copy(pair->receiver, packet, SIZE), ==, CBUS_OPEN_DROP);
    g_assert_null(cbus_packet_link_id(packet, CBUS_PACKET_OVERHEAD - 1));
    packet[5] = 2;
    g_assert_null(cbus_packet_link_id(packet, SIZE));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/seal/" name, Pair, NULL, set_up, func, tear_down)
    ADD("numbers-are-consecutive", test_numbers_are_consecutive);
    ADD("empty-and-large", test_empty_and_large);
    ADD("keys-roll-by-number", test_keys_roll_by_number);
    ADD("generations-do-not-share-keys", test_generations_do_not_share_keys);
    ADD("gap-is-found", test_gap_is_found);
    ADD("gap-across-the-roll-is-found", test_gap_across_the_roll_is_found);
    ADD("replay-is-dropped", test_replay_is_dropped);
    ADD("own-packets-do-not-open", test_own_packets_do_not_open);
    ADD("each-bit-counts", test_each_bit_counts);
    ADD("junk-changes-nothing", test_junk_changes_nothing);
    ADD("other-versions-and-links-are-dropped", test_other_versions_and_links_are_dropped);
#undef ADD
    return g_test_run();
}
