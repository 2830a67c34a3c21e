/* What could stand next on a command line: the parts of `cbus complete`. */
#pragma once
#include "cli/fleet.h"
#include "cli/member.h"

/* The word that is being typed. */
typedef struct {
    const char *kept;  /* what stands in front of it and stays: "--nkeys=web1," */
    const char *typed; /* what candidates begin with */
} CbusTyping;

/* Prints CANDIDATE and WHAT it is, if it begins as what was typed. WHAT may be remote text, or NULL. */
void cbus_complete_offer(const CbusTyping *typing, const char *candidate, const char *what);

/* Each asks the proxy that OPTIONS name, of the machines that they choose, and offers: */
void cbus_complete_machines(const CbusTyping *typing, const CbusFleetOptions *options);
void cbus_complete_tags(const CbusTyping *typing, const CbusFleetOptions *options);
void cbus_complete_strangers(const CbusTyping *typing, const CbusFleetOptions *options);
void cbus_complete_services(const CbusTyping *typing, const CbusFleetOptions *options);
void cbus_complete_paths(const CbusTyping *typing, const CbusFleetOptions *options, const char *destination);
void cbus_complete_members(const CbusTyping *typing, const CbusFleetOptions *options, const char *destination,
                           const char *path, CbusMemberKind kind);
void cbus_complete_signature(const CbusTyping *typing, const CbusFleetOptions *options,
                             const char *destination, const char *path, const char *method);
