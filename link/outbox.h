/* Bytes that wait to be written to a socket. Embedded in whatever writes. Loop thread only. */
#pragma once
#include <glib.h>

typedef struct {
    GByteArray *bytes;  /* what was written may still be at its beginning; NULL: empty */
    GByteArray **spare; /* the loop's; NULL in it: none */
    gsize written, peak;
} CbusOutbox;

/* SPARE is shared by the boxes of one loop, and outlives them. */
void cbus_outbox_init(CbusOutbox *box, GByteArray **spare);
void cbus_outbox_clear(CbusOutbox *box);
/* (transfer none): to append to, until the box is written or dropped. */
GByteArray *cbus_outbox_bytes(CbusOutbox *box);
gsize cbus_outbox_pending(const CbusOutbox *box);
/* Writes what the kernel takes, at most BUDGET bytes. FALSE with errno: the socket failed. */
gboolean cbus_outbox_write(CbusOutbox *box, int fd, gsize budget) G_GNUC_WARN_UNUSED_RESULT;
/* Drops what waits. */
void cbus_outbox_drop(CbusOutbox *box);
