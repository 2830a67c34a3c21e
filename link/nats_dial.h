/* Making one NATS connection on a worker thread. */
#pragma once
#include "link/nats_login.h"
#include "link/nats_source.h"

typedef struct _CbusNatsDial CbusNatsDial;
/* On the loop, once: CONNECTION and SOURCE (transfer full), or both NULL and ERROR. DIAL may be freed here.
 */
typedef void (*CbusNatsDialed)(natsConnection *connection, CbusNatsSource *source, const GError *error,
                               gpointer user_data);

CbusNatsDial *cbus_nats_dial_new(GMainContext *context, CbusNatsLogin *login, CbusNatsDialed func,
                                 gpointer user_data);
/* Also gives up an attempt under way: FUNC is not called, and what the worker still makes, it destroys. */
void cbus_nats_dial_free(CbusNatsDial *dial);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNatsDial, cbus_nats_dial_free)
/* The process is about to end with STATUS, which comes back to be returned from main(). While a worker is in
 * the middle of an attempt it ends here, without the exit handlers: OpenSSL's frees what the worker uses. */
int cbus_nats_dial_leave(int status);
