/* What users say and read on a connection that nats.c keeps.
 *
 * A publish goes into the library's buffer or waits in the queue (nats_queue.c), and leaves at the end of the
 * turn. What the library would refuse is refused here, where the caller learns it: over the server's
 * max_payload, in which headers count.
 *
 * Headers are the gateway's: links use none (1.5 to 4 µs each). Trust: header values are to be one line; what
 * a peer put into a header is any bytes, and its reader's to judge. Loop thread only. */
#include "link/log.h"
#include "link/nats_private.h"

#define HEADERS_BEGIN_AND_END 16 /* "NATS/1.0\r\n", "\r\n", and a little more */
#define HEADER_MARKS          4  /* ": ", "\r\n" */

static gsize
headers_size(const CbusNatsHeader *headers)
{
    gsize size = HEADERS_BEGIN_AND_END;

    for (; headers->name != NULL; headers++)
        size += strlen(headers->name) + strlen(headers->value) + HEADER_MARKS;
    return size;
}

/* Says so once a connection. */
static gboolean
may_have_headers(CbusNats *nats)
{
    if (natsConnection_HasHeaderSupport(nats->connection) == NATS_OK)
        return TRUE;
    if (!nats->headers_missed)
        cbus_log(G_LOG_LEVEL_WARNING,
                 "the NATS server takes no headers, without which a gateway can neither answer nor publish "
                 "signals: take no_header_support out of its configuration",
                 NULL);
    nats->headers_missed = TRUE;
    return FALSE;
}

const char *
cbus_nats_header(CbusNats *nats, const char *name)
{
    return cbus_nats_subscriptions_header(nats->subscriptions, name);
}

gboolean
cbus_nats_publish_headers(CbusNats *nats, const char *subject, const char *reply,
                          const CbusNatsHeader *headers, const guint8 *data, gsize len)
{
    if (!nats->up || len + headers_size(headers) > nats->max_payload || !may_have_headers(nats) ||
        !cbus_nats_queue_publish_headers(&nats->queue, nats->connection, subject, reply, headers, data, len))
        return FALSE;
    cbus_nats_want_write(nats);
    return TRUE;
}

gboolean
cbus_nats_publish(CbusNats *nats, const char *subject, const char *reply, const guint8 *data, gsize len)
{
    if (!nats->up || len > nats->max_payload ||
        !cbus_nats_queue_publish(&nats->queue, nats->connection, subject, reply, data, len))
        return FALSE;
    cbus_nats_want_write(nats);
    return TRUE;
}

gsize
cbus_nats_max_payload(const CbusNats *nats)
{
    return nats->max_payload;
}

gsize
cbus_nats_buffered(const CbusNats *nats)
{
    int buffered = nats->up ? natsConnection_Buffered(nats->connection) : 0;

    return nats->queue.bytes + (gsize)MAX(buffered, 0);
}
