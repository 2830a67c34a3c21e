/* The gateway's own connection to the bus, judged by its policy and recorded as caller "gateway". Loop thread
 * only. */
#pragma once
#include "agent/host.h"
#include "wire/policy.h"

typedef struct _CbusGatewayBus CbusGatewayBus;

typedef struct {
    /* Calls may be made. Again after each loss. */
    void (*ready)(gpointer user_data);
    /* A signal that the policy lets through; its body is checked. */
    void (*signal)(const CbusMessage *signal, gpointer user_data);
    /* The connection could not be made, or is gone; it is made anew by itself. */
    void (*lost)(const char *reason, gpointer user_data);
} CbusGatewayBusHandler;

/* REPLY: a return or an error, its body checked; NULL when the connection was lost. May be called before
 * cbus_gateway_bus_call() returns. */
typedef void (*CbusGatewayReplyFunc)(const CbusMessage *reply, gpointer user_data);

/* Begins to connect. HOST outlives it; no function is called before return. */
CbusGatewayBus *cbus_gateway_bus_new(const CbusHost *host, const CbusPolicy *policy,
                                     const CbusGatewayBusHandler *handler, gpointer user_data);
/* Not inside any of its functions. None is called any more. */
void cbus_gateway_bus_free(CbusGatewayBus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusGatewayBus, cbus_gateway_bus_free)

void cbus_gateway_bus_set_policy(CbusGatewayBus *bus, const CbusPolicy *policy);
gboolean cbus_gateway_bus_is_ready(const CbusGatewayBus *bus);
/* Makes a call: HEADER without type, byte order and serial; BODY native and valid. QUIET: the gateway's own
 * question, which is nobody's act and not recorded, allowed or not. SERIAL: set first of all, for
 * cbus_gateway_bus_forget(). FUNC NULL: no reply is wanted. */
void cbus_gateway_bus_call(CbusGatewayBus *bus, const CbusHeader *header, const GByteArray *body,
                           gboolean quiet, guint32 *serial, CbusGatewayReplyFunc func, gpointer user_data);
/* FUNC will not be called; the bus still counts the call until it is answered. */
void cbus_gateway_bus_forget(CbusGatewayBus *bus, guint32 serial);
/* Forgotten calls without answer. */
guint cbus_gateway_bus_hung(const CbusGatewayBus *bus);
/* Makes the connection anew, soon. */
void cbus_gateway_bus_renew(CbusGatewayBus *bus, const char *reason);
