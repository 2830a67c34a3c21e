/* The proxy as a whole: its parts, in the order in which they start and stop. Loop thread only. */
#pragma once
#include "link/loop.h"
#include "link/nats.h"
#include "link/signer.h"

typedef struct _CbusProxy CbusProxy;

typedef struct {
    CbusNatsOptions nats; /* without signer: the identity's is set here when identity is */
    const char *bus;      /* address, "session" or "system" */
    const char *known_machines;
    const char *runtime_dir; /* absolute, ours, private and locked */
    gboolean known_only;
    const char *const *signals; /* match rules; outlive the proxy */
} CbusProxyOptions;

/* The proxy ended: REASON is NULL after cbus_proxy_stop(), else it says what can not be had. Once, from the
 * loop.
 */
typedef void (*CbusProxyEnded)(const GError *reason, gpointer user_data);

/* Connects to the bus; everything else follows on the loop. SIGNER must outlive it. */
CbusProxy *cbus_proxy_new(CbusLoop *loop, const CbusProxyOptions *options, CbusSigner *signer,
                          CbusProxyEnded ended, gpointer user_data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Links closed in order, pending calls answered, the name released; `ended` follows within a second. */
void cbus_proxy_stop(CbusProxy *proxy);
void cbus_proxy_free(CbusProxy *proxy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusProxy, cbus_proxy_free)
