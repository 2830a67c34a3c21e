/* Match rules (D-Bus specification, "Match Rules"): what AddMatch asks a bus for. Parsed, never searched. */
#pragma once
#include "wire/message.h"

#define CBUS_MATCH_RULE_MAX 1024 /* bytes, as dbus-daemon and dbus-broker have it */

typedef enum {
    CBUS_MATCH_ERROR_INVALID, /* a bus would refuse it, or buses differ about it */
} CbusMatchError;
#define CBUS_MATCH_ERROR (cbus_match_error_quark())
GQuark cbus_match_error_quark(void);

typedef struct _CbusMatchRule CbusMatchRule;

/* Reads TEXT. Whatever the two buses could read differently is refused. (transfer full); any thread. */
CbusMatchRule *cbus_match_rule_parse(CbusSpan text, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_match_rule_free(CbusMatchRule *rule);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusMatchRule, cbus_match_rule_free)

/* The value of KEY as the specification spells it ("sender", "arg0"), or NULL. */
const char *cbus_match_rule_value(const CbusMatchRule *rule, const char *key);
/* TRUE if it asks for messages that are meant for others. */
gboolean cbus_match_rule_eavesdrops(const CbusMatchRule *rule);
/* TRUE if both ask for the same, however they are spelt: RemoveMatch takes away such a rule. */
gboolean cbus_match_rule_equal(const CbusMatchRule *a, const CbusMatchRule *b);
typedef struct {
    CbusSpan text; /* absent: neither a string nor an object path */
    gboolean is_path;
} CbusMatchArgument;

typedef struct {
    CbusSpan sender, path, interface, member;
    const CbusMatchArgument *arguments;
    guint n_arguments;
} CbusMatchSignal;

/* TRUE if a broadcast signal is asked for. SENDER is compared as it stands. */
gboolean cbus_match_rule_wants_signal(const CbusMatchRule *rule, const CbusMatchSignal *signal);
/* TRUE if a broadcast of the bus itself, with these three string arguments (NameOwnerChanged), is asked for.
 */
gboolean cbus_match_rule_wants_driver_signal(const CbusMatchRule *rule, CbusSpan member,
                                             const CbusSpan arguments[3]);
