/* Messages are framed and viewed with wire/; sockets are plain and blocking. One buffer each way, reused:
 * what is measured is the way, not the client. Every failure aborts: a measurement with errors in it is none.
 */
#include "tests/bench/client.h"
#include "link/bus.h"
#include "wire/body.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct _BenchClient {
    int fd;
    guint32 serial;
    GByteArray *out;
    guint8 *in;
    gsize in_len, in_size;
    char *destination, *path;
    guint8 *body;
    gsize body_len;
};

static void
write_all(BenchClient *client, const guint8 *data, gsize len)
{
    while (len > 0) {
        gssize n = write(client->fd, data, len);
        if (n < 0)
            g_error("write: %s", g_strerror(errno));
        data += n;
        len -= (gsize)n;
    }
}

void
bench_client_flush(BenchClient *client)
{
    write_all(client, client->out->data, client->out->len);
    g_byte_array_set_size(client->out, 0);
}

static void
fill(BenchClient *client)
{
    if (client->in_len == client->in_size) {
        client->in_size *= 2;
        client->in = g_realloc(client->in, client->in_size);
    }
    gssize n = read(client->fd, client->in + client->in_len, client->in_size - client->in_len);
    if (n <= 0)
        g_error("read: %s", n == 0 ? "closed by the bus" : g_strerror(errno));
    client->in_len += (gsize)n;
}

typedef gboolean (*MessageFunc)(BenchClient *client, const CbusMessage *message);

/* Reads once, then hands every whole message to FUNC; returns for how many it was TRUE. */
static guint
take(BenchClient *client, MessageFunc func)
{
    g_autoptr(GError) error = NULL;
    guint taken = 0;
    gsize at = 0;

    fill(client);
    for (;;) {
        gssize size = cbus_message_frame(client->in + at, client->in_len - at, CBUS_MESSAGE_MAX, &error);
        if (size < 0)
            g_error("frame: %s", error->message);
        if (size == 0 || (gsize)size > client->in_len - at)
            break;
        CbusMessage message;
        if (!cbus_message_view(&message, client->in + at, (gsize)size, &error))
            g_error("view: %s", error->message);
        taken += func(client, &message);
        at += (gsize)size;
    }
    memmove(client->in, client->in + at, client->in_len - at);
    client->in_len -= at;
    return taken;
}

static gboolean
is_reply(BenchClient *client, const CbusMessage *message)
{
    if (message->type == CBUS_MESSAGE_ERROR) {
        CbusCursor cursor = cbus_cursor(message);
        CbusSpan text = {"", 0};
        if (!cbus_span_is(message->signature, "s") || !cbus_cursor_string(&cursor, &text))
            text = CBUS_SPAN_LITERAL("(no text)");
        g_error("%.*s: %.*s", (int)message->error_name.len, message->error_name.text, (int)text.len,
                text.text);
    }
    return message->type == CBUS_MESSAGE_RETURN;
}

guint
bench_client_receive(BenchClient *client)
{
    guint replies = 0;
    while (replies == 0)
        replies = take(client, is_reply);
    return replies;
}

static void
authenticate(BenchClient *client)
{
    g_autofree char *uid = g_strdup_printf("%u", getuid());
    g_autoptr(GString) auth = g_string_new("AUTH EXTERNAL ");
    for (const char *c = uid; *c != '\0'; c++)
        g_string_append_printf(auth, "%02x", *c);
    g_string_append(auth, "\r\n");
    write_all(client, (const guint8 *)"", 1);
    write_all(client, (const guint8 *)auth->str, auth->len);
    while (client->in_len == 0 || client->in[client->in_len - 1] != '\n')
        fill(client);
    if (memcmp(client->in, "OK ", 3) != 0)
        g_error("the bus refused us");
    client->in_len = 0;
    write_all(client, (const guint8 *)"BEGIN\r\n", 7);
}

static void
call_driver(BenchClient *client, const char *member, const char *types, const char *name)
{
    CbusHeader header = {
        .endian = G_BYTE_ORDER == G_LITTLE_ENDIAN ? 'l' : 'B',
        .type = CBUS_MESSAGE_CALL,
        .serial = ++client->serial,
        .path = CBUS_SPAN_LITERAL("/org/freedesktop/DBus"),
        .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus"),
        .member = cbus_span(member),
        .destination = CBUS_SPAN_LITERAL("org.freedesktop.DBus"),
    };
    cbus_message_append(client->out, &header, types, name, 4u);
    bench_client_flush(client);
    bench_client_receive(client);
}

BenchClient *
bench_client_new(const char *address)
{
    g_autoptr(GError) error = NULL;
    BenchClient *client = g_new0(BenchClient, 1);
    client->fd = cbus_bus_connect(address, &error);
    if (client->fd < 0)
        g_error("%s", error->message);
    struct pollfd connecting = {client->fd, POLLOUT, 0};
    if (poll(&connecting, 1, 5000) != 1 || fcntl(client->fd, F_SETFL, 0) < 0)
        g_error("connect to %s timed out", address);
    client->in_size = 1 << 20;
    client->in = g_malloc(client->in_size);
    client->out = g_byte_array_new();
    authenticate(client);
    call_driver(client, "Hello", "", NULL);
    return client;
}

void
bench_client_free(BenchClient *client)
{
    close(client->fd);
    g_byte_array_unref(client->out);
    g_free(client->in);
    g_free(client->body);
    g_free(client->destination);
    g_free(client->path);
    g_free(client);
}

void
bench_client_request_name(BenchClient *client, const char *name)
{
    call_driver(client, "RequestName", "su", name);
}

void
bench_client_prepare(BenchClient *client, const char *destination, const char *path, gsize size)
{
    g_free(client->destination);
    g_free(client->path);
    g_free(client->body);
    client->destination = g_strdup(destination);
    client->path = g_strdup(path);
    client->body_len = 4 + size;
    client->body = g_malloc(client->body_len);
    guint32 len = (guint32)size;
    memcpy(client->body, &len, 4);
    memset(client->body + 4, 'x', size);
}

void
bench_client_send(BenchClient *client)
{
    CbusHeader header = {
        .endian = G_BYTE_ORDER == G_LITTLE_ENDIAN ? 'l' : 'B',
        .type = CBUS_MESSAGE_CALL,
        .serial = ++client->serial,
        .path = cbus_span(client->path),
        .interface = CBUS_SPAN_LITERAL("ie.bmcgee.CBus.Bench"),
        .member = CBUS_SPAN_LITERAL("Echo"),
        .destination = cbus_span(client->destination),
        .signature = CBUS_SPAN_LITERAL("ay"),
    };
    cbus_header_append(client->out, &header, client->body_len);
    g_byte_array_append(client->out, client->body, (guint)client->body_len);
}

void
bench_client_get(BenchClient *client, const char *destination, const char *path, const char *interface,
                 const char *property)
{
    const CbusHeader header = {
        .endian = G_BYTE_ORDER == G_LITTLE_ENDIAN ? 'l' : 'B',
        .type = CBUS_MESSAGE_CALL,
        .serial = ++client->serial,
        .path = cbus_span(path),
        .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus.Properties"),
        .member = CBUS_SPAN_LITERAL("Get"),
        .destination = cbus_span(destination),
    };
    cbus_message_append(client->out, &header, "ss", interface, property);
}

void
bench_client_list(BenchClient *client)
{
    const CbusHeader header = {
        .endian = G_BYTE_ORDER == G_LITTLE_ENDIAN ? 'l' : 'B',
        .type = CBUS_MESSAGE_CALL,
        .serial = ++client->serial,
        .path = CBUS_SPAN_LITERAL("/ie/bmcgee/CBus"),
        .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus.ObjectManager"),
        .member = CBUS_SPAN_LITERAL("GetManagedObjects"),
        .destination = CBUS_SPAN_LITERAL("ie.bmcgee.CBus"),
    };
    cbus_message_append(client->out, &header, "");
}

static gboolean
echo(BenchClient *client, const CbusMessage *call)
{
    if (call->type != CBUS_MESSAGE_CALL)
        return FALSE;
    CbusHeader header = {
        .endian = call->endian,
        .type = CBUS_MESSAGE_RETURN,
        .flags = CBUS_FLAG_NO_REPLY,
        .serial = ++client->serial,
        .reply_serial = call->serial,
        .destination = call->sender,
        .signature = call->signature,
    };
    cbus_header_append(client->out, &header, call->body_len);
    g_byte_array_append(client->out, call->body, (guint)call->body_len);
    return TRUE;
}

void
bench_serve(BenchClient *client)
{
    for (;;) {
        take(client, echo);
        bench_client_flush(client);
    }
}
