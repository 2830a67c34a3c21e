/* Giving up privileges.
 *
 * The network process parses what strangers send; if one of them takes it over it should be nobody on this
 * machine. Started as root it drops every group, gid and uid (real, effective, saved: what is left in one of
 * them can be taken back), every capability from the bounding set on, and the ability to gain any by exec.
 * That it worked is tried out rather than believed. Started as a user it has nothing to drop and shares the
 * uid with its connector; the separation is then one of memory only.
 *
 * Being dumpable is refused after the uid changed, because changing it resets the flag. Under the address
 * sanitizer the flag stays: its leak check traces the process itself.
 *
 * Runs once, before there is a second thread: the flags belong to a thread and are inherited. */
#include "agent/sandbox.h"
#include <errno.h>
#include <gio/gio.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LAST_CAPABILITY 63

static gboolean
find(const char *name, CbusSandboxUser *user)
{
    const struct passwd *entry = getpwnam(name);

    if (entry == NULL)
        return FALSE;
    *user = (CbusSandboxUser){.uid = entry->pw_uid, .gid = entry->pw_gid};
    return TRUE;
}

gboolean
cbus_sandbox_find(const char *name, CbusSandboxUser *user, GError **error)
{
    if (name != NULL ? find(name, user) : find("cbus", user) || find("nobody", user)) {
        if (user->uid != 0)
            return TRUE;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "network-user %s: the process that reads from the network must not be root", name);
        return FALSE;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                "there is no user \"%s\" on this machine: set network-user to one that exists",
                name != NULL ? name : "cbus\" or \"nobody");
    return FALSE;
}

void
cbus_sandbox_hide(void)
{
#ifndef __SANITIZE_ADDRESS__
    (void)prctl(PR_SET_DUMPABLE, 0);
#endif
}

static gboolean
fail(const char *what, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                "the network process can not give up its privileges: %s: %s", what, g_strerror(errno));
    return FALSE;
}

static gboolean
drop(const CbusSandboxUser *user, GError **error)
{
    for (int capability = 0; capability <= LAST_CAPABILITY; capability++)
        if (prctl(PR_CAPBSET_READ, capability) == 1 && prctl(PR_CAPBSET_DROP, capability) != 0)
            return fail("PR_CAPBSET_DROP", error);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (setgroups(0, NULL) != 0)
        return fail("setgroups", error);
    if (setresgid(user->gid, user->gid, user->gid) != 0)
        return fail("setresgid", error);
    if (setresuid(user->uid, user->uid, user->uid) != 0)
        return fail("setresuid", error);
    if (user->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0)) {
        errno = EPERM;
        return fail("root could be had back", error);
    }
    return TRUE;
}

gboolean
cbus_sandbox_enter(const CbusSandboxUser *user, GError **error)
{
    if (geteuid() == 0 && !drop(user, error))
        return FALSE;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail("PR_SET_NO_NEW_PRIVS", error);
    cbus_sandbox_hide();
    return TRUE;
}
