/* Bytes that wait to be written to a socket.
 *
 * One byte array, to which messages are appended or in which they are built. What was written stays at its
 * beginning until it is the larger part, and is then cut off in one step, so that the copying stays
 * proportional to what is sent, however slowly the other end reads. An array that has grown is given back
 * once it is empty: a thousand idle connections hold no buffers.
 *
 * Bounds are its user's: it writes at most what it is told a turn, and holds what it is given. */
#include "link/outbox.h"
#include <errno.h>
#include <sys/socket.h>

#define CUT  (256 * 1024) /* written bytes are cut off in steps of at least this */
#define KEPT (4 * 1024)   /* an empty array that has grown beyond this is given back */

void
cbus_outbox_init(CbusOutbox *box)
{
    *box = (CbusOutbox){.bytes = g_byte_array_new()};
}

void
cbus_outbox_clear(CbusOutbox *box)
{
    g_clear_pointer(&box->bytes, g_byte_array_unref);
}

gsize
cbus_outbox_pending(const CbusOutbox *box)
{
    return box->bytes->len - box->written;
}

static void
cut_written(CbusOutbox *box)
{
    gsize rest = cbus_outbox_pending(box);
    GByteArray *fresh;

    box->peak = MAX(box->peak, box->bytes->len);
    if (rest == 0 && box->peak <= KEPT) {
        g_byte_array_set_size(box->bytes, 0);
    } else if (rest == 0 || (box->written >= CUT && box->written >= rest)) {
        fresh = g_byte_array_sized_new(rest);
        g_byte_array_append(fresh, box->bytes->data + box->written, rest);
        g_byte_array_unref(box->bytes);
        box->bytes = fresh;
        box->peak = rest;
    } else {
        return;
    }
    box->written = 0;
}

gboolean
cbus_outbox_write(CbusOutbox *box, int fd, gsize budget)
{
    while (budget > 0 && cbus_outbox_pending(box) > 0) {
        gsize len = MIN(cbus_outbox_pending(box), budget);
        gssize n = send(fd, box->bytes->data + box->written, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return FALSE;
        box->written += (gsize)MAX(n, 0);
        budget -= (gsize)MAX(n, 0);
        if (n < (gssize)len)
            break;
    }
    cut_written(box);
    return TRUE;
}

void
cbus_outbox_drop(CbusOutbox *box)
{
    g_byte_array_set_size(box->bytes, box->written);
}
