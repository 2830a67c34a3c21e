/* Publishes that wait.
 *
 * nats.c takes every publish into one buffer that has no bound, never shrinks, and is moved by memmove after
 * each partial write. So it is kept low: beyond LIBRARY_MARK bytes publishes wait here, each in an allocation
 * of its own that is gone once it left, and beyond CBUS_NATS_QUEUE_MAX they are refused, which the caller
 * must handle. Order is kept: while anything waits, everything waits.
 *
 * Trust: the caller's lengths. A message larger than the server's max_payload is refused by the library; the
 * caller checks it before it queues, because a refusal after queueing would break the promise of TRUE and so
 * ends the connection. */
#include "link/nats_queue.h"
#include <string.h>

#define LIBRARY_MARK (256 * 1024)

typedef struct {
    natsMsg *message;  /* with headers, and all the rest; else NULL */
    const char *reply; /* inside text, or NULL */
    gsize len, size;   /* of the payload; of what the entry counts for */
    const guint8 *data;
    char text[]; /* subject, NUL, reply, NUL, payload */
} Entry;

static natsStatus
hand_over(natsConnection *connection, const char *subject, const char *reply, const guint8 *data, gsize len)
{
    if (reply != NULL)
        return natsConnection_PublishRequest(connection, subject, reply, data, (int)len);
    return natsConnection_Publish(connection, subject, data, (int)len);
}

static Entry *
entry_new(const char *subject, const char *reply, const guint8 *data, gsize len)
{
    gsize subject_size = strlen(subject) + 1;
    gsize reply_size = reply != NULL ? strlen(reply) + 1 : 0;
    gsize size = sizeof(Entry) + subject_size + reply_size + len;
    Entry *entry = g_malloc(size);
    entry->message = NULL;
    char *end = entry->text + subject_size + reply_size;

    memcpy(entry->text, subject, subject_size);
    entry->reply = reply != NULL ? memcpy(entry->text + subject_size, reply, reply_size) : NULL;
    if (len > 0)
        memcpy(end, data, len);
    entry->data = (const guint8 *)end;
    entry->len = len;
    entry->size = size;
    return entry;
}

static void
entry_free(gpointer data)
{
    Entry *entry = data;

    g_clear_pointer(&entry->message, natsMsg_Destroy);
    g_free(entry);
}

static gboolean
library_is_low(natsConnection *connection, gsize more)
{
    int buffered = natsConnection_Buffered(connection);

    return buffered <= 0 || (gsize)buffered + more <= LIBRARY_MARK;
}

void
cbus_nats_queue_init(CbusNatsQueue *queue)
{
    g_queue_init(&queue->entries);
    queue->bytes = 0;
}

void
cbus_nats_queue_clear(CbusNatsQueue *queue)
{
    g_queue_clear_full(&queue->entries, entry_free);
    queue->bytes = 0;
}

gboolean
cbus_nats_queue_publish(CbusNatsQueue *queue, natsConnection *connection, const char *subject,
                        const char *reply, const guint8 *data, gsize len)
{
    Entry *entry;

    if (queue->entries.length == 0 && library_is_low(connection, len))
        return hand_over(connection, subject, reply, data, len) == NATS_OK;
    if (len > CBUS_NATS_QUEUE_MAX || queue->bytes + len > CBUS_NATS_QUEUE_MAX)
        return FALSE;
    entry = entry_new(subject, reply, data, len);
    queue->bytes += entry->size;
    g_queue_push_tail(&queue->entries, entry);
    return TRUE;
}

static natsMsg *
message_new(const char *subject, const char *reply, const CbusNatsHeader *headers, const guint8 *data,
            gsize len)
{
    natsMsg *message = NULL;
    natsStatus s = natsMsg_Create(&message, subject, reply, (const char *)data, (int)len);

    for (; s == NATS_OK && headers->name != NULL; headers++)
        s = natsMsgHeader_Set(message, headers->name, headers->value);
    if (s != NATS_OK)
        g_clear_pointer(&message, natsMsg_Destroy);
    return message;
}

gboolean
cbus_nats_queue_publish_headers(CbusNatsQueue *queue, natsConnection *connection, const char *subject,
                                const char *reply, const CbusNatsHeader *headers, const guint8 *data,
                                gsize len)
{
    natsMsg *message;
    Entry *entry;

    if (len > CBUS_NATS_QUEUE_MAX || queue->bytes + len > CBUS_NATS_QUEUE_MAX ||
        (message = message_new(subject, reply, headers, data, len)) == NULL)
        return FALSE;
    if (queue->entries.length == 0 && library_is_low(connection, len)) {
        natsStatus s = natsConnection_PublishMsg(connection, message);
        natsMsg_Destroy(message);
        return s == NATS_OK;
    }
    entry = entry_new("", NULL, NULL, 0);
    entry->message = message;
    entry->len = len;
    entry->size += len + strlen(subject);
    queue->bytes += entry->size;
    g_queue_push_tail(&queue->entries, entry);
    return TRUE;
}

gboolean
cbus_nats_queue_move(CbusNatsQueue *queue, natsConnection *connection)
{
    Entry *first;

    while ((first = g_queue_peek_head(&queue->entries)) != NULL && library_is_low(connection, first->len)) {
        natsStatus s = first->message != NULL
                           ? natsConnection_PublishMsg(connection, first->message)
                           : hand_over(connection, first->text, first->reply, first->data, first->len);

        queue->bytes -= first->size;
        entry_free(g_queue_pop_head(&queue->entries));
        if (s != NATS_OK)
            return FALSE;
    }
    return TRUE;
}
