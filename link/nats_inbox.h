/* "No responders" answers, from nats.c's delivery threads to the loop. */
#pragma once
#include <glib.h>
#include <nats/nats.h>

typedef struct _CbusNatsInbox CbusNatsInbox;
/* On the loop. ID: as given to subscribe. SUBJECT: where the 503 arrived; borrowed. */
typedef void (*CbusNatsInboxFunc)(guint id, const char *subject, gpointer user_data);

CbusNatsInbox *cbus_nats_inbox_new(GMainContext *context, CbusNatsInboxFunc func, gpointer user_data);
/* FUNC is not called afterwards. Delivery threads may still run; they find it closed. */
void cbus_nats_inbox_close(CbusNatsInbox *inbox);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNatsInbox, cbus_nats_inbox_close)
natsStatus cbus_nats_inbox_subscribe(CbusNatsInbox *inbox, natsConnection *connection, const char *subject,
                                     guint id, natsSubscription **out);
