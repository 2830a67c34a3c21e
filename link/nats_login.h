/* What it takes to log in to a NATS server: URLs, certificates, and who signs the server's nonce. */
#pragma once
#include "link/nats.h"
#include <nats/nats.h>

/* Shared between the loop and a worker; counted. */
typedef struct _CbusNatsLogin CbusNatsLogin;

/* Copies OPTIONS. CBUS_NATS_ERROR_OPTIONS names the URL or the option that can not be used. */
CbusNatsLogin *cbus_nats_login_new(const CbusNatsOptions *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;
CbusNatsLogin *cbus_nats_login_ref(CbusNatsLogin *login);
void cbus_nats_login_unref(CbusNatsLogin *login);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNatsLogin, cbus_nats_login_unref)
/* After it returns the signer is not running and is never called again. Loop thread. */
void cbus_nats_login_disarm(CbusNatsLogin *login);

/* Library options for one attempt, files read anew. LOGIN must outlive their use. Worker thread; blocks. */
natsOptions *cbus_nats_login_options(CbusNatsLogin *login, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The servers as an operator may see them: without user, password or token. */
const char *cbus_nats_login_servers(const CbusNatsLogin *login);
gboolean cbus_nats_login_has_port(const CbusNatsLogin *login, guint16 port);
/* As whom, for an operator; never a secret. (transfer full) */
char *cbus_nats_login_describe(const CbusNatsLogin *login) G_GNUC_WARN_UNUSED_RESULT;
/* TEXT without the "(file.c:line): " that the library begins its texts with. NULL for NULL. */
const char *cbus_nats_plain(const char *text);
/* What the library says about the last failure on this thread, or else about STATUS; never empty. Borrowed
 * until the next library call. */
const char *cbus_nats_detail(natsStatus status);
