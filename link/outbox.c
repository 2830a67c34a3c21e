/* Bytes that wait to be written to a socket.
 *
 * One byte array, to which messages are appended or in which they are built. What was written stays at its
 * beginning until it is the larger part, and is then cut off in one step, so that the copying stays
 * proportional to what is sent, however slowly the other end reads. An empty box holds no array: what became
 * empty is left as the spare, which the next box of the loop that has something to write takes, grown and
 * warm; one that is too large, or one too many, is freed. So a thousand idle connections hold one buffer.
 *
 * Bounds are its user's: it writes at most what it is told a turn, and holds what it is given. */
#include "link/outbox.h"
#include <errno.h>
#include <sys/socket.h>

#define CUT       (256 * 1024) /* written bytes are cut off in steps of at least this */
#define SPARE_MAX (256 * 1024) /* an array that held more is not worth keeping */

void
cbus_outbox_init(CbusOutbox *box, GByteArray **spare)
{
    *box = (CbusOutbox){.spare = spare};
}

GByteArray *
cbus_outbox_bytes(CbusOutbox *box)
{
    if (box->bytes == NULL)
        box->bytes = *box->spare != NULL ? g_steal_pointer(box->spare) : g_byte_array_new();
    return box->bytes;
}

void
cbus_outbox_clear(CbusOutbox *box)
{
    g_clear_pointer(&box->bytes, g_byte_array_unref);
}

gsize
cbus_outbox_pending(const CbusOutbox *box)
{
    return box->bytes != NULL ? box->bytes->len - box->written : 0;
}

static void
give_array(CbusOutbox *box)
{
    if (*box->spare == NULL && box->peak <= SPARE_MAX) {
        g_byte_array_set_size(box->bytes, 0);
        *box->spare = g_steal_pointer(&box->bytes);
    }
    g_clear_pointer(&box->bytes, g_byte_array_unref);
    box->peak = box->written = 0;
}

static void
cut_written(CbusOutbox *box)
{
    gsize rest = cbus_outbox_pending(box);
    GByteArray *fresh;

    if (box->bytes == NULL)
        return;
    box->peak = MAX(box->peak, box->bytes->len);
    if (rest == 0) {
        give_array(box);
    } else if (box->written >= CUT && box->written >= rest) {
        fresh = g_byte_array_sized_new(rest);
        g_byte_array_append(fresh, box->bytes->data + box->written, rest);
        g_byte_array_unref(box->bytes);
        box->bytes = fresh;
        box->peak = rest;
        box->written = 0;
    }
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
    if (box->bytes != NULL)
        g_byte_array_set_size(box->bytes, box->written);
}
