/* The network process gives up what it does not need (design, "Privilege separation"). */
#pragma once
#include <glib.h>
#include <sys/types.h>

typedef struct {
    uid_t uid;
    gid_t gid;
} CbusSandboxUser;

/* Whom to become: NAME, or NULL for "cbus" if there is such a user, else "nobody"; never root. May ask name
 * services, so it comes before the fork. */
gboolean cbus_sandbox_find(const char *name, CbusSandboxUser *user, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Becomes USER for good when we are root, else stays who we are; no new privileges and no core dumps either
 * way. Before any thread. On failure the process must end: it may be halfway. */
gboolean cbus_sandbox_enter(const CbusSandboxUser *user, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Nobody but root may trace this process or read its memory; no core is written. */
void cbus_sandbox_hide(void);
