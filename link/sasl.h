/* The client's side of D-Bus authentication, SASL EXTERNAL, as pure functions (D-Bus specification,
 * "Authentication Protocol"). */
#pragma once
#include <glib.h>

#define CBUS_SASL_LINE_MAX 512

/* Appends what a client says first: the credentials byte and AUTH with UID as its claim. */
void cbus_sasl_begin(guint32 uid, GByteArray *out);
/* Takes one line of the server's from DATA. DESCRIPTORS: also asks for messages that hold some. Returns the
 * bytes used (0: no whole line yet), or −1 with a CBUS_BUS_ERROR_AUTH saying what the server answered. DONE
 * is set when BEGIN was appended to OUT: messages follow. */
gssize cbus_sasl_receive(const guint8 *data, gsize len, gboolean descriptors, GByteArray *out, gboolean *done,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
