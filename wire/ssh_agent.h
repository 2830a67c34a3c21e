/* What is said to a running ssh-agent, and how its answers are read (draft-miller-ssh-agent). Pure. */
#pragma once
#include "wire/key.h"

#define CBUS_SSH_AGENT_ANSWER_MAX (256 * 1024) /* bytes of an answer: OpenSSH's own limit */

typedef enum {
    CBUS_SSH_AGENT_ERROR_AWAY,     /* no ssh-agent, or it can not be spoken with */
    CBUS_SSH_AGENT_ERROR_NO_KEY,   /* it does not hold the key */
    CBUS_SSH_AGENT_ERROR_REFUSED,  /* it holds the key, but did not sign */
    CBUS_SSH_AGENT_ERROR_PROTOCOL, /* what it says makes no sense */
    CBUS_SSH_AGENT_ERROR_TIMEOUT,  /* it did not answer in time */
} CbusSshAgentError;
#define CBUS_SSH_AGENT_ERROR (cbus_ssh_agent_error_quark())
GQuark cbus_ssh_agent_error_quark(void);

/* Whole requests, with their length in front. (transfer full) */
GByteArray *cbus_ssh_agent_list_request(void);
GByteArray *cbus_ssh_agent_sign_request(const CbusKey *key, const guint8 *data, gsize len);

/* Answers, without the length that stood in front. */

/* The ed25519 keys in the order in which the agent names them; keys of other types are left out, and counted
 * in OTHERS. Returns: (transfer full) CbusKey elements, or NULL with a CBUS_SSH_AGENT_ERROR. */
GArray *cbus_ssh_agent_read_list(const guint8 *answer, gsize len, guint *others,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The signature, which must be KEY's over DATA: an agent is not believed. SIGNATURE is untouched on failure.
 */
gboolean cbus_ssh_agent_read_signature(const guint8 *answer, gsize len, const CbusKey *key,
                                       const guint8 *data, gsize data_len,
                                       guint8 signature[CBUS_SIGNATURE_BYTES],
                                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
