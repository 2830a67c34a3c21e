/* The server's side of D-Bus authentication, SASL EXTERNAL alone, as a state machine without I/O (D-Bus
 * specification, "Authentication Protocol"). */
#pragma once
#include <glib.h>

typedef struct _CbusSaslServer CbusSaslServer;

/* PEER: the uid at the other end, as the kernel tells it. OWNER: the one that may authenticate, beside
 * root. */
CbusSaslServer *cbus_sasl_server_new(guint32 peer, guint32 owner);
void cbus_sasl_server_free(CbusSaslServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusSaslServer, cbus_sasl_server_free)

/* Takes one line of the client's from DATA (at first its credentials byte) and appends the answer to OUT.
 * Returns the bytes used (0: no whole line yet), or −1 with a CBUS_BUS_ERROR_AUTH: the client is to be cut
 * off. DONE is set at BEGIN: what follows in DATA are messages. */
gssize cbus_sasl_server_receive(CbusSaslServer *server, const guint8 *data, gsize len, GByteArray *out,
                                gboolean *done, GError **error) G_GNUC_WARN_UNUSED_RESULT;
