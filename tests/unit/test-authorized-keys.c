/* What authorized-keys text means, line by line: who gets in, who does not, and that it is said why. */
#include "wire/authorized_keys.h"
#include <sodium.h>
#include <string.h>

/* Two keys, as ssh-keygen -t ed25519 writes them, and the first as an NKey. */
static char *ssh_a, *ssh_b, *nkey_a;
static CbusKey key_a, key_b;

static char *
ssh_line(const guint8 *blob, gsize len)
{
    g_autofree char *text = g_base64_encode(blob, len);

    return g_strconcat("ssh-ed25519 ", text, NULL);
}

static gsize
make_blob(const CbusKey *key, guint8 blob[64])
{
    static const guint8 head[] = "\0\0\0\x0bssh-ed25519\0\0\0\x20";

    memcpy(blob, head, sizeof head - 1);
    memcpy(blob + sizeof head - 1, key->bytes, CBUS_KEY_BYTES);
    return sizeof head - 1 + CBUS_KEY_BYTES;
}

static char *
make_key(guint8 seed_byte, CbusKey *key)
{
    guint8 seed[crypto_sign_SEEDBYTES], secret[crypto_sign_SECRETKEYBYTES], blob[64];

    memset(seed, seed_byte, sizeof seed);
    crypto_sign_seed_keypair(key->bytes, secret, seed);
    return ssh_line(blob, make_blob(key, blob));
}

typedef struct {
    guint faults, last_line;
    char *reason;
} Faults;

static void
on_fault(guint number, const char *reason, gpointer user_data)
{
    Faults *faults = user_data;

    faults->faults++;
    faults->last_line = number;
    g_free(faults->reason);
    faults->reason = g_strdup(reason);
}

static CbusAuthorizedKeys *
parse(const char *text, Faults *faults)
{
    *faults = (Faults){0};
    return cbus_authorized_keys_parse(text, strlen(text), on_fault, faults);
}

static void
test_accepted(void)
{
    g_autofree char *text =
        g_strdup_printf("# operators\n\n  \t\n%s ada@example with words\r\n\t%s\n", ssh_a, ssh_b);
    g_autoptr(CbusAuthorizedKeys) keys = NULL;
    const CbusAuthorizedLine *line;
    Faults faults;

    keys = parse(text, &faults);
    g_assert_cmpuint(faults.faults, ==, 0);
    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 2);
    line = cbus_authorized_keys_lookup(keys, &key_a);
    g_assert_nonnull(line);
    g_assert_cmpuint(line->number, ==, 4);
    g_assert_cmpstr(line->comment, ==, "ada@example with words");
    g_assert_null(line->options);
    line = cbus_authorized_keys_lookup(keys, &key_b);
    g_assert_true(line == cbus_authorized_keys_nth(keys, 1));
    g_assert_cmpuint(line->number, ==, 5);
    g_assert_cmpstr(line->comment, ==, "");
}

static void
test_nkey_is_the_same_key(void)
{
    g_autofree char *text = g_strdup_printf("%s laptop", nkey_a);
    g_autoptr(CbusAuthorizedKeys) keys = NULL;
    Faults faults;

    keys = parse(text, &faults);
    g_assert_cmpuint(faults.faults, ==, 0);
    g_assert_nonnull(cbus_authorized_keys_lookup(keys, &key_a));
    g_assert_null(cbus_authorized_keys_lookup(keys, &key_b));
}

static void
test_empty_authorizes_nobody(void)
{
    g_autoptr(CbusAuthorizedKeys) keys = cbus_authorized_keys_parse("", 0, NULL, NULL);

    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 0);
    g_assert_null(cbus_authorized_keys_lookup(keys, &key_a));
}

/* One refused line between two good ones: its reason, and that the others stand. */
static void
assert_refused(const char *bad, const char *reason)
{
    g_autofree char *text = g_strdup_printf("# one\n%s\n%s\n", bad, ssh_b);
    g_autoptr(CbusAuthorizedKeys) keys = NULL;
    Faults faults;

    keys = parse(text, &faults);
    g_assert_cmpuint(faults.faults, ==, 1);
    g_assert_cmpuint(faults.last_line, ==, 2);
    if (g_strstr_len(faults.reason, -1, reason) == NULL)
        g_error("'%s' was refused because '%s', not because of '%s'", bad, faults.reason, reason);
    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 1);
    g_assert_nonnull(cbus_authorized_keys_lookup(keys, &key_b));
    g_assert_null(cbus_authorized_keys_lookup(keys, &key_a));
    g_free(faults.reason);
}

static void
assert_key_refused_with(const char *prefix, const char *reason)
{
    g_autofree char *line = g_strconcat(prefix, ssh_a, NULL);

    assert_refused(line, reason);
}

static char *
is_unwelcome(const CbusAuthorizedLine *line, gpointer user_data)
{
    return g_strcmp0(line->user, "mallory") == 0 ? g_strdup("mallory is not welcome") : NULL;
}

static void
test_a_judge_refuses_lines(void)
{
    g_autofree char *text =
        g_strdup_printf("user=\"alice\" %s\nuser=\"mallory\" %s\n%s\n", ssh_a, ssh_b, ssh_b);
    Faults faults;
    g_autoptr(CbusAuthorizedKeys) keys = parse(text, &faults);

    g_assert_cmpstr(cbus_authorized_keys_lookup(keys, &key_a)->user, ==, "alice");
    g_assert_cmpstr(cbus_authorized_keys_lookup(keys, &key_b)->user, ==, "mallory");
    g_assert_cmpuint(faults.faults, ==, 1); /* the key's second line, which is not there to fall back on */
    cbus_authorized_keys_judge(keys, is_unwelcome, NULL, on_fault, &faults);
    g_assert_cmpuint(faults.faults, ==, 2);
    g_assert_cmpuint(faults.last_line, ==, 2);
    g_assert_nonnull(g_strstr_len(faults.reason, -1, "not welcome"));
    g_assert_nonnull(cbus_authorized_keys_lookup(keys, &key_a));
    g_assert_null(cbus_authorized_keys_lookup(keys, &key_b));
    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 1);
    g_free(faults.reason);
}

static void
test_a_policy_has_to_be_there(void)
{
    g_autofree char *text = g_strdup_printf("policy=\"readonly\" %s\npolicy=\"gone\" %s\n", ssh_a, ssh_b);
    g_autoptr(CbusPolicies) policies = cbus_policies_parse("", 0, "agent.conf", NULL, NULL);
    Faults faults;
    g_autoptr(CbusAuthorizedKeys) keys = parse(text, &faults);

    g_assert_cmpuint(faults.faults, ==, 0);
    g_assert_cmpstr(cbus_authorized_keys_lookup(keys, &key_a)->policy, ==, "readonly");
    cbus_authorized_keys_require(keys, policies, on_fault, &faults);
    g_assert_cmpuint(faults.faults, ==, 1);
    g_assert_cmpuint(faults.last_line, ==, 2);
    g_assert_nonnull(g_strstr_len(faults.reason, -1, "\"gone\""));
    g_assert_nonnull(cbus_authorized_keys_lookup(keys, &key_a));
    g_assert_null(cbus_authorized_keys_lookup(keys, &key_b));
    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 1);
    g_free(faults.reason);
}

static void
test_options_refuse_their_line(void)
{
    assert_key_refused_with("policy ", "no value");
    assert_key_refused_with("policy=\"\" ", "no policy's name");
    assert_key_refused_with("user ", "no value");
    assert_key_refused_with("user=\"\" ", "no user's name");
    assert_key_refused_with("user=\"-alice\" ", "no user's name");
    assert_key_refused_with("user=\"../alice\" ", "no user's name");
    assert_key_refused_with("user=\"alice,root\" ", "no user's name");
    assert_key_refused_with("user=\"alice\",no-pty ", "\"no-pty\"");
    assert_key_refused_with("policy=\"a\\\"b c,d\" ", "\"policy\"");
    assert_key_refused_with("no-pty,user=\"x\"\t ", "not known");
    assert_key_refused_with("restrict ", "\"restrict\"");
    assert_key_refused_with("cert-authority ", "cert-authority");
    assert_key_refused_with("cert-authority,principals=\"a,b\" ", "cert-authority");
    assert_key_refused_with("user=\"a\",USER=\"b\" ", "twice");
    assert_key_refused_with("user=alice ", "double quotes");
    assert_key_refused_with("user=\"alice ", "closing quote");
    assert_key_refused_with("user=\"alice\\\" ", "closing quote");
    assert_key_refused_with("user=\"alice\"x ", "commas");
    assert_key_refused_with("user=\"alice\", ", "neither a key nor an option");
    assert_key_refused_with(",", "neither a key nor an option");
    assert_refused("user=\"alice\"", "missing");
    assert_refused("user=\"alice\" ", "missing");
}

static void
test_other_keys_are_refused(void)
{
    assert_refused("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC", "not an ed25519");
    assert_refused("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY", "not an ed25519");
    assert_refused("ssh-dss AAAAB3NzaC1kc3MAAACBA", "not an ed25519");
    assert_refused("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t", "security key");
    assert_refused("ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQ", "certificate");
    assert_refused("-----BEGIN OPENSSH PRIVATE KEY-----", "");
}

static void
test_damaged_keys_are_refused(void)
{
    guint8 blob[64];
    gsize len = make_blob(&key_a, blob);
    CbusKey weak = {{1}};
    g_autofree char *longer = ssh_line(blob, len + 1), *shorter = ssh_line(blob, len - 1), *inner = NULL,
                    *pointless = NULL;
    g_autofree char *nkey = g_strdup(nkey_a);

    assert_refused(longer, "");
    assert_refused(shorter, "");
    blob[14] = '8';
    inner = ssh_line(blob, len);
    assert_refused(inner, "");
    pointless = ssh_line(blob, make_blob(&weak, blob));
    assert_refused(pointless, "");
    assert_refused("ssh-ed25519", "");
    assert_refused("ssh-ed25519 !!!!", "");
    nkey[20] = nkey[20] == 'A' ? 'B' : 'A';
    assert_refused(nkey, "");
    assert_refused("SUAOY5JZ2WJKVR4UO2KJ2P3SW6FZFNWEOIMAXF4WZEUNVQXXUOKGM55CYE", "");
}

static void
test_control_characters_and_length(void)
{
    g_autofree char *comment = g_strnfill(CBUS_AUTHORIZED_LINE_MAX, 'x');
    g_autofree char *bell = g_strconcat(ssh_a, " \a", NULL), *line = g_strconcat(ssh_a, " ", comment, NULL);

    assert_refused(bell, "control character");
    assert_refused(line, "longer than");
}

static void
test_nul_does_not_hide_a_line(void)
{
    g_autofree char *text = g_strdup_printf("x%s\n%s\n", ssh_a, ssh_b);
    g_autoptr(CbusAuthorizedKeys) keys = NULL;
    Faults faults = {0};
    gsize len = strlen(text);

    text[0] = '\0';
    keys = cbus_authorized_keys_parse(text, len, on_fault, &faults);
    g_assert_cmpuint(faults.faults, ==, 1);
    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 1);
    g_free(faults.reason);
}

static void
test_first_line_of_a_key_counts(void)
{
    g_autofree char *text = g_strdup_printf("%s first\n%s second\n%s\n", ssh_a, nkey_a, ssh_b);
    g_autoptr(CbusAuthorizedKeys) keys = NULL;
    Faults faults;

    keys = parse(text, &faults);
    g_assert_cmpuint(faults.faults, ==, 1);
    g_assert_cmpuint(faults.last_line, ==, 2);
    g_assert_nonnull(g_strstr_len(faults.reason, -1, "line 1"));
    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 2);
    g_assert_cmpstr(cbus_authorized_keys_lookup(keys, &key_a)->comment, ==, "first");
    g_free(faults.reason);
}

/* Else a second line would lift what the first one restricts. */
static void
test_refused_first_line_counts_too(void)
{
    g_autofree char *text = g_strdup_printf("no-such-option=\"alice\" %s\n%s\n", ssh_a, ssh_a);
    g_autoptr(CbusAuthorizedKeys) keys = NULL;
    Faults faults;

    keys = parse(text, &faults);
    g_assert_cmpuint(faults.faults, ==, 2);
    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 0);
    g_assert_null(cbus_authorized_keys_lookup(keys, &key_a));
    g_free(faults.reason);
}

/* Also where the options are beyond understanding, the key is in the way of a line below. */
static void
test_unreadable_first_line_counts_too(void)
{
    static const char *const beginnings[] = {
        "user=alice ",
        "user=\"alice\"x ",
        "user=\"alice\", ",
        "user=\"a\",user=\"b\" ",
        "user=\"alice ",
        "user = \"alice\" ",
        "policy=\"readonly\";",
        "a b c ",
        "from=\"10.0.0.1\",,policy=\"p\" ",
        "user=\"al\aice\" ",
    };

    for (guint i = 0; i < G_N_ELEMENTS(beginnings); i++) {
        g_autofree char *text = g_strdup_printf("%s%s laptop\n%s\n%s\n%s\n", beginnings[i],
                                                i % 2 == 0 ? ssh_a : nkey_a, ssh_a, nkey_a, ssh_b);
        Faults faults;
        g_autoptr(CbusAuthorizedKeys) keys = parse(text, &faults);

        g_test_message("%s", text);
        g_assert_cmpuint(faults.faults, ==, 3);
        g_assert_null(cbus_authorized_keys_lookup(keys, &key_a));
        g_assert_nonnull(cbus_authorized_keys_lookup(keys, &key_b));
        g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 1);
        g_free(faults.reason);
    }
}

static void
test_too_large_authorizes_nobody(void)
{
    g_autoptr(GString) text = g_string_new(ssh_a);
    g_autoptr(CbusAuthorizedKeys) keys = NULL;
    Faults faults;

    while (text->len <= CBUS_AUTHORIZED_FILE_MAX)
        g_string_append(text, "\n# padding padding padding padding padding");
    keys = parse(text->str, &faults);
    g_assert_cmpuint(faults.faults, ==, 1);
    g_assert_cmpuint(faults.last_line, ==, 0);
    g_assert_cmpuint(cbus_authorized_keys_size(keys), ==, 0);
    g_free(faults.reason);
}

static void
test_digest_follows_the_line(void)
{
    g_autofree char *one = g_strdup_printf("%s x", ssh_a),
                    *moved = g_strdup_printf("\n\n  %s x  \r\n", ssh_a),
                    *other = g_strdup_printf("%s y", ssh_a);
    const char *texts[] = {one, moved, other};
    guint8 digests[3][CBUS_AUTHORIZED_DIGEST_BYTES];

    for (guint i = 0; i < 3; i++) {
        Faults faults;
        g_autoptr(CbusAuthorizedKeys) keys = parse(texts[i], &faults);
        memcpy(digests[i], cbus_authorized_keys_lookup(keys, &key_a)->digest, sizeof digests[i]);
    }
    g_assert_cmpmem(digests[0], sizeof digests[0], digests[1], sizeof digests[1]);
    g_assert_cmpint(memcmp(digests[0], digests[2], sizeof digests[0]), !=, 0);
}

int
main(int argc, char **argv)
{
    char text[CBUS_NKEY_LENGTH + 1];
    int status;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    ssh_a = make_key(1, &key_a);
    ssh_b = make_key(2, &key_b);
    cbus_nkey_encode(&key_a, text);
    nkey_a = g_strdup(text);
    g_test_add_func("/authorized-keys/keys-comments-and-blanks", test_accepted);
    g_test_add_func("/authorized-keys/nkey-is-the-same-key", test_nkey_is_the_same_key);
    g_test_add_func("/authorized-keys/empty-authorizes-nobody", test_empty_authorizes_nobody);
    g_test_add_func("/authorized-keys/a-policy-has-to-be-there", test_a_policy_has_to_be_there);
    g_test_add_func("/authorized-keys/a-judge-refuses-lines", test_a_judge_refuses_lines);
    g_test_add_func("/authorized-keys/options-refuse-their-line", test_options_refuse_their_line);
    g_test_add_func("/authorized-keys/other-keys-are-refused", test_other_keys_are_refused);
    g_test_add_func("/authorized-keys/damaged-keys-are-refused", test_damaged_keys_are_refused);
    g_test_add_func("/authorized-keys/control-characters-and-length", test_control_characters_and_length);
    g_test_add_func("/authorized-keys/nul-does-not-hide-a-line", test_nul_does_not_hide_a_line);
    g_test_add_func("/authorized-keys/first-line-of-a-key-counts", test_first_line_of_a_key_counts);
    g_test_add_func("/authorized-keys/refused-first-line-counts-too", test_refused_first_line_counts_too);
    g_test_add_func("/authorized-keys/unreadable-first-line-counts-too",
                    test_unreadable_first_line_counts_too);
    g_test_add_func("/authorized-keys/too-large-authorizes-nobody", test_too_large_authorizes_nobody);
    g_test_add_func("/authorized-keys/digest-follows-the-line", test_digest_follows_the_line);
    status = g_test_run();
    g_free(ssh_a);
    g_free(ssh_b);
    g_free(nkey_a);
    return status;
}
