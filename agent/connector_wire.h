/* Datagrams between the agent's processes: SOCK_SEQPACKET, at most one descriptor each (design, "Privilege
 * separation"). Both ends are the same binary on the same host, so integers are native. */
#pragma once
#include "wire/key.h"
#include "wire/policy.h"

#define CBUS_DATAGRAM_MAX 32768 /* bytes of payload */
#define CBUS_USER_MAX     255   /* bytes of a CONNECTED's name */
#define CBUS_REASON_MAX   1024  /* bytes of a FAILED's text */

typedef enum {
    /* Network process → connector. */
    CBUS_DATAGRAM_CONNECT = 1, /* key 32, digest of its line 32; to a user's child: no payload */
    CBUS_DATAGRAM_SIGN,        /* a transcript hash, 64 */
    CBUS_DATAGRAM_RELOAD,      /* no payload, no answer: SIGHUP arrived */
    CBUS_DATAGRAM_NONCE,       /* a NATS nonce; on the second socket only */
    CBUS_DATAGRAM_GATEWAY,     /* no payload: a connection as the configuration's [gateway] says */
    /* Answers, with the request's id. */
    CBUS_DATAGRAM_CONNECTED, /* u32 uid and the user's name, no NUL, maybe ""; and the descriptor */
    CBUS_DATAGRAM_SIGNED,    /* 64 bytes */
    CBUS_DATAGRAM_FAILED,    /* text, no NUL */
    /* Unasked, connector → network process; the id is unused. */
    CBUS_DATAGRAM_KEY,   /* the identity's public key, 32: the first datagram of all */
    CBUS_DATAGRAM_TABLE, /* u32 flags, then CbusTableEntry × n */
    /* u32 flags, then a piece of the configuration's name, a NUL and its text: holds from the next table on.
     */
    CBUS_DATAGRAM_POLICIES,
} CbusDatagramType;

#define CBUS_TABLE_FIRST   1u  /* a new table begins: what was gathered of another is void */
#define CBUS_TABLE_LAST    2u  /* the table is whole */
#define CBUS_TABLE_GATEWAY 4u  /* of a configuration's first piece: it has a [gateway] that holds */
#define CBUS_TABLE_ENTRIES 192 /* entries a datagram */

typedef struct {
    CbusKey key;
    guint8 digest[32];                     /* of the authorized-keys line */
    guint32 number;                        /* of that line */
    char policy[CBUS_POLICY_NAME_MAX + 1]; /* of that line, with a NUL; "": none */
} CbusTableEntry;

typedef enum {
    CBUS_DATAGRAM_ERROR_CLOSED,  /* the other process is gone */
    CBUS_DATAGRAM_ERROR_INVALID, /* too long, too short, or descriptors where there may be none */
    CBUS_DATAGRAM_ERROR_IO,
} CbusDatagramError;
#define CBUS_DATAGRAM_ERROR (cbus_datagram_error_quark())
GQuark cbus_datagram_error_quark(void);

typedef struct {
    guint32 type, id;
    gsize len;
    int fd; /* −1 when none came; the receiver's to close */
    guint8 payload[CBUS_DATAGRAM_MAX];
} CbusDatagram;

/* A pair of connected sockets, close-on-exec, blocking. */
gboolean cbus_datagram_pair(int pair[2], GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Sends one. FD −1: none; otherwise it stays the caller's. On a blocking socket it waits.
 * Returns 1 when sent, 0 when the socket would block, −1 with a CBUS_DATAGRAM_ERROR. */
int cbus_datagram_send(int fd, CbusDatagramType type, guint32 id, const void *payload, gsize len, int passed,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A FAILED with REASON, cut to CBUS_REASON_MAX. */
int cbus_datagram_send_failed(int fd, guint32 id, const char *reason,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Receives one into OUT. Returns 1 when one came, 0 when the socket would block, −1 with a
 * CBUS_DATAGRAM_ERROR; no descriptor is left open then. FLAGS: MSG_DONTWAIT or 0. */
int cbus_datagram_receive(int fd, CbusDatagram *out, int flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The text of a FAILED, made printable. (transfer full) */
char *cbus_datagram_reason(const CbusDatagram *datagram);
