/* Judging calls of the bus itself.
 *
 * What every client needs is allowed: Hello, matches, lists and lookups (of names that may be seen; lists are
 * filtered by agent/filter.c). RequestName and ReleaseName take own=, StartServiceByName talk=. All else, and
 * every call without destination, takes a call= rule that names org.freedesktop.DBus and the interface; what
 * spies on others or changes the bus takes one that names the method, so that no wildcard grants it by
 * accident. To eavesdrop by a match is to monitor: both are granted by the rule for BecomeMonitor.
 *
 * The bus finds a method by its name when a call has no interface, on whatever path: so do we. Match rules
 * are parsed; one that does not parse is denied, since the bus might read it otherwise.
 *
 * Pure, any thread. */
#include "wire/match_rule.h"
#include "wire/policy_target.h"

/* A call= rule that names the bus and INTERFACE, and MEMBER when EXACT. */
static CbusDecision
judge_explicit(const CbusJudge *judge, const CbusFacts *facts, const char *interface, gboolean exact)
{
    const CbusTarget about = {CBUS_SPAN_LITERAL(CBUS_DRIVER), NULL, facts->path, cbus_span(interface),
                              facts->member};
    guint size = cbus_policy_size(judge->policy);
    const CbusRule *found = NULL;

    for (guint i = 0; i < size; i++) {
        const CbusRule *rule = cbus_policy_rule(judge->policy, i);
        if (rule->kind == CBUS_RULE_DENY && cbus_rule_is_about(rule, &about) &&
            cbus_rule_touches(rule, &about))
            return cbus_decided_by(CBUS_VERDICT_DENY, rule);
        if (rule->kind != CBUS_RULE_CALL || rule->name == NULL || rule->names_below ||
            rule->interface == NULL || (exact && rule->member == NULL))
            continue;
        if (found == NULL && cbus_rule_is_about(rule, &about) && cbus_rule_covers(rule, &about))
            found = rule;
    }
    return found != NULL ? cbus_decided_by(CBUS_VERDICT_ALLOW, found) : cbus_denied;
}

typedef enum {
    FREE,   /* for everybody; answers are filtered */
    LOOKUP, /* of a name that may be seen */
    OWN,
    START,
    MATCH,
    POWER, /* spies on others, or changes the bus */
} Treatment;

static const struct {
    const char *interface, *member;
    Treatment treatment;
} driver_methods[] = {
    {CBUS_DRIVER, "Hello", FREE},
    {CBUS_DRIVER, "GetId", FREE},
    {CBUS_DRIVER, "ListNames", FREE},
    {CBUS_DRIVER, "ListActivatableNames", FREE},
    {CBUS_DRIVER, "RemoveMatch", FREE},
    {CBUS_DRIVER, "AddMatch", MATCH},
    {CBUS_DRIVER, "GetNameOwner", LOOKUP},
    {CBUS_DRIVER, "NameHasOwner", LOOKUP},
    {CBUS_DRIVER, "ListQueuedOwners", LOOKUP},
    {CBUS_DRIVER, "GetConnectionUnixUser", LOOKUP},
    {CBUS_DRIVER, "GetConnectionUnixProcessID", LOOKUP},
    {CBUS_DRIVER, "GetConnectionCredentials", LOOKUP},
    {CBUS_DRIVER, "GetAdtAuditSessionData", LOOKUP},
    {CBUS_DRIVER, "GetConnectionSELinuxSecurityContext", LOOKUP},
    {CBUS_DRIVER, "RequestName", OWN},
    {CBUS_DRIVER, "ReleaseName", OWN},
    {CBUS_DRIVER, "StartServiceByName", START},
    {CBUS_DRIVER ".Introspectable", "Introspect", FREE},
    {CBUS_DRIVER ".Peer", "Ping", FREE},
    {CBUS_DRIVER ".Peer", "GetMachineId", FREE},
    {CBUS_DRIVER ".Properties", "Get", FREE},
    {CBUS_DRIVER ".Properties", "GetAll", FREE},
    {CBUS_DRIVER ".Monitoring", "BecomeMonitor", POWER},
    {CBUS_DRIVER, "UpdateActivationEnvironment", POWER},
    {CBUS_DRIVER, "ReloadConfig", POWER},
    {CBUS_DRIVER ".Debug.Stats", "GetStats", POWER},
    {CBUS_DRIVER ".Debug.Stats", "GetConnectionStats", POWER},
    {CBUS_DRIVER ".Debug.Stats", "GetAllMatchRules", POWER},
};

/* A name in the argument of a call of the bus. */
static CbusDecision
judge_name(const CbusJudge *judge, const CbusFacts *facts, guint kinds, const char *interface)
{
    const CbusSpan none = {NULL, 0};
    CbusSpan name = facts->arguments[0];

    if (name.text == NULL)
        return cbus_denied;
    CbusDecision explicit = judge_explicit(judge, facts, interface, TRUE);
    if (explicit.rule != NULL)
        return explicit;
    CbusTarget about = {name, NULL, none, none, none};
    const CbusRule *rule = name.len > 0 ? cbus_target_find(judge, kinds, &about, NULL) : NULL;
    if (rule != NULL)
        return cbus_decided_by(CBUS_VERDICT_ALLOW, rule);
    return cbus_judge_visible(judge, name) || (kinds & CBUS_GRANTS(CBUS_RULE_TALK)) == 0 ? cbus_denied
                                                                                         : cbus_hidden;
}

static CbusDecision
judge_match(const CbusJudge *judge, const CbusFacts *facts)
{
    const CbusFacts monitor = {.path = facts->path, .member = CBUS_SPAN_LITERAL("BecomeMonitor")};
    g_autoptr(CbusMatchRule) rule =
        facts->arguments[0].text != NULL ? cbus_match_rule_parse(facts->arguments[0], NULL) : NULL;

    if (rule == NULL)
        return cbus_denied;
    if (!cbus_match_rule_eavesdrops(rule))
        return cbus_allowed;
    return judge_explicit(judge, &monitor, CBUS_DRIVER ".Monitoring", TRUE);
}

/* A call that the bus does not do for everybody, or that names nobody. */
static CbusDecision
judge_nowhere(const CbusJudge *judge, const CbusFacts *facts)
{
    if (facts->interface.text == NULL)
        return cbus_denied;
    g_autofree char *interface = g_strndup(facts->interface.text, facts->interface.len);
    return judge_explicit(judge, facts, interface, FALSE);
}

/* A deny= that names the bus holds for what is free for everybody, too. */
static const CbusRule *
find_denial(const CbusJudge *judge, const CbusFacts *facts)
{
    const CbusTarget about = {CBUS_SPAN_LITERAL(CBUS_DRIVER), NULL, facts->path, facts->interface,
                              facts->member};
    guint size = cbus_policy_size(judge->policy);

    for (guint i = 0; i < size; i++) {
        const CbusRule *rule = cbus_policy_rule(judge->policy, i);
        if (rule->kind == CBUS_RULE_DENY && rule->name != NULL && cbus_rule_is_about(rule, &about) &&
            cbus_rule_touches(rule, &about))
            return rule;
    }
    return NULL;
}

CbusDecision
cbus_judge_driver(const CbusJudge *judge, const CbusFacts *facts)
{
    const CbusRule *denial = find_denial(judge, facts);

    if (denial != NULL)
        return cbus_decided_by(CBUS_VERDICT_DENY, denial);
    if (facts->destination.text == NULL)
        return judge_nowhere(judge, facts);
    for (guint i = 0; i < G_N_ELEMENTS(driver_methods); i++) {
        const char *interface = driver_methods[i].interface;
        if (!cbus_span_is(facts->member, driver_methods[i].member))
            continue;
        if (facts->interface.text != NULL && !cbus_span_is(facts->interface, interface))
            continue;
        switch (driver_methods[i].treatment) {
            case FREE:
                return cbus_allowed;
            case LOOKUP:
                return cbus_judge_visible(judge, facts->arguments[0]) ? cbus_allowed : cbus_hidden;
            case OWN:
                return judge_name(judge, facts, CBUS_GRANTS(CBUS_RULE_OWN), interface);
            case START:
                return judge_name(judge, facts, CBUS_WHOLE, interface);
            case MATCH:
                return judge_match(judge, facts);
            case POWER:
                return judge_explicit(judge, facts, interface, TRUE);
        }
    }
    return judge_nowhere(judge, facts);
}
