/* What a client sends into a channel before its machine's bus is connected. Loop thread only. */
#pragma once
#include <glib.h>

typedef struct _CbusEarly CbusEarly;

CbusEarly *cbus_early_new(void) G_GNUC_WARN_UNUSED_RESULT;
void cbus_early_free(CbusEarly *early);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusEarly, cbus_early_free)

/* Copies. FALSE: over the bound, nothing was taken. */
gboolean cbus_early_put_message(CbusEarly *early, const guint8 *message,
                                gsize size) G_GNUC_WARN_UNUSED_RESULT;
gboolean cbus_early_put_tree(CbusEarly *early, guint32 request,
                             const char *destination) G_GNUC_WARN_UNUSED_RESULT;
/* The oldest; NULL when none waits. (transfer full) */
GBytes *cbus_early_take_message(CbusEarly *early) G_GNUC_WARN_UNUSED_RESULT;
/* A destination. REQUEST is set with it. */
char *cbus_early_take_tree(CbusEarly *early, guint32 *request) G_GNUC_WARN_UNUSED_RESULT;
