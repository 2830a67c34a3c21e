/* SASL EXTERNAL, the server's side.
 *
 * A client is who the kernel says: its claim must be the uid of the socket's peer credentials, in decimal, or
 * be left out. Only the owner and root are let in; anybody else hears REJECTED whatever he tries. EXTERNAL is
 * the one mechanism. NEGOTIATE_UNIX_FD is answered ERROR, by which a client knows that it may go on without
 * descriptors; they can not cross to another machine.
 *
 * Clients differ in how they talk: libdbus and GLib wait for each answer, sd-bus writes AUTH, DATA,
 * NEGOTIATE_UNIX_FD, BEGIN and its first messages at once. So a line is taken at a time, and what stands
 * behind BEGIN is not touched. CANCEL, ERROR, a wrong claim and an unknown mechanism are answered REJECTED,
 * an unknown command ERROR; after either the client may try again, as the specification wants.
 *
 * Trust: the client's bytes are hostile: a line has at most CBUS_SASL_LINE_MAX of them, all lines together
 * HANDSHAKE_MAX, and after more than MISTAKES answers of these two kinds the client is cut off; the time is
 * bounded by link/bus.c. What is said goes into an error only escaped. One thread at a time. */
#include "link/sasl_server.h"
#include "link/bus.h"
#include "link/sasl.h"
#include "wire/bytes.h"
#include <gio/gio.h>
#include <string.h>

#define HANDSHAKE_MAX 4096
#define MISTAKES      8

typedef enum {
    STATE_CREDENTIALS, /* the NUL at which servers of other systems read credentials */
    STATE_AUTH,
    STATE_DATA,
    STATE_BEGIN,
} State;

struct _CbusSaslServer {
    char identity[11]; /* the peer's uid, as the client has to claim it */
    gboolean welcome;
    State state;
    guint mistakes; /* rejections and errors */
    gsize taken;
};

CbusSaslServer *
cbus_sasl_server_new(guint32 peer, guint32 owner)
{
    CbusSaslServer *server = g_new0(CbusSaslServer, 1);

    g_snprintf(server->identity, sizeof server->identity, "%u", peer);
    server->welcome = peer == owner || peer == 0;
    return server;
}

void
cbus_sasl_server_free(CbusSaslServer *server)
{
    g_free(server);
}

/* Unique to this process, as a server's should be. */
static const char *
guid(void)
{
    static char *once;

    if (g_once_init_enter(&once))
        g_once_init_leave(&once, g_dbus_generate_guid());
    return once;
}

static void
say(GByteArray *out, const char *line)
{
    g_byte_array_append(out, (const guint8 *)line, (guint)strlen(line));
    g_byte_array_append(out, (const guint8 *)"\r\n", 2);
}

static void
complain(CbusSaslServer *server, GByteArray *out)
{
    server->mistakes++;
    say(out, "ERROR \"unknown command\"");
}

static void
reject(CbusSaslServer *server, GByteArray *out)
{
    server->mistakes++;
    server->state = STATE_AUTH;
    say(out, "REJECTED EXTERNAL");
}

/* The first word of LINE; REST is what stands behind the space, or absent. */
static CbusSpan
split(CbusSpan line, CbusSpan *rest)
{
    const char *space = line.len > 0 ? memchr(line.text, ' ', line.len) : NULL;

    if (space == NULL) {
        *rest = (CbusSpan){NULL, 0};
        return line;
    }
    gsize len = (gsize)(space - line.text);
    *rest = (CbusSpan){space + 1, line.len - len - 1};
    return (CbusSpan){line.text, len};
}

/* HEX is the peer's uid in decimal, in hexadecimal, or nothing. */
static gboolean
claims_peer(const CbusSaslServer *server, CbusSpan hex)
{
    gsize len = strlen(server->identity);

    if (hex.len == 0)
        return TRUE;
    if (hex.len != 2 * len)
        return FALSE;
    for (gsize i = 0; i < len; i++) {
        int high = g_ascii_xdigit_value(hex.text[2 * i]), low = g_ascii_xdigit_value(hex.text[2 * i + 1]);

        if (high < 0 || low < 0 || 16 * high + low != server->identity[i])
            return FALSE;
    }
    return TRUE;
}

static void
judge(CbusSaslServer *server, CbusSpan claim, GByteArray *out)
{
    if (!server->welcome || !claims_peer(server, claim)) {
        reject(server, out);
        return;
    }
    g_autofree char *line = g_strconcat("OK ", guid(), NULL);
    server->state = STATE_BEGIN;
    say(out, line);
}

static void
take_auth(CbusSaslServer *server, CbusSpan arguments, GByteArray *out)
{
    CbusSpan claim;
    CbusSpan mechanism = split(arguments, &claim);

    if (arguments.text == NULL || !cbus_span_is(mechanism, "EXTERNAL")) {
        reject(server, out);
    } else if (claim.text != NULL) {
        judge(server, claim, out);
    } else {
        server->state = STATE_DATA;
        say(out, "DATA");
    }
}

/* FALSE: BEGIN where it may not stand. */
static gboolean
take_line(CbusSaslServer *server, CbusSpan line, GByteArray *out, gboolean *done)
{
    CbusSpan arguments;
    CbusSpan command = split(line, &arguments);

    if (cbus_span_is(command, "BEGIN")) {
        *done = server->state == STATE_BEGIN;
        return *done;
    }
    if (cbus_span_is(command, "AUTH") && server->state == STATE_AUTH)
        take_auth(server, arguments, out);
    else if (cbus_span_is(command, "DATA") && server->state == STATE_DATA)
        judge(server, arguments, out);
    else if (cbus_span_is(command, "CANCEL") || cbus_span_is(command, "ERROR"))
        reject(server, out);
    else if (cbus_span_is(command, "NEGOTIATE_UNIX_FD") && server->state == STATE_BEGIN)
        say(out, "ERROR \"file descriptors can not cross to another machine\"");
    else
        complain(server, out);
    return TRUE;
}

static gssize
cut_off(GError **error, const char *why)
{
    g_set_error(error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH, "the client is no D-Bus client of ours: %s", why);
    return -1;
}

static gssize
take_credentials(CbusSaslServer *server, guint8 byte, GError **error)
{
    if (byte != '\0')
        return cut_off(error, "it did not begin with the credentials byte");
    server->state = STATE_AUTH;
    return 1;
}

gssize
cbus_sasl_server_receive(CbusSaslServer *server, const guint8 *data, gsize len, GByteArray *out,
                         gboolean *done, GError **error)
{
    if (len == 0)
        return 0;
    if (server->state == STATE_CREDENTIALS)
        return take_credentials(server, data[0], error);

    const guint8 *end = memchr(data, '\n', MIN(len, CBUS_SASL_LINE_MAX));
    if (end == NULL && len < CBUS_SASL_LINE_MAX)
        return 0;
    if (end == NULL || end == data || end[-1] != '\r')
        return cut_off(error, "it sent no line of the authentication protocol");
    gsize used = (gsize)(end - data) + 1;
    server->taken += used;
    if (server->taken > HANDSHAKE_MAX)
        return cut_off(error, "it talks too much before it authenticates");
    if (!take_line(server, (CbusSpan){(const char *)data, used - 2}, out, done))
        return cut_off(error, "it began without having authenticated");
    if (server->mistakes > MISTAKES)
        return cut_off(error, "it was wrong too often");
    return (gssize)used;
}
