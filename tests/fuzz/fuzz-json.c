/* JSON to bodies and back. An input is the signature's length, the signature, the JSON.
 *
 * What is read passes the check of bodies; written and read again it is the same bytes; what is refused says
 * why and leaves the output as it was. */
#include "tests/fuzz/fuzz.h"
#include "wire/json.h"

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    g_autoptr(GByteArray) body = g_byte_array_new(), again = g_byte_array_new();
    g_autoptr(GString) text = g_string_new("before");
    g_autoptr(GError) error = NULL;

    if (len < 1 || data[0] > len - 1)
        return 0;
    CbusSpan signature = {(const char *)data + 1, data[0]};
    const char *json = (const char *)data + 1 + data[0];
    gsize json_len = len - 1 - data[0];
    if (!cbus_json_read_body(body, json, json_len, signature, &error)) {
        FUZZ_CHECK(error != NULL && body->len == 0 && g_utf8_validate(error->message, -1, NULL));
        return 0;
    }
    /* Of exactly its size, for the sanitizer. */
    g_autofree guint8 *exact = g_memdup2(body->data, body->len);
    FUZZ_CHECK(error == NULL);
    FUZZ_CHECK(cbus_body_check(exact, body->len, CBUS_ENDIAN_NATIVE, signature, NULL));
    FUZZ_CHECK(!cbus_json_append_body(text, exact, body->len, CBUS_ENDIAN_NATIVE, signature, 1));
    FUZZ_CHECK(g_str_equal(text->str, "before"));
    g_string_truncate(text, 0);
    FUZZ_CHECK(cbus_json_append_body(text, exact, body->len, CBUS_ENDIAN_NATIVE, signature, G_MAXINT32));
    FUZZ_CHECK(g_utf8_validate(text->str, -1, NULL));
    FUZZ_CHECK(cbus_json_read_body(again, text->str, text->len, signature, &error));
    FUZZ_CHECK(again->len == body->len &&
               (body->len == 0 || memcmp(again->data, body->data, body->len) == 0));
    return 0;
}
