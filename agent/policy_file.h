/* The policies of the configuration file: read when it is safe to, watched, pushed to the network process. */
#pragma once
#include "agent/connector_wire.h"
#include "agent/gateway_config.h"
#include "wire/policy.h"

typedef struct _CbusPolicyFile CbusPolicyFile;

/* FILE NULL: there is no configuration, and the ready-made policies are all there is. OWNER: whose it may be,
 * beside root's. Outlived by FILE. */
CbusPolicyFile *cbus_policy_file_new(const char *file, uid_t owner);
void cbus_policy_file_free(CbusPolicyFile *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusPolicyFile, cbus_policy_file_free)

int cbus_policy_file_fd(const CbusPolicyFile *self); /* to poll for input; −1: none */
/* Takes what is pending off the descriptor. TRUE when the file may have changed. */
gboolean cbus_policy_file_drain(CbusPolicyFile *self);
/* FALSE: the file has to be looked at by the clock. */
gboolean cbus_policy_file_is_watched(const CbusPolicyFile *self);
/* Reads the file. TRUE when it says something else than before, and at the first time; FAULT is then called
 * for each fault, with line 0 for the whole file. A file that can not be read, or that others may write, is a
 * fault and has no policies. */
gboolean cbus_policy_file_read(CbusPolicyFile *self, CbusPolicyFault fault, gpointer user_data);
/* The next reading counts as another, whatever the file says: a user of [gateway] may be there now that was
 * not. */
void cbus_policy_file_forget(CbusPolicyFile *self);
/* Those of the last reading; borrowed. */
const CbusPolicies *cbus_policy_file_policies(const CbusPolicyFile *self);
/* [gateway] of the last reading; borrowed. NULL: there is none, or it is faulty, which was told. */
const CbusGatewayConfig *cbus_policy_file_gateway(const CbusPolicyFile *self);
/* Sends the text to who can not read it, before the table that goes by it. */
gboolean cbus_policy_file_push(const CbusPolicyFile *self, int fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;
