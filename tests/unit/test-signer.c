/* Key files: who may read them, what they are; and the signer that signs in this process. */
#include "link/signer.h"
#include "nonces.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <sys/stat.h>

#define SEED "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"

typedef struct {
    char *directory, *file;
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    fixture->directory = g_dir_make_tmp("cbus-signer-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->file = g_build_filename(fixture->directory, "key", NULL);
    g_assert_true(
        g_file_set_contents_full(fixture->file, SEED "\n", -1, G_FILE_SET_CONTENTS_NONE, 0600, &error));
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_unlink(fixture->file);
    g_assert_cmpint(g_rmdir(fixture->directory), ==, 0);
    g_free(fixture->file);
    g_free(fixture->directory);
}

static void
assert_refused(Fixture *fixture, GQuark domain, int code)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(cbus_secret_load(fixture->file, &error));
    g_assert_error(error, domain, code);
    g_assert_true(g_str_has_prefix(error->message, fixture->file));
}

static void
test_loads_a_private_file(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSecret) secret = cbus_secret_load(fixture->file, &error);
    g_assert_no_error(error);
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(cbus_secret_public(secret), nkey);
    g_assert_cmpstr(nkey, ==, "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L");
    g_assert_cmpint(g_chmod(fixture->file, 0400), ==, 0);
    g_autoptr(CbusSecret) again = cbus_secret_load(fixture->file, &error);
    g_assert_no_error(error);
}

static void
test_refuses_what_others_can_read(Fixture *fixture, gconstpointer data)
{
    for (guint bit = 0; bit < 6; bit++) {
        g_assert_cmpint(g_chmod(fixture->file, (int)(0600 | 1u << bit)), ==, 0);
        assert_refused(fixture, G_FILE_ERROR, G_FILE_ERROR_PERM);
    }
}

static void
test_refuses_what_is_no_key_file(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_unlink(fixture->file);
    assert_refused(fixture, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_assert_cmpint(mkfifo(fixture->file, 0600), ==, 0);
    assert_refused(fixture, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT);
    g_unlink(fixture->file);
    g_autofree char *large = g_strnfill(65537, 'A');
    g_file_set_contents_full(fixture->file, large, 65537, G_FILE_SET_CONTENTS_NONE, 0600, &error);
    assert_refused(fixture, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT);
    g_unlink(fixture->file);
    g_file_set_contents_full(fixture->file, "junk", -1, G_FILE_SET_CONTENTS_NONE, 0600, &error);
    assert_refused(fixture, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT);
}

static void
keep_signature(const guint8 *signature, const GError *error, gpointer user_data)
{
    g_assert_null(error);
    g_byte_array_append(user_data, signature, CBUS_SIGNATURE_BYTES);
}

static void
test_signs_under_its_role(Fixture *fixture, gconstpointer data)
{
    static const guint8 message[64] = {1};
    for (CbusRole role = CBUS_ROLE_AGENT; role <= CBUS_ROLE_PROXY; role++) {
        g_autoptr(CbusSigner) signer =
            cbus_signer_new_for_secret(cbus_secret_load(fixture->file, NULL), role);
        g_autoptr(GByteArray) signatures = g_byte_array_new();
        signer->sign_transcript(signer, message, sizeof message, keep_signature, signatures);
        g_assert_cmpuint(signatures->len, ==, CBUS_SIGNATURE_BYTES);
        g_assert_true(
            cbus_transcript_verify(&signer->public_key, role, message, sizeof message, signatures->data));
    }
}

static gboolean
sign_bytes(const char *nonce, gsize len, guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data)
{
    return cbus_secret_sign_nonce(user_data, nonce, len, signature, NULL);
}

static void
check_key(const char *file)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSigner) signer = cbus_signer_load(file, CBUS_ROLE_PROXY, NULL, &error);
    g_assert_no_error(error);
    g_autoptr(CbusSecret) secret = cbus_secret_load(file, &error);
    g_assert_no_error(error);
    check_nonces(&signer->public_key, FALSE, sign_string, signer);
    check_nonces(&signer->public_key, TRUE, sign_bytes, secret);
}

static void
test_signs_no_other_nonces(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    check_key(fixture->file);
    g_unlink(fixture->file);
    const char *argv[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", fixture->file, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    check_key(fixture->file);
    g_autofree char *public_file = g_strconcat(fixture->file, ".pub", NULL);
    g_unlink(public_file);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/signer/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("loads-a-private-file", test_loads_a_private_file);
    ADD("refuses-what-others-can-read", test_refuses_what_others_can_read);
    ADD("refuses-what-is-no-key-file", test_refuses_what_is_no_key_file);
    ADD("signs-under-its-role", test_signs_under_its_role);
    ADD("signs-no-other-nonces", test_signs_no_other_nonces);
#undef ADD
    return g_test_run();
}
