/* The connector's children, one for each user that callers have: who is asked, and what comes back. Single
 * thread; blocks for its client alone. */
#pragma once
#include <glib.h>

typedef struct _CbusUserChildren CbusUserChildren;

/* CLIENT: the socket that answers go to, with the request's id. DEFAULT_USER: for whom none is named; NULL:
 * whoever we are. IN_CHILD: as for cbus_user_child_new(). Aborts without an epoll descriptor. */
CbusUserChildren *cbus_user_children_new(int client, const char *default_user, const char *bus,
                                         void (*in_child)(gpointer user_data), gpointer user_data);
void cbus_user_children_free(CbusUserChildren *children); /* ends the processes */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusUserChildren, cbus_user_children_free)

/* To poll for input: then cbus_user_children_serve(). */
int cbus_user_children_fd(const CbusUserChildren *children);
/* Asks for a connection as USER (NULL: the default). A failure is an answer; FALSE: the client is gone. */
gboolean cbus_user_children_connect(CbusUserChildren *children, const char *user, guint32 id,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Passes on what children answered. FALSE: the client is gone. */
gboolean cbus_user_children_serve(CbusUserChildren *children, GError **error) G_GNUC_WARN_UNUSED_RESULT;
