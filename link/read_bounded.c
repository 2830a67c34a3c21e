/* Reading a small file: keys and contexts, which hold secrets. Straight into the caller's memory, which may
 * be protected and is wiped by the caller; GLib's own functions would leave copies behind, and know no bound.
 *
 * Promise: no more than ROOM bytes are read, and a read that a signal interrupts is made again. Whose file it
 * is and whether it may be read is the caller's to check, on the descriptor. */
#include "link/read_bounded.h"
#include <errno.h>
#include <unistd.h>

gssize
cbus_read_bounded(int fd, void *out, gsize room)
{
    gsize have = 0;

    while (have < room) {
        gssize n = read(fd, (guint8 *)out + have, room - have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (gsize)n;
    }
    return (gssize)have;
}
