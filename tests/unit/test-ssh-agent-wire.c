/* What is said to an ssh-agent, byte by byte, and that no answer is believed. */
#include "wire/ssh_agent.h"
#include "wire/ssh_wire.h"

#include <sodium.h>

static void
make_key(CbusKey *key, guint8 secret[crypto_sign_SECRETKEYBYTES])
{
    guint8 seed[crypto_sign_SEEDBYTES] = {5};

    g_assert_cmpint(crypto_sign_seed_keypair(key->bytes, secret, seed), ==, 0);
}

static void
test_requests_are_those_of_the_draft(void)
{
    static const guint8 list[] = {0, 0, 0, 1, 11};
    guint8 secret[crypto_sign_SECRETKEYBYTES];
    g_autoptr(GByteArray) asked = cbus_ssh_agent_list_request();
    CbusKey key;

    g_assert_cmpmem(asked->data, asked->len, list, sizeof list);
    make_key(&key, secret);
    g_autoptr(GByteArray) sign = cbus_ssh_agent_sign_request(&key, (const guint8 *)"data", 4);
    g_autoptr(GByteArray) wanted = g_byte_array_new();
    g_byte_array_append(wanted, (const guint8 *)"\0\0\0\x44\x0d\0\0\0\x33\0\0\0\x0bssh-ed25519\0\0\0\x20",
                        28);
    g_byte_array_append(wanted, key.bytes, sizeof key.bytes);
    g_byte_array_append(wanted, (const guint8 *)"\0\0\0\4data\0\0\0\0", 12);
    g_assert_cmpmem(sign->data, sign->len, wanted->data, wanted->len);
}

static void
assert_bad_list(const guint8 *bytes, gsize len)
{
    g_autoptr(GError) error = NULL;
    guint others;

    g_assert_null(cbus_ssh_agent_read_list(bytes, len, &others, &error));
    g_assert_error(error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_PROTOCOL);
}

static void
test_lists_are_read_whole(void)
{
    static const CbusKey weak = {{1}};
    guint8 seed[32] = {5}, secret[64], blob[CBUS_SSH_BLOB_BYTES], type = 12;
    g_autoptr(GByteArray) list = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    CbusKey key;
    guint others;

    g_assert_cmpint(crypto_sign_seed_keypair(key.bytes, secret, seed), ==, 0);
    g_byte_array_append(list, &type, 1);
    cbus_ssh_append_u32(list, 3);
    cbus_ssh_append_string(list, "\0\0\0\7ssh-rsa", 11);
    cbus_ssh_append_string(list, "", 0);
    cbus_ssh_blob_encode(&weak, blob);
    cbus_ssh_append_string(list, blob, sizeof blob);
    cbus_ssh_append_string(list, "a small-order point", 19);
    cbus_ssh_blob_encode(&key, blob);
    cbus_ssh_append_string(list, blob, sizeof blob);
    cbus_ssh_append_string(list, "comment", 7);
    for (guint len = 0; len < list->len; len++)
        assert_bad_list(list->data, len);
    g_autoptr(GArray) keys = cbus_ssh_agent_read_list(list->data, list->len, &others, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(keys->len, ==, 1);
    g_assert_cmpuint(others, ==, 2);
    g_assert_true(cbus_key_equal(&g_array_index(keys, CbusKey, 0), &key));
    /* A count that the bytes can not hold. */
    cbus_put_be32(list->data + 1, 0xffffffff);
    assert_bad_list(list->data, list->len);
}

static GByteArray *
sign_answer(const char *type, const guint8 *signature, gsize len)
{
    static const guint8 first = 14;
    g_autoptr(GByteArray) inner = g_byte_array_new();
    GByteArray *answer = g_byte_array_new();

    cbus_ssh_append_string(inner, type, strlen(type));
    cbus_ssh_append_string(inner, signature, len);
    g_byte_array_append(answer, &first, 1);
    cbus_ssh_append_string(answer, inner->data, inner->len);
    return answer;
}

static gboolean
is_read(const GByteArray *answer, gsize len, const CbusKey *key, const char *data)
{
    static const guint8 untouched[CBUS_SIGNATURE_BYTES];
    guint8 signature[CBUS_SIGNATURE_BYTES] = {0};
    g_autoptr(GError) error = NULL;
    gboolean good = cbus_ssh_agent_read_signature(answer->data, len, key, (const guint8 *)data, strlen(data),
                                                  signature, &error);

    g_assert_cmpint(good, ==, error == NULL);
    g_assert_cmpint(memcmp(signature, untouched, sizeof signature) == 0, ==, !good);
    return good;
}

static void
test_signatures_are_checked(void)
{
    guint8 secret[crypto_sign_SECRETKEYBYTES], signature[CBUS_SIGNATURE_BYTES];
    CbusKey key, other;

    make_key(&key, secret);
    other = key;
    other.bytes[3] ^= 1;
    crypto_sign_detached(signature, NULL, (const guint8 *)"data", 4, secret);
    g_autoptr(GByteArray) answer = sign_answer("ssh-ed25519", signature, sizeof signature);
    g_assert_true(is_read(answer, answer->len, &key, "data"));
    g_assert_false(is_read(answer, answer->len, &key, "date"));
    g_assert_false(is_read(answer, answer->len, &other, "data"));
    for (gsize len = 0; len < answer->len; len++)
        g_assert_false(is_read(answer, len, &key, "data"));
    g_autoptr(GByteArray) shorter = sign_answer("ssh-ed25519", signature, sizeof signature - 1);
    g_assert_false(is_read(shorter, shorter->len, &key, "data"));
    g_autoptr(GByteArray) type = sign_answer("ssh-ed25518", signature, sizeof signature);
    g_assert_false(is_read(type, type->len, &key, "data"));
    for (guint bit = 0; bit < answer->len * 8; bit++) {
        answer->data[bit / 8] ^= (guint8)(1u << bit % 8);
        g_assert_false(is_read(answer, answer->len, &key, "data"));
        answer->data[bit / 8] ^= (guint8)(1u << bit % 8);
    }
}

static void
test_refusal_is_told_from_nonsense(void)
{
    static const guint8 failure[] = {5}, longer[] = {5, 0};
    static const CbusKey key;
    guint8 signature[CBUS_SIGNATURE_BYTES];
    g_autoptr(GError) refused = NULL;
    g_autoptr(GError) nonsense = NULL;

    g_assert_false(
        cbus_ssh_agent_read_signature(failure, sizeof failure, &key, failure, 1, signature, &refused));
    g_assert_error(refused, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_REFUSED);
    g_assert_false(
        cbus_ssh_agent_read_signature(longer, sizeof longer, &key, failure, 1, signature, &nonsense));
    g_assert_error(nonsense, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_PROTOCOL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/ssh-agent-wire/requests-are-those-of-the-draft", test_requests_are_those_of_the_draft);
    g_test_add_func("/ssh-agent-wire/lists-are-read-whole", test_lists_are_read_whole);
    g_test_add_func("/ssh-agent-wire/signatures-are-checked", test_signatures_are_checked);
    g_test_add_func("/ssh-agent-wire/refusal-is-told-from-nonsense", test_refusal_is_told_from_nonsense);
    return g_test_run();
}
