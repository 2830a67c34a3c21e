/* Identities: NKeys against published vectors, SSH lines, and every way to get one wrong. */
#include "wire/key.h"

#include <glib.h>
#include <sodium.h>
#include <string.h>

#include "wire/secret.h"

#define RSA_BASE64 "AAAAB3NzaC1yc2EAAAADAQABAAABAQC7yn3bRHQ5FHMQ9PkHt5s1rZ8nD2O7"

/* Published: seeds and public keys that the NATS documentation and the clients' own tests show. */
static const struct {
    const char *seed, *nkey;
} published[] = {
    {"SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
     "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"},
    {"SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU",
     "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L"},
    {"SUAOBFVHF4ZWKTBJ6QP4C362WLBBBFIE7ENFTPYKUGZ3M2ESOXY353LXDI",
     "UBIWK4X3RXCPJ4CMIAVLAFDFABMLCCMZDDLAO5OZZ2265MDLXUTOGO4B"},
    {"SUACLFDTUS353H4ITLDAFQWYA43IAP2L7LGZ5XDEEARMJ4KNPHUWDKDUFQ",
     "UCBWG2NENI2VLZRMXKAQOZVKVVPA5GBUY2G7KGEDJRDWFSQ5VV3P7VYD"},
};

static void
assert_refused(const char *text, CbusKeyError code)
{
    g_autoptr(GError) error = NULL;
    CbusKey key, before;
    memset(&before, 0x5a, sizeof before);
    key = before;
    g_assert_false(cbus_public_key_parse(text, -1, &key, &error));
    if (!g_error_matches(error, CBUS_KEY_ERROR, (gint)code))
        g_error("'%s': expected error %d, got %d: %s", text, code, error->code, error->message);
    g_assert_cmpmem(&key, sizeof key, &before, sizeof before);
}

static CbusKey
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    CbusKey key;
    gboolean good = cbus_public_key_parse(text, -1, &key, &error);
    g_assert_no_error(error);
    g_assert_true(good);
    return key;
}

static void
test_published_nkeys(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(published); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(CbusSecret) secret =
            cbus_secret_parse((const guint8 *)published[i].seed, strlen(published[i].seed), &error);
        char nkey[CBUS_NKEY_LENGTH + 1];
        CbusKey key;
        g_assert_no_error(error);
        cbus_nkey_encode(cbus_secret_public(secret), nkey);
        g_assert_cmpstr(nkey, ==, published[i].nkey);
        g_assert_true(cbus_nkey_decode(published[i].nkey, -1, &key, &error));
        g_assert_true(cbus_key_equal(&key, cbus_secret_public(secret)));
    }
}

static void
test_every_mistyped_character_is_found(void)
{
    for (gsize at = 0; at < CBUS_NKEY_LENGTH; at++) {
        for (const char *c = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"; *c != '\0'; c++) {
            g_autofree char *text = g_strdup(published[0].nkey);
            CbusKey key;
            if (text[at] == *c)
                continue;
            text[at] = *c;
            g_assert_false(cbus_nkey_decode(text, -1, &key, NULL));
        }
    }
    assert_refused("UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF5", CBUS_KEY_ERROR_CHECKSUM);
}

static void
test_nkeys_have_one_spelling(void)
{
    g_autofree char *lower = g_ascii_strdown(published[0].nkey, -1);
    g_autofree char *longer = g_strconcat(published[0].nkey, "A", NULL);
    g_autofree char *padded = g_strconcat(published[0].nkey, "=", NULL);
    CbusKey key;
    assert_refused(lower, CBUS_KEY_ERROR_FORMAT);
    assert_refused(longer, CBUS_KEY_ERROR_FORMAT);
    assert_refused(padded, CBUS_KEY_ERROR_FORMAT);
    g_assert_false(cbus_nkey_decode(published[0].nkey, CBUS_NKEY_LENGTH - 1, &key, NULL));
    g_assert_true(cbus_nkey_decode(longer, CBUS_NKEY_LENGTH, &key, NULL));
}

static void
test_other_roles_are_refused(void)
{
    /* An operator's key of the NATS documentation. */
    assert_refused("ODPWIBQJVIQ42462QAFI2RKJC4RZHCQSIVPRDDHWFCJAP52NRZK6Z2YC", CBUS_KEY_ERROR_TYPE);
}

static char *
ssh_line(const CbusKey *key, const char *comment)
{
    guint8 blob[51] = "\0\0\0\x0bssh-ed25519\0\0\0\x20";
    memcpy(blob + 19, key->bytes, 32);
    g_autofree char *base64 = g_base64_encode(blob, sizeof blob);
    return g_strconcat("ssh-ed25519 ", base64, comment, NULL);
}

static void
test_ssh_lines_and_nkeys_name_the_same_key(void)
{
    CbusKey key = parse(published[0].nkey);
    static const char *const comments[] = {"", " ", " web1", "\troot@web1 and more\r\n"};
    for (gsize i = 0; i < G_N_ELEMENTS(comments); i++) {
        g_autofree char *line = ssh_line(&key, comments[i]);
        g_autofree char *indented = g_strconcat(" \n", line, NULL);
        CbusKey read = parse(indented);
        g_assert_true(cbus_key_equal(&read, &key));
        g_assert_cmpuint(cbus_key_hash(&read), ==, cbus_key_hash(&key));
    }
    g_autofree char *line = ssh_line(&key, "");
    CbusKey bare = parse(strchr(line, ' ') + 1);
    g_assert_true(cbus_key_equal(&bare, &key));
    g_autofree char *nkey = g_strconcat("\t", published[0].nkey, " \n", NULL);
    CbusKey spaced = parse(nkey);
    g_assert_true(cbus_key_equal(&spaced, &key));
}

static void
test_damaged_lines_are_refused(void)
{
    CbusKey key = parse(published[0].nkey);
    g_autofree char *line = ssh_line(&key, "");
    g_autofree char *cut = g_strndup(line, strlen(line) - 1);
    g_autofree char *more = g_strconcat(line, "AAAA", NULL);
    g_autofree char *two = g_strconcat(line, "\n", line, NULL);
    g_autofree char *glued = g_strconcat(published[0].nkey, " web1", NULL);
    g_autofree char *url = g_strdup(line);
    url[strlen(url) - 1] = '_';
    assert_refused("", CBUS_KEY_ERROR_FORMAT);
    assert_refused(" \n", CBUS_KEY_ERROR_FORMAT);
    assert_refused("web1", CBUS_KEY_ERROR_FORMAT);
    assert_refused("ssh-ed25519", CBUS_KEY_ERROR_FORMAT);
    assert_refused(cut, CBUS_KEY_ERROR_FORMAT);
    assert_refused(more, CBUS_KEY_ERROR_FORMAT);
    assert_refused(two, CBUS_KEY_ERROR_FORMAT);
    assert_refused(glued, CBUS_KEY_ERROR_FORMAT);
    assert_refused(url, CBUS_KEY_ERROR_FORMAT);
    assert_refused("ssh-ed25519 " RSA_BASE64, CBUS_KEY_ERROR_FORMAT);
    assert_refused("ssh-\xff\xfe AAAA", CBUS_KEY_ERROR_FORMAT);

    CbusKey out;
    const char hidden[] = "ssh-ed25519\0AAAA";
    g_assert_false(cbus_public_key_parse(hidden, sizeof hidden - 1, &out, NULL));
}

static void
test_other_keys_have_errors_of_their_own(void)
{
    assert_refused("ssh-rsa " RSA_BASE64 " me", CBUS_KEY_ERROR_TYPE);
    assert_refused(RSA_BASE64, CBUS_KEY_ERROR_TYPE);
    assert_refused("ecdsa-sha2-nistp256 AAAA", CBUS_KEY_ERROR_TYPE);
    assert_refused("sk-ssh-ed25519@openssh.com AAAA", CBUS_KEY_ERROR_TYPE);
    assert_refused("ssh-ed25519-cert-v01@openssh.com AAAA", CBUS_KEY_ERROR_TYPE);
    assert_refused("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
                   CBUS_KEY_ERROR_PRIVATE);
    assert_refused("-----BEGIN RSA PRIVATE KEY-----\r\nAAAA\n", CBUS_KEY_ERROR_PRIVATE);
    assert_refused(published[0].seed, CBUS_KEY_ERROR_PRIVATE);
}

static void
assert_weak(const CbusKey *point)
{
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(point, nkey);
    g_autofree char *line = ssh_line(point, "");
    assert_refused(nkey, CBUS_KEY_ERROR_WEAK);
    assert_refused(line, CBUS_KEY_ERROR_WEAK);
}

static void
test_weak_points_are_refused(void)
{
    /* Points of order 1, 2, 4 and 8, other spellings of such, y over p, and a y that no point has. */
    static const char *const weak[] = {
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0200000000000000000000000000000000000000000000000000000000000000",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(weak); i++) {
        CbusKey point;
        for (gsize at = 0; at < CBUS_KEY_BYTES; at++)
            point.bytes[at] = (guint8)(g_ascii_xdigit_value(weak[i][2 * at]) << 4 |
                                       g_ascii_xdigit_value(weak[i][2 * at + 1]));
        assert_weak(&point);
    }
}

static void
test_a_key_with_a_torsion_part_is_refused(void)
{
    /* A good key plus a point of order 8 verifies what the good key signed, often enough. */
    static const guint8 order_8[32] = {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
                                       0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
                                       0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05};
    CbusKey good = parse(published[0].nkey), mixed;
    g_assert_cmpint(crypto_core_ed25519_add(mixed.bytes, good.bytes, order_8), ==, 0);
    assert_weak(&mixed);
}

static void
test_instances(void)
{
    CbusInstance one, two, read;
    char text[CBUS_INSTANCE_TEXT + 1];
    cbus_instance_random(&one);
    cbus_instance_random(&two);
    g_assert_false(cbus_instance_equal(&one, &two));
    cbus_instance_encode(&one, text);
    g_assert_true(cbus_instance_parse(text, strlen(text), &read));
    g_assert_true(cbus_instance_equal(&one, &read));

    static const char *const bad[] = {"",
                                      "0123456789abcdef0123456789abcde",
                                      "0123456789abcdef0123456789abcdef0",
                                      "0123456789ABCDEF0123456789abcdef",
                                      "0123456789abcdeg0123456789abcdef",
                                      "0123456789abcdef.0123456789abcde"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(cbus_instance_parse(bad[i], strlen(bad[i]), &read));
    g_assert_true(cbus_instance_equal(&one, &read));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/key/published-nkeys", test_published_nkeys);
    g_test_add_func("/key/every-mistyped-character-is-found", test_every_mistyped_character_is_found);
    g_test_add_func("/key/nkeys-have-one-spelling", test_nkeys_have_one_spelling);
    g_test_add_func("/key/other-roles-are-refused", test_other_roles_are_refused);
    g_test_add_func("/key/ssh-lines-and-nkeys-name-the-same-key", test_ssh_lines_and_nkeys_name_the_same_key);
    g_test_add_func("/key/damaged-lines-are-refused", test_damaged_lines_are_refused);
    g_test_add_func("/key/other-keys-have-errors-of-their-own", test_other_keys_have_errors_of_their_own);
    g_test_add_func("/key/weak-points-are-refused", test_weak_points_are_refused);
    g_test_add_func("/key/a-key-with-a-torsion-part-is-refused", test_a_key_with_a_torsion_part_is_refused);
    g_test_add_func("/key/instances", test_instances);
    return g_test_run();
}
