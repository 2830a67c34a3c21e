/* The privileged half of cbus-agent (design, "Privilege separation"): holds the identity key, reads
 * authorized-keys, makes bus connections. */
#pragma once
#include "agent/connector_wire.h"
#include <sys/types.h>

typedef struct {
    const char *key_file;        /* --key, or ssh-agent:PUBLIC-KEY-FILE */
    const char *authorized_keys; /* --authorized-keys */
    const char *config;          /* the configuration file that counts, or NULL */
    const char *bus;             /* --bus */
    const char *user;            /* whose connections; NULL: the user that we are */
} CbusConnectorOptions;

/* What the network process holds of it. */
typedef struct {
    int requests, nonces; /* sockets, close-on-exec, blocking */
    pid_t pid;
    CbusKey public_key;
} CbusConnectorEnds;

/* Forks the connector and waits until it has read the key. Must run before any thread and any network I/O.
 * ERROR says why the key can not be used. */
gboolean cbus_connector_start(const CbusConnectorOptions *options, CbusConnectorEnds *ends,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
