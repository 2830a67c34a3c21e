/* The plaintext of a packet: records stay inside, cover it without a gap, and write back to the same bytes.
 */
#include "tests/fuzz/fuzz.h"
#include "wire/record.h"

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    const guint8 *at = data;
    gsize left = len;
    CbusRecord record;
    int result;
    g_autoptr(GByteArray) written = g_byte_array_new();
    while ((result = cbus_record_next(&at, &left, &record)) == 1) {
        FUZZ_CHECK(at + left == data + len);
        FUZZ_CHECK(record.payload >= data && record.payload + record.len == at);
        cbus_record_append(written, record.type, record.flags, record.channel, record.payload, record.len);
        g_autofree char *name = NULL, *message = NULL;
        gboolean has_reason = record.type == CBUS_RECORD_REFUSED || record.type == CBUS_RECORD_CLOSE;
        if (has_reason && cbus_record_reason(&record, &name, &message))
            FUZZ_CHECK(strlen(name) + strlen(message) + 8 == record.len);
    }
    FUZZ_CHECK(written->len == len - left);
    FUZZ_CHECK(written->len == 0 || memcmp(written->data, data, written->len) == 0);
    FUZZ_CHECK(result == 0 ? left == 0 : left > 0);
    return 0;
}
