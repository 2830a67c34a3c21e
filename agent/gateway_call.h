/* One request of a plain client, from its subject to its answer. Loop thread only. */
#pragma once
#include "agent/gateway_answer.h"
#include "agent/gateway_bus.h"
#include "wire/plain_subject.h"

#define CBUS_GATEWAY_REQUEST_MAX (256 * 1024) /* bytes of JSON */

typedef struct _CbusGatewayCall CbusGatewayCall;

/* What all requests share; outlives them. */
typedef struct {
    CbusLoop *loop;
    CbusNats *nats;
    CbusGatewayBus *bus;
    const char *nkey; /* of this machine */
    guint timeout_ms;
    /* The call was answered; WHY: NULL, or the error. Free it. */
    void (*done)(CbusGatewayCall *call, const char *why, gpointer user_data);
    gpointer user_data;
} CbusGatewayCalls;

/* What a client sent. */
typedef struct {
    const CbusPlainRequest *subject;
    const char *reply;                 /* NULL: no answer is wanted */
    const char *interface, *signature; /* headers; NULL: not given */
    const guint8 *data;
    gsize len;
} CbusGatewayRequest;

/* Copies REQUEST. Nothing happens before cbus_gateway_call_start(). */
CbusGatewayCall *cbus_gateway_call_new(const CbusGatewayCalls *shared, const CbusGatewayRequest *request);
/* May be done before return. */
void cbus_gateway_call_start(CbusGatewayCall *call);
/* Silent: nothing is answered, done() is not called. */
void cbus_gateway_call_free(CbusGatewayCall *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusGatewayCall, cbus_gateway_call_free)
/* Answers with an error; done() is called. */
void cbus_gateway_call_cancel(CbusGatewayCall *call, const char *message);
gint64 cbus_gateway_call_began(const CbusGatewayCall *call); /* monotonic µs */
