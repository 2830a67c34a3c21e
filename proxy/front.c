/* The proxy's one connection to the session bus.
 *
 *     session bus ── CbusBus ── front ─┬─ handler.call: the hot path (mirrors), our own Introspect answers
 *                                      └─ front_gdbus: GDBus, for the properties and methods of our own
 * objects
 *
 * The front owns the real socket and is the only one who writes to it. Start: GDBus says Hello (the bus wants
 * exactly one, first); from its answer the front knows that the connection stands; when GDBus is ready too,
 * the owner registers objects, and then the front asks for NameOwnerChanged of vanishing names and for the
 * well-known name, without queueing for it. Losing the bus or the name is final: `lost` says why, once.
 *
 * Serials: GDBus counts from 1, we from 2³¹, so the serial that a reply answers tells whose it is. Of our own
 * calls only those to the bus driver want answers; every other reply to one of our serials is dropped.
 * Signals are never handed to GDBus: it subscribes to none.
 *
 * Order: everything is appended to one queue, CbusBus's. While GDBus owes answers, a signal of our own waits
 * behind a fence (front_gdbus.c) with all that follows it, so that an answer computed before the signal's
 * change reaches the client before the signal. Each fence remembers where in the held bytes it begins.
 *
 * On the system bus a call waits until the bus driver has said whose it is (front_callers.c).
 *
 * The bus is trusted to be a bus (senders are true), callers are not: headers are viewed before anything
 * else, bodies are checked before GDBus sees them, and what is no message for us is dropped or answered,
 * never fatal.
 *
 * Loop thread only. */
#include "proxy/front.h"

#include "link/log.h"
#include "proxy/front_callers.h"
#include "proxy/front_gdbus.h"
#include "wire/body.h"
#include "wire/key.h"

#include <unistd.h>

#define BUS_NAME "org.freedesktop.DBus"
#define BUS_PATH "/org/freedesktop/DBus"
/* The mirror drops signals long before, and refuses replies above 192 MiB: but one that is let in may be as
 * large as a message can be. */
#define QUOTA         (384u * 1024 * 1024)
#define SYSTEM_MAX    (32u * 1024 * 1024) /* a system bus throws out who sends it a larger message */
#define OURS          0x80000000u
#define DO_NOT_QUEUE  4u
#define PRIMARY_OWNER 1u
#define VANISHED_RULE                                                                                        \
    "type='signal',sender='" BUS_NAME "',path='" BUS_PATH "',interface='" BUS_NAME                           \
    "',member='NameOwnerChanged',arg2=''"

G_DEFINE_QUARK(cbus_front_error_quark, cbus_front_error)

struct _CbusFront {
    CbusFrontHandler handler;
    gpointer user_data;
    char *name, *address;
    CbusBus *bus; /* NULL once it is lost: what is sent goes to SINK */
    CbusFrontGDBus *gdbus;
    CbusFrontCallers *callers; /* NULL: all are ours */
    guint32 uid;               /* ours */
    gsize message_max;
    GByteArray *sink;
    guint32 serial;
    guint32 match_serial, request_serial, release_serial; /* 0: no answer awaited */
    GByteArray *held;                                     /* what waits behind fences; NULL when none is up */
    GArray *fences;                                       /* of gsize: where in HELD each one begins */
    gboolean owns;                                        /* the name is ours */
    gboolean over;                                        /* `lost` was called */
};

/* The caller returns at once: the front may be freed. */
static void
lose(CbusFront *front, const GError *reason)
{
    if (!front->over) {
        front->over = TRUE;
        front->handler.lost(front, reason, front->user_data);
    }
}

G_GNUC_PRINTF(3, 4)
static void
lose_with(CbusFront *front, CbusFrontError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autoptr(GError) reason = g_error_new_valist(CBUS_FRONT_ERROR, (int)code, format, args);
    va_end(args);
    lose(front, reason);
}

/* ---- outgoing ---- */

guint32
cbus_front_serial(CbusFront *front)
{
    guint32 serial = front->serial;
    front->serial = serial == G_MAXUINT32 ? OURS : serial + 1;
    return serial;
}

GByteArray *
cbus_front_begin(CbusFront *front)
{
    if (front->bus == NULL) {
        return front->sink;
    }
    return front->held != NULL ? front->held : cbus_bus_begin(front->bus);
}

void
cbus_front_end(CbusFront *front)
{
    if (front->bus == NULL) {
        g_byte_array_set_size(front->sink, 0);
    } else if (front->held == NULL) {
        cbus_bus_end(front->bus);
    }
}

gsize
cbus_front_pending(const CbusFront *front)
{
    return (front->bus != NULL ? cbus_bus_pending(front->bus) : 0) +
           (front->held != NULL ? front->held->len : 0);
}

gsize
cbus_front_message_max(const CbusFront *front)
{
    return front->message_max;
}

void
cbus_front_emit(CbusFront *front, const char *path, const char *interface, const char *member, GVariant *body)
{
    g_autoptr(GVariant) sunk = body != NULL ? g_variant_ref_sink(body) : NULL;
    g_autoptr(GDBusMessage) message = g_dbus_message_new_signal(path, interface, member);
    if (sunk != NULL) {
        g_dbus_message_set_body(message, sunk);
    }
    g_dbus_message_set_serial(message, cbus_front_serial(front));
    g_autoptr(GError) error = NULL;
    gsize size = 0;
    g_autofree guchar *blob = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_NONE, &error);
    if (blob == NULL) {
        cbus_log(G_LOG_LEVEL_WARNING, "A signal of our own could not be built", CBUS_LOG_REASON,
                 error->message, NULL);
        return;
    }
    if (front->bus != NULL && cbus_front_gdbus_busy(front->gdbus)) {
        if (front->held == NULL) {
            front->held = g_byte_array_new();
        }
        gsize begin = front->held->len;
        g_array_append_val(front->fences, begin);
        cbus_front_gdbus_fence(front->gdbus);
    }
    g_byte_array_append(cbus_front_begin(front), blob, (guint)size);
    cbus_front_end(front);
}

static CbusHeader
driver_header(CbusFront *front, const char *member)
{
    return (CbusHeader){
        .endian = CBUS_ENDIAN_NATIVE,
        .type = CBUS_MESSAGE_CALL,
        .serial = cbus_front_serial(front),
        .path = CBUS_SPAN_LITERAL(BUS_PATH),
        .interface = CBUS_SPAN_LITERAL(BUS_NAME),
        .member = cbus_span(member),
        .destination = CBUS_SPAN_LITERAL(BUS_NAME),
    };
}

void
cbus_front_release(CbusFront *front)
{
    CbusHeader header = driver_header(front, "ReleaseName");
    front->release_serial = header.serial;
    front->owns = FALSE;
    cbus_message_append(cbus_front_begin(front), &header, "s", front->name);
    cbus_front_end(front);
}

/* ---- what GDBus does ---- */

static void
on_gdbus_message(const CbusMessage *message, const guint8 *bytes, gpointer user_data)
{
    CbusFront *front = user_data;
    /* Never behind held bytes: a fence waits for just these answers. */
    if (front->bus == NULL) {
        return;
    }
    if (message->size <= front->message_max) {
        cbus_bus_send(front->bus, bytes, message->size);
        return;
    }
    const CbusMessage call = {.endian = message->endian,
                              .type = CBUS_MESSAGE_CALL,
                              .serial = message->reply_serial,
                              .sender = message->destination};
    g_autoptr(GByteArray) refusal = g_byte_array_new();
    cbus_message_append_error(refusal, cbus_front_serial(front), &call, CBUS_DBUS_ERROR("LimitsExceeded"),
                              "The answer is larger than the bus takes; what was called was executed");
    cbus_bus_send(front->bus, refusal->data, refusal->len);
}

static void
on_gdbus_connected(GDBusConnection *connection, gpointer user_data)
{
    CbusFront *front = user_data;
    front->handler.ready(front, connection, front->user_data);

    CbusHeader match = driver_header(front, "AddMatch");
    front->match_serial = match.serial;
    cbus_message_append(cbus_front_begin(front), &match, "s", VANISHED_RULE);
    cbus_front_end(front);

    CbusHeader request = driver_header(front, "RequestName");
    front->request_serial = request.serial;
    cbus_message_append(cbus_front_begin(front), &request, "su", front->name, DO_NOT_QUEUE);
    cbus_front_end(front);
}

static void
on_gdbus_fence(gpointer user_data)
{
    CbusFront *front = user_data;
    if (front->bus == NULL || front->held == NULL) {
        return;
    }
    g_array_remove_index(front->fences, 0);
    gsize upto = front->fences->len > 0 ? g_array_index(front->fences, gsize, 0) : front->held->len;
    cbus_bus_send(front->bus, front->held->data, upto);
    g_byte_array_remove_range(front->held, 0, (guint)upto);
    for (guint i = 0; i < front->fences->len; i++) {
        g_array_index(front->fences, gsize, i) -= upto;
    }
    if (front->fences->len == 0) {
        g_clear_pointer(&front->held, g_byte_array_unref);
    }
}

static void
on_gdbus_closed(const GError *reason, gpointer user_data)
{
    lose_with(user_data, CBUS_FRONT_ERROR_GDBUS, "GDBus gave up its end of the connection to the bus: %s",
              reason->message);
}

/* ---- what the bus sends ---- */

/* GDBus's Hello waits in the queue until now; nothing else is to be done. */
static void
on_bus_ready(CbusBus *bus, gpointer user_data)
{
}

static void
hand_to_gdbus(CbusFront *front, const CbusMessage *call, const guint8 *bytes)
{
    g_autoptr(GError) error = NULL;
    if (!cbus_body_check(call->body, call->body_len, call->endian, call->signature, &error)) {
        cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("InvalidArgs"), "The arguments are malformed: %s",
                               error->message);
    } else if (!cbus_front_gdbus_call(front->gdbus, call, bytes)) {
        cbus_front_reply_error(
            front, call, CBUS_DBUS_ERROR("LimitsExceeded"),
            "cbus-proxy has too many calls to its own objects to answer, or this one is too "
            "large; wait for answers before calling again");
    }
}

static void
on_name_reply(CbusFront *front, const CbusMessage *reply)
{
    guint32 result = 0;
    CbusCursor cursor = cbus_cursor(reply);
    if (reply->type == CBUS_MESSAGE_ERROR) {
        lose_with(front, CBUS_FRONT_ERROR_BUS, "The bus refuses the name %s: %.*s", front->name,
                  (int)reply->error_name.len, reply->error_name.text);
    } else if (!cbus_cursor_u32(&cursor, &result) || result != PRIMARY_OWNER) {
        lose_with(
            front, CBUS_FRONT_ERROR_OWNED,
            "The name %s is already owned on the bus (%s): another cbus-proxy serves it; stop that one, or "
            "give this one another bus with --bus",
            front->name, front->address);
    } else {
        front->owns = TRUE;
        if (front->handler.owned != NULL) {
            front->handler.owned(front, front->user_data);
        }
    }
}

static guint32
ask_user(const char *name, gpointer user_data)
{
    CbusFront *front = user_data;
    CbusHeader header = driver_header(front, "GetConnectionUnixUser");
    cbus_message_append(cbus_front_begin(front), &header, "s", name);
    cbus_front_end(front);
    return header.serial;
}

static void
deliver_call(const CbusMessage *call, const guint8 *bytes, gpointer user_data)
{
    CbusFront *front = user_data;
    if (!front->handler.call(front, call, bytes, front->user_data)) {
        hand_to_gdbus(front, call, bytes);
    }
}

static void
refuse_call(const CbusMessage *call, gpointer user_data)
{
    cbus_front_reply_error(user_data, call, CBUS_DBUS_ERROR("LimitsExceeded"),
                           "too many calls wait for the bus to say whose they are; the call was not "
                           "executed: try again");
}

guint32
cbus_front_uid(const CbusFront *front, CbusSpan sender)
{
    return front->callers != NULL ? cbus_front_callers_uid(front->callers, sender) : front->uid;
}

static void
on_own_reply(CbusFront *front, const CbusMessage *reply)
{
    if (front->callers != NULL && cbus_front_callers_reply(front->callers, reply)) {
        return;
    }
    if (reply->reply_serial == front->request_serial) {
        front->request_serial = 0;
        on_name_reply(front, reply);
    } else if (reply->reply_serial == front->match_serial) {
        front->match_serial = 0;
        if (reply->type == CBUS_MESSAGE_ERROR) {
            lose_with(front, CBUS_FRONT_ERROR_BUS, "The bus refuses to tell who leaves it: %.*s",
                      (int)reply->error_name.len, reply->error_name.text);
        }
    } else if (reply->reply_serial == front->release_serial) {
        front->release_serial = 0;
        if (front->handler.released != NULL) {
            front->handler.released(front, front->user_data);
        }
    }
}

/* Signals from the bus driver: bodies are its own, yet read with bounds. */
static void
on_driver_signal(CbusFront *front, const CbusMessage *signal)
{
    CbusSpan name, old_owner, new_owner;
    CbusCursor cursor = cbus_cursor(signal);
    if (cbus_span_is(signal->member, "NameOwnerChanged") && cbus_span_is(signal->signature, "sss")) {
        if (cbus_cursor_string(&cursor, &name) && cbus_cursor_string(&cursor, &old_owner) &&
            cbus_cursor_string(&cursor, &new_owner) && name.len > 0 && name.text[0] == ':' &&
            new_owner.len == 0) {
            if (front->callers != NULL && cbus_front_callers_gone(front->callers, name.text) > 0) {
                cbus_log(
                    G_LOG_LEVEL_WARNING,
                    "A call was not executed: its caller left the bus before the bus could tell whose it "
                    "is; have it wait for the reply (dbus-send --print-reply, busctl without "
                    "--expect-reply=no)",
                    CBUS_LOG_REASON, name.text, NULL);
            }
            front->handler.caller_gone(front, name.text, front->user_data);
        }
    } else if (cbus_span_is(signal->member, "NameLost") && cbus_span_is(signal->signature, "s")) {
        if (front->owns && cbus_cursor_string(&cursor, &name) && cbus_span_is(name, front->name)) {
            front->owns = FALSE;
            lose_with(front, CBUS_FRONT_ERROR_OWNED, "The bus gave the name %s to another process",
                      front->name);
        }
    }
}

static void
on_bus_message(CbusBus *bus, const guint8 *bytes, gsize size, gpointer user_data)
{
    CbusFront *front = user_data;
    CbusMessage message;
    g_autoptr(GError) error = NULL;
    if (!cbus_message_view(&message, bytes, size, &error)) {
        /* A bus may let pass what we do not: its sender learns nothing, we go on. */
        cbus_log(G_LOG_LEVEL_DEBUG, "A malformed message from the bus was dropped", CBUS_LOG_REASON,
                 error->message, NULL);
        return;
    }
    switch (message.type) {
        case CBUS_MESSAGE_CALL:
            if (front->callers == NULL || !cbus_front_callers_take(front->callers, &message, bytes)) {
                deliver_call(&message, bytes, front);
            }
            break;
        case CBUS_MESSAGE_SIGNAL:
            if (cbus_span_is(message.sender, BUS_NAME) && cbus_span_is(message.interface, BUS_NAME)) {
                on_driver_signal(front, &message);
            }
            break;
        default:
            if (message.reply_serial >= OURS) {
                on_own_reply(front, &message);
            } else if (cbus_body_check(message.body, message.body_len, message.endian, message.signature,
                                       NULL)) {
                cbus_front_gdbus_reply(front->gdbus, bytes, size);
            }
            break;
    }
}

static void
on_bus_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    CbusFront *front = user_data;
    g_clear_pointer(&front->bus, cbus_bus_free);
    lose_with(front, CBUS_FRONT_ERROR_BUS, "The connection to the bus (%s) is gone: %s", front->address,
              reason->message);
}

CbusFront *
cbus_front_new(CbusLoop *loop, const char *address, const char *name, const CbusFrontHandler *handler,
               gpointer user_data, GError **error)
{
    static const CbusBusHandler bus_handler = {
        .ready = on_bus_ready, .message = on_bus_message, .closed = on_bus_closed};
    static const CbusFrontGDBusHandler gdbus_handler = {.message = on_gdbus_message,
                                                        .connected = on_gdbus_connected,
                                                        .fence = on_gdbus_fence,
                                                        .closed = on_gdbus_closed};
    static const CbusFrontCallersHandler callers_handler = {
        .ask = ask_user, .deliver = deliver_call, .refuse = refuse_call};
    int fd = cbus_bus_connect(address, error);
    if (fd < 0) {
        return NULL;
    }
    g_autoptr(CbusFront) front = g_new0(CbusFront, 1);
    front->handler = *handler;
    front->user_data = user_data;
    front->name = g_strdup(name);
    front->address = g_strdup(address);
    front->serial = OURS;
    front->uid = geteuid();
    front->message_max = CBUS_MESSAGE_MAX;
    if (cbus_bus_is_system(address)) {
        front->message_max = SYSTEM_MAX;
        front->callers = cbus_front_callers_new(&callers_handler, front);
    }
    front->sink = g_byte_array_new();
    front->fences = g_array_new(FALSE, FALSE, sizeof(gsize));
    front->bus = cbus_bus_new(loop, fd, CBUS_BUS_CLIENT, geteuid(), CBUS_MESSAGE_MAX, QUOTA, &bus_handler,
                              front, error);
    if (front->bus == NULL) {
        return NULL;
    }
    front->gdbus = cbus_front_gdbus_new(loop, &gdbus_handler, front, error);
    return front->gdbus != NULL ? g_steal_pointer(&front) : NULL;
}

void
cbus_front_free(CbusFront *front)
{
    if (front == NULL) {
        return;
    }
    g_clear_pointer(&front->gdbus, cbus_front_gdbus_free);
    g_clear_pointer(&front->bus, cbus_bus_free);
    g_clear_pointer(&front->callers, cbus_front_callers_free);
    g_clear_pointer(&front->held, g_byte_array_unref);
    g_array_unref(front->fences);
    g_byte_array_unref(front->sink);
    g_free(front->name);
    g_free(front->address);
    g_free(front);
}
