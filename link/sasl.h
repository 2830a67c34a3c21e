/* The client's side of D-Bus authentication, SASL EXTERNAL, as pure functions (D-Bus specification,
 * "Authentication Protocol"). */
#pragma once
#include <glib.h>

#define CBUS_SASL_LINE_MAX 512

/* Appends all that a client says: the credentials byte, AUTH with UID as its claim, with DESCRIPTORS a
 * request for messages that hold some, and BEGIN. Messages may follow at once. */
void cbus_sasl_begin(guint32 uid, gboolean descriptors, GByteArray *out);
/* Takes one line of the server's from DATA. Returns the bytes used (0: no whole line yet), or −1 with a
 * CBUS_BUS_ERROR_AUTH saying what the server answered. DONE is set with its last line: messages follow. */
gssize cbus_sasl_receive(const guint8 *data, gsize len, gboolean descriptors, gboolean *done,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
