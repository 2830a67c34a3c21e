/* Signals of the bus, published for plain clients. Loop thread only. */
#pragma once
#include "link/nats.h"
#include "wire/message.h"

/* SIGNAL: its body is checked. FALSE: it can not be published, and is lost. */
gboolean cbus_gateway_publish_signal(CbusNats *nats, const CbusKey *agent, const char *nkey,
                                     const CbusMessage *signal) G_GNUC_WARN_UNUSED_RESULT;
