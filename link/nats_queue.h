/* Publishes that wait until nats.c's own buffer has room. Bounded; loop thread only. */
#pragma once
#include "link/nats.h"
#include <nats/nats.h>

typedef struct {
    GQueue entries;
    gsize bytes; /* payloads and subjects */
} CbusNatsQueue;

#define CBUS_NATS_QUEUE_MAX (16u * 1024 * 1024)

void cbus_nats_queue_init(CbusNatsQueue *queue);
void cbus_nats_queue_clear(CbusNatsQueue *queue);
/* Publishes at once while nothing waits and the library's buffer is low, else queues a copy. FALSE: the queue
 * is full or the library refuses; nothing was taken. */
gboolean cbus_nats_queue_publish(CbusNatsQueue *queue, natsConnection *connection, const char *subject,
                                 const char *reply, const guint8 *data, gsize len) G_GNUC_WARN_UNUSED_RESULT;
/* The same with headers; HEADERS ends with a NULL name. */
gboolean cbus_nats_queue_publish_headers(CbusNatsQueue *queue, natsConnection *connection,
                                         const char *subject, const char *reply,
                                         const CbusNatsHeader *headers, const guint8 *data,
                                         gsize len) G_GNUC_WARN_UNUSED_RESULT;
/* Moves into the library's buffer what fits. FALSE: the library refused something that was queued. */
gboolean cbus_nats_queue_move(CbusNatsQueue *queue, natsConnection *connection) G_GNUC_WARN_UNUSED_RESULT;
