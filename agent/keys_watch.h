/* Tells that the authorized-keys file may have changed: inotify on the folder that holds its name and on the
 * one that holds what the name resolves to. */
#pragma once
#include <glib.h>

typedef struct _CbusKeysWatch CbusKeysWatch;

/* Never fails: what can not be watched makes cbus_keys_watch_is_whole() FALSE. */
CbusKeysWatch *cbus_keys_watch_new(const char *file);
void cbus_keys_watch_free(CbusKeysWatch *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusKeysWatch, cbus_keys_watch_free)

int cbus_keys_watch_fd(const CbusKeysWatch *watch); /* to poll for input; −1 when there is no inotify */
/* Takes what is pending off the descriptor. TRUE when the file may have changed. */
gboolean cbus_keys_watch_drain(CbusKeysWatch *watch);
/* Watches again what the name means now; call before each reading of the file. */
void cbus_keys_watch_renew(CbusKeysWatch *watch);
/* FALSE: it may change unseen (a folder can not be watched, or there are more links than one), so that the
 * file has to be looked at by the clock. */
gboolean cbus_keys_watch_is_whole(const CbusKeysWatch *watch);
