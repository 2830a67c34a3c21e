/* The runtime directory: ours, private, and locked against a second proxy. */
#pragma once
#include <glib.h>

typedef struct _CbusRuntimeDir CbusRuntimeDir;
/* Creates PATH with mode 0700 (its parent must exist), or takes one that is ours and closed to others, and
 * locks it. Refuses one below which a portal's socket would have too long a path. Does not block. */
CbusRuntimeDir *cbus_runtime_dir_new(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
const char *cbus_runtime_dir_path(const CbusRuntimeDir *dir); /* absolute */
/* Unlocks; the directory stays. */
void cbus_runtime_dir_free(CbusRuntimeDir *dir);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusRuntimeDir, cbus_runtime_dir_free)
