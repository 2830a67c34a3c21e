/* What is subscribed, over all connections. Loop thread only. */
#pragma once
#include "link/nats.h"
#include <nats/nats.h>

typedef struct _CbusNatsSubscriptions CbusNatsSubscriptions;

CbusNatsSubscriptions *cbus_nats_subscriptions_new(GMainContext *context);
/* The connection must be gone. Safe inside a function: the rest goes when that returned. */
void cbus_nats_subscriptions_free(CbusNatsSubscriptions *subscriptions);
/* No function is called afterwards. Safe inside one. */
void cbus_nats_subscriptions_close(CbusNatsSubscriptions *subscriptions);

guint cbus_nats_subscriptions_add(CbusNatsSubscriptions *subscriptions, const char *subject,
                                  gboolean no_responders, CbusNatsFunc func, gpointer user_data);
void cbus_nats_subscriptions_remove(CbusNatsSubscriptions *subscriptions, guint id);

/* Makes on CONNECTION what is not made yet. */
natsStatus cbus_nats_subscriptions_make(CbusNatsSubscriptions *subscriptions, natsConnection *connection);
/* Calls the functions for all messages that have arrived. */
void cbus_nats_subscriptions_drain(CbusNatsSubscriptions *subscriptions);
/* A header of the message that a function is called for, borrowed; NULL: there is none. */
const char *cbus_nats_subscriptions_header(CbusNatsSubscriptions *subscriptions, const char *name);
/* After the connection was closed, before it is destroyed. */
void cbus_nats_subscriptions_unmake(CbusNatsSubscriptions *subscriptions);
