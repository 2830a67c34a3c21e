/* A context of the nats command: whatever its file holds, servers and login come from it or an error that can
 * be shown. */
#include "link/nats_context.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusNatsContext) context =
        cbus_nats_context_parse((const char *)data, len, "fuzz.json", &error);
    CbusNatsOptions options = {.urls = "nats://127.0.0.1:4222"};

    FUZZ_CHECK((context == NULL) == (error != NULL));
    FUZZ_CHECK(error == NULL ||
               (error->domain == CBUS_NATS_ERROR && g_utf8_validate(error->message, -1, NULL)));
    if (context == NULL)
        return 0;
    cbus_nats_context_apply(context, &options);
    FUZZ_CHECK(options.urls != NULL);
    FUZZ_CHECK(options.signer == NULL && options.identity == NULL);
    return 0;
}
