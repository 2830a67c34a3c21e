/* SASL EXTERNAL, the client's side.
 *
 * The exchange that every bus on Linux accepts, and the whole of it: the credentials byte (a NUL, at which
 * the server reads the socket's peer credentials), AUTH EXTERNAL with the uid in decimal, hexadecimally, and
 * BEGIN. All is said at once, as sd-bus does, and messages follow without waiting: the answer is either OK or
 * the end of the connection, and on the way to a machine each round trip counts.
 *
 * NEGOTIATE_UNIX_FD is said only for who can do without the descriptors, but not without the messages: a bus
 * that was not asked drops a reply that holds one, and its caller waits for ever. The uid is a claim that the
 * server compares with the kernel's answer, so no other mechanism is worth trying: when EXTERNAL is rejected,
 * the connection is of the wrong user, and the error says which.
 *
 * The server's answers are taken in their one order: nothing but OK lets us in, and its word on descriptors
 * comes after it. Who answers ERROR or AGREE_UNIX_FD first has not let anybody in.
 *
 * Trust: the server's bytes are not trusted: a line is at most CBUS_SASL_LINE_MAX bytes, and what it says is
 * escaped before it goes into an error. No state beside the caller's buffer and step; any thread. */
#include "link/sasl.h"
#include "link/bus.h"
#include "wire/bytes.h"
#include <string.h>

CbusSaslStep
cbus_sasl_begin(guint32 uid, gboolean descriptors, GByteArray *out)
{
    g_autofree char *decimal = g_strdup_printf("%u", uid);
    GString *line = g_string_new("AUTH EXTERNAL ");

    for (const char *p = decimal; *p != '\0'; p++)
        g_string_append_printf(line, "%02x", *p);
    g_string_append(line, descriptors ? "\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n" : "\r\nBEGIN\r\n");
    g_byte_array_append(out, (const guint8 *)"", 1);
    g_byte_array_append(out, (const guint8 *)line->str, line->len);
    g_string_free(line, TRUE);
    return descriptors ? CBUS_SASL_OK_AND_AGREE : CBUS_SASL_OK;
}

static gboolean
says(CbusSpan line, const char *command)
{
    gsize len = strlen(command);

    return line.len >= len && memcmp(line.text, command, len) == 0 &&
           (line.len == len || line.text[len] == ' ');
}

static void
set_refused(CbusSaslStep step, CbusSpan line, GError **error)
{
    g_autofree char *text = g_strndup(line.text, line.len);
    g_autofree char *shown = g_strescape(text, NULL);

    if (step == CBUS_SASL_AGREE)
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH,
                    "the bus answered \"%s\" to NEGOTIATE_UNIX_FD, where AGREE_UNIX_FD or ERROR belongs",
                    shown);
    else if (says(line, "REJECTED"))
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH,
                    "the bus does not let this user in (it answered \"%s\" to AUTH EXTERNAL)", shown);
    else
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH,
                    "the bus answered \"%s\" to AUTH EXTERNAL, where OK or REJECTED belongs", shown);
}

gssize
cbus_sasl_receive(CbusSaslStep *step, const guint8 *data, gsize len, GError **error)
{
    const guint8 *end = memchr(data, '\n', MIN(len, CBUS_SASL_LINE_MAX));
    gboolean agree = *step == CBUS_SASL_AGREE;
    CbusSpan line;

    if (end == NULL && len < CBUS_SASL_LINE_MAX)
        return 0;
    if (end == NULL || end == data || end[-1] != '\r') {
        g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH,
                    "what answers is no D-Bus server: no line of at most %d bytes in the authentication",
                    CBUS_SASL_LINE_MAX);
        return -1;
    }
    line = (CbusSpan){(const char *)data, end - 1 - data};
    if (agree ? !says(line, "AGREE_UNIX_FD") && !says(line, "ERROR") : !says(line, "OK")) {
        set_refused(*step, line, error);
        return -1;
    }
    *step = *step == CBUS_SASL_OK_AND_AGREE ? CBUS_SASL_AGREE : CBUS_SASL_DONE;
    return end + 1 - data;
}
