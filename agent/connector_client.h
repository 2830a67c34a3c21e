/* The network process's side of the connector: asks for bus connections and signatures, knows who is
 * authorized. Loop thread only, but for the signer's sign_nonce. */
#pragma once
#include "agent/connector.h"
#include "agent/gateway_config.h"
#include "link/loop.h"
#include "link/signer.h"

typedef struct _CbusConnectorClient CbusConnectorClient;

typedef struct {
    /* A whole table of authorized keys arrived, and maybe other policies; links whose line is gone or differs
     * must end. */
    void (*authorized_changed)(gpointer user_data);
    /* The connector is gone: the process must end. Once. */
    void (*lost)(const GError *reason, gpointer user_data);
} CbusConnectorHandler;

/* FD: (transfer full) a non-blocking-able bus socket connected as UID, or −1 with ERROR. USER: its name,
 * borrowed; NULL when it has none. */
typedef void (*CbusConnectFunc)(int fd, guint32 uid, const char *user, const GError *error,
                                gpointer user_data);

/* ENDS: its sockets are taken. */
CbusConnectorClient *cbus_connector_client_new(CbusLoop *loop, const CbusConnectorEnds *ends,
                                               const CbusConnectorHandler *handler, gpointer user_data,
                                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_connector_client_free(CbusConnectorClient *client); /* no function is called any more */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusConnectorClient, cbus_connector_client_free)

/* The line that authorizes KEY: borrowed until the next authorized_changed, or NULL. */
const CbusTableEntry *cbus_connector_client_lookup(const CbusConnectorClient *client, const CbusKey *key);
/* How many keys are authorized. */
guint cbus_connector_client_count(const CbusConnectorClient *client);
/* The policy of that name: borrowed likewise, or NULL. */
const CbusPolicy *cbus_connector_client_policy(const CbusConnectorClient *client, const char *name);
/* Asks for a bus connection under KEY's line as it was when its DIGEST was looked up. FUNC is called once,
 * from the loop. Returns an id for cbus_connector_client_cancel(), or 0 when too much waits already: then
 * FUNC is not called. */
guint32 cbus_connector_client_connect(CbusConnectorClient *client, const CbusKey *key,
                                      const guint8 digest[32], CbusConnectFunc func, gpointer user_data);
/* [gateway] of the configuration: borrowed until the next authorized_changed, or NULL: there is none. */
const CbusGatewayConfig *cbus_connector_client_gateway(const CbusConnectorClient *client);
/* As cbus_connector_client_connect(), for the gateway. */
guint32 cbus_connector_client_connect_gateway(CbusConnectorClient *client, CbusConnectFunc func,
                                              gpointer user_data);
/* FUNC will not be called; a connection that still comes is closed. */
void cbus_connector_client_cancel(CbusConnectorClient *client, guint32 id);
/* Has the connector read authorized-keys again. */
void cbus_connector_client_reload(CbusConnectorClient *client);
/* The agent's identity, signing in the connector. Borrowed; valid as long as CLIENT. */
CbusSigner *cbus_connector_client_signer(CbusConnectorClient *client);
