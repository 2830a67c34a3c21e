/* Protocol versions as they will be once there are several. There is one now, so that the handshake is built
 * into this test with ranges that it sets, as if each end were of another age; the session and all else are
 * the library's. */
#include <glib.h>

static guint8 version_min, version_max; /* of whoever computes */
#define CBUS_PROTOCOL_MIN version_min
#define CBUS_PROTOCOL_MAX version_max
#include "wire/handshake.c"

#define MOST 5

typedef struct {
    guint8 min, max;
} Range;

typedef struct {
    CbusSecret *agent, *proxy;
    CbusInstance agent_instance, proxy_instance;
    guint8 hello[CBUS_HELLO_BYTES], welcome[CBUS_WELCOME_BYTES], T[CBUS_TRANSCRIPT_BYTES];
    CbusHandshake *at_agent, *at_proxy;
} Pair;

static void
set_up(Pair *pair, gconstpointer data)
{
    static const guint8 agent[32] = {1}, proxy[32] = {2};

    pair->agent = cbus_secret_new_from_seed(agent);
    pair->proxy = cbus_secret_new_from_seed(proxy);
    cbus_instance_random(&pair->agent_instance);
    cbus_instance_random(&pair->proxy_instance);
}

static void
forget(Pair *pair)
{
    g_clear_pointer(&pair->at_agent, cbus_handshake_free);
    g_clear_pointer(&pair->at_proxy, cbus_handshake_free);
}

static void
tear_down(Pair *pair, gconstpointer data)
{
    forget(pair);
    cbus_secret_free(pair->agent);
    cbus_secret_free(pair->proxy);
}

static void
speak(Range range)
{
    version_min = range.min;
    version_max = range.max;
}

static void
say_hello(Pair *pair, Range range)
{
    speak(range);
    pair->at_proxy =
        cbus_handshake_new_proxy(cbus_secret_public(pair->agent), &pair->agent_instance,
                                 cbus_secret_public(pair->proxy), &pair->proxy_instance, NULL, pair->hello);
}

/* The agent's answer to HELLO. FALSE: it takes that for none. */
static gboolean
answer(Pair *pair, Range range, const guint8 hello[CBUS_HELLO_BYTES])
{
    guint8 th[CBUS_TRANSCRIPT_BYTES], signature[CBUS_SIGNATURE_BYTES];

    speak(range);
    g_clear_pointer(&pair->at_agent, cbus_handshake_free);
    pair->at_agent = cbus_handshake_new_agent(cbus_secret_public(pair->agent), &pair->agent_instance, hello,
                                              CBUS_HELLO_BYTES, NULL, th, NULL);
    if (pair->at_agent == NULL)
        return FALSE;
    cbus_secret_sign_transcript(pair->agent, CBUS_ROLE_AGENT, th, sizeof th, signature);
    g_assert_true(cbus_handshake_write_welcome(pair->at_agent, signature, pair->welcome, NULL));
    return TRUE;
}

static gboolean
read_it(Pair *pair, Range range, const guint8 welcome[CBUS_WELCOME_BYTES], GError **error)
{
    speak(range);
    return cbus_handshake_read_welcome(pair->at_proxy, welcome, CBUS_WELCOME_BYTES, pair->T, error);
}

/* Both have a session, and its packets are of VERSION and of no other. */
static void
assert_speak(Pair *pair, guint8 version)
{
    g_autoptr(CbusSession) proxy = cbus_handshake_take_session(pair->at_proxy);
    g_autoptr(CbusSession) agent = cbus_handshake_take_session(pair->at_agent);
    guint8 packet[CBUS_PACKET_OVERHEAD + 4] = {0}, *plain;
    gsize len;

    g_assert_nonnull(proxy);
    g_assert_nonnull(agent);
    cbus_session_seal(proxy, packet, 4);
    g_assert_cmpuint(packet[4], ==, version);
    for (guint8 other = 0; other <= MOST; other++) {
        packet[4] = other;
        if (other != version)
            g_assert_cmpint(cbus_session_open(agent, packet, sizeof packet, &plain, &len), ==,
                            CBUS_OPEN_DROP);
    }
    packet[4] = version;
    g_assert_cmpint(cbus_session_open(agent, packet, sizeof packet, &plain, &len), ==, CBUS_OPEN_OK);
}

/* FUNC for each two ranges of versions up to MOST. */
static void
each_two_ranges(Pair *pair, void (*func)(Pair *pair, Range agent, Range proxy, guint8 common))
{
    for (guint8 a = 1; a <= MOST; a++)
        for (guint8 b = a; b <= MOST; b++)
            for (guint8 c = 1; c <= MOST; c++)
                for (guint8 d = c; d <= MOST; d++) {
                    guint8 highest = MIN(b, d);
                    func(pair, (Range){a, b}, (Range){c, d}, highest >= MAX(a, c) ? highest : 0);
                    forget(pair);
                }
}

static void
shake_hands(Pair *pair, Range agent, Range proxy, guint8 common)
{
    g_autoptr(GError) error = NULL;

    say_hello(pair, proxy);
    g_assert_true(answer(pair, agent, pair->hello));
    g_assert_cmpuint(pair->hello[4], ==, 1);
    g_assert_cmpuint(pair->welcome[4], ==, 1);
    if (common != 0) {
        g_assert_true(read_it(pair, proxy, pair->welcome, NULL));
        assert_speak(pair, common);
        return;
    }
    /* Told by the agent itself, whatever the two speak, and with what they speak. */
    g_autofree char *told =
        g_strdup_printf("versions %u to %u, we %u to %u", agent.min, agent.max, proxy.min, proxy.max);
    g_assert_false(read_it(pair, proxy, pair->welcome, &error));
    g_assert_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_INCOMPATIBLE);
    g_assert_nonnull(strstr(error->message, told));
    g_assert_null(cbus_handshake_take_session(pair->at_agent));
    g_assert_null(cbus_handshake_take_session(pair->at_proxy));
}

static void
test_the_highest_of_both(Pair *pair, gconstpointer data)
{
    each_two_ranges(pair, shake_hands);
}

/* Puts each other range into the hello, then into the welcome, on its way. */
static void
force(Pair *pair, Range agent, Range proxy, guint8 common)
{
    guint8 hello[CBUS_HELLO_BYTES], welcome[CBUS_WELCOME_BYTES];

    say_hello(pair, proxy);
    for (guint8 min = 0; min <= MOST; min++)
        for (guint8 max = 0; max <= MOST; max++) {
            if (min == proxy.min && max == proxy.max)
                continue;
            memcpy(hello, pair->hello, sizeof hello);
            hello[HELLO_VERSIONS] = min;
            hello[HELLO_VERSIONS + 1] = max;
            if (!answer(pair, agent, hello))
                continue;
            g_assert_false(read_it(pair, proxy, pair->welcome, NULL));
            /* As if it were the answer to the true hello. */
            memcpy(welcome, pair->welcome, sizeof welcome);
            memcpy(welcome + WELCOME_HELLO, pair->at_proxy->hello_hash, HELLO_HASH_SENT);
            g_assert_false(read_it(pair, proxy, welcome, NULL));
        }
    g_assert_true(answer(pair, agent, pair->hello));
    for (guint8 min = 0; min <= MOST; min++)
        for (guint8 max = 0; max <= MOST; max++) {
            g_autoptr(GError) error = NULL;
            if (min == agent.min && max == agent.max)
                continue;
            memcpy(welcome, pair->welcome, sizeof welcome);
            welcome[WELCOME_VERSIONS] = min;
            welcome[WELCOME_VERSIONS + 1] = max;
            g_assert_false(read_it(pair, proxy, welcome, &error));
            /* Nor is the proxy told that the two do not fit, which it would believe. */
            g_assert_false(g_error_matches(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_INCOMPATIBLE));
        }
    /* The true one still counts, and brings what it would have brought. */
    if (common == 0)
        return;
    g_assert_true(read_it(pair, proxy, pair->welcome, NULL));
    assert_speak(pair, common);
}

static void
test_nobody_forces_another(Pair *pair, gconstpointer data)
{
    static const struct {
        Range agent, proxy;
        guint8 common;
    } cases[] = {
        {{1, 3}, {1, 3}, 3}, {{1, 3}, {2, 5}, 3}, {{2, 5}, {1, 3}, 3}, {{1, 1}, {1, 5}, 1},
        {{3, 3}, {1, 5}, 3}, {{1, 2}, {4, 5}, 0}, {{5, 5}, {5, 5}, 5},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        force(pair, cases[i].agent, cases[i].proxy, cases[i].common);
        forget(pair);
    }
}

#define ADD(name, test) g_test_add("/versions/" name, Pair, NULL, set_up, test, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("the-highest-of-both", test_the_highest_of_both);
    ADD("nobody-forces-another", test_nobody_forces_another);
    return g_test_run();
}
