/* Where portals are in the file system: <runtime-dir>/<nkey>/bus, <runtime-dir>/by-name/<name>. */
#pragma once
#include <glib.h>

/* The longest runtime directory below which <nkey>/bus fits into a socket's address (107 bytes). */
#define CBUS_PORTAL_BASE_MAX 46
/* And the longest with which libdbus connects, which takes 99 bytes at most. */
#define CBUS_PORTAL_BASE_LIBDBUS 38

/* Makes the machine's directory (0700) and listens on its socket (0600), whatever was left there by a proxy
 * that was killed. BASE is ours, private and locked. Returns a descriptor or −1. */
int cbus_portal_place_listen(const char *base, const char *nkey, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Removes socket and directory. */
void cbus_portal_place_remove(const char *base, const char *nkey);
/* Makes NAME lead to the machine, and no longer to any other. */
gboolean cbus_portal_place_add_name(const char *base, const char *nkey, const char *name,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Removes NAME if it leads to this machine. */
void cbus_portal_place_remove_name(const char *base, const char *nkey, const char *name);
/* Removes what an earlier proxy left: machines' directories and names. */
void cbus_portal_place_sweep(const char *base);
