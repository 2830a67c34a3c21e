/* What a plain client gets back.
 *
 * An error is told thrice, for the three kinds of clients: in the two headers that NATS's services use, for
 * programs that look at these; by its D-Bus name and text in the payload, for those that do not; and with the
 * machine's NKey in a header, for who asked many. Headers are one line of ASCII whatever a service says,
 * since a line break would begin a header of its own.
 *
 * Answers wait for the server in the queue that links use: beyond ANSWERS_MAX there they are refused.
 *
 * Trust: names and texts come from the bus. Loop thread only. */
#include "agent/gateway_answer.h"
#include "link/log.h"
#include "wire/json.h"

#define ERROR_TEXT_MAX 1024
#define ANSWERS_MAX    (4u * 1024 * 1024) /* bytes that wait for the server */
#define ERROR_PREFIX   "org.freedesktop.DBus.Error."

CbusGatewayCode
cbus_gateway_code_of(CbusSpan error_name)
{
    static const struct {
        const char *name;
        CbusGatewayCode code;
    } codes[] = {
        {"AccessDenied", CBUS_GATEWAY_DENIED},
        {"AuthFailed", CBUS_GATEWAY_DENIED},
        {"InteractiveAuthorizationRequired", CBUS_GATEWAY_DENIED},
        {"ServiceUnknown", CBUS_GATEWAY_UNKNOWN},
        {"NameHasNoOwner", CBUS_GATEWAY_UNKNOWN},
        {"UnknownObject", CBUS_GATEWAY_UNKNOWN},
        {"UnknownInterface", CBUS_GATEWAY_UNKNOWN},
        {"UnknownMethod", CBUS_GATEWAY_UNKNOWN},
        {"UnknownProperty", CBUS_GATEWAY_UNKNOWN},
        {"InvalidArgs", CBUS_GATEWAY_BAD_REQUEST},
        {"InvalidSignature", CBUS_GATEWAY_BAD_REQUEST},
        {"LimitsExceeded", CBUS_GATEWAY_TOO_MANY},
        {"NotSupported", CBUS_GATEWAY_NOT_SUPPORTED},
        {"NoReply", CBUS_GATEWAY_TIMEOUT},
        {"Timeout", CBUS_GATEWAY_TIMEOUT},
        {"TimedOut", CBUS_GATEWAY_TIMEOUT},
        {"Disconnected", CBUS_GATEWAY_OFFLINE},
    };
    gsize prefix = strlen(ERROR_PREFIX);

    if (error_name.len <= prefix || memcmp(error_name.text, ERROR_PREFIX, prefix) != 0)
        return CBUS_GATEWAY_FAILED;
    for (guint i = 0; i < G_N_ELEMENTS(codes); i++)
        if (cbus_span_is((CbusSpan){error_name.text + prefix, error_name.len - prefix}, codes[i].name))
            return codes[i].code;
    return CBUS_GATEWAY_FAILED;
}

char *
cbus_gateway_header_text(const char *text)
{
    char *copy = g_strndup(text, ERROR_TEXT_MAX);

    for (char *c = copy; *c != '\0'; c++)
        if (!g_ascii_isprint(*c))
            *c = '?';
    return copy;
}

gboolean
cbus_gateway_answer(CbusNats *nats, const char *nkey, const char *reply, const char *signature,
                    const GString *json)
{
    const CbusNatsHeader headers[] = {{"NKey", nkey}, {"Signature", signature}, {NULL}};

    return reply == NULL ||
           (cbus_nats_buffered(nats) + json->len <= ANSWERS_MAX &&
            cbus_nats_publish_headers(nats, reply, NULL, headers, (const guint8 *)json->str, json->len));
}

void
cbus_gateway_refuse(CbusNats *nats, const char *nkey, const char *reply, CbusGatewayCode code,
                    const char *error_name, const char *message)
{
    g_autofree char *line = g_strdup_printf("%s: %s", error_name, message);
    g_autofree char *text = cbus_gateway_header_text(line);
    g_autofree char *number = g_strdup_printf("%d", code);
    g_autoptr(GString) json = g_string_new("{\"error\":");
    const CbusNatsHeader headers[] = {
        {"NKey", nkey}, {"Nats-Service-Error", text}, {"Nats-Service-Error-Code", number}, {NULL}};

    if (reply == NULL)
        return;
    cbus_json_append_span(json, cbus_span(error_name));
    gsize without = json->len;
    g_string_append(json, ",\"message\":");
    cbus_json_append_span(json, cbus_span(message));
    /* A text that is too long for the server: its beginning is in the header. */
    if (json->len + CBUS_GATEWAY_HEADERS_MAX > cbus_nats_max_payload(nats))
        g_string_truncate(json, without);
    g_string_append_c(json, '}');
    gboolean sent =
        cbus_nats_publish_headers(nats, reply, NULL, headers, (const guint8 *)json->str, json->len);
    cbus_log(G_LOG_LEVEL_DEBUG, sent ? "the gateway refused" : "the gateway refused, and could not say so",
             CBUS_LOG_REASON, text, NULL);
}
