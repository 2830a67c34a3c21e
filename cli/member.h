/* The interface that a method or property belongs to, when it was left out. */
#pragma once
#include "cli/fleet.h"
#include "cli/report.h"
#include "wire/member.h"

/* Looks MEMBER up on the machines: the first few that are online are asked, and the first that has it
 * counts. */
gboolean cbus_member_look_up(const CbusFleet *fleet, const CbusFleetOptions *options, const char *destination,
                             const char *path, CbusMemberKind kind, CbusMember *member,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same for a verb. Anything but CBUS_EXIT_OK was told; when no machine is online, by a report of each as
 * REPORT shows them. */
CbusExit cbus_member_require(const CbusFleet *fleet, const CbusFleetOptions *options, const char *destination,
                             const char *path, CbusMemberKind kind, CbusReportKind report,
                             CbusMember *member) G_GNUC_WARN_UNUSED_RESULT;
