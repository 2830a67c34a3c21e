/* The interface that a method or property belongs to, when it was left out. */
#pragma once
#include "cli/fleet.h"
#include "wire/member.h"

/* Looks MEMBER up on the machines: the first few that are online are asked, and the first that has it
 * counts. */
gboolean cbus_member_look_up(const CbusFleet *fleet, const CbusFleetOptions *options, const char *destination,
                             const char *path, CbusMemberKind kind, CbusMember *member,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
