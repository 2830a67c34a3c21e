/* Policies, read from the configuration.
 *
 * The file is a GKeyFile to everybody else; here it is read line by line, because keys repeat and because
 * each rule keeps the line that an operator will be told ("allowed by agent.conf:14"). Groups other than
 * [policy NAME] are skipped unread: link/settings.c judges them.
 *
 * A fault never makes a policy wider or narrower than its author meant: the whole policy is refused, and with
 * it whatever includes it; a key that names it is then refused as well. Rules that would never decide
 * anything are faults, too: a rule about org.freedesktop.DBus.Properties (calls of it are judged by the
 * interface they are about), talk= with the bus itself, a unique name.
 *
 * Included rules are shared, not copied; a circle of includes is a fault. Order between rules means nothing:
 * deny beats all others.
 *
 * Trust: the text is the operator's, but bounded all the same: bytes, line length, rules, policies. Pure. */
#include "wire/policy.h"
#include "wire/message.h"

#define READY_MADE "ready-made"

struct _CbusPolicy {
    guint refs;
    char *name;
    GPtrArray *rules; /* CbusRule */
};

/* A policy while it is read. */
typedef struct {
    char *name;
    const char *file;
    guint line;
    GPtrArray *rules;
    GArray *include_lines; /* guint */
    GPtrArray *includes;   /* char * */
    gboolean faulty, visiting;
    CbusPolicy *done; /* NULL: not resolved yet, or faulty */
} Draft;

struct _CbusPolicies {
    GHashTable *by_name; /* name → CbusPolicy */
};

typedef struct {
    const char *file;
    GHashTable *drafts; /* name → Draft */
    Draft *current;     /* NULL: in a group of others */
    CbusPolicyFault fault;
    gpointer user_data;
} Parser;

static void
clear_rule(gpointer data)
{
    CbusRule *rule = data;

    g_free(rule->text);
    g_free(rule->name);
    g_free(rule->interface);
    g_free(rule->member);
    g_free(rule->path);
}

static void
release_rule(gpointer rule)
{
    g_rc_box_release_full(rule, clear_rule);
}

static void
draft_free(gpointer data)
{
    Draft *draft = data;

    g_free(draft->name);
    g_ptr_array_unref(draft->rules);
    g_ptr_array_unref(draft->includes);
    g_array_unref(draft->include_lines);
    g_clear_pointer(&draft->done, cbus_policy_unref);
    g_free(draft);
}

/* A fault in the current policy, which then does not exist. */
G_GNUC_PRINTF(3, 4)
static void
fault(Parser *parser, guint line, const char *format, ...)
{
    va_list values;

    va_start(values, format);
    g_autofree char *reason = g_strdup_vprintf(format, values);
    va_end(values);
    if (parser->current != NULL)
        parser->current->faulty = TRUE;
    if (parser->fault != NULL)
        parser->fault(line, reason, parser->user_data);
}

static CbusSpan
trim(CbusSpan span)
{
    while (span.len > 0 && g_ascii_isspace(span.text[0])) {
        span.text++;
        span.len--;
    }
    while (span.len > 0 && g_ascii_isspace(span.text[span.len - 1]))
        span.len--;
    return span;
}

/* What stands before the first C, and REST behind it; all, and an absent REST, when there is none. */
static CbusSpan
cut(CbusSpan span, char c, CbusSpan *rest)
{
    const char *found = span.len > 0 ? memchr(span.text, c, span.len) : NULL;

    *rest = (CbusSpan){NULL, 0};
    if (found == NULL)
        return span;
    gsize before = (gsize)(found - span.text);
    *rest = (CbusSpan){found + 1, span.len - before - 1};
    return (CbusSpan){span.text, before};
}

/* Takes ENDING off SPAN if it is there. */
static gboolean
take_ending(CbusSpan *span, const char *ending)
{
    gsize len = strlen(ending);

    if (span->len <= len || memcmp(span->text + span->len - len, ending, len) != 0)
        return FALSE;
    span->len -= len;
    return TRUE;
}

static char *
copy(CbusSpan span)
{
    return g_strndup(span.text, span.len);
}

gboolean
cbus_is_policy_name(CbusSpan name)
{
    if (name.len == 0 || name.len > CBUS_POLICY_NAME_MAX)
        return FALSE;
    for (gsize i = 0; i < name.len; i++)
        if (!g_ascii_isalnum(name.text[i]) && name.text[i] != '_' && name.text[i] != '-')
            return FALSE;
    return TRUE;
}

/* NAME, NAME.* or *. Returns why not, or NULL. */
static const char *
take_name(CbusRule *rule, CbusSpan span)
{
    if (cbus_span_is(span, "*"))
        return NULL;
    if (span.len > 0 && span.text[0] == ':')
        return "a unique name means nothing tomorrow: name the service";
    rule->names_below = take_ending(&span, ".*");
    g_autofree char *whole =
        g_strdup_printf("%.*s%s", (int)span.len, span.text, rule->names_below ? ".x" : "");
    if (!cbus_is_bus_name(cbus_span(whole)))
        return "no bus name: expected NAME, NAME.* or *";
    rule->name = copy(span);
    return NULL;
}

static const char *
take_member(CbusRule *rule, CbusSpan span)
{
    const char *dot;

    if (span.len == 0 || cbus_span_is(span, "*"))
        return NULL;
    if (!take_ending(&span, ".*")) {
        dot = memrchr(span.text, '.', span.len);
        if (dot == NULL)
            return "no interface: expected INTERFACE.MEMBER, INTERFACE.* or *";
        CbusSpan member = {dot + 1, (gsize)(span.text + span.len - dot - 1)};
        if (!cbus_is_member(member))
            return "no member: expected INTERFACE.MEMBER, INTERFACE.* or *";
        rule->member = copy(member);
        span.len = (gsize)(dot - span.text);
    }
    if (!cbus_is_interface(span))
        return "no interface: expected INTERFACE.MEMBER, INTERFACE.* or *";
    rule->interface = copy(span);
    if (cbus_span_is(span, "org.freedesktop.DBus.Properties"))
        return "properties are judged by the interface they belong to: write read=NAME=INTERFACE.PROPERTY, "
               "or "
               "call=NAME=INTERFACE.PROPERTY to set them, too";
    return NULL;
}

static const char *
take_path(CbusRule *rule, CbusSpan span)
{
    if (span.text == NULL || cbus_span_is(span, "/*"))
        return NULL;
    rule->paths_below = take_ending(&span, "/*");
    if (!cbus_is_object_path(span))
        return "no object path: expected @PATH or @PATH/*";
    rule->path = copy(span);
    return NULL;
}

/* NAME=[INTERFACE.MEMBER][@PATH] or, of see, talk and own, NAME. */
static const char *
take_rule(CbusRule *rule, CbusSpan value)
{
    gboolean plain = rule->kind <= CBUS_RULE_OWN;
    CbusSpan what, path, name = cut(value, '=', &what);
    const char *why = take_name(rule, trim(name));

    if (why != NULL)
        return why;
    if (plain && g_strcmp0(rule->name, "org.freedesktop.DBus") == 0 && !rule->names_below)
        return "the bus itself needs no such rule; what it does not do for everybody takes call=";
    if (plain)
        return what.text != NULL ? "takes a name alone: use call=, read= or broadcast=" : NULL;
    what = trim(what);
    if (what.len == 0)
        return "says nothing after the name: expected =INTERFACE.MEMBER, =INTERFACE.* or =*, then @PATH";
    CbusSpan member = cut(what, '@', &path);
    if ((why = take_member(rule, member)) != NULL)
        return why;
    return take_path(rule, path);
}

static gboolean
find_kind(CbusSpan key, CbusRuleKind *out)
{
    static const char *const names[] = {"see", "talk", "own", "call", "read", "broadcast", "deny"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (cbus_span_is(key, names[i])) {
            *out = (CbusRuleKind)i;
            return TRUE;
        }
    return FALSE;
}

static void
add_rule(Parser *parser, guint line, CbusRuleKind kind, CbusSpan key, CbusSpan value)
{
    CbusRule *rule = g_rc_box_new0(CbusRule);
    const char *why;

    rule->kind = kind;
    rule->file = parser->file;
    rule->line = line;
    rule->text = g_strdup_printf("%.*s=%.*s", (int)key.len, key.text, (int)value.len, value.text);
    if ((why = take_rule(rule, value)) != NULL)
        fault(parser, line, "%s: %s", rule->text, why);
    g_ptr_array_add(parser->current->rules, rule);
}

static void
add_include(Parser *parser, guint line, CbusSpan value)
{
    if (!cbus_is_policy_name(value)) {
        fault(parser, line, "include=%.*s: no policy name", (int)value.len, value.text);
        return;
    }
    g_ptr_array_add(parser->current->includes, copy(value));
    g_array_append_val(parser->current->include_lines, line);
}

/* KEY=VALUE[;VALUE…] of the current policy. */
static void
take_line(Parser *parser, guint line, CbusSpan span)
{
    CbusSpan values, key = trim(cut(span, '=', &values));
    gboolean include = cbus_span_is(key, "include");
    CbusRuleKind kind = CBUS_RULE_SEE;

    if (values.text == NULL || (!include && !find_kind(key, &kind))) {
        fault(
            parser, line,
            "'%.*s' is no rule: a policy has see=, talk=, own=, call=, read=, broadcast=, deny= and include=",
            (int)MIN(key.len, 64), key.text);
        return;
    }
    gboolean empty = TRUE;
    while (values.text != NULL) {
        CbusSpan value = trim(cut(values, ';', &values));
        if (value.len == 0)
            continue;
        empty = FALSE;
        if (include)
            add_include(parser, line, value);
        else
            add_rule(parser, line, kind, key, value);
        if (parser->current->rules->len > CBUS_POLICY_RULES ||
            parser->current->includes->len > CBUS_POLICY_COUNT) {
            fault(parser, line, "more than %d rules", CBUS_POLICY_RULES);
            parser->current = NULL;
            return;
        }
    }
    if (empty)
        fault(parser, line, "%.*s= has no value", (int)key.len, key.text);
}

/* [policy NAME], or a group of others. */
static void
take_group(Parser *parser, guint line, CbusSpan span)
{
    CbusSpan rest, name = {span.text + 1, span.len - 1}, word;

    parser->current = NULL;
    if (!take_ending(&name, "]"))
        return;
    word = cut(name, ' ', &rest);
    if (!cbus_span_is(word, "policy"))
        return;
    rest = trim(rest);
    g_autofree char *key = rest.text != NULL ? copy(rest) : g_strdup("");
    Draft *earlier = g_hash_table_lookup(parser->drafts, key);
    if (!cbus_is_policy_name(rest)) {
        fault(parser, line, "[policy %.64s]: a policy's name is up to 63 letters, digits, '-' and '_'", key);
    } else if (earlier != NULL && earlier->file != parser->file) {
        fault(parser, line, "[policy %s]: this policy is ready-made: choose another name", key);
    } else if (earlier != NULL) {
        parser->current = earlier;
        fault(parser, line, "[policy %s]: this policy stands on line %u already", key, earlier->line);
    } else if (g_hash_table_size(parser->drafts) >= CBUS_POLICY_COUNT) {
        fault(parser, line, "[policy %s]: more than %d policies", key, CBUS_POLICY_COUNT);
    } else {
        Draft *draft = g_new0(Draft, 1);
        draft->name = g_steal_pointer(&key);
        draft->file = parser->file;
        draft->line = line;
        draft->rules = g_ptr_array_new_with_free_func(release_rule);
        draft->includes = g_ptr_array_new_with_free_func(g_free);
        draft->include_lines = g_array_new(FALSE, FALSE, sizeof(guint));
        g_hash_table_insert(parser->drafts, draft->name, draft);
        parser->current = draft;
    }
}

static void
read_text(Parser *parser, const char *text, gsize len, const char *file)
{
    guint line = 0;

    parser->file = g_intern_string(file);
    parser->current = NULL;
    for (gsize at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        gsize size = newline != NULL ? (gsize)(newline - (text + at)) : len - at;
        CbusSpan span = trim((CbusSpan){text + at, size});

        line++;
        at += size + 1;
        if (span.len == 0 || span.text[0] == '#')
            continue;
        if (span.text[0] == '[')
            take_group(parser, line, span);
        else if (parser->current == NULL)
            continue;
        else if (span.len > CBUS_POLICY_LINE_MAX || !cbus_is_string(span))
            fault(parser, line, "longer than %d bytes, or no text", CBUS_POLICY_LINE_MAX);
        else
            take_line(parser, line, span);
    }
    parser->current = NULL;
}

/* Makes the policy of DRAFT with all that it includes; NULL when any of it is faulty. */
static CbusPolicy *
resolve(Parser *parser, Draft *draft)
{
    if (draft->done != NULL || draft->faulty)
        return draft->done;
    g_autoptr(GPtrArray) rules = g_ptr_array_new_with_free_func(release_rule);
    parser->current = draft;
    draft->visiting = TRUE;
    for (guint i = 0; i < draft->rules->len; i++)
        g_ptr_array_add(rules, g_rc_box_acquire(g_ptr_array_index(draft->rules, i)));
    for (guint i = 0; i < draft->includes->len && !draft->faulty; i++) {
        const char *name = g_ptr_array_index(draft->includes, i);
        guint line = g_array_index(draft->include_lines, guint, i);
        Draft *other = g_hash_table_lookup(parser->drafts, name);
        CbusPolicy *included = other != NULL && !other->visiting ? resolve(parser, other) : NULL;

        parser->current = draft;
        if (other != NULL && other->visiting)
            fault(parser, line, "include=%s: policies include each other in a circle", name);
        else if (included == NULL)
            fault(parser, line, "include=%s: there is no such policy, or it is refused", name);
        else if (rules->len + included->rules->len > CBUS_POLICY_RULES)
            fault(parser, line, "include=%s: more than %d rules", name, CBUS_POLICY_RULES);
        for (guint j = 0; !draft->faulty && included != NULL && j < included->rules->len; j++)
            g_ptr_array_add(rules, g_rc_box_acquire(g_ptr_array_index(included->rules, j)));
    }
    draft->visiting = FALSE;
    if (draft->faulty)
        return NULL;
    draft->done = g_new0(CbusPolicy, 1);
    *draft->done = (CbusPolicy){.refs = 1, .name = g_strdup(draft->name), .rules = g_steal_pointer(&rules)};
    return draft->done;
}

CbusPolicies *
cbus_policies_parse(const char *text, gsize len, const char *file, CbusPolicyFault func, gpointer user_data)
{
    CbusPolicies *policies = g_new0(CbusPolicies, 1);
    g_autoptr(GHashTable) drafts = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, draft_free);
    Parser parser = {.drafts = drafts, .fault = func, .user_data = user_data};
    GHashTableIter iter;
    gpointer draft;

    policies->by_name =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)cbus_policy_unref);
    read_text(&parser, cbus_policy_ready_made, strlen(cbus_policy_ready_made), READY_MADE);
    if (len > CBUS_POLICY_TEXT_MAX)
        fault(&parser, 0, "the file is larger than %d bytes: its policies are not read",
              CBUS_POLICY_TEXT_MAX);
    else
        read_text(&parser, text, len, file);
    g_hash_table_iter_init(&iter, drafts);
    while (g_hash_table_iter_next(&iter, NULL, &draft)) {
        CbusPolicy *policy = resolve(&parser, draft);
        if (policy != NULL)
            g_hash_table_insert(policies->by_name, policy->name, cbus_policy_ref(policy));
    }
    return policies;
}

void
cbus_policies_free(CbusPolicies *policies)
{
    g_hash_table_unref(policies->by_name);
    g_free(policies);
}

const CbusPolicy *
cbus_policies_lookup(const CbusPolicies *policies, const char *name)
{
    return g_hash_table_lookup(policies->by_name, name);
}

CbusPolicy *
cbus_policy_ref(const CbusPolicy *policy)
{
    CbusPolicy *self = (CbusPolicy *)policy;

    self->refs++;
    return self;
}

void
cbus_policy_unref(CbusPolicy *policy)
{
    if (--policy->refs > 0)
        return;
    g_free(policy->name);
    g_ptr_array_unref(policy->rules);
    g_free(policy);
}

const char *
cbus_policy_name(const CbusPolicy *policy)
{
    return policy->name;
}

guint
cbus_policy_size(const CbusPolicy *policy)
{
    return policy->rules->len;
}

const CbusRule *
cbus_policy_rule(const CbusPolicy *policy, guint position)
{
    return g_ptr_array_index(policy->rules, position);
}
