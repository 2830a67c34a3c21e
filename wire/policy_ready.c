/* The ready-made policies, written as an operator would write them; the names are reserved.
 *
 * full: everything but listening in on others and the bus's own administration, which wire/policy_decide.c
 * grants to explicit rules alone. Not to be confused with no policy at all, which judges nothing.
 *
 * readonly: look, do not touch. Properties of everything, introspection, signals, and the methods of systemd,
 * logind, hostnamed, timedated and NetworkManager that only read. A reading method is one that changes
 * nothing, needs no authorization of polkit, and tells no secret: so not Dump (the environment of every
 * service is in it), not GetProductUUID or GetHardwareSerial, not GetSecrets, and no Environment or
 * SetCredential properties, which hold passwords more often than they should. Subscribe is in it because
 * systemd sends no signal without it; LoadUnit because systemctl reads units through it.
 *
 * units: readonly, and starting, stopping, restarting and reloading of units. Whoever may start units may
 * start reboot.target; a policy of one's own can name the units:
 * call=…Unit.Start@/org/…/unit/nginx_2eservice.
 *
 * Data, no code. */
#include "wire/policy.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define MANAGER SYSTEMD "=" SYSTEMD ".Manager."
#define UNIT    SYSTEMD "=" SYSTEMD ".Unit."
#define LOGIND  "org.freedesktop.login1=org.freedesktop.login1.Manager."
#define NM      "org.freedesktop.NetworkManager=org.freedesktop.NetworkManager."

#define SECRET(interface)                                                                                    \
    "deny=" SYSTEMD "=" SYSTEMD "." interface ".Environment\n"                                               \
    "deny=" SYSTEMD "=" SYSTEMD "." interface ".SetCredential\n"                                             \
    "deny=" SYSTEMD "=" SYSTEMD "." interface ".SetCredentialEncrypted\n"

const char cbus_policy_ready_made[] =
    /* clang-format off */
    "[policy full]\n"
    "own=*\n"

    "[policy readonly]\n"
    "see=*\n"
    "read=*=*\n"
    "broadcast=*=*\n"
    "call=*=org.freedesktop.DBus.Introspectable.Introspect;*=org.freedesktop.DBus.Peer.*\n"
    SECRET("Manager") SECRET("Service") SECRET("Socket") SECRET("Mount") SECRET("Swap")
    "call=" MANAGER "GetUnit;" MANAGER "GetUnitByPID;" MANAGER "GetUnitByInvocationID;"
            MANAGER "GetUnitByControlGroup;" MANAGER "LoadUnit;" MANAGER "GetUnitProcesses\n"
    "call=" MANAGER "GetJob;" MANAGER "GetJobAfter;" MANAGER "GetJobBefore;" MANAGER "ListJobs\n"
    "call=" SYSTEMD "=" SYSTEMD ".Job.GetAfter;" SYSTEMD "=" SYSTEMD ".Job.GetBefore\n"
    "call=" MANAGER "ListUnits;" MANAGER "ListUnitsFiltered;" MANAGER "ListUnitsByPatterns;"
            MANAGER "ListUnitsByNames\n"
    "call=" MANAGER "ListUnitFiles;" MANAGER "ListUnitFilesByPatterns;" MANAGER "GetUnitFileState;"
            MANAGER "GetUnitFileLinks;" MANAGER "GetDefaultTarget\n"
    "call=" MANAGER "Subscribe;" MANAGER "Unsubscribe\n"
    "call=" MANAGER "LookupDynamicUserByName;" MANAGER "LookupDynamicUserByUID;" MANAGER "GetDynamicUsers\n"
    "call=" LOGIND "GetSession;" LOGIND "GetSessionByPID;" LOGIND "GetUser;" LOGIND "GetUserByPID;"
            LOGIND "GetSeat\n"
    "call=" LOGIND "ListSessions;" LOGIND "ListUsers;" LOGIND "ListSeats;" LOGIND "ListInhibitors\n"
    "call=" LOGIND "CanPowerOff;" LOGIND "CanReboot;" LOGIND "CanHalt;" LOGIND "CanSuspend;"
            LOGIND "CanHibernate;" LOGIND "CanHybridSleep;" LOGIND "CanSuspendThenHibernate\n"
    "call=" LOGIND "CanRebootParameter;" LOGIND "CanRebootToFirmwareSetup;"
            LOGIND "CanRebootToBootLoaderMenu;" LOGIND "CanRebootToBootLoaderEntry\n"
    "call=org.freedesktop.hostname1=org.freedesktop.hostname1.Describe\n"
    "call=org.freedesktop.timedate1=org.freedesktop.timedate1.ListTimezones\n"
    "call=" NM "GetDevices;" NM "GetAllDevices;" NM "GetDeviceByIpIface;" NM "GetPermissions;"
            NM "GetLogging;" NM "state\n"
    "call=" NM "Device.GetAppliedConnection;" NM "Device.Wireless.GetAccessPoints;"
            NM "Device.Wireless.GetAllAccessPoints\n"
    "call=" NM "Settings.ListConnections;" NM "Settings.GetConnectionByUuid;"
            NM "Settings.Connection.GetSettings\n"

    "[policy units]\n"
    "include=readonly\n"
    "call=" MANAGER "StartUnit;" MANAGER "StartUnitWithFlags;" MANAGER "StopUnit;" MANAGER "RestartUnit;"
            MANAGER "TryRestartUnit\n"
    "call=" MANAGER "ReloadUnit;" MANAGER "ReloadOrRestartUnit;" MANAGER "ReloadOrTryRestartUnit\n"
    "call=" UNIT "Start;" UNIT "Stop;" UNIT "Restart;" UNIT "TryRestart\n"
    "call=" UNIT "Reload;" UNIT "ReloadOrRestart;" UNIT "ReloadOrTryRestart\n";
/* clang-format on */
