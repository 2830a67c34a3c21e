/* A signal as a plain message: subject by its sender and path, headers for what it is, its body as JSON.
 *
 * Signals come at the pace of the machine's services and nobody waits for one, so that they are what is
 * dropped: while more than WAITING_MAX bytes wait for the NATS server, when the body is larger than a message
 * may be, when sender and path make a subject that is too long (a server closes the connection over one, and
 * with it all links). The owner counts them.
 *
 * Trust: the body was checked; header fields of a message are valid names. Loop thread only. */
#include "agent/gateway_signals.h"
#include "agent/gateway_answer.h"
#include "wire/json.h"
#include "wire/plain_subject.h"

#define WAITING_MAX (1024 * 1024)

/* A signal without arguments has no signature. */
static char *
copy(CbusSpan span)
{
    return g_strndup(span.text != NULL ? span.text : "", span.len);
}

gboolean
cbus_gateway_publish_signal(CbusNats *nats, const CbusKey *agent, const char *nkey, const CbusMessage *signal)
{
    gsize limit = cbus_nats_max_payload(nats) - CBUS_GATEWAY_HEADERS_MAX;
    g_autoptr(GString) json = NULL;
    g_autofree char *subject = NULL;

    /* JSON is never less than a fourth of the bytes. */
    if (!cbus_nats_is_up(nats) || cbus_nats_buffered(nats) > WAITING_MAX || signal->body_len / 4 > limit)
        return FALSE;
    subject = cbus_plain_signal(agent, signal->sender, signal->path);
    json = g_string_new(NULL);
    if (subject == NULL || !cbus_json_append_body(json, signal->body, signal->body_len, signal->endian,
                                                  signal->signature, limit))
        return FALSE;
    g_autofree char *sender = copy(signal->sender);
    g_autofree char *interface = copy(signal->interface);
    g_autofree char *member = copy(signal->member);
    g_autofree char *path = copy(signal->path);
    g_autofree char *signature = copy(signal->signature);
    const CbusNatsHeader headers[] = {{"NKey", nkey},
                                      {"Sender", sender},
                                      {"Interface", interface},
                                      {"Member", member},
                                      {"Path", path},
                                      {"Signature", signature},
                                      {NULL}};
    return cbus_nats_publish_headers(nats, subject, NULL, headers, (const guint8 *)json->str, json->len);
}
