/* authorized-keys: a line that stands is whole and is the first of its key; what follows a line never changes
 * what that line means, and what stands before it can only take away. */
#include "tests/fuzz/fuzz.h"
#include "wire/authorized_keys.h"
#include <string.h>

static void
on_fault(guint number, const char *reason, gpointer user_data)
{
    FUZZ_CHECK(reason[0] != '\0');
}

static void
check_line(const CbusAuthorizedKeys *keys, const CbusAuthorizedLine *line)
{
    GHashTableIter iter;
    gpointer name;

    FUZZ_CHECK(cbus_authorized_keys_lookup(keys, &line->key) == line);
    FUZZ_CHECK(line->number > 0 && line->comment != NULL);
    FUZZ_CHECK(line->options != NULL || (line->user == NULL && line->policy == NULL));
    FUZZ_CHECK(line->user == NULL || (line->user[0] != '\0' && line->user[0] != '-'));
    FUZZ_CHECK(line->policy == NULL || cbus_is_policy_name(cbus_span(line->policy)));
    if (line->options == NULL)
        return;
    g_hash_table_iter_init(&iter, line->options);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        FUZZ_CHECK(g_str_equal(name, "user") || g_str_equal(name, "policy"));
}

/* Of the beginning of a text, at the end of a line, the same is said by the whole. */
static void
check_beginning(const CbusAuthorizedKeys *whole, const char *text, gsize len)
{
    g_autoptr(CbusAuthorizedKeys) keys = cbus_authorized_keys_parse(text, len, on_fault, NULL);

    for (guint i = 0; i < cbus_authorized_keys_size(keys); i++) {
        const CbusAuthorizedLine *line = cbus_authorized_keys_nth(keys, i);
        const CbusAuthorizedLine *same = cbus_authorized_keys_lookup(whole, &line->key);
        FUZZ_CHECK(same != NULL && same->number == line->number);
        FUZZ_CHECK(memcmp(same->digest, line->digest, sizeof same->digest) == 0);
    }
}

/* A line above that makes no sense but for its key bars it. */
static void
check_barred(const CbusAuthorizedLine *line, const char *text, gsize len)
{
    g_autoptr(GString) above = g_string_new("user=,\t ");
    char nkey[CBUS_NKEY_LENGTH + 1];

    cbus_nkey_encode(&line->key, nkey);
    g_string_append_printf(above, "%s\n", nkey);
    g_string_append_len(above, text, (gssize)len);
    g_autoptr(CbusAuthorizedKeys) keys = cbus_authorized_keys_parse(above->str, above->len, on_fault, NULL);
    FUZZ_CHECK(cbus_authorized_keys_lookup(keys, &line->key) == NULL);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    const char *text = (const char *)data, *newline = len > 0 ? memchr(text, '\n', len) : NULL;
    g_autoptr(CbusAuthorizedKeys) keys = cbus_authorized_keys_parse(text, len, on_fault, NULL);

    for (guint i = 0; i < cbus_authorized_keys_size(keys); i++)
        check_line(keys, cbus_authorized_keys_nth(keys, i));
    if (cbus_authorized_keys_size(keys) > 0)
        check_barred(cbus_authorized_keys_nth(keys, 0), text, len);
    if (newline != NULL && len <= CBUS_AUTHORIZED_FILE_MAX)
        check_beginning(keys, text, (gsize)(newline - text) + 1);
    return 0;
}
