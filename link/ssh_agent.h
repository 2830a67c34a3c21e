/* A signer whose key is held by a running ssh-agent. */
#pragma once
#include "link/signer.h"

/* Finds the key of PUBLIC_KEY_FILE (NULL: the first ed25519 key) in the ssh-agent at SSH_AUTH_SOCK; blocks
 * for at most 5 s. With LOOP transcripts are signed without blocking, and the signer must go before the
 * loop's poller; without it they are signed before return. ERROR says what to do. */
CbusSigner *cbus_signer_new_for_ssh_agent(CbusLoop *loop, const char *public_key_file, CbusRole role,
                                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
