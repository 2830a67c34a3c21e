/* Bodies and their translation. An input is byte order (a bit), the signature's length, the signature, the
 * body.
 *
 * A body is translated to the local side exactly if the check accepts it; the result passes the check; taken
 * back to the remote side it is the same bytes. What is refused leaves the output as it was. */
#include "introspect/path.h"
#include "introspect/translate.h"
#include "tests/fuzz/fuzz.h"
#include "wire/body.h"

#define MACHINE CBUS_ROOT_PATH "/UAXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"
#define SERVICE MACHINE "/a_2eb"

typedef struct {
    const guint8 *bytes;
    gsize len;
    guint8 endian;
    CbusSpan signature;
} Body;

static gboolean
translate(const Body *body, CbusDirection direction, GByteArray *out, GError **error)
{
    const CbusTranslation translation = {
        .direction = direction,
        .prefix = CBUS_SPAN_LITERAL(SERVICE),
        .machine = CBUS_SPAN_LITERAL(MACHINE),
    };
    gboolean ok = cbus_translate_body(out, body->bytes, body->len, body->endian, body->signature,
                                      &translation, CBUS_MESSAGE_MAX, error);
    FUZZ_CHECK(ok || out->len == 0);
    /* Of exactly its size, for the sanitizer. */
    g_autofree guint8 *result = ok ? g_memdup2(out->data, out->len) : NULL;
    FUZZ_CHECK(!ok || cbus_body_check(result, out->len, body->endian, body->signature, NULL));
    return ok;
}

static void
check_body(const Body *body)
{
    g_autoptr(GByteArray) local = g_byte_array_new(), remote = g_byte_array_new();
    g_autoptr(GError) check_error = NULL, local_error = NULL, remote_error = NULL;
    gboolean valid = cbus_body_check(body->bytes, body->len, body->endian, body->signature, &check_error);
    FUZZ_CHECK(valid == (check_error == NULL));
    FUZZ_CHECK(translate(body, CBUS_TO_LOCAL, local, &local_error) == valid);
    FUZZ_CHECK(valid || local_error->code == check_error->code);
    gboolean passed = translate(body, CBUS_TO_REMOTE, remote, &remote_error);
    FUZZ_CHECK(passed ? valid
                      : !valid || g_error_matches(remote_error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_PATH));
    if (!valid)
        return;
    const Body there = {local->data, local->len, body->endian, body->signature};
    g_byte_array_set_size(remote, 0);
    FUZZ_CHECK(translate(&there, CBUS_TO_REMOTE, remote, NULL));
    FUZZ_CHECK(remote->len == body->len);
    FUZZ_CHECK(body->len == 0 || memcmp(remote->data, body->bytes, body->len) == 0);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    if (len < 2 || data[1] > len - 2)
        return 0;
    Body body = {.endian = data[0] & 1 ? 'B' : 'l', .signature = {(const char *)data + 2, data[1]}};
    body.len = len - 2 - data[1];
    /* Aligned and of its size, as a message's body is. */
    g_autofree guint8 *copy = g_memdup2(data + 2 + data[1], body.len);
    body.bytes = copy;
    check_body(&body);
    return 0;
}
