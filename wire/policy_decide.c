/* The decision: may this message pass?
 *
 * Rules for a name are rules for its owner, whatever name of it a message is sent to; deny= beats all others.
 *
 * What is not said counts as the worst it could be. A call without interface may reach any interface: it
 * needs a grant for all of them, and any denial that could be meant denies it. GetAll of the interface ""
 * reads every interface. A property call whose arguments have other types than the specification's is such a
 * call, too.
 *
 * A call of Properties is a call of the interface in its argument: read= and call= grant Get, call= grants
 * Set, and GetAll and GetManagedObjects pass when something may be read; what may not is taken out of the
 * answer (wire/policy_body.c). see= grants Introspect and Peer of a service that runs, and nothing else,
 * since a message to one that does not run starts it.
 *
 * Calls of the bus itself are judged in wire/policy_driver.c.
 *
 * Time is linear in rules × names of one owner. Pure, any thread. */
#include "wire/policy_target.h"

gboolean
cbus_judge_visible(const CbusJudge *judge, CbusSpan name)
{
    const CbusSpan none = {NULL, 0};

    if (name.len == 0 || cbus_is_driver(name) || cbus_is_self(judge, name))
        return TRUE;
    CbusTarget about = cbus_target(judge, name, none, none, none);
    return cbus_target_find(judge, CBUS_ANY_GRANT, &about, NULL) != NULL;
}

/* Part of INTERFACE may be read: a rule for one property is about it, at any path when PATH is absent. A
 * call= for one member means a method more often than a property: it is no reason to read the others' list.
 */
static gboolean
reads_some(const CbusRule *rule, const CbusTarget *target)
{
    if (rule->kind == CBUS_RULE_CALL && rule->member != NULL)
        return FALSE;
    if (rule->interface != NULL && target->interface.text != NULL &&
        !cbus_span_is(target->interface, rule->interface))
        return FALSE;
    return target->path.text == NULL || cbus_rule_has_path(rule, target->path);
}

CbusAccess
cbus_judge_interface(const CbusJudge *judge, CbusSpan name, CbusSpan path, CbusSpan interface)
{
    const CbusSpan none = {NULL, 0};
    CbusTarget about = cbus_target(judge, name, path, interface.len > 0 ? interface : none, none);
    const CbusRule *deny = cbus_target_find(judge, CBUS_GRANTS(CBUS_RULE_DENY), &about, cbus_rule_covers);

    if (deny != NULL)
        return CBUS_ACCESS_NONE;
    if (cbus_target_find(judge, CBUS_READS, &about, cbus_rule_covers) != NULL)
        return cbus_target_find(judge, CBUS_GRANTS(CBUS_RULE_DENY), &about, cbus_rule_touches) == NULL
                   ? CBUS_ACCESS_ALL
                   : CBUS_ACCESS_SOME;
    /* Of all interfaces in one nothing can be told apart. */
    if (interface.len == 0 || cbus_target_find(judge, CBUS_READS, &about, reads_some) == NULL)
        return CBUS_ACCESS_NONE;
    return CBUS_ACCESS_SOME;
}

gboolean
cbus_judge_property(const CbusJudge *judge, CbusSpan name, CbusSpan path, CbusSpan interface,
                    CbusSpan property)
{
    const CbusSpan none = {NULL, 0};
    CbusTarget about = cbus_target(judge, name, path, interface.len > 0 ? interface : none, property);

    return cbus_target_grant(judge, CBUS_READS, &about).verdict == CBUS_VERDICT_ALLOW;
}

/* GetAll and GetManagedObjects: ABOUT has no member, and no interface or no path. */
static CbusDecision
judge_bulk_read(const CbusJudge *judge, const CbusTarget *about, gboolean everything)
{
    const CbusRule *deny = cbus_target_find(judge, CBUS_GRANTS(CBUS_RULE_DENY), about, cbus_rule_covers);
    const CbusRule *rule =
        cbus_target_find(judge, CBUS_READS, about, everything ? cbus_rule_covers : reads_some);

    if (deny != NULL)
        return cbus_decided_by(CBUS_VERDICT_DENY, deny);
    return rule != NULL ? cbus_decided_by(CBUS_VERDICT_ALLOW, rule) : cbus_denied;
}

static CbusDecision
judge_properties(const CbusJudge *judge, const CbusFacts *facts, CbusTarget about)
{
    const CbusSpan none = {NULL, 0};
    CbusSpan interface = facts->arguments[0], property = facts->arguments[1];
    guint writes = CBUS_WHOLE | CBUS_GRANTS(CBUS_RULE_CALL);

    about.interface = facts->is_regular && interface.len > 0 ? interface : none;
    if (!facts->is_regular) {
        about.member = none;
        return cbus_target_grant(judge, writes, &about);
    }
    if (cbus_span_is(facts->member, "GetAll")) {
        about.member = none;
        return judge_bulk_read(judge, &about, interface.len == 0);
    }
    about.member = property;
    return cbus_target_grant(judge, cbus_span_is(facts->member, "Get") ? CBUS_READS : writes, &about);
}

/* A service that runs is not started by looking at it. */
static gboolean
is_look(const CbusFacts *facts, const CbusTarget *about)
{
    gboolean is_unique = about->name.text[0] == ':';

    if (about->owned == NULL && !is_unique && (facts->flags & CBUS_FLAG_NO_AUTO_START) == 0)
        return FALSE;
    return cbus_span_is(facts->interface, CBUS_DRIVER ".Peer") ||
           (cbus_span_is(facts->interface, CBUS_DRIVER ".Introspectable") &&
            cbus_span_is(facts->member, "Introspect"));
}

static CbusDecision
judge_call(const CbusJudge *judge, const CbusFacts *facts)
{
    const CbusSpan none = {NULL, 0};
    CbusTarget about = cbus_target(judge, facts->destination, facts->path, facts->interface, facts->member);
    const CbusRule *seen = cbus_target_find(judge, CBUS_ANY_GRANT, &about, NULL);

    if (cbus_is_self(judge, facts->destination))
        return cbus_allowed;
    if (seen == NULL)
        return cbus_hidden;
    if (cbus_span_is(facts->interface, CBUS_DRIVER ".Properties"))
        return judge_properties(judge, facts, about);
    if (cbus_span_is(facts->interface, CBUS_DRIVER ".ObjectManager") &&
        cbus_span_is(facts->member, "GetManagedObjects")) {
        about.path = about.interface = about.member = none;
        return judge_bulk_read(judge, &about, FALSE);
    }
    if (facts->interface.text == NULL)
        about.member = none;
    CbusDecision decision = cbus_target_grant(judge, CBUS_WHOLE | CBUS_GRANTS(CBUS_RULE_CALL), &about);
    if (decision.verdict == CBUS_VERDICT_DENY && decision.rule == NULL && is_look(facts, &about))
        return cbus_decided_by(CBUS_VERDICT_ALLOW, seen);
    return decision;
}

/* A signal that the caller emits. */
static CbusDecision
judge_emitted(const CbusJudge *judge, const CbusFacts *facts)
{
    CbusTarget about;

    if (facts->destination.text != NULL) {
        about = cbus_target(judge, facts->destination, facts->path, facts->interface, facts->member);
        if (cbus_target_find(judge, CBUS_ANY_GRANT, &about, NULL) == NULL)
            return cbus_hidden;
        return cbus_target_grant(judge, CBUS_WHOLE, &about);
    }
    if (judge->self.text == NULL)
        return cbus_denied;
    about = cbus_target(judge, judge->self, facts->path, facts->interface, facts->member);
    return cbus_target_grant(judge, CBUS_GRANTS(CBUS_RULE_OWN), &about);
}

/* What a peer sends to the caller alone: from whom it may see, whatever no deny= takes away. */
static CbusDecision
judge_directed(const CbusJudge *judge, const CbusTarget *about)
{
    const CbusRule *rule = cbus_target_find(judge, CBUS_GRANTS(CBUS_RULE_DENY), about, cbus_rule_touches);

    if (rule != NULL)
        return cbus_decided_by(CBUS_VERDICT_DENY, rule);
    rule = cbus_target_find(judge, CBUS_ANY_GRANT, about, NULL);
    return rule != NULL ? cbus_decided_by(CBUS_VERDICT_ALLOW, rule) : cbus_hidden;
}

/* A call by somebody on the bus: from whom the caller may see; a service is called by strangers. */
static CbusDecision
judge_received_call(const CbusJudge *judge, const CbusFacts *facts)
{
    const CbusTarget about = cbus_target(judge, facts->sender, facts->path, facts->interface, facts->member);

    for (guint i = 0; i < cbus_policy_size(judge->policy); i++)
        if (cbus_policy_rule(judge->policy, i)->kind == CBUS_RULE_OWN)
            return cbus_allowed;
    return cbus_is_driver(facts->sender) || cbus_is_self(judge, facts->sender)
               ? cbus_allowed
               : judge_directed(judge, &about);
}

static gboolean
is_object_manager(const CbusFacts *facts)
{
    return cbus_span_is(facts->interface, CBUS_DRIVER ".ObjectManager") &&
           (cbus_span_is(facts->member, "InterfacesAdded") ||
            cbus_span_is(facts->member, "InterfacesRemoved"));
}

/* A signal that the caller would receive. */
static CbusDecision
judge_received(const CbusJudge *judge, const CbusFacts *facts)
{
    const CbusSpan none = {NULL, 0};
    CbusTarget about = cbus_target(judge, facts->sender, facts->path, facts->interface, facts->member);

    if (cbus_is_driver(facts->sender))
        return !cbus_span_is(facts->member, "NameOwnerChanged") ||
                       cbus_judge_visible(judge, facts->arguments[0])
                   ? cbus_allowed
                   : cbus_hidden;
    if (cbus_is_self(judge, facts->sender))
        return cbus_allowed;
    if (cbus_span_is(facts->interface, CBUS_DRIVER ".Properties") &&
        cbus_span_is(facts->member, "PropertiesChanged")) {
        about.interface = facts->arguments[0];
        about.member = none;
        return judge_bulk_read(judge, &about, facts->arguments[0].len == 0);
    }
    if (is_object_manager(facts)) {
        about.path = facts->arguments[0];
        about.interface = about.member = none;
        return judge_bulk_read(judge, &about, about.path.text == NULL);
    }
    if (facts->destination.text == NULL)
        return cbus_target_grant(judge, CBUS_WHOLE | CBUS_GRANTS(CBUS_RULE_BROADCAST), &about);
    return judge_directed(judge, &about);
}

CbusDecision
cbus_judge(const CbusJudge *judge, const CbusFacts *facts)
{
    switch (facts->type) {
        case CBUS_MESSAGE_CALL:
            if (facts->from_bus)
                return judge_received_call(judge, facts);
            if (facts->destination.text == NULL || cbus_is_driver(facts->destination))
                return cbus_judge_driver(judge, facts);
            return judge_call(judge, facts);
        case CBUS_MESSAGE_SIGNAL:
            return facts->from_bus ? judge_received(judge, facts) : judge_emitted(judge, facts);
        default:
            return facts->requested ? cbus_allowed : cbus_denied;
    }
}
