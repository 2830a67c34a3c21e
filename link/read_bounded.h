/* Reading a small file from an opened descriptor. Any thread; blocks on the file. */
#pragma once
#include <glib.h>

/* Up to ROOM bytes, or to the end of the file; their number, −1 with errno. Make room for one byte more than
 * there may be to find out that there are too many. */
gssize cbus_read_bounded(int fd, void *out, gsize room) G_GNUC_WARN_UNUSED_RESULT;
