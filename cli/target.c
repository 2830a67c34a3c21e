/* DEST and PATH arguments: a bus name and an object path, as they are on the machines.
 *
 * A path of the mirror (below /ie/bmcgee/CBus) names one object of one machine and makes no sense in a call
 * to many; who has one wants busctl. It is refused here rather than by fifty machines. Pure. */
#include "cli/target.h"

#include "cli/bus.h"
#include "cli/cli.h"
#include "wire/message.h"

gboolean
cbus_target_check(const char *destination, const char *path)
{
    if (!cbus_is_bus_name(cbus_span(destination))) {
        cbus_cli_complain("\"%s\" is no bus name, such as org.freedesktop.systemd1", destination);
        return FALSE;
    }
    if (!cbus_is_object_path(cbus_span(path))) {
        cbus_cli_complain("\"%s\" is no object path, such as /org/freedesktop/systemd1", path);
        return FALSE;
    }
    if (g_str_has_prefix(path, CBUS_PROXY_PATH "/")) {
        cbus_cli_complain("%s is the proxy's path of one machine's object; give the path that it has on the "
                          "machine, or call it with busctl",
                          path);
        return FALSE;
    }
    return TRUE;
}
