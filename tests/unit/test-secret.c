/* Private keys as ssh-keygen makes them, what they refuse to sign, and that ssh-keygen verifies what they
 * sign. */
#include "sshsig.h"
#include "wire/secret.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>

#define SEED  "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
#define NONCE "PXoWU7zWAMt75FY"

typedef struct {
    char *directory;
    char *file, *public_file;
} Fixture;

/* Runs the words after EXPECT (success or not), ended by NULL, with INPUT_FILE as standard input. */
static void
run(const char *input_file, gboolean expect, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE | G_SUBPROCESS_FLAGS_STDERR_SILENCE);
    g_autoptr(GError) error = NULL;
    va_list args;
    const char *word;
    va_start(args, expect);
    while ((word = va_arg(args, const char *)) != NULL)
        g_ptr_array_add(argv, (gpointer)word);
    va_end(args);
    g_ptr_array_add(argv, NULL);
    g_subprocess_launcher_set_stdin_file_path(launcher, input_file != NULL ? input_file : "/dev/null");
    g_autoptr(GSubprocess) process =
        g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, &error);
    g_assert_no_error(error);
    g_assert_true(g_subprocess_wait(process, NULL, &error));
    g_assert_cmpint(g_subprocess_get_successful(process), ==, expect);
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    fixture->directory = g_dir_make_tmp("cbus-secret-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->file = g_build_filename(fixture->directory, "key", NULL);
    fixture->public_file = g_strconcat(fixture->file, ".pub", NULL);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GDir) directory = g_dir_open(fixture->directory, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(directory)) != NULL) {
        g_autofree char *path = g_build_filename(fixture->directory, name, NULL);
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    g_assert_cmpint(g_rmdir(fixture->directory), ==, 0);
    g_free(fixture->directory);
    g_free(fixture->file);
    g_free(fixture->public_file);
}

static char *
contents(const char *file)
{
    g_autoptr(GError) error = NULL;
    char *text;
    g_file_get_contents(file, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

static CbusSecret *
parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    CbusSecret *secret = cbus_secret_parse((const guint8 *)text, strlen(text), &error);
    g_assert_no_error(error);
    return secret;
}

static void
assert_refused(const char *text, CbusKeyError code)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(cbus_secret_parse((const guint8 *)text, strlen(text), &error));
    g_assert_error(error, CBUS_KEY_ERROR, (gint)code);
}

static void
test_reads_what_ssh_keygen_makes(Fixture *fixture, gconstpointer data)
{
    /* Comments of any length: the padding takes all its eight lengths. */
    for (int i = 0; i < 9; i++) {
        g_autofree char *comment = g_strnfill((gsize)i, 'c');
        run(NULL, TRUE, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", fixture->file,
            NULL);
        g_autofree char *text = contents(fixture->file), *line = contents(fixture->public_file);
        g_autoptr(CbusSecret) secret = parse(text);
        CbusKey key;
        g_assert_true(cbus_public_key_parse(line, -1, &key, NULL));
        g_assert_true(cbus_key_equal(&key, cbus_secret_public(secret)));
        g_unlink(fixture->file);
    }
}

static void
test_refuses_other_private_keys(Fixture *fixture, gconstpointer data)
{
    run(NULL, TRUE, "ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", fixture->file, NULL);
    g_autofree char *encrypted = contents(fixture->file);
    assert_refused(encrypted, CBUS_KEY_ERROR_ENCRYPTED);
    g_autofree char *line = contents(fixture->public_file);
    assert_refused(line, CBUS_KEY_ERROR_FORMAT);
    g_unlink(fixture->file);

    run(NULL, TRUE, "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", fixture->file, NULL);
    g_autofree char *ecdsa = contents(fixture->file);
    assert_refused(ecdsa, CBUS_KEY_ERROR_TYPE);
    g_unlink(fixture->file);

    run(NULL, TRUE, "ssh-keygen", "-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f", fixture->file, NULL);
    g_autofree char *pem = contents(fixture->file);
    assert_refused(pem, CBUS_KEY_ERROR_TYPE);
    assert_refused("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", CBUS_KEY_ERROR_ENCRYPTED);
    assert_refused("-----BEGIN X", CBUS_KEY_ERROR_TYPE);
}

static char *
openssh_file(const guint8 *raw, gsize len)
{
    g_autofree char *base64 = g_base64_encode(raw, len);
    return g_strconcat("-----BEGIN OPENSSH PRIVATE KEY-----\n", base64,
                       "\n-----END OPENSSH PRIVATE KEY-----\n", NULL);
}

static void
test_damaged_file_is_never_another_identity(Fixture *fixture, gconstpointer data)
{
    run(NULL, TRUE, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hosts", "-f", fixture->file, NULL);
    g_autofree char *text = contents(fixture->file);
    g_autoptr(CbusSecret) whole = parse(text);
    g_autofree char *body = g_strdup(strchr(text, '\n') + 1);
    *g_strrstr(body, "-----END") = '\0';
    gsize len;
    g_autofree guint8 *raw = g_base64_decode(body, &len);
    guint survived = 0;
    for (gsize bit = 0; bit < len * 8; bit++) {
        raw[bit / 8] ^= (guint8)(1u << bit % 8);
        g_autofree char *file = openssh_file(raw, len);
        g_autoptr(CbusSecret) secret = cbus_secret_parse((const guint8 *)file, strlen(file), NULL);
        if (secret != NULL) {
            g_assert_true(cbus_key_equal(cbus_secret_public(secret), cbus_secret_public(whole)));
            survived++;
        }
        raw[bit / 8] ^= (guint8)(1u << bit % 8);
    }
    /* The five letters of the comment alone. */
    g_assert_cmpuint(survived, ==, 40);
    for (gsize shorter = 0; shorter < len; shorter++) {
        g_autofree char *file = openssh_file(raw, shorter);
        assert_refused(file, CBUS_KEY_ERROR_FORMAT);
    }
    g_autofree char *cut = g_strndup(text, strlen(text) - 10);
    assert_refused(cut, CBUS_KEY_ERROR_FORMAT);
}

static void
test_reads_nkey_seeds(void)
{
    g_autoptr(CbusSecret) secret = parse("\n " SEED " \n");
    char nkey[CBUS_NKEY_LENGTH + 1];
    cbus_nkey_encode(cbus_secret_public(secret), nkey);
    g_assert_cmpstr(nkey, ==, "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L");

    assert_refused("", CBUS_KEY_ERROR_FORMAT);
    assert_refused("UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L", CBUS_KEY_ERROR_FORMAT);
    assert_refused("SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBA", CBUS_KEY_ERROR_CHECKSUM);
    /* The two bits after the last byte: another spelling of the same seed. */
    assert_refused("SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBV", CBUS_KEY_ERROR_FORMAT);
    /* An operator's seed of the NATS documentation. */
    assert_refused("SOAELH6NJCEK4HST5644G4HK7TOAFZGRRJHNM4EUKUY7PPNDLIKO5IH4JM", CBUS_KEY_ERROR_TYPE);
}

static void
test_signs_nats_nonces(void)
{
    /* What the clients of NATS expect for this seed and nonce in their own tests. */
    static const char expected[] =
        "ZaAiVDgB5CeYoXoQ7cBCmq+ZllzUnGUoDVb8C7PilWvCs8XKfUchAUhz2P4BYAF++Dg3w05CqyQFRDiGL6LrDw==";
    g_autoptr(CbusSecret) secret = parse(SEED);
    g_autoptr(GError) error = NULL;
    guint8 signature[CBUS_SIGNATURE_BYTES];
    g_assert_true(cbus_secret_sign_nonce(secret, NONCE, strlen(NONCE), signature, &error));
    g_autofree char *base64 = g_base64_encode(signature, sizeof signature);
    g_assert_cmpstr(base64, ==, expected);
}

static void
test_signs_nothing_that_could_be_ssh(void)
{
    g_autoptr(CbusSecret) secret = parse(SEED);
    for (gsize len = 0; len < 200; len++) {
        g_autofree char *nonce = g_strnfill(len, 'a');
        g_autoptr(GError) error = NULL;
        guint8 signature[CBUS_SIGNATURE_BYTES];
        gboolean allowed = len == 15 || len == 22 || len == 43;
        g_assert_cmpint(cbus_secret_sign_nonce(secret, nonce, len, signature, &error), ==, allowed);
        g_assert_cmpint(error != NULL, ==, !allowed);
    }
    for (guint c = 0; c < 256; c++) {
        char nonce[15];
        memset(nonce, 'a', sizeof nonce);
        nonce[c % sizeof nonce] = (char)c;
        gboolean allowed = (c < 128 && g_ascii_isalnum((char)c)) || c == '_' || c == '-';
        g_assert_cmpint(cbus_nonce_is_signable(nonce, sizeof nonce), ==, allowed);
    }
}

static void
test_signature_is_of_one_role_and_message(void)
{
    g_autoptr(CbusSecret) secret = parse(SEED);
    guint8 message[64] = {1, 2, 3}, signature[CBUS_SIGNATURE_BYTES];
    const CbusKey *key = cbus_secret_public(secret);
    cbus_secret_sign_transcript(secret, CBUS_ROLE_AGENT, message, sizeof message, signature);
    g_assert_true(cbus_transcript_verify(key, CBUS_ROLE_AGENT, message, sizeof message, signature));
    g_assert_false(cbus_transcript_verify(key, CBUS_ROLE_PROXY, message, sizeof message, signature));
    g_assert_false(cbus_transcript_verify(key, CBUS_ROLE_AGENT, message, sizeof message - 1, signature));
    for (gsize bit = 0; bit < sizeof signature * 8; bit++) {
        signature[bit / 8] ^= (guint8)(1u << bit % 8);
        g_assert_false(cbus_transcript_verify(key, CBUS_ROLE_AGENT, message, sizeof message, signature));
        signature[bit / 8] ^= (guint8)(1u << bit % 8);
    }
}

static void
write_file(const char *file, const char *text, gssize len)
{
    g_autoptr(GError) error = NULL;
    g_file_set_contents(file, text, len, &error);
    g_assert_no_error(error);
}

static void
test_ssh_keygen_verifies_transcripts(Fixture *fixture, gconstpointer data)
{
    static const char agent[] = "link-agent-v1@cbus.bmcgee.ie", proxy[] = "link-proxy-v1@cbus.bmcgee.ie";
    run(NULL, TRUE, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", fixture->file, NULL);
    g_autofree char *text = contents(fixture->file), *line = contents(fixture->public_file);
    g_autoptr(CbusSecret) secret = parse(text);
    g_autofree char *signers = g_build_filename(fixture->directory, "signers", NULL);
    g_autofree char *allowed = g_strconcat("host ", line, NULL);
    write_file(signers, allowed, -1);
    char message[64];
    for (gsize i = 0; i < sizeof message; i++)
        message[i] = (char)i;
    g_autofree char *file = g_build_filename(fixture->directory, "message", NULL);
    write_file(file, message, sizeof message);

    guint8 signature[CBUS_SIGNATURE_BYTES];
    g_autofree char *signature_file = g_build_filename(fixture->directory, "signature", NULL);
    cbus_secret_sign_transcript(secret, CBUS_ROLE_AGENT, (const guint8 *)message, sizeof message, signature);
    g_autofree char *good = armored(cbus_secret_public(secret), agent, signature);
    write_file(signature_file, good, -1);
    run(file, TRUE, "ssh-keygen", "-Y", "verify", "-f", signers, "-I", "host", "-n", agent, "-s",
        signature_file, NULL);
    run(file, FALSE, "ssh-keygen", "-Y", "verify", "-f", signers, "-I", "host", "-n", proxy, "-s",
        signature_file, NULL);

    /* The same signature, said to be of the other role. */
    g_autofree char *lie = armored(cbus_secret_public(secret), proxy, signature);
    write_file(signature_file, lie, -1);
    run(file, FALSE, "ssh-keygen", "-Y", "verify", "-f", signers, "-I", "host", "-n", proxy, "-s",
        signature_file, NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/secret/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("reads-what-ssh-keygen-makes", test_reads_what_ssh_keygen_makes);
    ADD("refuses-other-private-keys", test_refuses_other_private_keys);
    ADD("damaged-file-is-never-another-identity", test_damaged_file_is_never_another_identity);
    ADD("ssh-keygen-verifies-transcripts", test_ssh_keygen_verifies_transcripts);
#undef ADD
    g_test_add_func("/secret/reads-nkey-seeds", test_reads_nkey_seeds);
    g_test_add_func("/secret/signs-nats-nonces", test_signs_nats_nonces);
    g_test_add_func("/secret/signs-nothing-that-could-be-ssh", test_signs_nothing_that_could_be_ssh);
    g_test_add_func("/secret/signature-is-of-one-role-and-message",
                    test_signature_is_of_one_role_and_message);
    return g_test_run();
}
