/* `signals=`: fewer signals than all.
 *
 * A fleet's signals can be more than an operator wants to pay for; match rules say which are wanted, and each
 * machine's own bus sorts out the rest before anything crosses the link. Nothing is filtered here again.
 *
 * What the mirror itself lives by is asked for whatever the operator names, and is repeated locally like any
 * other: changes of names (whose service is whose), and of objects (when a cached tree is stale).
 *
 * A rule that two buses could read differently, or that asks for other people's messages, is refused at start
 * and quoted: a rule that fails later, on some machines, would be a mirror without signals there.
 *
 * Trust: the text is the operator's own. Any thread; pure. */
#include "proxy/signal_rules.h"

#include "wire/match_rule.h"

static const char everything[] = "type='signal'";

static const char *const needed[] = {
    "type='signal',sender='org.freedesktop.DBus'",
    "type='signal',interface='org.freedesktop.DBus.ObjectManager'",
    "type='signal',interface='org.freedesktop.systemd1.Manager',member='UnitNew'",
    "type='signal',interface='org.freedesktop.systemd1.Manager',member='UnitRemoved'",
};

static gboolean
check(const char *text, GError **error)
{
    g_autoptr(CbusMatchRule) rule = cbus_match_rule_parse(cbus_span(text), error);
    if (rule == NULL) {
        g_prefix_error(error, "signals: the match rule \"%s\": ", text);
        return FALSE;
    }
    if (cbus_match_rule_eavesdrops(rule)) {
        g_set_error(error, CBUS_MATCH_ERROR, CBUS_MATCH_ERROR_INVALID,
                    "signals: the match rule \"%s\" asks for messages that are meant for others", text);
        return FALSE;
    }
    return TRUE;
}

/* Where the rule that begins at TEXT ends: a semicolon between apostrophes belongs to a value. */
static gsize
rule_length(const char *text)
{
    gboolean quoted = FALSE;
    gsize len = 0;

    for (; text[len] != '\0' && (quoted || text[len] != ';'); len++) {
        if (text[len] == '\'') {
            quoted = !quoted;
        }
    }
    return len;
}

char **
cbus_signal_rules_parse(const char *text, GError **error)
{
    g_autoptr(GStrvBuilder) rules = g_strv_builder_new();
    gboolean narrowed = FALSE;

    for (gsize len; text != NULL && *text != '\0'; text += len + (text[len] == ';')) {
        len = rule_length(text);
        g_autofree char *rule = g_strstrip(g_strndup(text, len));
        if (rule[0] == '\0') {
            continue;
        }
        if (!check(rule, error)) {
            return NULL;
        }
        g_strv_builder_add(rules, rule);
        narrowed = TRUE;
    }
    if (!narrowed) {
        g_strv_builder_add(rules, everything);
    }
    for (gsize i = 0; narrowed && i < G_N_ELEMENTS(needed); i++) {
        g_strv_builder_add(rules, needed[i]);
    }
    return g_strv_builder_end(rules);
}
