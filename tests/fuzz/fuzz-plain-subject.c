/* Plain subjects: what is read is a valid path and member of a service with a name; what is not says why. */
#include "tests/fuzz/fuzz.h"
#include "wire/plain_subject.h"

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    static const CbusKey agent = {.bytes = {1}};
    g_autofree char *rest = g_strndup((const char *)data, len);
    g_autofree char *prefix = cbus_plain_requests(&agent);
    g_autofree char *subject = NULL;
    const char *why = NULL;
    CbusPlainRequest request;

    prefix[strlen(prefix) - 1] = '\0'; /* the wildcard */
    /* A first byte above 127: the subject stands as it is. */
    subject = len > 0 && data[0] > 127 ? g_strdup(rest + 1) : g_strconcat(prefix, rest, NULL);
    if (!cbus_plain_request_parse(subject, &agent, &request, &why)) {
        FUZZ_CHECK(why != NULL);
        return 0;
    }
    FUZZ_CHECK(request.service.len > 0 && memchr(request.service.text, '.', request.service.len) == NULL);
    FUZZ_CHECK(cbus_is_object_path(cbus_span(request.path)));
    FUZZ_CHECK(request.member.len > 0 && (request.is_property || cbus_is_member(request.member)));
    FUZZ_CHECK(request.service.text >= subject &&
               request.member.text + request.member.len == subject + strlen(subject));
    cbus_plain_request_clear(&request);
    return 0;
}
