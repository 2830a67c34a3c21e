/* Match rules: whatever is read can be asked about, and is equal to itself. */
#include "tests/fuzz/fuzz.h"
#include "wire/match_rule.h"

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    const CbusSpan text = {(const char *)data, len}, member = CBUS_SPAN_LITERAL("NameOwnerChanged");
    const CbusSpan arguments[3] = {CBUS_SPAN_LITERAL("a.b"), CBUS_SPAN_LITERAL(":1.1"),
                                   CBUS_SPAN_LITERAL("")};
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusMatchRule) rule = cbus_match_rule_parse(text, &error);

    FUZZ_CHECK((rule == NULL) == (error != NULL));
    if (rule == NULL)
        return 0;
    g_autoptr(CbusMatchRule) again = cbus_match_rule_parse(text, NULL);
    FUZZ_CHECK(again != NULL && cbus_match_rule_equal(rule, again) && cbus_match_rule_equal(again, rule));
    FUZZ_CHECK(cbus_match_rule_eavesdrops(rule) == cbus_match_rule_eavesdrops(again));
    (void)cbus_match_rule_wants_driver_signal(rule, member, arguments);
    return 0;
}
