/* authorized-keys text, line by line.
 *
 * The format is sshd's, so that operators know it, but what sshd takes and we can not honour is refused
 * rather than skipped: a line that says "only from this host" must never be read as a line that says "from
 * anywhere". A refused line authorizes nobody, and its reason names what to change. The first line of a key
 * counts, even when it is refused, and even when nothing of it but the key can be made out: a later line must
 * not undo by accident what an earlier one restricts.
 *
 * Options are tokenised as sshd does it: names without white space, values in double quotes where \" is a
 * quote, commas between them, white space after the last. An option that is not known refuses its line.
 *
 * The text is hostile in so far as whoever writes it may err: it is bounded in size, lines are bounded, a
 * NUL or another control character refuses the line. Nothing here touches files (agent/keys_file.h does) and
 * nothing keeps state: pure, any thread.
 *
 * The digest is what revocation compares: a link whose line is gone or says something else has to end. */
#include "wire/authorized_keys.h"
#include "wire/bytes.h"
#include <sodium.h>

#define USER_MAX 255 /* bytes of a user's name */

struct _CbusAuthorizedKeys {
    GPtrArray *lines;   /* CbusAuthorizedLine, those that stand */
    GPtrArray *refused; /* CbusAuthorizedLine, refused although their key could be read */
    GHashTable *by_key; /* &line->key → the first line of that key, of either kind; borrowed */
};

static void
line_free(CbusAuthorizedLine *line)
{
    g_clear_pointer(&line->options, g_hash_table_unref);
    g_free(line->comment);
    g_free(line);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusAuthorizedLine, line_free)

static gboolean
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static CbusSpan
trim(CbusSpan span)
{
    while (span.len > 0 && is_blank(span.text[0])) {
        span.text++;
        span.len--;
    }
    while (span.len > 0 && (is_blank(span.text[span.len - 1]) || span.text[span.len - 1] == '\r'))
        span.len--;
    return span;
}

/* Takes the word up to the next blank off REST, which then begins at the word after it. */
static CbusSpan
take_word(CbusSpan *rest)
{
    CbusSpan word = {rest->text, 0};

    while (word.len < rest->len && !is_blank(rest->text[word.len]))
        word.len++;
    *rest = trim((CbusSpan){rest->text + word.len, rest->len - word.len});
    return word;
}

static gboolean
has_prefix(CbusSpan span, const char *prefix)
{
    gsize len = strlen(prefix);

    return span.len >= len && memcmp(span.text, prefix, len) == 0;
}

static gboolean
has_suffix(CbusSpan span, const char *suffix)
{
    gsize len = strlen(suffix);

    return span.len >= len && memcmp(span.text + span.len - len, suffix, len) == 0;
}

/* Why a key type other than ssh-ed25519 is refused; NULL when WORD is no key type that OpenSSH knows. */
static const char *
refused_type(CbusSpan word)
{
    static const char *const others[] = {"ssh-rsa", "ssh-dss", "rsa-sha2-", "ecdsa-sha2-"};

    if (has_suffix(word, "-cert-v01@openssh.com"))
        return "a certificate: give the ssh-ed25519 key itself";
    if (has_prefix(word, "sk-"))
        return "a security key (sk-…) can not sign a link: use an ssh-ed25519 key";
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        if (has_prefix(word, others[i]))
            return "not an ed25519 key: only ssh-ed25519 keys and NKeys are identities";
    return NULL;
}

static gboolean
is_nkey_shaped(CbusSpan word)
{
    if (word.len != CBUS_NKEY_LENGTH)
        return FALSE;
    for (gsize i = 0; i < word.len; i++)
        if (!g_ascii_isupper(word.text[i]) && !(word.text[i] >= '2' && word.text[i] <= '7'))
            return FALSE;
    return TRUE;
}

/* The value of a quoted string that begins after its opening quote at TEXT[*AT]; *AT ends after the closing
 * one. NULL when it is not closed. */
static char *
take_quoted(CbusSpan span, gsize *at)
{
    g_autoptr(GString) value = g_string_new(NULL);

    for (gsize i = *at; i < span.len; i++) {
        char c = span.text[i];
        if (c == '"') {
            *at = i + 1;
            return g_string_free(g_steal_pointer(&value), FALSE);
        }
        if (c == '\\' && i + 1 < span.len && span.text[i + 1] == '"')
            c = span.text[++i];
        g_string_append_c(value, c);
    }
    return NULL;
}

/* One NAME or NAME="VALUE" at SPAN.text[*AT] into OPTIONS. Returns NULL, or why not. */
static char *
take_option(CbusSpan span, gsize *at, GHashTable *options)
{
    g_autofree char *name = NULL, *value = NULL;
    gsize start = *at, end = start;

    while (end < span.len && (g_ascii_isalnum(span.text[end]) || span.text[end] == '-'))
        end++;
    if (end == start)
        return g_strdup("neither a key nor an option begins here: expected \"ssh-ed25519 AAAA…\", an NKey, "
                        "or name=\"value\" options before it");
    name = g_ascii_strdown(span.text + start, (gssize)(end - start));
    if (end < span.len && span.text[end] == '=') {
        end++;
        if (end >= span.len || span.text[end] != '"')
            return g_strdup_printf("the value of option \"%s\" is not in double quotes", name);
        end++;
        if ((value = take_quoted(span, &end)) == NULL)
            return g_strdup_printf("the value of option \"%s\" has no closing quote", name);
    }
    if (g_hash_table_contains(options, name))
        return g_strdup_printf("option \"%s\" stands twice", name);
    g_hash_table_insert(options, g_steal_pointer(&name), g_steal_pointer(&value));
    *at = end;
    return NULL;
}

/* Takes the options off REST. Returns NULL, or why not. */
static char *
take_options(CbusSpan *rest, GHashTable *options)
{
    gsize at = 0;

    for (;;) {
        char *fault = take_option(*rest, &at, options);
        if (fault != NULL)
            return fault;
        if (at >= rest->len)
            return g_strdup("a key is missing");
        if (is_blank(rest->text[at]))
            break;
        if (rest->text[at] != ',')
            return g_strdup("an unexpected character after an option: options are separated by commas alone");
        at++;
    }
    *rest = trim((CbusSpan){rest->text + at, rest->len - at});
    return NULL;
}

/* policy="NAME"; whether there is such a policy is another question. Returns why not, or NULL. */
static char *
judge_policy(const char *value)
{
    if (value == NULL)
        return g_strdup("option \"policy\" has no value: policy=\"NAME\", a policy of the configuration");
    if (!cbus_is_policy_name(cbus_span(value)))
        return g_strdup(
            "the value of option \"policy\" is no policy's name: up to 63 letters, digits, '-' and "
            "'_'");
    return NULL;
}

/* user="NAME"; whether there is such a user is another question. Returns why not, or NULL. */
static char *
judge_user(const char *value)
{
    if (value == NULL)
        return g_strdup("option \"user\" has no value: user=\"NAME\", a user of this machine");
    for (const char *p = value; *p != '\0'; p++)
        if (!g_ascii_isalnum(*p) && (p == value || strchr("-.@$", *p) == NULL) && *p != '_')
            return g_strdup("the value of option \"user\" is no user's name");
    if (*value == '\0' || strlen(value) > USER_MAX)
        return g_strdup("the value of option \"user\" is no user's name");
    return NULL;
}

/* Options that are not known refuse the line. Returns why, or NULL. */
static char *
judge_options(GHashTable *options)
{
    GHashTableIter iter;
    gpointer name, value;

    if (g_hash_table_contains(options, "cert-authority"))
        return g_strdup("cert-authority: certificates are not used, each key needs a line of its own");
    g_hash_table_iter_init(&iter, options);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        char *fault;
        if (g_str_equal(name, "user"))
            fault = judge_user(value);
        else if (g_str_equal(name, "policy"))
            fault = judge_policy(value);
        else
            fault = g_strdup_printf("option \"%s\" is not known to this version, and a line is never read "
                                    "without its options",
                                    (const char *)name);
        if (fault != NULL)
            return fault;
    }
    return NULL;
}

/* The key at the start of REST, which then holds the comment. Returns NULL, or why not. */
static char *
take_key(CbusSpan *rest, CbusKey *key)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    CbusSpan word = take_word(rest), blob;
    const char *refused = refused_type(word);

    if (refused != NULL)
        return g_strdup(refused);
    if (is_nkey_shaped(word)) {
        if (!cbus_nkey_decode(word.text, (gssize)word.len, key, &error))
            return g_strdup(error->message);
        return NULL;
    }
    if (!cbus_span_is(word, "ssh-ed25519"))
        return g_strdup("no key: expected \"ssh-ed25519 AAAA…\" or an NKey (U…, 56 characters)");
    blob = take_word(rest);
    text = g_strdup_printf("ssh-ed25519 %.*s", (int)blob.len, blob.text);
    if (!cbus_public_key_parse(text, -1, key, &error))
        return g_strdup(error->message);
    return NULL;
}

static gboolean
has_control(CbusSpan span)
{
    for (gsize i = 0; i < span.len; i++)
        if (g_ascii_iscntrl(span.text[i]) && span.text[i] != '\t')
            return TRUE;
    return FALSE;
}

static gboolean
begins_with_key(CbusSpan span)
{
    CbusSpan rest = span, word = take_word(&rest);

    return cbus_span_is(word, "ssh-ed25519") || is_nkey_shaped(word) || refused_type(word) != NULL;
}

/* Reads one trimmed line that is neither blank nor a comment. *FAULT is set when it is refused; NULL when not
 * even its key could be read. */
static CbusAuthorizedLine *
parse_line(CbusSpan span, guint number, char **fault)
{
    g_autoptr(CbusAuthorizedLine) line = g_new0(CbusAuthorizedLine, 1);
    g_autofree char *key_fault = NULL;
    CbusSpan rest = span;

    line->number = number;
    if (span.len > CBUS_AUTHORIZED_LINE_MAX) {
        *fault = g_strdup_printf("longer than %d bytes", CBUS_AUTHORIZED_LINE_MAX);
        return NULL;
    }
    if (has_control(span)) {
        *fault = g_strdup("a control character in it");
        return NULL;
    }
    if (!begins_with_key(rest)) {
        line->options = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        if ((*fault = take_options(&rest, line->options)) != NULL)
            return NULL;
        *fault = judge_options(line->options);
        line->policy = g_hash_table_lookup(line->options, "policy");
        line->user = g_hash_table_lookup(line->options, "user");
    }
    if ((key_fault = take_key(&rest, &line->key)) != NULL) {
        if (*fault == NULL)
            *fault = g_steal_pointer(&key_fault);
        return NULL;
    }
    line->comment = g_strndup(rest.text, rest.len);
    crypto_generichash(line->digest, sizeof line->digest, (const guint8 *)span.text, span.len, NULL, 0);
    return g_steal_pointer(&line);
}

/* Bars the keys in a line that is no line: wherever one stands, somebody meant to say something of it. */
static void
bar_keys(CbusAuthorizedKeys *keys, CbusSpan span, guint number)
{
    while (span.len > 0) {
        CbusSpan word = take_word(&span);
        CbusKey key;

        if (word.len > CBUS_AUTHORIZED_LINE_MAX ||
            !cbus_public_key_parse(word.text, (gssize)word.len, &key, NULL) ||
            g_hash_table_contains(keys->by_key, &key))
            continue;
        CbusAuthorizedLine *line = g_new0(CbusAuthorizedLine, 1);
        line->number = number;
        line->key = key;
        g_hash_table_insert(keys->by_key, &line->key, line);
        g_ptr_array_add(keys->refused, line);
    }
}

static void
add_line(CbusAuthorizedKeys *keys, CbusSpan span, guint number, CbusAuthorizedFault func, gpointer user_data)
{
    g_autofree char *fault = NULL;
    g_autoptr(CbusAuthorizedLine) line = parse_line(span, number, &fault);
    const CbusAuthorizedLine *earlier = NULL;

    if (line != NULL)
        earlier = g_hash_table_lookup(keys->by_key, &line->key);
    if (earlier != NULL && fault == NULL)
        fault = g_strdup_printf("its key stands on line %u already, and that line counts", earlier->number);
    if (fault != NULL && func != NULL)
        func(number, fault, user_data);
    if (line == NULL)
        bar_keys(keys, span, number);
    if (line == NULL || earlier != NULL)
        return;
    g_hash_table_insert(keys->by_key, &line->key, line);
    g_ptr_array_add(fault != NULL ? keys->refused : keys->lines, g_steal_pointer(&line));
}

CbusAuthorizedKeys *
cbus_authorized_keys_parse(const char *text, gsize len, CbusAuthorizedFault fault, gpointer user_data)
{
    CbusAuthorizedKeys *keys = g_new0(CbusAuthorizedKeys, 1);
    guint number = 0;

    keys->lines = g_ptr_array_new_with_free_func((GDestroyNotify)line_free);
    keys->refused = g_ptr_array_new_with_free_func((GDestroyNotify)line_free);
    keys->by_key = g_hash_table_new(cbus_key_hash, cbus_key_equal);
    if (len > CBUS_AUTHORIZED_FILE_MAX) {
        g_autofree char *reason = g_strdup_printf("larger than %d bytes", CBUS_AUTHORIZED_FILE_MAX);
        if (fault != NULL)
            fault(0, reason, user_data);
        return keys;
    }
    for (gsize at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        gsize size = newline != NULL ? (gsize)(newline - (text + at)) : len - at;
        CbusSpan span = trim((CbusSpan){text + at, size});

        number++;
        if (span.len > 0 && span.text[0] != '#')
            add_line(keys, span, number, fault, user_data);
        at += size + 1;
    }
    return keys;
}

void
cbus_authorized_keys_judge(CbusAuthorizedKeys *keys,
                           char *(*judge)(const CbusAuthorizedLine *line, gpointer judge_data),
                           gpointer judge_data, CbusAuthorizedFault fault, gpointer user_data)
{
    for (guint i = 0; i < keys->lines->len;) {
        const CbusAuthorizedLine *line = g_ptr_array_index(keys->lines, i);
        g_autofree char *reason = judge(line, judge_data);

        if (reason == NULL) {
            i++;
            continue;
        }
        if (fault != NULL)
            fault(line->number, reason, user_data);
        g_ptr_array_add(keys->refused, g_ptr_array_steal_index(keys->lines, i));
    }
}

static char *
judge_policy_is_there(const CbusAuthorizedLine *line, gpointer policies)
{
    if (line->policy == NULL || cbus_policies_lookup(policies, line->policy) != NULL)
        return NULL;
    return g_strdup_printf("there is no policy \"%s\", or its configuration is refused: a group [policy %s] "
                           "has to define it",
                           line->policy, line->policy);
}

void
cbus_authorized_keys_require(CbusAuthorizedKeys *keys, const CbusPolicies *policies,
                             CbusAuthorizedFault fault, gpointer user_data)
{
    cbus_authorized_keys_judge(keys, judge_policy_is_there, (gpointer)policies, fault, user_data);
}

void
cbus_authorized_keys_free(CbusAuthorizedKeys *keys)
{
    g_hash_table_unref(keys->by_key);
    g_ptr_array_unref(keys->lines);
    g_ptr_array_unref(keys->refused);
    g_free(keys);
}

guint
cbus_authorized_keys_size(const CbusAuthorizedKeys *keys)
{
    return keys->lines->len;
}

const CbusAuthorizedLine *
cbus_authorized_keys_nth(const CbusAuthorizedKeys *keys, guint position)
{
    g_return_val_if_fail(position < keys->lines->len, NULL);
    return g_ptr_array_index(keys->lines, position);
}

const CbusAuthorizedLine *
cbus_authorized_keys_lookup(const CbusAuthorizedKeys *keys, const CbusKey *key)
{
    const CbusAuthorizedLine *line = g_hash_table_lookup(keys->by_key, key);

    return line != NULL && g_ptr_array_find(keys->refused, line, NULL) ? NULL : line;
}
