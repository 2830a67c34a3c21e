/* One question to a running ssh-agent and its answer, on a connection of its own; blocking or not. */
#pragma once
#include "wire/ssh_agent.h"

typedef struct _CbusSshAgentExchange CbusSshAgentExchange;

/* Connects to the Unix SOCKET. REQUEST: (transfer full), from wire/ssh_agent.h. Never blocks. */
CbusSshAgentExchange *cbus_ssh_agent_exchange_new(const char *socket, GByteArray *request,
                                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_ssh_agent_exchange_free(CbusSshAgentExchange *exchange);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusSshAgentExchange, cbus_ssh_agent_exchange_free)

int cbus_ssh_agent_exchange_fd(const CbusSshAgentExchange *exchange); /* non-blocking; stays its own */
/* Goes as far as it can. Returns EPOLLOUT or EPOLLIN to wait for, 0 when the answer is whole, −1 with a
 * CBUS_SSH_AGENT_ERROR. */
int cbus_ssh_agent_exchange_step(CbusSshAgentExchange *exchange, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* All of it, blocking for at most TIMEOUT_MS, and no longer than the program is to run (link/stop.h). */
gboolean cbus_ssh_agent_exchange_run(CbusSshAgentExchange *exchange, guint timeout_ms,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The whole answer, without its length; borrowed. */
const guint8 *cbus_ssh_agent_exchange_answer(const CbusSshAgentExchange *exchange, gsize *len);
