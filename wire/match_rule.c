/* Match rules.
 *
 * The filter has to know two things about a rule that passes through: whether it eavesdrops, and whether the
 * client asked for a signal that we have the bus send for ourselves. Both were bypassed elsewhere by
 * searching the text ("eavesdrop =true", 'eavesdrop' inside a quoted value), so that this is a parser, with
 * the grammar of the specification: KEY=VALUE, commas between them, a value being a sequence of quoted and
 * bare pieces; an apostrophe begins and ends a quoted piece, in which a backslash is itself; outside of
 * quotes \' is an apostrophe and any other backslash is itself.
 *
 * The text goes on to the bus as it came. So the danger is a rule that we read one way and the bus another:
 * hence no key twice, no key that the specification does not know, no empty key but after the last comma, no
 * value that a bus would refuse, eavesdrop 'true' or 'false' and nothing else, no control characters. White
 * space is allowed before a key and around nothing else but its "=", on the left, as dbus-daemon has it.
 *
 * Trust: none in the text; it is bounded to 1 KiB, and so is everything made of it. Pure, any thread. */
#include "wire/match_rule.h"

#define ARGS     64
#define KEYS_MAX 16 /* dbus-daemon reads no more, and ignores what follows */

enum {
    KEY_TYPE,
    KEY_SENDER,
    KEY_INTERFACE,
    KEY_MEMBER,
    KEY_PATH,
    KEY_PATH_NAMESPACE,
    KEY_DESTINATION,
    KEY_EAVESDROP,
    KEY_ARG0_NAMESPACE,
    KEY_ARG,
    KEY_ARG_PATH = KEY_ARG + ARGS,
    KEY_COUNT = KEY_ARG_PATH + ARGS,
};

static const char *const key_names[] = {
    [KEY_TYPE] = "type",
    [KEY_SENDER] = "sender",
    [KEY_INTERFACE] = "interface",
    [KEY_MEMBER] = "member",
    [KEY_PATH] = "path",
    [KEY_PATH_NAMESPACE] = "path_namespace",
    [KEY_DESTINATION] = "destination",
    [KEY_EAVESDROP] = "eavesdrop",
    [KEY_ARG0_NAMESPACE] = "arg0namespace",
};

struct _CbusMatchRule {
    guint n;
    struct {
        guint key;
        char *value;
    } pairs[KEYS_MAX];
};

G_DEFINE_QUARK(cbus_match_error_quark, cbus_match_error)

static gboolean
invalid(GError **error, const char *what)
{
    g_set_error(error, CBUS_MATCH_ERROR, CBUS_MATCH_ERROR_INVALID, "the match rule is invalid: %s", what);
    return FALSE;
}

static const char *
value_of(const CbusMatchRule *rule, guint key)
{
    for (guint i = 0; i < rule->n; i++)
        if (rule->pairs[i].key == key)
            return rule->pairs[i].value;
    return NULL;
}

/* argN and argNpath, N from 0 to 63 without leading zeros; KEY_COUNT when it is neither. */
static guint
arg_key(CbusSpan name)
{
    guint n = 0;
    gsize at = 3;

    if (name.len < 4 || memcmp(name.text, "arg", 3) != 0)
        return KEY_COUNT;
    for (; at < name.len && at < 5 && g_ascii_isdigit(name.text[at]); at++)
        n = n * 10 + (guint)(name.text[at] - '0');
    if (at == 3 || n >= ARGS || (at == 5 && name.text[3] == '0'))
        return KEY_COUNT;
    if (at == name.len)
        return KEY_ARG + n;
    return cbus_span_is((CbusSpan){name.text + at, name.len - at}, "path") ? KEY_ARG_PATH + n : KEY_COUNT;
}

static guint
find_key(CbusSpan name)
{
    for (guint i = 0; i < G_N_ELEMENTS(key_names); i++)
        if (cbus_span_is(name, key_names[i]))
            return i;
    return arg_key(name);
}

/* The value at TEXT[*AT]; *AT ends behind its comma, or at the end. NULL: a quote is not closed. */
static char *
take_value(CbusSpan text, gsize *at)
{
    g_autoptr(GString) value = g_string_new(NULL);
    gboolean quoted = FALSE;
    gsize i = *at;

    for (; i < text.len; i++) {
        char c = text.text[i];
        if (c == '\'') {
            quoted = !quoted;
        } else if (c == ',' && !quoted) {
            i++;
            break;
        } else if (c == '\\' && !quoted && i + 1 < text.len && text.text[i + 1] == '\'') {
            g_string_append_c(value, '\'');
            i++;
        } else {
            g_string_append_c(value, c);
        }
    }
    *at = i;
    return quoted ? NULL : g_string_free(g_steal_pointer(&value), FALSE);
}

static gboolean
is_namespace(CbusSpan value)
{
    g_autofree char *below = g_strdup_printf("%.*s.x", (int)value.len, value.text);

    return value.len > 0 && value.text[0] != ':' && cbus_is_bus_name(cbus_span(below));
}

static gboolean
is_good_value(guint key, CbusSpan value)
{
    static const char *const types[] = {"signal", "method_call", "method_return", "error", NULL};

    switch (key) {
        case KEY_TYPE:
            return g_strv_contains(types, value.text);
        case KEY_SENDER:
        case KEY_DESTINATION:
            return cbus_is_bus_name(value);
        case KEY_INTERFACE:
            return cbus_is_interface(value);
        case KEY_MEMBER:
            return cbus_is_member(value);
        case KEY_PATH:
        case KEY_PATH_NAMESPACE:
            return cbus_is_object_path(value);
        case KEY_EAVESDROP:
            return cbus_span_is(value, "true") || cbus_span_is(value, "false");
        case KEY_ARG0_NAMESPACE:
            return is_namespace(value);
        default:
            return TRUE;
    }
}

static gboolean
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One KEY=VALUE and its comma at TEXT[*AT], where no white space is. */
static gboolean
take_pair(CbusMatchRule *rule, CbusSpan text, gsize *at, GError **error)
{
    gsize start = *at, end = start;
    guint key;

    while (end < text.len && (g_ascii_isalnum(text.text[end]) || text.text[end] == '_'))
        end++;
    key = find_key((CbusSpan){text.text + start, end - start});
    while (end < text.len && is_space(text.text[end]))
        end++;
    if (key == KEY_COUNT || end == text.len || text.text[end] != '=')
        return invalid(error, "a key is unknown or has no value");
    if (value_of(rule, key) != NULL)
        return invalid(error, "a key stands twice");
    if (rule->n == KEYS_MAX)
        return invalid(error, "more than 16 keys");
    *at = end + 1;
    g_autofree char *value = take_value(text, at);
    if (value == NULL)
        return invalid(error, "a quote is not closed");
    if (!is_good_value(key, cbus_span(value)))
        return invalid(error, "a value is not one that its key may have");
    rule->pairs[rule->n].key = key;
    rule->pairs[rule->n].value = g_steal_pointer(&value);
    rule->n++;
    return TRUE;
}

CbusMatchRule *
cbus_match_rule_parse(CbusSpan text, GError **error)
{
    g_autoptr(CbusMatchRule) rule = g_new0(CbusMatchRule, 1);

    if (text.len > CBUS_MATCH_RULE_MAX || !cbus_is_string(text)) {
        invalid(error, "longer than 1024 bytes, or no text");
        return NULL;
    }
    for (gsize at = 0;;) {
        while (at < text.len && is_space(text.text[at]))
            at++;
        if (at == text.len)
            break;
        if (!take_pair(rule, text, &at, error))
            return NULL;
    }
    if (value_of(rule, KEY_PATH) != NULL && value_of(rule, KEY_PATH_NAMESPACE) != NULL) {
        invalid(error, "path and path_namespace exclude each other");
        return NULL;
    }
    return g_steal_pointer(&rule);
}

void
cbus_match_rule_free(CbusMatchRule *rule)
{
    for (guint i = 0; i < rule->n; i++)
        g_free(rule->pairs[i].value);
    g_free(rule);
}

const char *
cbus_match_rule_value(const CbusMatchRule *rule, const char *key)
{
    return value_of(rule, find_key(cbus_span(key)));
}

gboolean
cbus_match_rule_eavesdrops(const CbusMatchRule *rule)
{
    return g_strcmp0(value_of(rule, KEY_EAVESDROP), "true") == 0;
}

/* Not to eavesdrop is what is not said, too. */
static gboolean
has_all_of(const CbusMatchRule *a, const CbusMatchRule *b)
{
    for (guint i = 0; i < b->n; i++) {
        const char *value = value_of(a, b->pairs[i].key);
        if (value == NULL && b->pairs[i].key == KEY_EAVESDROP)
            value = "false";
        if (g_strcmp0(value, b->pairs[i].value) != 0)
            return FALSE;
    }
    return TRUE;
}

gboolean
cbus_match_rule_equal(const CbusMatchRule *a, const CbusMatchRule *b)
{
    return has_all_of(a, b) && has_all_of(b, a);
}

/* TEXT is WHOLE or begins with it and SEPARATOR. */
static gboolean
is_below(CbusSpan text, const char *whole, char separator)
{
    gsize len = strlen(whole);

    if (text.len < len || memcmp(text.text, whole, len) != 0)
        return FALSE;
    return text.len == len || text.text[len] == separator || (separator == '/' && len == 1);
}

/* Of argNpath: either is the other, or ends in "/" and begins the other. */
static gboolean
paths_meet(CbusSpan argument, const char *value)
{
    CbusSpan own = cbus_span(value), shorter = argument.len < own.len ? argument : own;

    if (cbus_span_equal(argument, own))
        return TRUE;
    return shorter.len > 0 && shorter.text[shorter.len - 1] == '/' &&
           memcmp(argument.text, own.text, shorter.len) == 0;
}

static gboolean
argument_fits(const CbusMatchSignal *signal, guint key, const char *value)
{
    gboolean as_path = key >= KEY_ARG_PATH;
    guint n = as_path ? key - KEY_ARG_PATH : key - KEY_ARG;
    const CbusMatchArgument *argument = n < signal->n_arguments ? &signal->arguments[n] : NULL;

    if (argument == NULL || argument->text.text == NULL)
        return FALSE;
    if (as_path)
        return paths_meet(argument->text, value);
    return !argument->is_path && cbus_span_is(argument->text, value);
}

static gboolean
pair_fits(const CbusMatchSignal *signal, guint key, const char *value)
{
    switch (key) {
        case KEY_TYPE:
            return g_str_equal(value, "signal");
        case KEY_SENDER:
            return cbus_span_is(signal->sender, value);
        case KEY_INTERFACE:
            return cbus_span_is(signal->interface, value);
        case KEY_MEMBER:
            return cbus_span_is(signal->member, value);
        case KEY_PATH:
            return cbus_span_is(signal->path, value);
        case KEY_PATH_NAMESPACE:
            return is_below(signal->path, value, '/');
        case KEY_EAVESDROP:
            return TRUE;
        case KEY_DESTINATION:
            return FALSE;
        case KEY_ARG0_NAMESPACE:
            return signal->n_arguments > 0 && signal->arguments[0].text.text != NULL &&
                   !signal->arguments[0].is_path && is_below(signal->arguments[0].text, value, '.');
        default:
            return argument_fits(signal, key, value);
    }
}

gboolean
cbus_match_rule_wants_signal(const CbusMatchRule *rule, const CbusMatchSignal *signal)
{
    for (guint i = 0; i < rule->n; i++) {
        if (!pair_fits(signal, rule->pairs[i].key, rule->pairs[i].value))
            return FALSE;
    }
    return TRUE;
}

gboolean
cbus_match_rule_wants_driver_signal(const CbusMatchRule *rule, CbusSpan member, const CbusSpan arguments[3])
{
    const CbusMatchArgument all[] = {{arguments[0], FALSE}, {arguments[1], FALSE}, {arguments[2], FALSE}};
    const CbusMatchSignal signal = {.sender = CBUS_SPAN_LITERAL("org.freedesktop.DBus"),
                                    .path = CBUS_SPAN_LITERAL("/org/freedesktop/DBus"),
                                    .interface = CBUS_SPAN_LITERAL("org.freedesktop.DBus"),
                                    .member = member,
                                    .arguments = all,
                                    .n_arguments = G_N_ELEMENTS(all)};

    return cbus_match_rule_wants_signal(rule, &signal);
}
