/* The proxy's one connection to the session bus, shared by the hot path and by GDBus (design, "Forward
 * bytes").
 *
 * The front owns the real socket. GDBus runs over an in-process socketpair behind it: its serials stay below
 * 2³¹, ours begin there. Who may see which message is the router's decision. Loop thread only. */
#pragma once
#include "link/bus.h"
#include "link/loop.h"
#include <gio/gio.h>

typedef struct _CbusFront CbusFront;

typedef enum {
    CBUS_FRONT_ERROR_OWNED, /* the well-known name is another process's */
    CBUS_FRONT_ERROR_BUS,   /* the bus refused something that a proxy can not do without */
    CBUS_FRONT_ERROR_GDBUS, /* the in-process connection failed */
} CbusFrontError;
#define CBUS_FRONT_ERROR (cbus_front_error_quark())
GQuark cbus_front_error_quark(void);

typedef struct {
    /* A method call to us, at any path. TRUE: handled; FALSE: hand it to GDBus verbatim. */
    gboolean (*call)(CbusFront *front, const CbusMessage *call, const guint8 *bytes, gpointer user_data);
    /* A unique name vanished from the session bus. */
    void (*caller_gone)(CbusFront *front, const char *unique_name, gpointer user_data);
    /* GDBus is connected: objects can be registered on CONNECTION (borrowed). Once; the name is requested
     * when it returns, so that nobody meets a name without its objects. */
    void (*ready)(CbusFront *front, GDBusConnection *connection, gpointer user_data);
    /* The name is ours. Once; may be NULL. */
    void (*owned)(CbusFront *front, gpointer user_data);
    /* After cbus_front_release(): the name is free again. May be NULL. */
    void (*released)(CbusFront *front, gpointer user_data);
    /* The session bus is gone, or the name is (already owned, or lost): REASON says so for an operator. Once.
     * The front may be freed here; until then what is sent is dropped. */
    void (*lost)(CbusFront *front, const GError *reason, gpointer user_data);
} CbusFrontHandler;

/* ADDRESS as for cbus_bus_connect. NAME: the well-known name to own. LOOP's context must be the thread's
 * default one. */
CbusFront *cbus_front_new(CbusLoop *loop, const char *address, const char *name,
                          const CbusFrontHandler *handler, gpointer user_data,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Gives the name back, after all that was sent before: the end of a clean stop. `released` follows. */
void cbus_front_release(CbusFront *front);
/* Closes the connection; what was not written is lost. Objects on the GDBus connection must be unregistered.
 */
void cbus_front_free(CbusFront *front);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusFront, cbus_front_free)

/* The local user behind SENDER, a unique name that called: on the system bus as the bus driver says, or
 * G_MAXUINT32 when it does not; on any other bus us. */
guint32 cbus_front_uid(const CbusFront *front, CbusSpan sender);
guint32 cbus_front_serial(CbusFront *front); /* a fresh one, at or above 2³¹ */
/* Builds one message in place in the outgoing queue (wire/message.h functions, serial from
 * cbus_front_serial). */
GByteArray *cbus_front_begin(CbusFront *front);
void cbus_front_end(CbusFront *front);
gsize cbus_front_pending(const CbusFront *front); /* bytes not yet written to the bus */
/* Bytes of a message that the bus takes: a larger one would cost us the connection. */
gsize cbus_front_message_max(const CbusFront *front);
/* Of a return to CALL, with a fresh serial and as yet without a body. */
CbusHeader cbus_front_reply_header(CbusFront *front, const CbusMessage *call);
/* Answers CALL unless it wants no reply. */
void cbus_front_reply_error(CbusFront *front, const CbusMessage *call, const char *error_name,
                            const char *format, ...) G_GNUC_PRINTF(4, 5);
void cbus_front_reply_empty(CbusFront *front, const CbusMessage *call);
void cbus_front_reply_string(CbusFront *front, const CbusMessage *call, const char *text);
/* Emits one of our own signals in the same queue as mirrored messages. BODY: a tuple or NULL; floating is
 * sunk. */
void cbus_front_emit(CbusFront *front, const char *path, const char *interface, const char *member,
                     GVariant *body);
