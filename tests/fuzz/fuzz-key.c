/* Public and private keys as text: whatever is read has one spelling, and nothing else is read. And what an
 * ssh-agent answers: keys are read inside its bounds, and no signature is believed. */
#include "tests/fuzz/fuzz.h"
#include "wire/secret.h"
#include "wire/ssh_agent.h"

#include <string.h>

static void
read_secret(const guint8 *data, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSecret) secret = cbus_secret_parse(data, len, &error);
    FUZZ_CHECK((secret == NULL) == (error != NULL));
    FUZZ_CHECK(error == NULL || g_utf8_validate(error->message, -1, NULL));
}

static void
read_agent_answers(const guint8 *data, gsize len)
{
    static const CbusKey key = {{1}};
    guint8 signature[CBUS_SIGNATURE_BYTES];
    guint others = 0;
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) keys = cbus_ssh_agent_read_list(data, len, &others, &error);
    FUZZ_CHECK((keys == NULL) == (error != NULL));
    FUZZ_CHECK(keys == NULL || keys->len + others <= len / 8);
    FUZZ_CHECK(!cbus_ssh_agent_read_signature(data, len, &key, data, len, signature, NULL));
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    CbusKey key, again;
    char nkey[CBUS_NKEY_LENGTH + 1];
    const char *text = (const char *)data;
    g_autoptr(GError) error = NULL;
    if (cbus_public_key_parse(text, (gssize)len, &key, &error)) {
        cbus_nkey_encode(&key, nkey);
        FUZZ_CHECK(cbus_nkey_decode(nkey, -1, &again, NULL) && cbus_key_equal(&key, &again));
    } else {
        FUZZ_CHECK(error != NULL && g_utf8_validate(error->message, -1, NULL));
    }
    if (cbus_nkey_decode(text, (gssize)len, &key, NULL)) {
        cbus_nkey_encode(&key, nkey);
        FUZZ_CHECK(len == CBUS_NKEY_LENGTH && memcmp(nkey, text, len) == 0);
    }
    read_agent_answers(data, len);
    read_secret(data, len);
    /* And as what stands in an OpenSSH file, which base64 would hide from a fuzzer. */
    g_autofree char *base64 = g_base64_encode(data, len);
    g_autofree char *file = g_strconcat("-----BEGIN OPENSSH PRIVATE KEY-----\n", base64,
                                        "\n-----END OPENSSH PRIVATE KEY-----\n", NULL);
    read_secret((const guint8 *)file, strlen(file));
    return 0;
}
