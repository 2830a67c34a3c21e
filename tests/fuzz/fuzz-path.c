/* Local object paths and subjects: where a path leads is inside it, what is read as a service's element is
 * spelled as it would be written, and an agent's subject names a key that is one. */
#include "introspect/path.h"
#include "tests/fuzz/fuzz.h"
#include "wire/message.h"
#include "wire/subject.h"
#include <string.h>

static gboolean
is_inside(CbusSpan part, CbusSpan whole)
{
    return part.text >= whole.text && part.text + part.len <= whole.text + whole.len;
}

static void
parse(CbusSpan path)
{
    g_autoptr(GString) again = g_string_new(NULL);
    char nkey[CBUS_NKEY_LENGTH + 1];
    CbusPlace place;

    cbus_place_parse(path, &place);
    if (place.kind != CBUS_PLACE_MACHINE && place.kind != CBUS_PLACE_SERVICE)
        return;
    cbus_nkey_encode(&place.machine, nkey);
    FUZZ_CHECK(cbus_span_is(place.nkey, nkey) && is_inside(place.nkey, path));
    if (place.kind == CBUS_PLACE_MACHINE) {
        cbus_place_append_machine(again, nkey);
        FUZZ_CHECK(cbus_span_is(path, again->str));
        return;
    }
    FUZZ_CHECK(is_inside(place.service_element, path));
    cbus_place_append_service(again, nkey, place.service);
    if (!cbus_span_is(place.path, "/") || is_inside(place.path, path)) {
        FUZZ_CHECK(is_inside(place.path, path) && place.path.text[0] == '/');
        g_string_append_len(again, place.path.text, (gssize)place.path.len);
    }
    FUZZ_CHECK(cbus_span_is(path, again->str));
}

static void
unescape(CbusSpan element)
{
    g_autoptr(GString) again = g_string_new(NULL);
    char service[256];

    if (!cbus_service_unescape(element, service))
        return;
    cbus_service_escape(again, service);
    FUZZ_CHECK(cbus_span_is(element, again->str));
    FUZZ_CHECK(cbus_is_bus_name(cbus_span(service)));
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    CbusSpan input = {(const char *)data, len};
    g_autofree char *subject = g_strndup((const char *)data, len);
    g_autoptr(GString) below = g_string_new(NULL);
    char nkey[CBUS_NKEY_LENGTH + 1];
    CbusKey agent;

    unescape(input);
    if (cbus_is_object_path(input))
        parse(input);
    /* And below a machine that could be, which a fuzzer would hardly spell. */
    cbus_place_append_machine(below, "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4");
    g_string_append_c(below, '/');
    g_string_append_len(below, (const char *)data, (gssize)len);
    if (cbus_is_object_path((CbusSpan){below->str, below->len}))
        parse((CbusSpan){below->str, below->len});
    if (cbus_subject_agent(subject, &agent)) {
        cbus_nkey_encode(&agent, nkey);
        FUZZ_CHECK(strstr(subject, nkey) != NULL);
    }
    return 0;
}
