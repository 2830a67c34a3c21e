/* Tells the service manager what state we are in (sd_notify(3)'s protocol). */
#pragma once

/* STATE: "READY=1", "STOPPING=1" … Does nothing when no manager asked for it; never blocks, never fails. */
void cbus_notify(const char *state);
