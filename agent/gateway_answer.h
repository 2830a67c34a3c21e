/* Answers to plain requests: JSON with headers, or an error (docs/gateway.md). Loop thread only. */
#pragma once
#include "link/nats.h"
#include "wire/bytes.h"

/* As HTTP has them: Nats-Service-Error-Code. */
typedef enum {
    CBUS_GATEWAY_OK = 200,
    CBUS_GATEWAY_BAD_REQUEST = 400,
    CBUS_GATEWAY_DENIED = 403,
    CBUS_GATEWAY_UNKNOWN = 404,
    CBUS_GATEWAY_AMBIGUOUS = 409,
    CBUS_GATEWAY_TOO_LARGE = 413,
    CBUS_GATEWAY_TOO_MANY = 429,
    CBUS_GATEWAY_FAILED = 500, /* an error of the service's own */
    CBUS_GATEWAY_NOT_SUPPORTED = 501,
    CBUS_GATEWAY_OFFLINE = 503,
    CBUS_GATEWAY_TIMEOUT = 504,
} CbusGatewayCode;

/* Bytes of payload that an answer's headers may take. */
#define CBUS_GATEWAY_HEADERS_MAX 2048

/* The code for a D-Bus error. */
CbusGatewayCode cbus_gateway_code_of(CbusSpan error_name);
/* REPLY NULL: nobody wants to know. FALSE: it could not be sent, or too much waits to be. */
gboolean cbus_gateway_answer(CbusNats *nats, const char *nkey, const char *reply, const char *signature,
                             const GString *json);
void cbus_gateway_refuse(CbusNats *nats, const char *nkey, const char *reply, CbusGatewayCode code,
                         const char *error_name, const char *message);
/* TEXT as a header holds it: one line of printable ASCII, not too long. (transfer full) */
char *cbus_gateway_header_text(const char *text);
