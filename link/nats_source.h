/* One nats.c connection's socket in the loop: the library's event-loop adapter. */
#pragma once
#include "link/poller.h"
#include <nats/nats.h>

typedef struct _CbusNatsSource CbusNatsSource;

typedef struct {
    void (*readable)(gpointer user_data);   /* a read event may be processed: it will not wait */
    void (*writable)(gpointer user_data);   /* only after cbus_nats_source_await_write() */
    void (*want_write)(gpointer user_data); /* the library has bytes to write; its lock is held */
} CbusNatsSourceHandler;

/* Made on the worker thread, before the connection. It must outlive the connection that OPTIONS make. */
CbusNatsSource *cbus_nats_source_new(void);
natsStatus cbus_nats_source_install(CbusNatsSource *source, natsOptions *options);
void cbus_nats_source_free(CbusNatsSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNatsSource, cbus_nats_source_free)

/* From here on the loop thread's. HANDLER is borrowed until stop. FALSE with ERROR if the kernel refuses. */
gboolean cbus_nats_source_start(CbusNatsSource *source, CbusPoller *poller,
                                const CbusNatsSourceHandler *handler, gpointer user_data,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_nats_source_stop(CbusNatsSource *source);
void cbus_nats_source_await_write(CbusNatsSource *source, gboolean await);
/* TLS: whether another whole record has come, so that a read event would find it and not wait. Without TLS
 * one read takes all that is there, or as much as one turn should. */
gboolean cbus_nats_source_has_record(CbusNatsSource *source);
/* Makes the kernel end the connection: the next read event finds it closed. */
void cbus_nats_source_shutdown(CbusNatsSource *source);
/* Lets close() deliver what the kernel holds; the library asks for a reset. */
void cbus_nats_source_linger(CbusNatsSource *source);
/* Waits until the socket takes bytes. FALSE at the deadline. For cbus_nats_flush() alone: it blocks. */
gboolean cbus_nats_source_wait_write(CbusNatsSource *source, gint64 deadline_us);
