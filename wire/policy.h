/* Policies: what the holder of a key may do on the bus, as written in the configuration (design, "Who may do
 * what"). Groups [policy NAME] with rules in xdg-dbus-proxy's vocabulary, deny by default:
 *
 *   see=NAME                                the name is listed, looked up, introspected while it runs
 *   talk=NAME                               see, and every call, property and signal
 *   own=NAME                                talk, and RequestName, and broadcasts under that name
 *   call=NAME=[INTERFACE.METHOD][@PATH]     these calls; Get and Set of a property of that name
 *   read=NAME=[INTERFACE.PROPERTY][@PATH]   these properties
 *   broadcast=NAME=[INTERFACE.SIGNAL][@PATH] these signals
 *   deny=NAME=[INTERFACE.MEMBER][@PATH]     takes away what any other rule grants
 *   include=POLICY                          its rules, too
 *
 * NAME is a well-known name, NAME.* (it and those below) or *. INTERFACE.* is every member, * every member of
 * every interface. PATH ends in "/" and "*" for itself and all below. Keys repeat; a value is a ;-list. */
#pragma once
#include "wire/bytes.h"

#define CBUS_POLICY_TEXT_MAX (1024 * 1024) /* bytes of the configuration */
#define CBUS_POLICY_LINE_MAX 4096
#define CBUS_POLICY_RULES    2048 /* of one policy, included ones counted */
#define CBUS_POLICY_COUNT    256
#define CBUS_POLICY_NAME_MAX 63 /* [A-Za-z0-9_-] */

typedef enum {
    CBUS_RULE_SEE,
    CBUS_RULE_TALK,
    CBUS_RULE_OWN,
    CBUS_RULE_CALL,
    CBUS_RULE_READ,
    CBUS_RULE_BROADCAST,
    CBUS_RULE_DENY,
} CbusRuleKind;

typedef struct {
    CbusRuleKind kind;
    const char *file; /* where it stands; of ready-made ones "ready-made" */
    guint line;
    char *text;           /* KEY=VALUE as written, one value */
    char *name;           /* NULL: every name */
    gboolean names_below; /* NAME.* */
    char *interface;      /* NULL: every interface, and every member */
    char *member;         /* NULL: every member */
    char *path;           /* NULL: every path */
    gboolean paths_below; /* PATH and what is below */
} CbusRule;

typedef struct _CbusPolicy CbusPolicy; /* immutable; references are counted without locks: one thread */
CbusPolicy *cbus_policy_ref(const CbusPolicy *policy);
void cbus_policy_unref(CbusPolicy *policy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusPolicy, cbus_policy_unref)
const char *cbus_policy_name(const CbusPolicy *policy);
guint cbus_policy_size(const CbusPolicy *policy);
const CbusRule *cbus_policy_rule(const CbusPolicy *policy, guint position);

typedef struct _CbusPolicies CbusPolicies;
/* One fault; REASON says what is wrong and what to do. */
typedef void (*CbusPolicyFault)(guint line, const char *reason, gpointer user_data);
/* Reads the policies in TEXT, a whole configuration file named FILE; other groups are skipped. A policy with
 * a fault in it, or in what it includes, does not exist; FAULT (may be NULL) is called for each. The
 * ready-made ones (full, readonly, units) are always there. (transfer full) */
CbusPolicies *cbus_policies_parse(const char *text, gsize len, const char *file, CbusPolicyFault fault,
                                  gpointer user_data);
void cbus_policies_free(CbusPolicies *policies);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusPolicies, cbus_policies_free)
/* Borrowed, or NULL: there is none of that name, or it was refused. */
const CbusPolicy *cbus_policies_lookup(const CbusPolicies *policies, const char *name);

gboolean cbus_is_policy_name(CbusSpan name);
/* The text of the ready-made policies, in the same grammar. */
extern const char cbus_policy_ready_made[];
