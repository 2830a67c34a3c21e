/* known_machines: names that an operator pinned to identities.
 *
 * The file is the operator's own, yet it is read by a daemon that shows names to people who then type them:
 * a name must never be able to pass for another one or for a key. So names come from a small ASCII alphabet,
 * stand for one key only, and never look like the beginning of an NKey: a MACHINE argument is an exact NKey,
 * else an exact pinned name, else a unique NKey prefix of at least five characters, and a machine named
 * "UABCD" would shadow whoever's key begins so. "U" followed by four or more of [A-Z2-7] up to the end of the
 * name is what could be such a prefix; lower case, '0', '1', '8', '9' and separators never occur in NKeys,
 * hence "Ubuntu" and "UNIT1" are names and "UBUNTU" is not.
 *
 * A line that is wrong is refused alone and loudly, with its number: one typing error must not unpin a fleet.
 * Of two lines with the same key or name the first stands; the second is the newcomer.
 *
 * Trusts nothing but LEN. Bounded: file length and number of pins. No I/O, no globals: any thread. */
#include "wire/known_machines.h"

#include <string.h>

struct _CbusKnownMachines {
    GPtrArray *entries;  /* CbusKnownMachine, owned */
    GHashTable *by_key;  /* &entry->key → entry */
    GHashTable *by_name; /* entry->name → entry */
    GHashTable *by_look; /* folded name, owned → entry */
};

typedef struct {
    CbusKnownMachines *known;
    CbusKnownFault fault;
    gpointer user_data;
} Parser;

G_DEFINE_QUARK(cbus_known_error_quark, cbus_known_error)

static gboolean
could_be_nkey_prefix(const char *name, gsize len)
{
    if (len < 5 || name[0] != 'U') {
        return FALSE;
    }
    for (gsize i = 1; i < len; i++) {
        if (!(g_ascii_isupper(name[i]) || (name[i] >= '2' && name[i] <= '7'))) {
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
cbus_machine_name_check(const char *name, gsize len, GError **error)
{
    if (len == 0 || len > CBUS_MACHINE_NAME_MAX) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_NAME, "a machine's name has 1 to %d characters",
                    CBUS_MACHINE_NAME_MAX);
        return FALSE;
    }
    for (gsize i = 0; i < len; i++) {
        gboolean inner = i > 0 && i + 1 < len;
        if (!g_ascii_isalnum(name[i]) && !(inner && (name[i] == '.' || name[i] == '_' || name[i] == '-'))) {
            g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_NAME,
                        "a machine's name holds letters, digits and, between them, '.', '_' and '-'");
            return FALSE;
        }
    }
    if (could_be_nkey_prefix(name, len)) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_NAME,
                    "\"%.*s\" could be the beginning of an NKey; choose a name with a lower-case letter",
                    (int)len, name);
        return FALSE;
    }
    return TRUE;
}

/* What is left of a name when people compare it at a glance: no case, no separators, and one character for
 * those that many fonts draw alike. */
static char *
fold(const char *name)
{
    GString *out = g_string_sized_new(CBUS_MACHINE_NAME_MAX);
    for (; *name != '\0'; name++) {
        char c = g_ascii_tolower(*name);
        char before = out->len > 0 ? out->str[out->len - 1] : '\0';
        if (!g_ascii_isalnum(c)) {
            continue;
        }
        if ((c == 'v' && before == 'v') || (c == 'n' && before == 'r')) {
            out->str[out->len - 1] = c == 'v' ? 'w' : 'm';
        } else {
            g_string_append_c(out, (char)(c == 'l' || c == 'i' ? '1' : c == 'o' ? '0' : c));
        }
    }
    return g_string_free(out, FALSE);
}

static void
refuse(Parser *parser, guint line, const GError *error)
{
    if (parser->fault != NULL) {
        g_autoptr(GError) told = g_error_new(error->domain, error->code, "line %u: %s", line, error->message);
        parser->fault(line, told, parser->user_data);
    }
}

static gboolean
check_unique(const CbusKnownMachines *known, const CbusKnownMachine *entry, GError **error)
{
    const CbusKnownMachine *other = cbus_known_machines_by_key(known, &entry->key);
    if (other != NULL) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_DUPLICATE,
                    "this NKey is already \"%s\" on line %u", other->name, other->line);
        return FALSE;
    }
    other = cbus_known_machines_by_name(known, entry->name);
    if (other != NULL) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_DUPLICATE,
                    "the name \"%s\" already stands on line %u for another key", entry->name, other->line);
        return FALSE;
    }
    if (known->entries->len == CBUS_KNOWN_MACHINES_MAX) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_LIMIT, "more than %d machines",
                    CBUS_KNOWN_MACHINES_MAX);
        return FALSE;
    }
    return TRUE;
}

static gboolean
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Takes the next word off *AT; its length is 0 at the end. */
static const char *
next_word(const char **at, const char *end, gsize *len)
{
    while (*at < end && is_blank(**at)) {
        (*at)++;
    }
    const char *word = *at;
    while (*at < end && !is_blank(**at)) {
        (*at)++;
    }
    *len = (gsize)(*at - word);
    return word;
}

static void
entry_free(gpointer data)
{
    CbusKnownMachine *entry = data;
    g_strfreev(entry->tags);
    g_free(entry);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusKnownMachine, entry_free)

/* A tag is spelt as a name is, so that nothing in it means anything to a command line. */
static gboolean
is_tag(const char *tag)
{
    gsize len = strlen(tag);
    for (gsize i = 0; i < len; i++) {
        gboolean inner = i > 0 && i + 1 < len;
        if (!g_ascii_isalnum(tag[i]) && !(inner && (tag[i] == '.' || tag[i] == '_' || tag[i] == '-'))) {
            return FALSE;
        }
    }
    return len > 0 && len <= CBUS_MACHINE_NAME_MAX;
}

static gboolean
parse_tags(CbusKnownMachine *entry, const char *text, gsize len, GError **error)
{
    g_autofree char *list = g_strndup(text, len);
    g_auto(GStrv) tags = g_strsplit(list, ",", CBUS_MACHINE_TAGS_MAX + 1);
    if (strlen(list) != len || g_strv_length(tags) > CBUS_MACHINE_TAGS_MAX) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_TAG, "more than %d tags, or a NUL among them",
                    CBUS_MACHINE_TAGS_MAX);
        return FALSE;
    }
    for (guint i = 0; tags[i] != NULL; i++) {
        if (!is_tag(tags[i])) {
            g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_TAG,
                        "tags hold letters, digits and, between them, '.', '_' and '-', and commas stand "
                        "between tags: \"NKEY NAME TAG,TAG\"");
            return FALSE;
        }
    }
    entry->tags = g_steal_pointer(&tags);
    return TRUE;
}

/* Returns: (transfer full), or NULL with ERROR unset for a line that says nothing. */
static CbusKnownMachine *
parse_line(const CbusKnownMachines *known, const char *at, const char *end, guint line, GError **error)
{
    gsize key_len, name_len, tags_len = 0, rest_len;
    const char *key = next_word(&at, end, &key_len);
    if (key_len == 0 || key[0] == '#') {
        return NULL;
    }
    const char *name = next_word(&at, end, &name_len);
    const char *tags = next_word(&at, end, &rest_len), *rest = tags;
    if (rest_len > 0 && tags[0] != '#') {
        tags_len = rest_len;
        rest = next_word(&at, end, &rest_len);
    }
    if (name_len == 0 || name[0] == '#' || (rest_len > 0 && rest[0] != '#')) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_LINE,
                    "expected an NKey (U…), a name, and perhaps tags: \"NKEY NAME [TAG,TAG…]\"");
        return NULL;
    }
    g_autoptr(CbusKnownMachine) entry = g_new0(CbusKnownMachine, 1);
    g_autoptr(GError) why = NULL;
    if (!cbus_nkey_decode(key, (gssize)key_len, &entry->key, &why)) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_KEY, "not a machine's NKey: %s", why->message);
        return NULL;
    }
    if (!cbus_machine_name_check(name, name_len, error)) {
        return NULL;
    }
    if (tags_len > 0 && !parse_tags(entry, tags, tags_len, error)) {
        return NULL;
    }
    memcpy(entry->name, name, name_len);
    entry->line = line;
    return check_unique(known, entry, error) ? g_steal_pointer(&entry) : NULL;
}

static void
take(CbusKnownMachines *known, CbusKnownMachine *entry)
{
    g_ptr_array_add(known->entries, entry);
    g_hash_table_insert(known->by_key, &entry->key, entry);
    g_hash_table_insert(known->by_name, entry->name, entry);
    g_autofree char *look = fold(entry->name);
    if (!g_hash_table_contains(known->by_look, look)) {
        g_hash_table_insert(known->by_look, g_steal_pointer(&look), entry);
    }
}

CbusKnownMachines *
cbus_known_machines_parse(const char *text, gsize len, CbusKnownFault fault, gpointer user_data)
{
    CbusKnownMachines *known = g_new0(CbusKnownMachines, 1);
    known->entries = g_ptr_array_new_with_free_func(entry_free);
    known->by_key = g_hash_table_new(cbus_key_hash, cbus_key_equal);
    known->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    known->by_look = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    Parser parser = {known, fault, user_data};
    if (len > CBUS_KNOWN_MACHINES_LENGTH) {
        g_autoptr(GError) error =
            g_error_new(CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_LIMIT,
                        "the file is over %d bytes; none of it is read", CBUS_KNOWN_MACHINES_LENGTH);
        refuse(&parser, 1, error);
        return known;
    }
    const char *at = text, *end = text + len;
    for (guint line = 1; at < end; line++) {
        const char *newline = memchr(at, '\n', (gsize)(end - at));
        const char *stop = newline != NULL ? newline : end;
        g_autoptr(GError) error = NULL;
        CbusKnownMachine *entry = parse_line(known, at, stop, line, &error);
        if (entry != NULL) {
            take(known, entry);
        } else if (error != NULL) {
            refuse(&parser, line, error);
        }
        at = newline != NULL ? newline + 1 : end;
    }
    return known;
}

void
cbus_known_machines_free(CbusKnownMachines *known)
{
    if (known == NULL) {
        return;
    }
    g_hash_table_unref(known->by_key);
    g_hash_table_unref(known->by_name);
    g_hash_table_unref(known->by_look);
    g_ptr_array_unref(known->entries);
    g_free(known);
}

guint
cbus_known_machines_size(const CbusKnownMachines *known)
{
    return known->entries->len;
}

const CbusKnownMachine *
cbus_known_machines_get(const CbusKnownMachines *known, guint i)
{
    return g_ptr_array_index(known->entries, i);
}

const CbusKnownMachine *
cbus_known_machines_by_key(const CbusKnownMachines *known, const CbusKey *key)
{
    return g_hash_table_lookup(known->by_key, key);
}

const CbusKnownMachine *
cbus_known_machines_by_name(const CbusKnownMachines *known, const char *name)
{
    return g_hash_table_lookup(known->by_name, name);
}

const CbusKnownMachine *
cbus_known_machines_resembling(const CbusKnownMachines *known, const char *name)
{
    g_autofree char *look = fold(name);
    return g_hash_table_lookup(known->by_look, look);
}
