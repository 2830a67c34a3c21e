/* Whose programs call us on a bus that several users share. Loop thread only. */
#pragma once
#include "wire/message.h"

typedef struct _CbusFrontCallers CbusFrontCallers;

typedef struct {
    /* Asks the bus driver for the user of NAME; returns the question's serial. */
    guint32 (*ask)(const char *name, gpointer user_data);
    /* A call that waited may be handled. */
    void (*deliver)(const CbusMessage *call, const guint8 *bytes, gpointer user_data);
    /* A call that can not wait: too much does already. */
    void (*refuse)(const CbusMessage *call, gpointer user_data);
} CbusFrontCallersHandler;

CbusFrontCallers *cbus_front_callers_new(const CbusFrontCallersHandler *handler, gpointer user_data);
void cbus_front_callers_free(CbusFrontCallers *callers); /* what waits is dropped */

/* FALSE: the sender of CALL is known, it may be handled. TRUE: it was taken; `deliver` or `refuse` follow,
 * possibly before return. */
gboolean cbus_front_callers_take(CbusFrontCallers *callers, const CbusMessage *call, const guint8 *bytes);
/* An answer of the bus driver. FALSE: to no question of ours. */
gboolean cbus_front_callers_reply(CbusFrontCallers *callers, const CbusMessage *reply);
/* NAME left the bus. Returns how many of its calls waited and are dropped: the driver can no longer say whose
 * they are. */
guint cbus_front_callers_gone(CbusFrontCallers *callers, const char *name);
/* The user of NAME, or G_MAXUINT32 when the bus did not say. */
guint32 cbus_front_callers_uid(const CbusFrontCallers *callers, CbusSpan name);
