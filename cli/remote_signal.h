/* Signals of machines as the mirror re-emits them, told apart by machine and service again. */
#pragma once
#include "cli/fleet.h"
#include "wire/match_rule.h"

typedef struct {
    const CbusRosterMachine *machine;
    char *sender; /* the well-known name whose object it is */
    char *path;   /* as the machine has it */
    const char *interface, *member;
    GVariant *body; /* a tuple whose paths are the machine's own */
} CbusSignal;

/* What the session bus delivered; borrowed. FALSE unless it is a signal of one of MACHINES; then free OUT
 * with cbus_signal_clear(). */
gboolean cbus_signal_read(CbusSignal *out, const GPtrArray *machines, const char *path, const char *interface,
                          const char *member, GVariant *body) G_GNUC_WARN_UNUSED_RESULT;
void cbus_signal_clear(CbusSignal *signal);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CbusSignal, cbus_signal_clear)
/* TRUE if one of RULES (of CbusMatchRule) asks for it, or there is none. */
gboolean cbus_signal_is_wanted(const CbusSignal *signal, const GPtrArray *rules);
/* One line each, without a newline; NOW in µs, realtime. (transfer full) */
char *cbus_signal_text(const CbusSignal *signal, gint64 now);
char *cbus_signal_json(const CbusSignal *signal, gint64 now);
/* "12:34:56.789012" local time, and ISO 8601 in UTC. (transfer full) */
char *cbus_signal_clock(gint64 now);
char *cbus_signal_timestamp(gint64 now);
/* Of MACHINES the one that PATH, at or below a machine's node, belongs to; REST: what follows the NKey. */
const CbusRosterMachine *cbus_signal_machine(const GPtrArray *machines, const char *path, const char **rest);
