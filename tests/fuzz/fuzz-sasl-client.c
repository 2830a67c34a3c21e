/* What a bus says before it lets us in: taken line by line whatever pieces it comes in, bounded, and nothing
 * but OK lets us in. */
#include "link/bus.h"
#include "link/sasl.h"
#include "tests/fuzz/fuzz.h"
#include <string.h>

/* Shows STEP more bytes at a time. Returns what was used, or −1 when refused. */
static gssize
listen(const guint8 *data, gsize len, gsize step, CbusSaslStep *at_step)
{
    gsize used = 0;

    for (gsize there = 0; there < len && *at_step != CBUS_SASL_DONE;) {
        gssize line;

        there = MIN(there + step, len);
        do {
            g_autoptr(GError) error = NULL;
            CbusSaslStep before = *at_step;

            line = cbus_sasl_receive(at_step, data + used, there - used, &error);
            FUZZ_CHECK((line < 0) == (error != NULL));
            if (line < 0) {
                FUZZ_CHECK(g_error_matches(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH));
                FUZZ_CHECK(g_utf8_validate(error->message, -1, NULL));
                return -1;
            }
            FUZZ_CHECK(line == 0 ? *at_step == before : line <= CBUS_SASL_LINE_MAX && *at_step != before);
            used += (gsize)line;
        } while (line > 0 && *at_step != CBUS_SASL_DONE);
    }
    return (gssize)used;
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    for (guint descriptors = 0; descriptors < 2; descriptors++) {
        g_autoptr(GByteArray) said = g_byte_array_new();
        CbusSaslStep whole = cbus_sasl_begin(1000, descriptors, said), pieces = whole;
        gssize used = listen(data, len, MAX(len, 1), &whole);
        gssize used_in_pieces = listen(data, len, 1, &pieces);

        FUZZ_CHECK(used == used_in_pieces && whole == pieces);
        FUZZ_CHECK(whole != CBUS_SASL_DONE || (len >= 4 && memcmp(data, "OK", 2) == 0));
    }
    return 0;
}
