/* What clients say to a portal before they are let in: it is bounded, whatever pieces it comes in, and nobody
 * is let in but by OK. */
#include "link/sasl_server.h"
#include "tests/fuzz/fuzz.h"
#include <string.h>

#define SAID_MAX (64 * 1024)

/* Hands DATA over STEP bytes at a time; returns where it stopped, or −1 when cut off. */
static gssize
talk(const guint8 *data, gsize len, gsize step, guint32 peer, GByteArray *out, gboolean *done)
{
    g_autoptr(CbusSaslServer) server = cbus_sasl_server_new(peer, 1000);
    gsize at = 0;

    for (gsize there = 0; !*done && there < len;) {
        gssize used;

        there = MIN(there + step, len);
        do {
            g_autoptr(GError) error = NULL;

            used = cbus_sasl_server_receive(server, data + at, there - at, out, done, &error);
            FUZZ_CHECK((used < 0) == (error != NULL));
            if (used < 0)
                return -1;
            FUZZ_CHECK((gsize)used <= there - at);
            at += (gsize)used;
        } while (used > 0 && !*done);
    }
    return (gssize)at;
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    static const guint32 peers[] = {1000, 0, 1001};

    for (gsize i = 0; i < G_N_ELEMENTS(peers); i++) {
        g_autoptr(GByteArray) whole = g_byte_array_new();
        g_autoptr(GByteArray) pieces = g_byte_array_new();
        gboolean done = FALSE, done_in_pieces = FALSE;
        gssize at = talk(data, len, MAX(len, 1), peers[i], whole, &done);
        gssize at_in_pieces = talk(data, len, 1, peers[i], pieces, &done_in_pieces);

        FUZZ_CHECK(at == at_in_pieces && done == done_in_pieces);
        FUZZ_CHECK(whole->len == pieces->len && whole->len < SAID_MAX);
        FUZZ_CHECK(whole->len == 0 || memcmp(whole->data, pieces->data, whole->len) == 0);
        gboolean ok = whole->len >= 3 && memmem(whole->data, whole->len, "OK ", 3) != NULL;
        FUZZ_CHECK(!done || ok);
        FUZZ_CHECK(peers[i] != 1001 || !ok);
    }
    return 0;
}
