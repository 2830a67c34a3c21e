/* [gateway] of the configuration: whether there is a gateway, as whom it connects to the bus, and by which
 * policy it is judged (docs/gateway.md). Pure. */
#pragma once
#include "wire/policy.h"

typedef struct {
    char *user, *policy; /* both always there */
    gboolean broadcast;
    guint timeout_ms; /* of a call, all in all */
} CbusGatewayConfig;

typedef enum {
    CBUS_GATEWAY_CONFIG_ERROR_INVALID,
} CbusGatewayConfigError;
#define CBUS_GATEWAY_CONFIG_ERROR (cbus_gateway_config_error_quark())
GQuark cbus_gateway_config_error_quark(void);

/* Reads TEXT, a whole configuration. NULL without ERROR: there is no [gateway]; with ERROR: there is one, and
 * it is faulty. LINE (may be NULL): where the group begins. (transfer full) */
CbusGatewayConfig *cbus_gateway_config_parse(const char *text, gsize len, const CbusPolicies *policies,
                                             guint *line, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_gateway_config_free(CbusGatewayConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusGatewayConfig, cbus_gateway_config_free)
/* NULL: none. */
gboolean cbus_gateway_config_equal(const CbusGatewayConfig *a, const CbusGatewayConfig *b);
