/* What rules are about: shared by the judges of services and of the bus itself, and by nobody else. */
#pragma once
#include "wire/policy_decide.h"

#define CBUS_DRIVER "org.freedesktop.DBus"

/* Whom a rule has to be about, and what. Absent interface or member: unknown, so any. */
typedef struct {
    CbusSpan name;
    const char *const *owned; /* NULL: nobody owns the name */
    CbusSpan path, interface, member;
} CbusTarget;

/* Sets of rule kinds. */
#define CBUS_GRANTS(kind) (1u << (kind))
#define CBUS_WHOLE        (CBUS_GRANTS(CBUS_RULE_TALK) | CBUS_GRANTS(CBUS_RULE_OWN))
#define CBUS_READS        (CBUS_WHOLE | CBUS_GRANTS(CBUS_RULE_CALL) | CBUS_GRANTS(CBUS_RULE_READ))
#define CBUS_ANY_GRANT    (CBUS_READS | CBUS_GRANTS(CBUS_RULE_SEE) | CBUS_GRANTS(CBUS_RULE_BROADCAST))

static const CbusDecision cbus_allowed = {CBUS_VERDICT_ALLOW, NULL};
static const CbusDecision cbus_denied = {CBUS_VERDICT_DENY, NULL};
static const CbusDecision cbus_hidden = {CBUS_VERDICT_HIDE, NULL};

static inline CbusDecision
cbus_decided_by(CbusVerdict verdict, const CbusRule *rule)
{
    return (CbusDecision){verdict, rule};
}

CbusTarget cbus_target(const CbusJudge *judge, CbusSpan name, CbusSpan path, CbusSpan interface,
                       CbusSpan member);
gboolean cbus_rule_is_about(const CbusRule *rule, const CbusTarget *target);
gboolean cbus_rule_has_path(const CbusRule *rule, CbusSpan path);
/* Certainly about path, interface and member: what is unknown has to be granted wholly. */
gboolean cbus_rule_covers(const CbusRule *rule, const CbusTarget *target);
/* Possibly about them. */
gboolean cbus_rule_touches(const CbusRule *rule, const CbusTarget *target);

/* The first rule of KINDS about TARGET for which FITS (NULL: any). */
typedef gboolean (*CbusRuleFits)(const CbusRule *rule, const CbusTarget *target);
const CbusRule *cbus_target_find(const CbusJudge *judge, guint kinds, const CbusTarget *target,
                                 CbusRuleFits fits);
/* Whether one of KINDS grants all of TARGET and no deny= could be meant. */
CbusDecision cbus_target_grant(const CbusJudge *judge, guint kinds, const CbusTarget *target);

gboolean cbus_is_driver(CbusSpan name);
gboolean cbus_is_self(const CbusJudge *judge, CbusSpan name);
/* Calls of org.freedesktop.DBus, and calls without destination. */
CbusDecision cbus_judge_driver(const CbusJudge *judge, const CbusFacts *facts);
