/* Policies: every policy that is read has rules that are whole, and decides about any message; every fault
 * has a reason that can be shown. */
#include "tests/fuzz/fuzz.h"
#include "wire/policy_decide.h"

static const char *const *
names_of(CbusSpan name, gpointer user_data)
{
    static const char *const names[] = {"a.b", "c.d", NULL};

    return names;
}

static void
on_fault(guint line, const char *reason, gpointer user_data)
{
    FUZZ_CHECK(reason[0] != '\0');
    ++*(guint *)user_data;
}

static void
check(const CbusPolicy *policy)
{
    const CbusJudge judge = {policy, names_of, NULL, CBUS_SPAN_LITERAL(":1.1")};
    CbusFacts facts = {.type = CBUS_MESSAGE_CALL,
                       .destination = CBUS_SPAN_LITERAL("a.b"),
                       .path = CBUS_SPAN_LITERAL("/"),
                       .member = CBUS_SPAN_LITERAL("M")};

    for (guint i = 0; i < cbus_policy_size(policy); i++) {
        const CbusRule *rule = cbus_policy_rule(policy, i);
        FUZZ_CHECK(rule->line > 0 && rule->file != NULL && rule->text != NULL);
        FUZZ_CHECK(rule->member == NULL || rule->interface != NULL);
        FUZZ_CHECK(rule->path == NULL || cbus_is_object_path(cbus_span(rule->path)));
    }
    CbusDecision without = cbus_judge(&judge, &facts);
    facts.interface = CBUS_SPAN_LITERAL("a.b.C");
    CbusDecision with = cbus_judge(&judge, &facts);
    /* A call without interface never passes where one with it would not. */
    FUZZ_CHECK(without.verdict != CBUS_VERDICT_ALLOW || with.verdict == CBUS_VERDICT_ALLOW);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    static const char *const names[] = {"p", "q", "full", "readonly", "units"};
    guint faults = 0;
    g_autoptr(CbusPolicies) policies =
        cbus_policies_parse((const char *)data, len, "fuzz", on_fault, &faults);

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const CbusPolicy *policy = cbus_policies_lookup(policies, names[i]);
        FUZZ_CHECK(policy != NULL || i < 2);
        if (policy != NULL)
            check(policy);
    }
    return 0;
}
