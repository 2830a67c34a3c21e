/* One process per user that connects to the bus, so that the bus sees this user's uid, groups and pid
 * (design, "Privilege separation"). This is the connector's side of it. */
#pragma once
#include "wire/authorized_keys.h"

typedef struct _CbusUserChild CbusUserChild;

/* Why connections of LINE's user can not be made on this machine, or NULL. (transfer full) May ask name
 * services, and wait for them. */
char *cbus_user_child_judge(const CbusAuthorizedLine *line, gpointer unused);

/* Whether USER (a name, or NULL for whoever we are) can have connections of lines without a user. */
gboolean cbus_user_child_judge_default(const char *user, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Forks. USER: a name, or NULL for whoever we are. BUS: as --bus. IN_CHILD (may be NULL) runs first in the
 * child: it wipes what the child must not have. The caller must have no other thread. */
CbusUserChild *cbus_user_child_new(const char *user, const char *bus, void (*in_child)(gpointer user_data),
                                   gpointer user_data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ends the process. */
void cbus_user_child_free(CbusUserChild *child);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusUserChild, cbus_user_child_free)

/* Answers come here as CBUS_DATAGRAM_CONNECTED or CBUS_DATAGRAM_FAILED, with the
 * request's id. Never blocks for a bus that hangs. */
int cbus_user_child_fd(const CbusUserChild *child);
/* Asks for one connection. FALSE: the process is gone, or too many requests wait. */
gboolean cbus_user_child_connect(CbusUserChild *child, guint32 id, GError **error) G_GNUC_WARN_UNUSED_RESULT;
