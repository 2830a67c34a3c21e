/* Many descriptors behind one: an epoll set that a GMainContext polls as a single descriptor (design,
 * "Forward bytes": a context polls every descriptor each turn). Loop thread only. Level-triggered. */
#pragma once
#include "link/turn.h"
#include <glib.h>

/* Of the buffer that a watch's callback may use until it returns. */
#define CBUS_POLLER_BUFFER (64u * 1024)

typedef struct _CbusPoller CbusPoller;
typedef struct _CbusWatch CbusWatch;
typedef void (*CbusWatchFunc)(guint32 epoll_events, gpointer user_data);

/* CONTEXT waits by the poller from then on, and by poll() again when it is freed. TURN: of the same context,
 * ended inside the wait; it must live longer. NULL: there is none. */
CbusPoller *cbus_poller_new(GMainContext *context, CbusTurn *turn, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_poller_free(CbusPoller *poller); /* all watches must be gone */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusPoller, cbus_poller_free)
/* EVENTS: EPOLLIN, EPOLLOUT; with 0 nothing is reported, not even a hang-up. The descriptor stays the
 * caller's. NULL with ERROR if the kernel refuses. */
CbusWatch *cbus_poller_add(CbusPoller *poller, int fd, guint32 events, CbusWatchFunc func, gpointer user_data,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_watch_modify(CbusWatch *watch, guint32 events);
/* Safe inside any watch's callback; the callback is not called afterwards. Call before closing the
 * descriptor. */
void cbus_watch_remove(CbusWatch *watch);
/* CBUS_POLLER_BUFFER bytes, the same for all: what is in them is gone when the callback returns. */
guint8 *cbus_poller_buffer(CbusPoller *poller);
/* Where the connections of the loop leave a buffer for one another (outbox.h). */
GByteArray **cbus_poller_spare(CbusPoller *poller);
