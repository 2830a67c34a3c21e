/* What is left in memory of the secrets of a link. Each step of a handshake and of a session runs on a stack
 * of this test's own, which is looked through afterwards for the very bytes that must not be there; so is the
 * memory of the handshake and of the session, as far as its page goes. */
#include "wire/handshake.h"
#include "wire/secret.h"
#include "wire/vault.h"
#include <pthread.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_BYTES (1024 * 1024)
#define PLAIN_BYTES 100

/* One link: what its ends compute from the ephemerals, computed once more. */
typedef struct {
    CbusSecret *agent, *proxy;
    CbusInstance agent_instance, proxy_instance;
    guint8 agent_ephemeral[32], proxy_ephemeral[32];
    guint8 hello[CBUS_HELLO_BYTES], welcome[CBUS_WELCOME_BYTES];
    guint8 th[CBUS_TRANSCRIPT_BYTES], T[CBUS_TRANSCRIPT_BYTES], signature[CBUS_SIGNATURE_BYTES];
    CbusHandshake *at_agent, *at_proxy;
    CbusSession *session;
    /* dh, prk, then of each direction: c0, the key of generation 0, c1, the key of generation 1, c2. */
    guint8 dh[32], prk[32], to_agent[5][32], to_proxy[5][32];
    guint8 packet[CBUS_PACKET_OVERHEAD + PLAIN_BYTES];
} Link;

static void
derive(guint8 out[32], guint64 id, const char *context, const guint8 key[32])
{
    g_assert_cmpint(crypto_kdf_derive_from_key(out, 32, id, context, key), ==, 0);
}

static void
derive_chain(guint8 chain[5][32], guint64 id, const guint8 prk[32])
{
    derive(chain[0], id, "cbuslink", prk);
    derive(chain[1], 2, "cbuschan", chain[0]);
    derive(chain[2], 1, "cbuschan", chain[0]);
    derive(chain[3], 2, "cbuschan", chain[2]);
    derive(chain[4], 1, "cbuschan", chain[2]);
}

static void
compute_secrets(Link *link)
{
    crypto_generichash_state state;
    guint8 agents[32];

    crypto_scalarmult_base(agents, link->agent_ephemeral);
    g_assert_cmpint(crypto_scalarmult(link->dh, link->proxy_ephemeral, agents), ==, 0);
    crypto_generichash_init(&state, link->dh, 32, 32);
    crypto_generichash_update(&state, (const guint8 *)"cbus1 link", 10);
    crypto_generichash_update(&state, link->T, sizeof link->T);
    crypto_generichash_final(&state, link->prk, 32);
    derive_chain(link->to_agent, 2, link->prk);
    derive_chain(link->to_proxy, 3, link->prk);
}

/* ---- what runs on a stack of its own ---- */

typedef void (*Step)(Link *link);

static void
begin(Link *link)
{
    link->at_proxy = cbus_handshake_new_proxy(cbus_secret_public(link->agent), &link->agent_instance,
                                              cbus_secret_public(link->proxy), &link->proxy_instance,
                                              link->proxy_ephemeral, link->hello);
}

static void
answer(Link *link)
{
    link->at_agent =
        cbus_handshake_new_agent(cbus_secret_public(link->agent), &link->agent_instance, link->hello,
                                 sizeof link->hello, link->agent_ephemeral, link->th, NULL);
}

static void
write_welcome(Link *link)
{
    g_assert_true(cbus_handshake_write_welcome(link->at_agent, link->signature, link->welcome, NULL));
}

static void
read_welcome(Link *link)
{
    g_assert_true(
        cbus_handshake_read_welcome(link->at_proxy, link->welcome, sizeof link->welcome, link->T, NULL));
}

static void
seal(Link *link)
{
    cbus_session_seal(link->session, link->packet, PLAIN_BYTES);
}

static void
open_packet(Link *link)
{
    guint8 *plain;
    gsize len;

    g_assert_cmpint(cbus_session_open(link->session, link->packet, sizeof link->packet, &plain, &len), ==,
                    CBUS_OPEN_OK);
}

typedef struct {
    Step step;
    Link *link;
} Run;

/* Far below where the thread began, since its end writes there. */
static void *
run(void *data)
{
    const Run *it = data;
    volatile guint8 room[64 * 1024];

    room[0] = 0;
    it->step(it->link);
    room[sizeof room - 1] = room[0];
    return NULL;
}

/* Runs STEP and returns the stack that it left. Unmap it. */
static guint8 *
stack_of(Step step, Link *link)
{
    guint8 *stack =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    Run it = {step, link};
    pthread_attr_t attributes;
    pthread_t thread;

    g_assert_true(stack != MAP_FAILED);
    g_assert_cmpint(pthread_attr_init(&attributes), ==, 0);
    g_assert_cmpint(pthread_attr_setstack(&attributes, stack, STACK_BYTES), ==, 0);
    g_assert_cmpint(pthread_create(&thread, &attributes, run, &it), ==, 0);
    g_assert_cmpint(pthread_join(thread, NULL), ==, 0);
    pthread_attr_destroy(&attributes);
    return stack;
}

/* TRUE if half of SECRET's bytes or more are somewhere in MEMORY. */
static gboolean
holds(const guint8 *memory, gsize len, const guint8 secret[32])
{
    return memmem(memory, len, secret, 16) != NULL || memmem(memory, len, secret + 16, 16) != NULL;
}

typedef struct {
    const char *name;
    gsize offset; /* in a Link */
} Secret;

#define SECRET(field)                                                                                        \
    {                                                                                                        \
#field, G_STRUCT_OFFSET(Link, field)                                                                 \
    }
/* All that nobody may find: the ephemerals and what follows from them. */
static const Secret secrets[] = {
    SECRET(agent_ephemeral), SECRET(proxy_ephemeral), SECRET(dh),          SECRET(prk),
    SECRET(to_agent[0]),     SECRET(to_agent[1]),     SECRET(to_agent[2]), SECRET(to_agent[3]),
    SECRET(to_agent[4]),     SECRET(to_proxy[0]),     SECRET(to_proxy[1]), SECRET(to_proxy[2]),
    SECRET(to_proxy[3]),     SECRET(to_proxy[4]),
};

static void
assert_clean(const char *where, const guint8 *memory, gsize len, const Link *link)
{
    for (gsize i = 0; i < G_N_ELEMENTS(secrets); i++)
        if (holds(memory, len, (const guint8 *)link + secrets[i].offset))
            g_error("%s is left in %s", secrets[i].name, where);
}

static void
assert_clean_stack(const char *where, guint8 *stack, const Link *link)
{
    assert_clean(where, stack, STACK_BYTES, link);
    munmap(stack, STACK_BYTES);
}

static void
set_up(Link *link, gconstpointer data)
{
    static const guint8 agent[32] = {1}, proxy[32] = {2};
    guint8 *const ephemerals[] = {link->agent_ephemeral, link->proxy_ephemeral};

    link->agent = cbus_secret_new_from_seed(agent);
    link->proxy = cbus_secret_new_from_seed(proxy);
    cbus_instance_random(&link->agent_instance);
    cbus_instance_random(&link->proxy_instance);
    for (gsize i = 0; i < G_N_ELEMENTS(ephemerals); i++) {
        randombytes_buf(ephemerals[i], 32);
        /* As X25519 uses it, so that a copy that it made is found as well. */
        ephemerals[i][0] &= 248;
        ephemerals[i][31] = (ephemerals[i][31] & 127) | 64;
    }
}

static void
tear_down(Link *link, gconstpointer data)
{
    cbus_session_free(link->session);
    cbus_handshake_free(link->at_agent);
    cbus_handshake_free(link->at_proxy);
    cbus_secret_free(link->agent);
    cbus_secret_free(link->proxy);
}

/* What is behind HANDSHAKE up to its guard page: the whole of it, which ends there. */
static gsize
size_of(const CbusHandshake *handshake)
{
    gsize page = (gsize)sysconf(_SC_PAGESIZE);

    return page - (gsize)handshake % page;
}

static void
shake_hands(Link *link)
{
    begin(link);
    answer(link);
    cbus_secret_sign_transcript(link->agent, CBUS_ROLE_AGENT, link->th, sizeof link->th, link->signature);
    write_welcome(link);
    read_welcome(link);
    compute_secrets(link);
}

static void
test_stacks_of_a_handshake(Link *link, gconstpointer data)
{
    guint8 *began = stack_of(begin, link), *answered = stack_of(answer, link);

    cbus_secret_sign_transcript(link->agent, CBUS_ROLE_AGENT, link->th, sizeof link->th, link->signature);
    guint8 *wrote = stack_of(write_welcome, link), *read = stack_of(read_welcome, link);
    compute_secrets(link);
    assert_clean_stack("the stack of the hello", began, link);
    assert_clean_stack("the stack of the answer", answered, link);
    assert_clean_stack("the stack of the welcome", wrote, link);
    assert_clean_stack("the stack of the welcome's reader", read, link);
}

/* The session is elsewhere, and all that made it is gone, although the handshake is still there. */
static void
test_a_handshake_that_is_done(Link *link, gconstpointer data)
{
    shake_hands(link);
    assert_clean("the agent's handshake", (const guint8 *)link->at_agent, size_of(link->at_agent), link);
    assert_clean("the proxy's handshake", (const guint8 *)link->at_proxy, size_of(link->at_proxy), link);
}

/* The search finds what is there. */
static void
test_a_handshake_under_way(Link *link, gconstpointer data)
{
    begin(link);
    g_assert_true(holds((const guint8 *)link->at_proxy, size_of(link->at_proxy), link->proxy_ephemeral));
    answer(link);
    cbus_secret_sign_transcript(link->agent, CBUS_ROLE_AGENT, link->th, sizeof link->th, link->signature);
    guint8 dh[32], agents[32];
    crypto_scalarmult_base(agents, link->agent_ephemeral);
    g_assert_cmpint(crypto_scalarmult(dh, link->proxy_ephemeral, agents), ==, 0);
    g_assert_true(holds((const guint8 *)link->at_agent, size_of(link->at_agent), dh));
}

/* Exactly those of the generations that WHO is in. */
static void
assert_keys(const CbusSession *session, const Link *link, const guint8 (*sends)[32], guint sending,
            const guint8 (*receives)[32], guint receiving)
{
    for (guint i = 0; i < 5; i++) {
        gboolean sent = i == 2 * sending + 1 || i == 2 * sending + 2;
        gboolean received = i == 2 * receiving + 1 || i == 2 * receiving + 2;
        g_assert_true(holds((const guint8 *)session, CBUS_VAULT_BYTES, sends[i]) == sent);
        g_assert_true(holds((const guint8 *)session, CBUS_VAULT_BYTES, receives[i]) == received);
    }
    g_assert_false(holds((const guint8 *)session, CBUS_VAULT_BYTES, link->prk));
}

static void
test_keys_that_roll(Link *link, gconstpointer data)
{
    shake_hands(link);
    g_autoptr(CbusSession) proxy = cbus_handshake_take_session(link->at_proxy);
    g_autoptr(CbusSession) agent = cbus_handshake_take_session(link->at_agent);

    assert_keys(proxy, link, link->to_agent, 0, link->to_proxy, 0);
    assert_keys(agent, link, link->to_proxy, 0, link->to_agent, 0);
    for (guint i = 0; i < CBUS_KEY_ROLL; i++) {
        gboolean looked = i == 0 || i + 1 == CBUS_KEY_ROLL;
        link->session = proxy;
        if (looked)
            assert_clean_stack("the stack of a seal", stack_of(seal, link), link);
        else
            seal(link);
        link->session = agent;
        if (looked)
            assert_clean_stack("the stack of an opening", stack_of(open_packet, link), link);
        else
            open_packet(link);
    }
    link->session = NULL;
    assert_keys(proxy, link, link->to_agent, 1, link->to_proxy, 0);
    assert_keys(agent, link, link->to_proxy, 0, link->to_agent, 1);
}

static void
open_beyond_a_gap(Link *link)
{
    guint8 *plain;
    gsize len;

    g_assert_cmpint(cbus_session_open(link->session, link->packet, sizeof link->packet, &plain, &len), ==,
                    CBUS_OPEN_GAP);
}

/* A key that was tried and not kept. */
static void
test_a_packet_of_the_next_generation(Link *link, gconstpointer data)
{
    shake_hands(link);
    g_autoptr(CbusSession) proxy = cbus_handshake_take_session(link->at_proxy);

    link->session = proxy;
    for (guint i = 0; i <= CBUS_KEY_ROLL; i++)
        seal(link);
    link->session = cbus_handshake_take_session(link->at_agent);
    assert_clean_stack("the stack of an opening", stack_of(open_beyond_a_gap, link), link);
    assert_keys(link->session, link, link->to_proxy, 0, link->to_agent, 0);
}

#define ADD(name, test) g_test_add("/wiping/" name, Link, NULL, set_up, test, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    ADD("a-handshake-under-way-is-found", test_a_handshake_under_way);
    ADD("stacks-of-a-handshake", test_stacks_of_a_handshake);
    ADD("a-handshake-that-is-done", test_a_handshake_that_is_done);
    ADD("keys-that-roll", test_keys_that_roll);
    ADD("a-packet-of-the-next-generation", test_a_packet_of_the_next_generation);
    return g_test_run();
}
