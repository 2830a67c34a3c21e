/* Matching rules with what a message is about.
 *
 * A name stands for the process that owns it: a rule for any of an owner's names covers the other ones and
 * its unique name, since the same process answers. A process that nobody named by rule and that owns nothing
 * is covered by rules for every name ("*") alone.
 *
 * Two questions are told apart: whether a rule certainly covers something, which is what a grant has to do,
 * and whether it possibly touches it, which is enough for a denial.
 *
 * Time is linear in rules × names of one owner. Pure, any thread. */
#include "wire/policy_target.h"

CbusTarget
cbus_target(const CbusJudge *judge, CbusSpan name, CbusSpan path, CbusSpan interface, CbusSpan member)
{
    return (CbusTarget){name, judge->names(name, judge->user_data), path, interface, member};
}

/* TEXT is WHOLE, or WHOLE and SEPARATOR begin it. */
static gboolean
is_below(CbusSpan text, const char *whole, char separator)
{
    gsize len = strlen(whole);

    if (text.len < len || memcmp(text.text, whole, len) != 0)
        return FALSE;
    return text.len == len || text.text[len] == separator;
}

static gboolean
names_one(const CbusRule *rule, CbusSpan name)
{
    return rule->names_below ? is_below(name, rule->name, '.') : cbus_span_is(name, rule->name);
}

gboolean
cbus_rule_is_about(const CbusRule *rule, const CbusTarget *target)
{
    if (rule->name == NULL || names_one(rule, target->name))
        return TRUE;
    for (guint i = 0; target->owned != NULL && target->owned[i] != NULL; i++)
        if (names_one(rule, cbus_span(target->owned[i])))
            return TRUE;
    return FALSE;
}

gboolean
cbus_rule_has_path(const CbusRule *rule, CbusSpan path)
{
    if (rule->path == NULL)
        return TRUE;
    return rule->paths_below ? is_below(path, rule->path, '/') : cbus_span_is(path, rule->path);
}

gboolean
cbus_rule_covers(const CbusRule *rule, const CbusTarget *target)
{
    return (rule->interface == NULL || cbus_span_is(target->interface, rule->interface)) &&
           (rule->member == NULL || cbus_span_is(target->member, rule->member)) &&
           cbus_rule_has_path(rule, target->path);
}

static gboolean
may_be(CbusSpan known, const char *wanted)
{
    return wanted == NULL || known.text == NULL || cbus_span_is(known, wanted);
}

gboolean
cbus_rule_touches(const CbusRule *rule, const CbusTarget *target)
{
    return may_be(target->interface, rule->interface) && may_be(target->member, rule->member) &&
           (target->path.text == NULL || cbus_rule_has_path(rule, target->path));
}

const CbusRule *
cbus_target_find(const CbusJudge *judge, guint kinds, const CbusTarget *target, CbusRuleFits fits)
{
    guint size = cbus_policy_size(judge->policy);

    for (guint i = 0; i < size; i++) {
        const CbusRule *rule = cbus_policy_rule(judge->policy, i);
        if ((kinds & CBUS_GRANTS(rule->kind)) != 0 && cbus_rule_is_about(rule, target) &&
            (fits == NULL || fits(rule, target)))
            return rule;
    }
    return NULL;
}

CbusDecision
cbus_target_grant(const CbusJudge *judge, guint kinds, const CbusTarget *target)
{
    const CbusRule *rule = cbus_target_find(judge, CBUS_GRANTS(CBUS_RULE_DENY), target, cbus_rule_touches);

    if (rule != NULL)
        return cbus_decided_by(CBUS_VERDICT_DENY, rule);
    rule = cbus_target_find(judge, kinds, target, cbus_rule_covers);
    return rule != NULL ? cbus_decided_by(CBUS_VERDICT_ALLOW, rule) : cbus_denied;
}

gboolean
cbus_is_driver(CbusSpan name)
{
    return cbus_span_is(name, CBUS_DRIVER);
}

gboolean
cbus_is_self(const CbusJudge *judge, CbusSpan name)
{
    return judge->self.text != NULL && cbus_span_equal(judge->self, name);
}
