/* The handshake and the packets against somebody who hears, keeps, changes, delays and misdelivers
 * everything, and who holds keys of his own: replays, reflections, cross-delivery, swapped roles, weak
 * points, forged packets by the hundred thousand. */
#include "tests/unit/vectors.h"
#include "wire/bytes.h"
#include "wire/handshake.h"
#include "wire/secret.h"
#include <sodium.h>
#include <string.h>

#define ALL(array)      (array), sizeof(array)
#define HELLO_PROXY     56
#define HELLO_VERSIONS  104
#define HELLO_EPHEMERAL 112
#define FINISH          "the plaintext of a finish"

/* Alice's proxy and two machines; mallory is authorized on both, and on the broker's side. */
typedef struct {
    CbusSecret *alice, *mallory, *web1, *web2;
    CbusInstance alices, web1s, web2s;
} World;

/* One handshake, as far as it got. */
typedef struct {
    CbusHandshake *at_proxy, *at_agent;
    guint8 hello[CBUS_HELLO_BYTES], welcome[CBUS_WELCOME_BYTES], T[CBUS_TRANSCRIPT_BYTES];
} Run;

static void
set_up(World *world, gconstpointer data)
{
    guint8 seed[32] = {1};

    world->alice = cbus_secret_new_from_seed(seed);
    seed[0]++;
    world->mallory = cbus_secret_new_from_seed(seed);
    seed[0]++;
    world->web1 = cbus_secret_new_from_seed(seed);
    seed[0]++;
    world->web2 = cbus_secret_new_from_seed(seed);
    cbus_instance_random(&world->alices);
    cbus_instance_random(&world->web1s);
    cbus_instance_random(&world->web2s);
}

static void
tear_down(World *world, gconstpointer data)
{
    cbus_secret_free(world->alice);
    cbus_secret_free(world->mallory);
    cbus_secret_free(world->web1);
    cbus_secret_free(world->web2);
}

static void
say_hello(World *world, Run *run)
{
    run->at_proxy =
        cbus_handshake_new_proxy(cbus_secret_public(world->web1), &world->web1s,
                                 cbus_secret_public(world->alice), &world->alices, NULL, run->hello);
}

/* What MACHINE makes of HELLO. FALSE: nothing. */
static gboolean
welcome(CbusSecret *machine, const CbusInstance *instance, const guint8 *hello, CbusHandshake **out,
        guint8 answer[CBUS_WELCOME_BYTES], GError **error)
{
    guint8 th[CBUS_TRANSCRIPT_BYTES], signature[CBUS_SIGNATURE_BYTES];
    g_autoptr(CbusHandshake) handshake = cbus_handshake_new_agent(cbus_secret_public(machine), instance,
                                                                  hello, CBUS_HELLO_BYTES, NULL, th, error);

    if (handshake == NULL)
        return FALSE;
    cbus_secret_sign_transcript(machine, CBUS_ROLE_AGENT, ALL(th), signature);
    g_assert_true(cbus_handshake_write_welcome(handshake, signature, answer, NULL));
    *out = g_steal_pointer(&handshake);
    return TRUE;
}

static void
run_both(World *world, Run *run)
{
    g_autoptr(GError) error = NULL;

    say_hello(world, run);
    g_assert_true(welcome(world->web1, &world->web1s, run->hello, &run->at_agent, run->welcome, &error));
    g_assert_true(cbus_handshake_read_welcome(run->at_proxy, ALL(run->welcome), run->T, &error));
    g_assert_no_error(error);
}

static void
run_clear(Run *run)
{
    cbus_handshake_free(run->at_proxy);
    cbus_handshake_free(run->at_agent);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

static void
assert_hello_refused(World *world, CbusSecret *machine, const CbusInstance *instance, const guint8 *hello,
                     CbusHandshakeError code)
{
    g_autoptr(GError) error = NULL;
    CbusHandshake *handshake = NULL;
    guint8 answer[CBUS_WELCOME_BYTES];

    g_assert_false(welcome(machine, instance, hello, &handshake, answer, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, (gint)code);
}

static void
assert_welcome_refused(Run *run, const guint8 *answer, CbusHandshakeError code)
{
    guint8 T[CBUS_TRANSCRIPT_BYTES];
    g_autoptr(GError) error = NULL;

    g_assert_false(cbus_handshake_read_welcome(run->at_proxy, answer, CBUS_WELCOME_BYTES, T, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, (gint)code);
}

static void
seal_finish(CbusSession *session, guint8 packet[CBUS_PACKET_OVERHEAD + sizeof FINISH])
{
    memcpy(packet + CBUS_PACKET_PREFIX_BYTES, FINISH, sizeof FINISH);
    cbus_session_seal(session, packet, sizeof FINISH);
}

static CbusOpenResult
open_finish(CbusSession *session, const guint8 *packet)
{
    guint8 copy[CBUS_PACKET_OVERHEAD + sizeof FINISH];
    guint8 *plain;
    gsize len;

    memcpy(copy, packet, sizeof copy);
    return cbus_session_open(session, ALL(copy), &plain, &len);
}

static void
test_a_replayed_hello_makes_a_link_that_nobody_can_finish(World *world, gconstpointer data)
{
    g_auto(Run) run = {0};
    guint8 answer[CBUS_WELCOME_BYTES], finish[CBUS_PACKET_OVERHEAD + sizeof FINISH];
    CbusHandshake *replayed = NULL;

    run_both(world, &run);
    g_autoptr(CbusSession) alice = cbus_handshake_take_session(run.at_proxy);
    g_autoptr(CbusSession) web1 = cbus_handshake_take_session(run.at_agent);
    seal_finish(alice, finish);
    g_assert_true(welcome(world->web1, &world->web1s, run.hello, &replayed, answer, NULL));
    g_autoptr(CbusSession) second = cbus_handshake_take_session(replayed);
    g_assert_true(memcmp(cbus_session_link_id(second), cbus_session_link_id(web1), CBUS_LINK_ID_BYTES) != 0);
    /* The old finish, also under the new link's id, does not open; the new welcome is late. */
    g_assert_cmpint(open_finish(second, finish), ==, CBUS_OPEN_DROP);
    memcpy(finish + CBUS_HEADER_BYTES, cbus_session_link_id(second), CBUS_LINK_ID_BYTES);
    g_assert_cmpint(open_finish(second, finish), ==, CBUS_OPEN_DROP);
    assert_welcome_refused(&run, answer, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    memcpy(finish + CBUS_HEADER_BYTES, cbus_session_link_id(web1), CBUS_LINK_ID_BYTES);
    g_assert_cmpint(open_finish(web1, finish), ==, CBUS_OPEN_OK);
    g_assert_cmpint(open_finish(web1, finish), ==, CBUS_OPEN_DROP);
    cbus_handshake_free(replayed);
}

static void
test_nothing_of_an_older_start_is_taken(World *world, gconstpointer data)
{
    g_auto(Run) old = {0};
    g_auto(Run) now = {0};
    CbusInstance before = world->web1s;

    run_both(world, &old);
    cbus_instance_random(&world->web1s);
    assert_hello_refused(world, world->web1, &world->web1s, old.hello, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    run_both(world, &now);
    assert_welcome_refused(&now, old.welcome, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    /* The proxy's restart: its hello differs by its instance alone, and is another hello. */
    cbus_instance_random(&world->alices);
    g_auto(Run) again = {0};
    say_hello(world, &again);
    assert_welcome_refused(&again, now.welcome, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    world->web1s = before;
}

static void
test_nothing_is_taken_where_it_was_not_sent(World *world, gconstpointer data)
{
    g_auto(Run) one = {0};
    g_auto(Run) two = {0};
    guint8 finish[CBUS_PACKET_OVERHEAD + sizeof FINISH];

    run_both(world, &one);
    run_both(world, &two);
    assert_hello_refused(world, world->web2, &world->web2s, one.hello, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    assert_hello_refused(world, world->web2, &world->web1s, one.hello, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    g_auto(Run) waiting = {0};
    say_hello(world, &waiting);
    assert_welcome_refused(&waiting, one.welcome, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    g_autoptr(CbusSession) from = cbus_handshake_take_session(one.at_proxy);
    g_autoptr(CbusSession) other = cbus_handshake_take_session(two.at_agent);
    seal_finish(from, finish);
    g_assert_cmpint(open_finish(other, finish), ==, CBUS_OPEN_DROP);
    memcpy(finish + CBUS_HEADER_BYTES, cbus_session_link_id(other), CBUS_LINK_ID_BYTES);
    g_assert_cmpint(open_finish(other, finish), ==, CBUS_OPEN_DROP);
}

static void
test_nothing_is_taken_by_who_sent_it(World *world, gconstpointer data)
{
    g_auto(Run) run = {0};
    guint8 finish[CBUS_PACKET_OVERHEAD + sizeof FINISH];

    run_both(world, &run);
    g_auto(Run) waiting = {0};
    say_hello(world, &waiting);
    assert_welcome_refused(&waiting, waiting.hello, CBUS_HANDSHAKE_ERROR_FORMAT);
    assert_hello_refused(world, world->web1, &world->web1s, run.welcome, CBUS_HANDSHAKE_ERROR_FORMAT);
    /* A host that is machine and operator with one key gets its own hello back. */
    assert_hello_refused(world, world->alice, &world->alices, run.hello, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    g_autoptr(CbusSession) alice = cbus_handshake_take_session(run.at_proxy);
    seal_finish(alice, finish);
    g_assert_cmpint(open_finish(alice, finish), ==, CBUS_OPEN_DROP);
}

static void
test_a_rewrapped_hello_binds_nobody(World *world, gconstpointer data)
{
    g_auto(Run) run = {0};
    guint8 hello[CBUS_HELLO_BYTES], answer[CBUS_WELCOME_BYTES], signature[CBUS_SIGNATURE_BYTES];
    CbusHandshake *at_web1 = NULL;

    /* Alice's ephemeral as mallory's: web1 would take mallory, but nobody knows both secrets. */
    say_hello(world, &run);
    memcpy(hello, run.hello, sizeof hello);
    memcpy(hello + HELLO_PROXY, cbus_secret_public(world->mallory)->bytes, CBUS_KEY_BYTES);
    g_assert_true(welcome(world->web1, &world->web1s, hello, &at_web1, answer, NULL));
    g_assert_true(cbus_key_equal(cbus_handshake_proxy(at_web1), cbus_secret_public(world->mallory)));
    assert_welcome_refused(&run, answer, CBUS_HANDSHAKE_ERROR_NOT_OURS);
    /* Also not with alice's hash in it: the signature is over the hello that web1 saw. */
    g_assert_true(welcome(world->web1, &world->web1s, run.hello, &run.at_agent, run.welcome, NULL));
    memcpy(answer + CBUS_HEADER_BYTES, run.welcome + CBUS_HEADER_BYTES, 32);
    assert_welcome_refused(&run, answer, CBUS_HANDSHAKE_ERROR_SIGNATURE);
    /* Mallory's ephemeral as alice's: mallory has the keys, and no signature of alice's over this T. */
    memcpy(hello, run.hello, sizeof hello);
    guint8 secret[32] = {7};
    crypto_scalarmult_base(hello + HELLO_EPHEMERAL, secret);
    cbus_handshake_free(at_web1);
    g_assert_true(welcome(world->web1, &world->web1s, hello, &at_web1, answer, NULL));
    g_assert_true(cbus_handshake_read_welcome(run.at_proxy, ALL(run.welcome), run.T, NULL));
    cbus_secret_sign_transcript(world->alice, CBUS_ROLE_PROXY, ALL(run.T), signature);
    g_assert_false(cbus_transcript_verify(cbus_secret_public(world->alice), CBUS_ROLE_PROXY,
                                          cbus_handshake_transcript(at_web1), CBUS_TRANSCRIPT_BYTES,
                                          signature));
    cbus_handshake_free(at_web1);
}

static void
test_roles_can_not_be_swapped(World *world, gconstpointer data)
{
    g_auto(Run) run = {0};
    guint8 signature[CBUS_SIGNATURE_BYTES];
    const CbusKey *web1 = cbus_secret_public(world->web1);

    /* A machine whose host key is an operator's key, too: what it signs as a machine is no finish. */
    run_both(world, &run);
    cbus_secret_sign_transcript(world->web1, CBUS_ROLE_AGENT, ALL(run.T), signature);
    g_assert_true(cbus_transcript_verify(web1, CBUS_ROLE_AGENT, ALL(run.T), signature));
    g_assert_false(cbus_transcript_verify(web1, CBUS_ROLE_PROXY, ALL(run.T), signature));
    /* And the welcome's own signature is none either. */
    memcpy(signature, run.welcome + 80, sizeof signature);
    g_assert_false(cbus_transcript_verify(web1, CBUS_ROLE_PROXY, ALL(run.T), signature));
}

static void
test_version_ranges_can_not_be_forced(World *world, gconstpointer data)
{
    for (guint byte = 0; byte < 2; byte++) {
        for (guint value = 0; value < 256; value++) {
            g_auto(Run) run = {0};
            guint8 hello[CBUS_HELLO_BYTES], answer[CBUS_WELCOME_BYTES], T[CBUS_TRANSCRIPT_BYTES];

            say_hello(world, &run);
            memcpy(hello, run.hello, sizeof hello);
            if (hello[HELLO_VERSIONS + byte] == value)
                continue;
            hello[HELLO_VERSIONS + byte] = (guint8)value;
            if (welcome(world->web1, &world->web1s, hello, &run.at_agent, answer, NULL))
                assert_welcome_refused(&run, answer, CBUS_HANDSHAKE_ERROR_NOT_OURS);
            g_clear_pointer(&run.at_agent, cbus_handshake_free);
            g_assert_true(welcome(world->web1, &world->web1s, run.hello, &run.at_agent, run.welcome, NULL));
            memcpy(answer, run.welcome, sizeof answer);
            answer[72 + byte] = (guint8)value;
            g_assert_false(cbus_handshake_read_welcome(run.at_proxy, ALL(answer), T, NULL));
            g_assert_true(cbus_handshake_read_welcome(run.at_proxy, ALL(run.welcome), T, NULL));
        }
    }
}

/* 0, 1, p−1, p, p+1, and the points of order 8; each also with the top bit, which X25519 ignores. */
static const char *const weak_x25519[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
};

/* An authentic machine that chose EPHEMERAL, signed as it should be. */
static void
sign_welcome_with(World *world, Run *run, const guint8 ephemeral[32], guint8 answer[CBUS_WELCOME_BYTES])
{
    guint8 hash[64], th[64];
    crypto_generichash_state state;

    memcpy(answer, run->welcome, CBUS_WELCOME_BYTES);
    memcpy(answer + 40, ephemeral, 32);
    crypto_generichash(hash, sizeof hash, run->hello, sizeof run->hello, NULL, 0);
    crypto_generichash_init(&state, NULL, 0, sizeof th);
    crypto_generichash_update(&state, hash, sizeof hash);
    crypto_generichash_update(&state, answer, 80);
    crypto_generichash_final(&state, th, sizeof th);
    cbus_secret_sign_transcript(world->web1, CBUS_ROLE_AGENT, ALL(th), answer + 80);
}

static void
test_weak_ephemerals_are_refused_on_both_sides(World *world, gconstpointer data)
{
    g_auto(Run) run = {0};
    guint8 good[32], secret[32] = {9}, answer[CBUS_WELCOME_BYTES], T[CBUS_TRANSCRIPT_BYTES];

    say_hello(world, &run);
    g_assert_true(welcome(world->web1, &world->web1s, run.hello, &run.at_agent, run.welcome, NULL));
    for (gsize i = 0; i < 2 * G_N_ELEMENTS(weak_x25519); i++) {
        gsize len;
        g_autofree guint8 *point = vector_from_hex(weak_x25519[i / 2], &len);
        guint8 hello[CBUS_HELLO_BYTES];

        point[31] |= i % 2 != 0 ? 0x80 : 0;
        memcpy(hello, run.hello, sizeof hello);
        memcpy(hello + HELLO_EPHEMERAL, point, 32);
        assert_hello_refused(world, world->web1, &world->web1s, hello, CBUS_HANDSHAKE_ERROR_KEY);
        sign_welcome_with(world, &run, point, answer);
        assert_welcome_refused(&run, answer, CBUS_HANDSHAKE_ERROR_KEY);
    }
    crypto_scalarmult_base(good, secret);
    sign_welcome_with(world, &run, good, answer);
    g_assert_true(cbus_handshake_read_welcome(run.at_proxy, ALL(answer), T, NULL));
}

static void
test_weak_identities_are_refused_in_hellos(World *world, gconstpointer data)
{
    /* Small orders, p and p+1 as y, not on the curve; and a good key plus a point of order 8. */
    static const char *const weak[] = {
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0200000000000000000000000000000000000000000000000000000000000000",
    };
    g_auto(Run) run = {0};
    gsize len;
    g_autofree guint8 *order_8 = vector_from_hex(weak[4], &len);

    say_hello(world, &run);
    for (gsize i = 0; i <= G_N_ELEMENTS(weak); i++) {
        if (i < G_N_ELEMENTS(weak)) {
            g_autofree guint8 *point = vector_from_hex(weak[i], &len);

            memcpy(run.hello + HELLO_PROXY, point, 32);
        } else {
            g_assert_cmpint(crypto_core_ed25519_add(run.hello + HELLO_PROXY,
                                                    cbus_secret_public(world->alice)->bytes, order_8),
                            ==, 0);
        }
        assert_hello_refused(world, world->web1, &world->web1s, run.hello, CBUS_HANDSHAKE_ERROR_KEY);
    }
}

static void
test_a_signature_has_one_form(World *world, gconstpointer data)
{
    static const guint8 order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,       0xd6,
                                     0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    guint8 T[CBUS_TRANSCRIPT_BYTES] = {3}, signature[CBUS_SIGNATURE_BYTES], other[CBUS_SIGNATURE_BYTES];
    const CbusKey *alice = cbus_secret_public(world->alice);

    cbus_secret_sign_transcript(world->alice, CBUS_ROLE_PROXY, ALL(T), signature);
    g_assert_true(cbus_transcript_verify(alice, CBUS_ROLE_PROXY, ALL(T), signature));
    memcpy(other, signature, sizeof other);
    for (guint times = 0; times < 15; times++) { /* S + L, S + 2L … */
        sodium_add(other + 32, order, 32);
        g_assert_false(cbus_transcript_verify(alice, CBUS_ROLE_PROXY, ALL(T), other));
    }
    /* R of small order with S = 0, which a sloppy check takes for weak keys. */
    for (gsize i = 0; i < G_N_ELEMENTS(weak_x25519); i++) {
        gsize len;
        g_autofree guint8 *point = vector_from_hex(weak_x25519[i], &len);

        memset(other, 0, sizeof other);
        memcpy(other, point, 32);
        g_assert_false(cbus_transcript_verify(alice, CBUS_ROLE_PROXY, ALL(T), other));
    }
}

static void
test_a_hundred_thousand_forged_packets_change_nothing(World *world, gconstpointer data)
{
    static const guint64 ahead[] = {0, 1, 5000, G_MAXUINT64};
    g_auto(Run) run = {0};
    guint8 junk[CBUS_PACKET_OVERHEAD + 100], packet[CBUS_PACKET_OVERHEAD + sizeof FINISH], *plain;
    gsize len;

    run_both(world, &run);
    g_autoptr(CbusSession) alice = cbus_handshake_take_session(run.at_proxy);
    g_autoptr(CbusSession) web1 = cbus_handshake_take_session(run.at_agent);
    seal_finish(alice, packet);
    g_assert_cmpint(open_finish(web1, packet), ==, CBUS_OPEN_OK);
    for (guint i = 0; i < 100000; i++) {
        guint64 number = ahead[i % 4] == G_MAXUINT64 ? G_MAXUINT64 : 1 + ahead[i % 4];

        randombytes_buf(ALL(junk));
        memcpy(junk, packet, CBUS_HEADER_BYTES + CBUS_LINK_ID_BYTES);
        cbus_put_be64(junk + CBUS_HEADER_BYTES + CBUS_LINK_ID_BYTES, number);
        g_assert_cmpint(cbus_session_open(web1, ALL(junk), &plain, &len), ==, CBUS_OPEN_DROP);
    }
    seal_finish(alice, packet);
    g_assert_cmpint(open_finish(web1, packet), ==, CBUS_OPEN_OK);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/link-attack/" #name, World, NULL, set_up, test_##name, tear_down)
    ADD(a_replayed_hello_makes_a_link_that_nobody_can_finish);
    ADD(nothing_of_an_older_start_is_taken);
    ADD(nothing_is_taken_where_it_was_not_sent);
    ADD(nothing_is_taken_by_who_sent_it);
    ADD(a_rewrapped_hello_binds_nobody);
    ADD(roles_can_not_be_swapped);
    ADD(version_ranges_can_not_be_forced);
    ADD(weak_ephemerals_are_refused_on_both_sides);
    ADD(weak_identities_are_refused_in_hellos);
    ADD(a_signature_has_one_form);
    ADD(a_hundred_thousand_forged_packets_change_nothing);
#undef ADD
    return g_test_run();
}
