/* The client's side of D-Bus authentication, SASL EXTERNAL, as pure functions (D-Bus specification,
 * "Authentication Protocol"). */
#pragma once
#include <glib.h>

#define CBUS_SASL_LINE_MAX 512

/* What the server has still to say. */
typedef enum {
    CBUS_SASL_OK,           /* OK alone */
    CBUS_SASL_OK_AND_AGREE, /* OK, then its word on descriptors */
    CBUS_SASL_AGREE,        /* that word: AGREE_UNIX_FD, or ERROR */
    CBUS_SASL_DONE,         /* nothing: messages follow */
} CbusSaslStep;

/* Appends all that a client says: the credentials byte, AUTH with UID as its claim, with DESCRIPTORS a
 * request for messages that hold some, and BEGIN. Messages may follow at once. Returns the first step. */
CbusSaslStep cbus_sasl_begin(guint32 uid, gboolean descriptors, GByteArray *out) G_GNUC_WARN_UNUSED_RESULT;
/* Takes one line of the server's from DATA and moves STEP on. Returns the bytes used (0: no whole line yet),
 * or −1 with a CBUS_BUS_ERROR_AUTH saying what the server answered. */
gssize cbus_sasl_receive(CbusSaslStep *step, const guint8 *data, gsize len,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
