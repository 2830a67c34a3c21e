/* The end of the front where GDBus sits: a socketpair with a GDBusConnection on its other side. Used by
 * front.c alone. Loop thread only. */
#pragma once
#include "link/bus.h"
#include "link/loop.h"
#include <gio/gio.h>

typedef struct _CbusFrontGDBus CbusFrontGDBus;

typedef struct {
    /* What GDBus sends to the bus, verbatim; borrowed until return. */
    void (*message)(const CbusMessage *message, const guint8 *bytes, gpointer user_data);
    /* GDBus has its unique name. */
    void (*connected)(GDBusConnection *connection, gpointer user_data);
    /* The oldest fence passed: every reply that GDBus had computed when it was set came before. */
    void (*fence)(gpointer user_data);
    /* GDBus is gone, once. */
    void (*closed)(const GError *reason, gpointer user_data);
} CbusFrontGDBusHandler;

CbusFrontGDBus *cbus_front_gdbus_new(CbusLoop *loop, const CbusFrontGDBusHandler *handler, gpointer user_data,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_front_gdbus_free(CbusFrontGDBus *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusFrontGDBus, cbus_front_gdbus_free)

/* A reply to something that GDBus sent. */
void cbus_front_gdbus_reply(CbusFrontGDBus *self, const guint8 *bytes, gsize size);
/* A call with a checked body. FALSE, and nothing done, while too many are unanswered. */
gboolean cbus_front_gdbus_call(CbusFrontGDBus *self, const CbusMessage *call,
                               const guint8 *bytes) G_GNUC_WARN_UNUSED_RESULT;
/* Replies of GDBus may be under way: state that changes now needs a fence before it is told. */
gboolean cbus_front_gdbus_busy(const CbusFrontGDBus *self);
void cbus_front_gdbus_fence(CbusFrontGDBus *self);
