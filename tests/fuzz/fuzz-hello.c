/* Hello, welcome and presence from strangers: read inside their bounds, and nothing forged is believed.
 *
 * The first byte says which of them the input is, and whether it is XORed over a genuine one, so that the
 * checks behind the header are reached. */
#include "tests/fuzz/fuzz.h"
#include "wire/handshake.h"
#include "wire/secret.h"

#include <string.h>

static CbusSecret *agent, *proxy;
static CbusInstance agent_instance = {{1}}, proxy_instance = {{2}};
static const guint8 ephemerals[2][32] = {{3}, {4}};

static CbusHandshake *
begin(guint8 hello[CBUS_HELLO_BYTES])
{
    return cbus_handshake_new_proxy(cbus_secret_public(agent), &agent_instance, cbus_secret_public(proxy),
                                    &proxy_instance, ephemerals[0], hello);
}

/* The input, or the input over GENUINE: TRUE if that is GENUINE unchanged. */
static gboolean
overlay(guint8 *out, const guint8 *genuine, gsize size, const guint8 *data, gsize len)
{
    memcpy(out, genuine, size);
    for (gsize i = 0; i < MIN(len, size); i++)
        out[i] ^= data[i];
    return memcmp(out, genuine, size) == 0;
}

static void
answer(const guint8 *hello, gsize len)
{
    guint8 th[CBUS_TRANSCRIPT_BYTES], welcome[CBUS_WELCOME_BYTES], signature[CBUS_SIGNATURE_BYTES];
    CbusKey key;
    CbusInstance instance;
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusHandshake) handshake = cbus_handshake_new_agent(cbus_secret_public(agent), &agent_instance,
                                                                  hello, len, ephemerals[1], th, &error);
    FUZZ_CHECK((handshake == NULL) == (error != NULL));
    gboolean peeked = cbus_hello_peek(hello, len, &key, &instance);
    if (handshake == NULL)
        return;
    FUZZ_CHECK(peeked && cbus_key_equal(&key, cbus_handshake_proxy(handshake)));
    cbus_secret_sign_transcript(agent, CBUS_ROLE_AGENT, th, sizeof th, signature);
    FUZZ_CHECK(cbus_handshake_write_welcome(handshake, signature, welcome, NULL));
    g_autoptr(CbusSession) session = cbus_handshake_take_session(handshake);
    /* No session only for want of a common version: the hello's range does not hold 1. */
    FUZZ_CHECK((session == NULL) == (hello[104] > 1));
}

static void
welcome_once(const guint8 *data, gsize len, gboolean over)
{
    guint8 hello[CBUS_HELLO_BYTES], th[CBUS_TRANSCRIPT_BYTES], T[CBUS_TRANSCRIPT_BYTES];
    guint8 genuine[CBUS_WELCOME_BYTES], changed[CBUS_WELCOME_BYTES], signature[CBUS_SIGNATURE_BYTES];
    g_autoptr(CbusHandshake) asking = begin(hello);
    g_autoptr(CbusHandshake) asked = cbus_handshake_new_agent(cbus_secret_public(agent), &agent_instance,
                                                              hello, sizeof hello, ephemerals[1], th, NULL);
    cbus_secret_sign_transcript(agent, CBUS_ROLE_AGENT, th, sizeof th, signature);
    FUZZ_CHECK(cbus_handshake_write_welcome(asked, signature, genuine, NULL));
    if (!over)
        FUZZ_CHECK(!cbus_handshake_read_welcome(asking, data, len, T, NULL));
    else if (!overlay(changed, genuine, sizeof genuine, data, len))
        FUZZ_CHECK(!cbus_handshake_read_welcome(asking, changed, sizeof changed, T, NULL));
    FUZZ_CHECK(cbus_handshake_read_welcome(asking, genuine, sizeof genuine, T, NULL));
}

static void
presence_once(const guint8 *data, gsize len)
{
    CbusPresence presence;
    guint8 again[CBUS_PRESENCE_BYTES];
    if (!cbus_presence_read(data, len, &presence))
        return;
    cbus_presence_write(&presence, again);
    FUZZ_CHECK(len == sizeof again && memcmp(data, again, len) == 0);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    guint8 hello[CBUS_HELLO_BYTES], changed[CBUS_HELLO_BYTES];
    if (agent == NULL) {
        agent = cbus_secret_new_from_seed((const guint8 *)"the seed of the agent, 32 bytes.");
        proxy = cbus_secret_new_from_seed((const guint8 *)"the seed of the proxy, 32 bytes.");
    }
    if (len < 1)
        return 0;
    guint8 how = data[0];
    data++, len--;
    g_autoptr(CbusHandshake) asking = NULL;
    switch (how % 5) {
        case 0:
            answer(data, len);
            break;
        case 1:
            asking = begin(hello);
            overlay(changed, hello, sizeof hello, data, len);
            answer(changed, sizeof changed);
            break;
        case 2:
            welcome_once(data, len, FALSE);
            break;
        case 3:
            welcome_once(data, len, TRUE);
            break;
        default:
            presence_once(data, len);
    }
    return 0;
}
