/* The handshake: two flights that agree on keys, and the transcript that a third one signs.
 *
 *     hello                                  welcome
 *       0  header 8   type 1                   0  header 8   type 2
 *       8  agent identity 32                   8  first 32 bytes of H(hello)
 *      40  agent instance 16                  40  ephemeral 32
 *      56  proxy identity 32                  72  min, max version, 0 ×6
 *      88  proxy instance 16                  80  signature 64
 *     104  min, max version, 0 ×6
 *     112  ephemeral 32
 *
 *     H  = BLAKE2b-512                       th = H(H(hello) ‖ welcome without its signature)
 *     T  = H(th ‖ signature)                 dh = X25519(ephemerals)
 *     prk = BLAKE2b-256, keyed with dh, of "cbus1 link" ‖ T
 *
 * Promise: a session exists only between the two identities named in the hello. The agent's signature over th
 * covers both identities, instances, ephemerals and version ranges, so an answer can not be moved to another
 * hello, another process or an older version; the proxy's signature over T (the FINISH record) covers the
 * agent's. Ephemerals are fresh for each handshake, which makes replays useless without any clock, and are
 * wiped with the product and prk as soon as the chains are derived.
 *
 * A forged or damaged welcome leaves the proxy's handshake as it was, waiting for the true one: who can
 * publish on NATS must not be able to end handshakes.
 *
 * Headers of hello and welcome always say version 1, the version of these two layouts, which never change:
 * that is how two sides without a common protocol version learn so, by a signed welcome. The agreed version
 * stands in the header of packets.
 *
 * Trust: nobody. Threads: any one at a time; no state outside the struct, which is guarded, locked memory. */
#include "wire/handshake.h"

#include "wire/crypto.h"
#include "wire/envelope.h"
#include "wire/secret.h"
#include <sodium.h>

#define HELLO_AGENT          8
#define HELLO_AGENT_INSTANCE 40
#define HELLO_PROXY          56
#define HELLO_PROXY_INSTANCE 88
#define HELLO_VERSIONS       104
#define HELLO_EPHEMERAL      112
#define WELCOME_HELLO        8
#define WELCOME_EPHEMERAL    40
#define WELCOME_VERSIONS     72
#define WELCOME_SIGNATURE    80
#define HELLO_HASH_SENT      32 /* how much of H(hello) stands in the welcome */
#define HASH_BYTES           CBUS_TRANSCRIPT_BYTES
#define KDF_CONTEXT          "cbuslink"

G_STATIC_ASSERT(HASH_BYTES == crypto_generichash_BYTES_MAX);

struct _CbusHandshake {
    guint8 secret[32]; /* proxy: the ephemeral; agent: the product; wiped after use */
    guint8 hello_hash[HASH_BYTES];
    guint8 th[HASH_BYTES];
    guint8 T[HASH_BYTES];
    guint8 welcome[CBUS_WELCOME_BYTES]; /* agent: all but its signature */
    CbusKey agent, proxy;
    CbusInstance proxy_instance;
    guint8 version; /* agreed; 0: none in common */
    gboolean done;
    CbusSession *session;
};

G_DEFINE_QUARK(cbus_handshake_error_quark, cbus_handshake_error)

static CbusHandshake *
handshake_alloc(void)
{
    cbus_crypto_init();
    CbusHandshake *handshake = sodium_malloc(sizeof *handshake);
    if (handshake == NULL)
        g_error("out of memory for a handshake");
    sodium_memzero(handshake, sizeof *handshake);
    return handshake;
}

void
cbus_handshake_free(CbusHandshake *handshake)
{
    if (handshake == NULL)
        return;
    cbus_session_free(handshake->session);
    sodium_free(handshake);
}

static gboolean
refuse(GError **error, CbusHandshakeError code, const char *message)
{
    g_set_error_literal(error, CBUS_HANDSHAKE_ERROR, (gint)code, message);
    return FALSE;
}

static void
write_versions(guint8 out[8])
{
    memset(out, 0, 8);
    out[0] = CBUS_PROTOCOL_MIN;
    out[1] = CBUS_PROTOCOL_MAX;
}

static gboolean
versions_are_sane(const guint8 in[8])
{
    return in[0] >= 1 && in[0] <= in[1] && sodium_is_zero(in + 2, 6);
}

/* The highest version of both, or 0. */
static guint8
agree(const guint8 theirs[8])
{
    guint8 version = MIN(theirs[1], CBUS_PROTOCOL_MAX);
    return version >= MAX(theirs[0], CBUS_PROTOCOL_MIN) ? version : 0;
}

static void
hash_two(guint8 out[HASH_BYTES], const guint8 first[HASH_BYTES], const guint8 *second, gsize len)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, HASH_BYTES);
    crypto_generichash_update(&state, first, HASH_BYTES);
    crypto_generichash_update(&state, second, len);
    crypto_generichash_final(&state, out, HASH_BYTES);
}

static void
make_ephemeral(guint8 secret[32], guint8 public_half[32], const guint8 *fixed)
{
    if (fixed != NULL)
        memcpy(secret, fixed, 32);
    else
        randombytes_buf(secret, 32);
    crypto_scalarmult_base(public_half, secret);
}

/* The keys of the link under T, for the side that SENDS in chain SEND (2: proxy, 3: agent). */
static CbusSession *
derive_session(guint8 version, const guint8 dh[32], const guint8 T[HASH_BYTES], gboolean we_are_proxy)
{
    static const char label[] = "cbus1 link";
    struct {
        crypto_generichash_state state;
        guint8 prk[32], to_agent[32], to_proxy[32];
    } own;
    guint8 link_id[CBUS_LINK_ID_BYTES];
    crypto_generichash_init(&own.state, dh, 32, sizeof own.prk);
    crypto_generichash_update(&own.state, (const guint8 *)label, sizeof label - 1);
    crypto_generichash_update(&own.state, T, HASH_BYTES);
    crypto_generichash_final(&own.state, own.prk, sizeof own.prk);
    crypto_kdf_derive_from_key(link_id, sizeof link_id, 1, KDF_CONTEXT, own.prk);
    crypto_kdf_derive_from_key(own.to_agent, sizeof own.to_agent, 2, KDF_CONTEXT, own.prk);
    crypto_kdf_derive_from_key(own.to_proxy, sizeof own.to_proxy, 3, KDF_CONTEXT, own.prk);
    CbusSession *session = cbus_session_new(version, link_id, we_are_proxy ? own.to_agent : own.to_proxy,
                                            we_are_proxy ? own.to_proxy : own.to_agent);
    sodium_memzero(&own, sizeof own);
    sodium_stackzero(CBUS_STACK_WIPED);
    return session;
}

CbusHandshake *
cbus_handshake_new_proxy(const CbusKey *agent, const CbusInstance *agent_instance, const CbusKey *proxy,
                         const CbusInstance *proxy_instance, const guint8 *ephemeral,
                         guint8 hello[CBUS_HELLO_BYTES])
{
    CbusHandshake *handshake = handshake_alloc();
    handshake->agent = *agent;
    handshake->proxy = *proxy;
    handshake->proxy_instance = *proxy_instance;

    memset(hello, 0, CBUS_HELLO_BYTES);
    cbus_envelope_write(hello, CBUS_LAYOUT_VERSION, CBUS_TYPE_HELLO);
    memcpy(hello + HELLO_AGENT, agent->bytes, CBUS_KEY_BYTES);
    memcpy(hello + HELLO_AGENT_INSTANCE, agent_instance->bytes, CBUS_INSTANCE_BYTES);
    memcpy(hello + HELLO_PROXY, proxy->bytes, CBUS_KEY_BYTES);
    memcpy(hello + HELLO_PROXY_INSTANCE, proxy_instance->bytes, CBUS_INSTANCE_BYTES);
    write_versions(hello + HELLO_VERSIONS);
    make_ephemeral(handshake->secret, hello + HELLO_EPHEMERAL, ephemeral);
    crypto_generichash(handshake->hello_hash, HASH_BYTES, hello, CBUS_HELLO_BYTES, NULL, 0);
    return handshake;
}

static gboolean
welcome_is_ours(const CbusHandshake *handshake, const guint8 *welcome, gsize len, GError **error)
{
    if (len != CBUS_WELCOME_BYTES ||
        cbus_envelope_version(welcome, CBUS_TYPE_WELCOME) != CBUS_LAYOUT_VERSION ||
        !versions_are_sane(welcome + WELCOME_VERSIONS))
        return refuse(error, CBUS_HANDSHAKE_ERROR_FORMAT, "not a welcome of this protocol");
    if (handshake->done || memcmp(welcome + WELCOME_HELLO, handshake->hello_hash, HELLO_HASH_SENT) != 0)
        return refuse(error, CBUS_HANDSHAKE_ERROR_NOT_OURS, "a welcome to another hello");
    return TRUE;
}

gboolean
cbus_handshake_read_welcome(CbusHandshake *handshake, const guint8 *welcome, gsize len,
                            guint8 T[CBUS_TRANSCRIPT_BYTES], GError **error)
{
    if (!welcome_is_ours(handshake, welcome, len, error))
        return FALSE;
    guint8 th[HASH_BYTES], dh[32];
    hash_two(th, handshake->hello_hash, welcome, WELCOME_SIGNATURE);
    if (!cbus_transcript_verify(&handshake->agent, CBUS_ROLE_AGENT, th, sizeof th,
                                welcome + WELCOME_SIGNATURE))
        return refuse(error, CBUS_HANDSHAKE_ERROR_SIGNATURE,
                      "the welcome is not signed by the machine that was asked");
    /* From here on the machine itself said it. */
    guint8 version = agree(welcome + WELCOME_VERSIONS);
    if (version == 0) {
        g_set_error(error, CBUS_HANDSHAKE_ERROR, CBUS_HANDSHAKE_ERROR_INCOMPATIBLE,
                    "the machine speaks protocol versions %u to %u, we %u to %u: update the older side",
                    welcome[WELCOME_VERSIONS], welcome[WELCOME_VERSIONS + 1], CBUS_PROTOCOL_MIN,
                    CBUS_PROTOCOL_MAX);
        return FALSE;
    }
    if (crypto_scalarmult(dh, handshake->secret, welcome + WELCOME_EPHEMERAL) != 0)
        return refuse(error, CBUS_HANDSHAKE_ERROR_KEY, "the welcome holds a weak ephemeral key");

    hash_two(handshake->T, th, welcome + WELCOME_SIGNATURE, CBUS_SIGNATURE_BYTES);
    handshake->session = derive_session(version, dh, handshake->T, TRUE);
    sodium_memzero(dh, sizeof dh);
    sodium_memzero(handshake->secret, sizeof handshake->secret);
    handshake->version = version;
    handshake->done = TRUE;
    memcpy(T, handshake->T, HASH_BYTES);
    return TRUE;
}

static gboolean
hello_is_shaped(const guint8 *hello, gsize len)
{
    return len == CBUS_HELLO_BYTES && cbus_envelope_version(hello, CBUS_TYPE_HELLO) == CBUS_LAYOUT_VERSION &&
           versions_are_sane(hello + HELLO_VERSIONS);
}

static gboolean
hello_is_for(const CbusKey *agent, const CbusInstance *instance, const guint8 *hello, gsize len,
             GError **error)
{
    if (!hello_is_shaped(hello, len))
        return refuse(error, CBUS_HANDSHAKE_ERROR_FORMAT, "not a hello of this protocol");
    if (memcmp(hello + HELLO_AGENT, agent->bytes, CBUS_KEY_BYTES) != 0 ||
        memcmp(hello + HELLO_AGENT_INSTANCE, instance->bytes, CBUS_INSTANCE_BYTES) != 0)
        return refuse(error, CBUS_HANDSHAKE_ERROR_NOT_OURS,
                      "a hello to another machine or an older start of this");
    if (crypto_core_ed25519_is_valid_point(hello + HELLO_PROXY) != 1)
        return refuse(error, CBUS_HANDSHAKE_ERROR_KEY, "the hello claims a weak identity");
    return TRUE;
}

CbusHandshake *
cbus_handshake_new_agent(const CbusKey *agent, const CbusInstance *instance, const guint8 *hello, gsize len,
                         const guint8 *ephemeral, guint8 th[CBUS_TRANSCRIPT_BYTES], GError **error)
{
    cbus_crypto_init();
    if (!hello_is_for(agent, instance, hello, len, error))
        return NULL;
    g_autoptr(CbusHandshake) handshake = handshake_alloc();
    guint8 *welcome = handshake->welcome;
    guint8 secret[32];
    make_ephemeral(secret, welcome + WELCOME_EPHEMERAL, ephemeral);
    int weak = crypto_scalarmult(handshake->secret, secret, hello + HELLO_EPHEMERAL);
    sodium_memzero(secret, sizeof secret);
    if (weak != 0) {
        refuse(error, CBUS_HANDSHAKE_ERROR_KEY, "the hello holds a weak ephemeral key");
        return NULL;
    }

    handshake->agent = *agent;
    memcpy(handshake->proxy.bytes, hello + HELLO_PROXY, CBUS_KEY_BYTES);
    memcpy(handshake->proxy_instance.bytes, hello + HELLO_PROXY_INSTANCE, CBUS_INSTANCE_BYTES);
    handshake->version = agree(hello + HELLO_VERSIONS);
    crypto_generichash(handshake->hello_hash, HASH_BYTES, hello, CBUS_HELLO_BYTES, NULL, 0);
    cbus_envelope_write(welcome, CBUS_LAYOUT_VERSION, CBUS_TYPE_WELCOME);
    memcpy(welcome + WELCOME_HELLO, handshake->hello_hash, HELLO_HASH_SENT);
    write_versions(welcome + WELCOME_VERSIONS);
    hash_two(handshake->th, handshake->hello_hash, welcome, WELCOME_SIGNATURE);
    memcpy(th, handshake->th, HASH_BYTES);
    return g_steal_pointer(&handshake);
}

gboolean
cbus_handshake_write_welcome(CbusHandshake *handshake, const guint8 signature[CBUS_SIGNATURE_BYTES],
                             guint8 welcome[CBUS_WELCOME_BYTES], GError **error)
{
    /* The signature may come from another process: a wrong one must be found here, not by each proxy. */
    if (handshake->done || !cbus_transcript_verify(&handshake->agent, CBUS_ROLE_AGENT, handshake->th,
                                                   sizeof handshake->th, signature))
        return refuse(error, CBUS_HANDSHAKE_ERROR_SIGNATURE,
                      "the signature is not the identity's over this welcome");
    memcpy(handshake->welcome + WELCOME_SIGNATURE, signature, CBUS_SIGNATURE_BYTES);
    hash_two(handshake->T, handshake->th, signature, CBUS_SIGNATURE_BYTES);
    if (handshake->version != 0)
        handshake->session = derive_session(handshake->version, handshake->secret, handshake->T, FALSE);
    sodium_memzero(handshake->secret, sizeof handshake->secret);
    handshake->done = TRUE;
    memcpy(welcome, handshake->welcome, CBUS_WELCOME_BYTES);
    return TRUE;
}

const CbusKey *
cbus_handshake_proxy(const CbusHandshake *handshake)
{
    return &handshake->proxy;
}

const CbusInstance *
cbus_handshake_proxy_instance(const CbusHandshake *handshake)
{
    return &handshake->proxy_instance;
}

const guint8 *
cbus_handshake_transcript(const CbusHandshake *handshake)
{
    return handshake->done ? handshake->T : NULL;
}

CbusSession *
cbus_handshake_take_session(CbusHandshake *handshake)
{
    return g_steal_pointer(&handshake->session);
}

gboolean
cbus_hello_peek(const guint8 *hello, gsize len, CbusKey *proxy, CbusInstance *proxy_instance)
{
    if (!hello_is_shaped(hello, len))
        return FALSE;
    memcpy(proxy->bytes, hello + HELLO_PROXY, CBUS_KEY_BYTES);
    memcpy(proxy_instance->bytes, hello + HELLO_PROXY_INSTANCE, CBUS_INSTANCE_BYTES);
    return TRUE;
}
