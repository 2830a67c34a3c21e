/* The known_machines file, read again whenever it changes. Loop thread only. */
#pragma once
#include "link/loop.h"
#include "wire/known_machines.h"

typedef struct _CbusKnown CbusKnown;

/* KNOWN: (transfer full): what the file says now; empty when there is none. */
typedef void (*CbusKnownFunc)(CbusKnownMachines *known, gpointer user_data);

/* Reads FILE (it need not exist) and calls FUNC before it returns, then again after each change (what
 * unpins is believed once it has stayed so for 300 ms). ERROR only when the kernel gives no inotify. */
CbusKnown *cbus_known_new(CbusLoop *loop, const char *file, CbusKnownFunc func, gpointer user_data,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_known_free(CbusKnown *known);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusKnown, cbus_known_free)
