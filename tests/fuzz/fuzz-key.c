/* Public and private keys as text: whatever is read has one spelling, and nothing else is read. */
#include "tests/fuzz/fuzz.h"
#include "wire/secret.h"

#include <string.h>

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
    g_clear_error(&error);
    g_autoptr(CbusSecret) secret = cbus_secret_parse(data, len, &error);
    FUZZ_CHECK((secret == NULL) == (error != NULL));
    FUZZ_CHECK(error == NULL || g_utf8_validate(error->message, -1, NULL));
    return 0;
}
