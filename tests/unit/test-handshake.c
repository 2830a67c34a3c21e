/* The handshake: fixed vectors, each bit of both flights flipped, weak keys, forgeries, and presence. */
#include "wire/handshake.h"

#include <glib.h>
#include <sodium.h>
#include <string.h>

#include "tests/unit/vectors.h"
#include "wire/secret.h"

#define ALL(array) (array), sizeof(array)

/* Both ends, with the keys and ephemerals of the vectors. */
typedef struct {
    CbusSecret *agent, *proxy;
    CbusInstance agent_instance, proxy_instance;
    guint8 *agent_ephemeral, *proxy_ephemeral;
    guint8 hello[CBUS_HELLO_BYTES], welcome[CBUS_WELCOME_BYTES];
    guint8 th[CBUS_TRANSCRIPT_BYTES];
    CbusHandshake *at_proxy, *at_agent;
} Pair;

static CbusSecret *
secret_of(const char *name)
{
    g_autofree guint8 *seed = vector(name, 32);
    return cbus_secret_new_from_seed(seed);
}

static CbusHandshake *
begin(Pair *pair, guint8 hello[CBUS_HELLO_BYTES])
{
    return cbus_handshake_new_proxy(cbus_secret_public(pair->agent), &pair->agent_instance,
                                    cbus_secret_public(pair->proxy), &pair->proxy_instance,
                                    pair->proxy_ephemeral, hello);
}

static CbusHandshake *
answer(Pair *pair, const guint8 *hello, gsize len, guint8 *th, GError **error)
{
    return cbus_handshake_new_agent(cbus_secret_public(pair->agent), &pair->agent_instance, hello, len,
                                    pair->agent_ephemeral, th, error);
}

static void
sign(const Pair *pair, const guint8 th[CBUS_TRANSCRIPT_BYTES], guint8 signature[CBUS_SIGNATURE_BYTES])
{
    cbus_secret_sign_transcript(pair->agent, CBUS_ROLE_AGENT, th, CBUS_TRANSCRIPT_BYTES, signature);
}

static void
set_up(Pair *pair, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    guint8 signature[CBUS_SIGNATURE_BYTES];
    pair->agent = secret_of("agent-seed");
    pair->proxy = secret_of("proxy-seed");
    g_autofree guint8 *agent_instance = vector("agent-instance", 16);
    g_autofree guint8 *proxy_instance = vector("proxy-instance", 16);
    memcpy(pair->agent_instance.bytes, agent_instance, 16);
    memcpy(pair->proxy_instance.bytes, proxy_instance, 16);
    pair->agent_ephemeral = vector("agent-ephemeral", 32);
    pair->proxy_ephemeral = vector("proxy-ephemeral", 32);
    pair->at_proxy = begin(pair, pair->hello);
    pair->at_agent = answer(pair, ALL(pair->hello), pair->th, &error);
    g_assert_no_error(error);
    sign(pair, pair->th, signature);
    g_assert_true(cbus_handshake_write_welcome(pair->at_agent, signature, pair->welcome, &error));
    g_assert_no_error(error);
}

static void
tear_down(Pair *pair, gconstpointer data)
{
    cbus_handshake_free(pair->at_proxy);
    cbus_handshake_free(pair->at_agent);
    cbus_secret_free(pair->agent);
    cbus_secret_free(pair->proxy);
    g_free(pair->agent_ephemeral);
    g_free(pair->proxy_ephemeral);
}

static void
assert_vector(const char *name, const guint8 *data, gsize len)
{
    g_autofree guint8 *expected = vector(name, len);
    g_assert_cmpmem(data, len, expected, len);
}

static void
test_every_byte_is_as_specified(Pair *pair, gconstpointer data)
{
    guint8 T[CBUS_TRANSCRIPT_BYTES], signature[CBUS_SIGNATURE_BYTES];
    char nkey[CBUS_NKEY_LENGTH + 1];
    assert_vector("agent-identity", cbus_secret_public(pair->agent)->bytes, 32);
    assert_vector("proxy-identity", cbus_secret_public(pair->proxy)->bytes, 32);
    cbus_nkey_encode(cbus_secret_public(pair->agent), nkey);
    assert_vector("agent-nkey", (const guint8 *)nkey, CBUS_NKEY_LENGTH);
    assert_vector("hello", ALL(pair->hello));
    assert_vector("th", ALL(pair->th));
    assert_vector("welcome", ALL(pair->welcome));
    g_assert_true(cbus_handshake_read_welcome(pair->at_proxy, ALL(pair->welcome), T, NULL));
    assert_vector("T", ALL(T));
    assert_vector("T", cbus_handshake_transcript(pair->at_agent), CBUS_TRANSCRIPT_BYTES);

    g_autoptr(CbusSession) session = cbus_handshake_take_session(pair->at_agent);
    assert_vector("link-id", cbus_session_link_id(session), CBUS_LINK_ID_BYTES);
    g_autofree guint8 *finish = vector("plain-to-agent-0", 12 + 64);
    cbus_secret_sign_transcript(pair->proxy, CBUS_ROLE_PROXY, ALL(T), signature);
    g_assert_cmpmem(finish + 12, 64, signature, 64);
}

/* Lets both ends send packets until NUMBER, and checks those that have a vector. */
static void
send_packets(CbusSession *from, CbusSession *to, const char *direction, const guint8 *first, gsize first_len)
{
    for (guint number = 0; number <= CBUS_KEY_ROLL; number++) {
        guint8 buffer[CBUS_PACKET_OVERHEAD + 76] = {0}, ping[20] = {7, [11] = 8};
        ping[18] = (guint8)(number >> 8);
        ping[19] = (guint8)number;
        gboolean special = number == 0 && first != NULL;
        const guint8 *plain = special ? first : ping;
        gsize len = special ? first_len : sizeof ping, opened_len;
        guint8 *opened;
        memcpy(buffer + CBUS_PACKET_PREFIX_BYTES, plain, len);
        cbus_session_seal(from, buffer, len);
        if (number == 0 || number >= CBUS_KEY_ROLL - 1) {
            g_autofree char *name = g_strdup_printf("packet-%s-%u", direction, number);
            assert_vector(name, buffer, len + CBUS_PACKET_OVERHEAD);
        }
        g_assert_cmpint(cbus_session_open(to, buffer, len + CBUS_PACKET_OVERHEAD, &opened, &opened_len), ==,
                        CBUS_OPEN_OK);
        g_assert_cmpmem(opened, opened_len, plain, len);
    }
}

static void
test_packets_are_as_specified(Pair *pair, gconstpointer data)
{
    guint8 T[CBUS_TRANSCRIPT_BYTES];
    g_assert_true(cbus_handshake_read_welcome(pair->at_proxy, ALL(pair->welcome), T, NULL));
    g_autoptr(CbusSession) proxy = cbus_handshake_take_session(pair->at_proxy);
    g_autoptr(CbusSession) agent = cbus_handshake_take_session(pair->at_agent);
    g_assert_null(cbus_handshake_take_session(pair->at_proxy));
    g_autofree guint8 *finish = vector("plain-to-agent-0", 76);
    send_packets(proxy, agent, "to-agent", finish, 76);
    send_packets(agent, proxy, "to-proxy", NULL, 0);
}

static void
test_speakers_are_known(Pair *pair, gconstpointer data)
{
    CbusKey key;
    CbusInstance instance;
    g_assert_true(cbus_key_equal(cbus_handshake_proxy(pair->at_agent), cbus_secret_public(pair->proxy)));
    g_assert_true(cbus_instance_equal(cbus_handshake_proxy_instance(pair->at_agent), &pair->proxy_instance));
    g_assert_true(cbus_hello_peek(ALL(pair->hello), &key, &instance));
    g_assert_true(cbus_key_equal(&key, cbus_secret_public(pair->proxy)));
    g_assert_true(cbus_instance_equal(&instance, &pair->proxy_instance));
    g_assert_false(cbus_hello_peek(pair->hello, CBUS_HELLO_BYTES - 1, &key, &instance));
    g_assert_false(cbus_hello_peek(ALL(pair->welcome), &key, &instance));
}

/* A changed hello is refused, or its welcome is not one to the proxy's hello. */
static void
test_each_bit_of_hello(Pair *pair, gconstpointer data)
{
    for (gsize bit = 0; bit < CBUS_HELLO_BYTES * 8; bit++) {
        guint8 hello[CBUS_HELLO_BYTES], welcome[CBUS_WELCOME_BYTES], th[CBUS_TRANSCRIPT_BYTES], T[64];
        guint8 signature[CBUS_SIGNATURE_BYTES];
        g_autoptr(GError) error = NULL;
        memcpy(hello, pair->hello, sizeof hello);
        hello[bit / 8] ^= (guint8)(1u << bit % 8);
        g_autoptr(CbusHandshake) handshake = answer(pair, ALL(hello), th, &error);
        /* Header, agent, agent's instance, reserved bytes: nothing else may pass there. */
        gboolean checked = bit / 8 < 56 || (bit / 8 >= 106 && bit / 8 < 112);
        if (handshake == NULL) {
            g_assert_nonnull(error);
            continue;
        }
        g_assert_false(checked);
        sign(pair, th, signature);
        g_assert_true(cbus_handshake_write_welcome(handshake, signature, welcome, NULL));
        g_assert_false(cbus_handshake_read_welcome(pair->at_proxy, ALL(welcome), T, &error));
        g_assert_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    }
}

/* No changed welcome is taken, and none ends the handshake: the true one is taken after all of them. */
static void
test_forged_welcomes_do_not_end_a_handshake(Pair *pair, gconstpointer data)
{
    guint8 T[CBUS_TRANSCRIPT_BYTES], before[CBUS_TRANSCRIPT_BYTES];
    memset(T, 0x5a, sizeof T);
    memcpy(before, T, sizeof T);
    for (gsize bit = 0; bit < CBUS_WELCOME_BYTES * 8; bit++) {
        guint8 welcome[CBUS_WELCOME_BYTES];
        g_autoptr(GError) error = NULL;
        memcpy(welcome, pair->welcome, sizeof welcome);
        welcome[bit / 8] ^= (guint8)(1u << bit % 8);
        g_assert_false(cbus_handshake_read_welcome(pair->at_proxy, ALL(welcome), T, &error));
        g_assert_nonnull(error);
        g_assert_null(cbus_handshake_transcript(pair->at_proxy));
        g_assert_null(cbus_handshake_take_session(pair->at_proxy));
    }
    for (gsize len = 0; len < CBUS_WELCOME_BYTES; len++)
        g_assert_false(cbus_handshake_read_welcome(pair->at_proxy, pair->welcome, len, T, NULL));
    g_assert_cmpmem(T, sizeof T, before, sizeof before);
    g_assert_true(cbus_handshake_read_welcome(pair->at_proxy, ALL(pair->welcome), T, NULL));
    g_autoptr(CbusSession) session = cbus_handshake_take_session(pair->at_proxy);
    g_assert_nonnull(session);

    /* The true one again is late. */
    g_autoptr(GError) error = NULL;
    g_assert_false(cbus_handshake_read_welcome(pair->at_proxy, ALL(pair->welcome), T, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_NOT_OURS);
}

static void
test_welcome_of_another_key_is_refused(Pair *pair, gconstpointer data)
{
    guint8 welcome[CBUS_WELCOME_BYTES], signature[CBUS_SIGNATURE_BYTES], T[CBUS_TRANSCRIPT_BYTES];
    g_autoptr(GError) error = NULL;
    memcpy(welcome, pair->welcome, sizeof welcome);
    cbus_secret_sign_transcript(pair->proxy, CBUS_ROLE_AGENT, ALL(pair->th), signature);
    memcpy(welcome + 80, signature, sizeof signature);
    g_assert_false(cbus_handshake_read_welcome(pair->at_proxy, ALL(welcome), T, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_SIGNATURE);
    g_clear_error(&error);
    /* The right key, in the other role. */
    cbus_secret_sign_transcript(pair->agent, CBUS_ROLE_PROXY, ALL(pair->th), signature);
    memcpy(welcome + 80, signature, sizeof signature);
    g_assert_false(cbus_handshake_read_welcome(pair->at_proxy, ALL(welcome), T, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_SIGNATURE);
}

static void
test_agent_refuses_a_wrong_signature_of_its_signer(Pair *pair, gconstpointer data)
{
    guint8 th[CBUS_TRANSCRIPT_BYTES], welcome[CBUS_WELCOME_BYTES], signature[CBUS_SIGNATURE_BYTES] = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusHandshake) handshake = answer(pair, ALL(pair->hello), th, NULL);
    g_assert_false(cbus_handshake_write_welcome(handshake, signature, welcome, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_SIGNATURE);
    g_assert_null(cbus_handshake_take_session(handshake));
    sign(pair, th, signature);
    g_assert_true(cbus_handshake_write_welcome(handshake, signature, welcome, NULL));
    g_assert_cmpmem(welcome, sizeof welcome, pair->welcome, sizeof pair->welcome);
}

static void
assert_hello_refused(Pair *pair, const guint8 *hello, CbusHandshakeError code)
{
    g_autoptr(GError) error = NULL;
    guint8 th[CBUS_TRANSCRIPT_BYTES];
    g_assert_null(answer(pair, hello, CBUS_HELLO_BYTES, th, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, (gint)code);
}

static void
test_weak_keys_in_hello_are_refused(Pair *pair, gconstpointer data)
{
    /* Order 8, order 1, and a non-canonical y; then X25519 points whose product is zero. */
    static const char *const identities[] = {
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"};
    static const char *const ephemerals[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"};
    guint8 hello[CBUS_HELLO_BYTES];
    gsize len;
    for (gsize i = 0; i < G_N_ELEMENTS(identities); i++) {
        g_autofree guint8 *bytes = vector_from_hex(identities[i], &len);
        memcpy(hello, pair->hello, sizeof hello);
        memcpy(hello + 56, bytes, 32);
        assert_hello_refused(pair, hello, CBUS_HANDSHAKE_ERROR_KEY);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(ephemerals); i++) {
        g_autofree guint8 *bytes = vector_from_hex(ephemerals[i], &len);
        memcpy(hello, pair->hello, sizeof hello);
        memcpy(hello + 112, bytes, 32);
        assert_hello_refused(pair, hello, CBUS_HANDSHAKE_ERROR_KEY);
    }
}

static void
test_weak_ephemeral_in_a_signed_welcome_is_refused(Pair *pair, gconstpointer data)
{
    /* A hostile but authentic machine: X25519 of a zero point, properly signed. */
    guint8 welcome[CBUS_WELCOME_BYTES], T[CBUS_TRANSCRIPT_BYTES], signature[CBUS_SIGNATURE_BYTES];
    guint8 joined[CBUS_TRANSCRIPT_BYTES + 80], th[CBUS_TRANSCRIPT_BYTES];
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *hello_hash = vector("hello-hash", 64);
    memcpy(welcome, pair->welcome, sizeof welcome);
    memset(welcome + 40, 0, 32);
    memcpy(joined, hello_hash, 64);
    memcpy(joined + 64, welcome, 80);
    crypto_generichash(th, sizeof th, joined, sizeof joined, NULL, 0);
    sign(pair, th, signature);
    memcpy(welcome + 80, signature, sizeof signature);
    g_assert_false(cbus_handshake_read_welcome(pair->at_proxy, ALL(welcome), T, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_KEY);
    g_assert_true(cbus_handshake_read_welcome(pair->at_proxy, ALL(pair->welcome), T, NULL));
}

/* A later version of the protocol alone: the agent says so, signed, and has no session. */
static void
test_no_common_version_is_said_in_a_signed_welcome(Pair *pair, gconstpointer data)
{
    guint8 hello[CBUS_HELLO_BYTES], welcome[CBUS_WELCOME_BYTES], th[CBUS_TRANSCRIPT_BYTES];
    guint8 T[CBUS_TRANSCRIPT_BYTES], signature[CBUS_SIGNATURE_BYTES];
    memcpy(hello, pair->hello, sizeof hello);
    hello[104] = 2;
    hello[105] = 9;
    g_autoptr(CbusHandshake) handshake = answer(pair, ALL(hello), th, NULL);
    g_assert_nonnull(handshake);
    sign(pair, th, signature);
    g_assert_true(cbus_handshake_write_welcome(handshake, signature, welcome, NULL));
    g_assert_null(cbus_handshake_take_session(handshake));

    /* And the other way round, by the same means as above. */
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *hello_hash = vector("hello-hash", 64);
    guint8 joined[CBUS_TRANSCRIPT_BYTES + 80];
    memcpy(welcome, pair->welcome, sizeof welcome);
    welcome[72] = 2;
    welcome[73] = 9;
    memcpy(joined, hello_hash, 64);
    memcpy(joined + 64, welcome, 80);
    crypto_generichash(th, sizeof th, joined, sizeof joined, NULL, 0);
    sign(pair, th, signature);
    memcpy(welcome + 80, signature, sizeof signature);
    g_assert_false(cbus_handshake_read_welcome(pair->at_proxy, ALL(welcome), T, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_INCOMPATIBLE);
    g_assert_null(cbus_handshake_take_session(pair->at_proxy));
}

static void
test_ephemerals_are_fresh(Pair *pair, gconstpointer data)
{
    guint8 one[CBUS_HELLO_BYTES], two[CBUS_HELLO_BYTES];
    g_clear_pointer(&pair->proxy_ephemeral, g_free);
    g_autoptr(CbusHandshake) first = begin(pair, one);
    g_autoptr(CbusHandshake) second = begin(pair, two);
    g_assert_cmpmem(one, 112, two, 112);
    g_assert_true(memcmp(one + 112, two + 112, 32) != 0);
}

static void
test_presence(void)
{
    g_autofree guint8 *expected = vector("presence", CBUS_PRESENCE_BYTES);
    CbusPresence presence = {0};
    guint8 out[CBUS_PRESENCE_BYTES];
    g_assert_true(cbus_presence_read(expected, CBUS_PRESENCE_BYTES, &presence));
    g_assert_cmpuint(presence.beat, ==, 7);
    g_assert_true(presence.farewell);
    cbus_presence_write(&presence, out);
    g_assert_cmpmem(out, sizeof out, expected, CBUS_PRESENCE_BYTES);

    CbusPresence untouched = presence;
    for (gsize len = 0; len < CBUS_PRESENCE_BYTES; len++)
        g_assert_false(cbus_presence_read(expected, len, &presence));
    for (gsize bit = 0; bit < CBUS_PRESENCE_BYTES * 8; bit++) {
        gsize at = bit / 8;
        gboolean reserved = at < 8 || at >= 65 || (at == 64 && bit % 8 != 0);
        memcpy(out, expected, sizeof out);
        out[at] ^= (guint8)(1u << bit % 8);
        if (reserved)
            g_assert_false(cbus_presence_read(out, sizeof out, &presence));
    }
    memcpy(out, expected, sizeof out);
    memset(out + 8, 0, 32);
    g_assert_false(cbus_presence_read(out, sizeof out, &presence));
    g_assert_cmpmem(&presence, sizeof presence, &untouched, sizeof untouched);
}

static void
test_presence_of_one_agent_alone(void)
{
    g_autofree guint8 *bytes = vector("presence", CBUS_PRESENCE_BYTES);
    CbusPresence presence = {0}, same = {0};
    CbusKey other;
    g_assert_true(cbus_presence_read(bytes, CBUS_PRESENCE_BYTES, &presence));
    g_assert_true(cbus_presence_read_of(&presence.agent, bytes, CBUS_PRESENCE_BYTES, &same));
    g_assert_cmpmem(&same, sizeof same, &presence, sizeof presence);

    other = presence.agent;
    other.bytes[0] ^= 1;
    g_assert_false(cbus_presence_read_of(&other, bytes, CBUS_PRESENCE_BYTES, &same));
    g_assert_false(cbus_presence_read_of(&presence.agent, bytes, CBUS_PRESENCE_BYTES - 1, &same));
    bytes[CBUS_PRESENCE_BYTES - 1] = 1;
    g_assert_false(cbus_presence_read_of(&presence.agent, bytes, CBUS_PRESENCE_BYTES, &same));
    g_assert_cmpmem(&same, sizeof same, &presence, sizeof presence);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/handshake/" name, Pair, NULL, set_up, func, tear_down)
    ADD("every-byte-is-as-specified", test_every_byte_is_as_specified);
    ADD("packets-are-as-specified", test_packets_are_as_specified);
    ADD("speakers-are-known", test_speakers_are_known);
    ADD("each-bit-of-hello", test_each_bit_of_hello);
    ADD("forged-welcomes-do-not-end-a-handshake", test_forged_welcomes_do_not_end_a_handshake);
    ADD("welcome-of-another-key-is-refused", test_welcome_of_another_key_is_refused);
    ADD("agent-refuses-a-wrong-signature-of-its-signer", test_agent_refuses_a_wrong_signature_of_its_signer);
    ADD("weak-keys-in-hello-are-refused", test_weak_keys_in_hello_are_refused);
    ADD("weak-ephemeral-in-a-signed-welcome-is-refused", test_weak_ephemeral_in_a_signed_welcome_is_refused);
    ADD("no-common-version-is-said-in-a-signed-welcome", test_no_common_version_is_said_in_a_signed_welcome);
    ADD("ephemerals-are-fresh", test_ephemerals_are_fresh);
#undef ADD
    g_test_add_func("/presence/layout", test_presence);
    g_test_add_func("/presence/of-one-agent-alone", test_presence_of_one_agent_alone);
    return g_test_run();
}
