/* What SERVERINFO says of this machine: a claimed name, machine id, boot id, version. */
#pragma once
#include <glib.h>

typedef struct {
    char *name, *machine_id, *boot_id; /* ids: 32 lower-case hexadecimal digits, or "" when there is none */
    const char *version;
} CbusServerInfo;

/* NAME: as --name says, or NULL for the host's. Returns NULL when NAME is none that a machine may have. */
CbusServerInfo *cbus_server_info_new(const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_server_info_free(CbusServerInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusServerInfo, cbus_server_info_free)
