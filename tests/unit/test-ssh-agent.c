/* Signing by an ssh-agent: the real one, and one that answers what it likes. */
#include "link/ssh_agent.h"
#include "nonces.h"
#include "sshsig.h"
#include "wire/ssh_agent.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_US (20 * G_USEC_PER_SEC)
#define AGENT_SPACE "link-agent-v1@cbus.bmcgee.ie"
#define PROXY_SPACE "link-proxy-v1@cbus.bmcgee.ie"

typedef struct {
    char *folder, *socket, *key, *public_key;
    pid_t agent;
    CbusLoop loop;
    /* Of the last signature. */
    guint answers, failures;
    guint8 signature[CBUS_SIGNATURE_BYTES];
    char *failure;
} Fixture;

/* Runs the words, ended by NULL, with INPUT as standard input; returns whether it exited with 0. */
static gboolean
run(const char *input, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE | G_SUBPROCESS_FLAGS_STDERR_SILENCE);
    g_autoptr(GError) error = NULL;
    const char *word;
    va_list args;

    va_start(args, input);
    while ((word = va_arg(args, const char *)) != NULL)
        g_ptr_array_add(argv, (gpointer)word);
    va_end(args);
    g_ptr_array_add(argv, NULL);
    g_subprocess_launcher_set_stdin_file_path(launcher, input != NULL ? input : "/dev/null");
    g_autoptr(GSubprocess) process =
        g_subprocess_launcher_spawnv(launcher, (const char *const *)argv->pdata, &error);
    g_assert_no_error(error);
    g_assert_true(g_subprocess_wait(process, NULL, &error));
    return g_subprocess_get_successful(process);
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    fixture->folder = g_dir_make_tmp("cbus-ssh-agent-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->socket = g_build_filename(fixture->folder, "socket", NULL);
    fixture->key = g_build_filename(fixture->folder, "key", NULL);
    fixture->public_key = g_strconcat(fixture->key, ".pub", NULL);
    g_assert_true(run(NULL, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", fixture->key, NULL));
    g_setenv("SSH_AUTH_SOCK", fixture->socket, TRUE);
    fixture->loop.context = g_main_context_new();
    fixture->loop.poller = cbus_poller_new(fixture->loop.context, NULL, &error);
    g_assert_no_error(error);
}

/* The socket's file is there a moment before it listens. */
static gboolean
listens(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean connected;

    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    connected = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return connected;
}

static void
start_agent(Fixture *fixture)
{
    const char *argv[] = {"ssh-agent", "-D", "-a", fixture->socket, NULL};
    gint64 deadline = g_get_monotonic_time() + PATIENCE_US;
    g_autoptr(GError) error = NULL;

    g_unlink(fixture->socket);
    g_spawn_async(NULL, (char **)argv, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL,
                  &fixture->agent, &error);
    g_assert_no_error(error);
    while (!listens(fixture->socket)) {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        (void)poll(NULL, 0, 2);
    }
}

static void
set_up_agent(Fixture *fixture, gconstpointer data)
{
    set_up(fixture, data);
    start_agent(fixture);
    g_assert_true(run(NULL, "ssh-add", "-q", fixture->key, NULL));
}

static void
end_agent(Fixture *fixture)
{
    if (fixture->agent == 0)
        return;
    kill(fixture->agent, SIGCONT);
    kill(fixture->agent, SIGKILL);
    while (waitpid(fixture->agent, NULL, 0) < 0 && errno == EINTR)
        continue;
    fixture->agent = 0;
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    end_agent(fixture);
    cbus_poller_free(fixture->loop.poller);
    g_main_context_unref(fixture->loop.context);
    g_assert_true(run(NULL, "rm", "-r", fixture->folder, NULL));
    g_free(fixture->folder);
    g_free(fixture->socket);
    g_free(fixture->key);
    g_free(fixture->public_key);
    g_free(fixture->failure);
}

static CbusSigner *
load(Fixture *fixture, CbusRole role, CbusLoop *loop)
{
    g_autofree char *key = g_strconcat("ssh-agent:", fixture->public_key, NULL);
    g_autoptr(GError) error = NULL;
    CbusSigner *signer = cbus_signer_load(key, role, loop, &error);

    g_assert_no_error(error);
    return signer;
}

static void
on_signed(const guint8 *signature, const GError *error, gpointer user_data)
{
    Fixture *fixture = user_data;

    g_assert_cmpint(signature == NULL, ==, error != NULL);
    fixture->answers++;
    if (signature != NULL) {
        memcpy(fixture->signature, signature, CBUS_SIGNATURE_BYTES);
        return;
    }
    g_assert_cmpint(error->domain, ==, CBUS_SSH_AGENT_ERROR);
    fixture->failures++;
    g_free(fixture->failure);
    fixture->failure = g_strdup(error->message);
}

static void
iterate_until(Fixture *fixture, guint answers)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE_US;

    while (fixture->answers < answers) {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        if (!g_main_context_iteration(fixture->loop.context, FALSE))
            (void)poll(NULL, 0, 1);
    }
    g_assert_cmpuint(fixture->answers, ==, answers);
}

static void
assert_message(const char *message, const char *part)
{
    if (message == NULL || g_strstr_len(message, -1, part) == NULL)
        g_error("\"%s\" does not say \"%s\"", message, part);
}

static char *
write_file(Fixture *fixture, const char *name, const char *text, gssize len)
{
    char *path = g_build_filename(fixture->folder, name, NULL);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(path, text, len, &error);
    g_assert_no_error(error);
    return path;
}

/* What ssh-keygen says of the last signature, were it made in SPACE. */
static gboolean
keygen_verifies(Fixture *fixture, const CbusKey *key, const char *message, const char *space)
{
    g_autofree char *line = NULL;
    g_assert_true(g_file_get_contents(fixture->public_key, &line, NULL, NULL));
    g_autofree char *allowed = g_strconcat("host ", line, NULL);
    g_autofree char *armor = armored(key, space, fixture->signature);
    g_autofree char *signers = write_file(fixture, "signers", allowed, -1);
    g_autofree char *signature = write_file(fixture, "signature", armor, -1);

    return run(message, "ssh-keygen", "-Y", "verify", "-f", signers, "-I", "host", "-n", space, "-s",
               signature, NULL);
}

static void
test_keygen_accepts_transcripts(Fixture *fixture, gconstpointer data)
{
    static const char message[64] = {1, 2, 3};
    g_autofree char *file = write_file(fixture, "message", message, sizeof message);

    for (CbusRole role = CBUS_ROLE_AGENT; role <= CBUS_ROLE_PROXY; role++) {
        const char *ours = role == CBUS_ROLE_AGENT ? AGENT_SPACE : PROXY_SPACE;
        const char *theirs = role == CBUS_ROLE_AGENT ? PROXY_SPACE : AGENT_SPACE;

        for (guint blocking = 0; blocking < 2; blocking++) {
            g_autoptr(CbusSigner) signer = load(fixture, role, blocking ? NULL : &fixture->loop);
            guint before = fixture->answers;

            signer->sign_transcript(signer, (const guint8 *)message, sizeof message, on_signed, fixture);
            if (blocking)
                g_assert_cmpuint(fixture->answers, ==, before + 1);
            iterate_until(fixture, before + 1);
            g_assert_cmpuint(fixture->failures, ==, 0);
            g_assert_true(keygen_verifies(fixture, &signer->public_key, file, ours));
            g_assert_false(keygen_verifies(fixture, &signer->public_key, file, theirs));
            g_assert_false(keygen_verifies(fixture, &signer->public_key, file, "file"));
            g_assert_false(keygen_verifies(fixture, &signer->public_key, file, "git"));
        }
    }
}

static void
test_signs_nonces_alone(Fixture *fixture, gconstpointer data)
{
    g_autoptr(CbusSigner) signer = load(fixture, CBUS_ROLE_PROXY, &fixture->loop);

    check_nonces(&signer->public_key, FALSE, sign_string, signer);
}

static void
test_many_are_signed_in_turn(Fixture *fixture, gconstpointer data)
{
    g_autoptr(CbusSigner) signer = load(fixture, CBUS_ROLE_PROXY, &fixture->loop);
    guint8 message[64] = {0};

    for (guint i = 0; i < 600; i++) {
        message[0] = (guint8)i;
        signer->sign_transcript(signer, message, sizeof message, on_signed, fixture);
    }
    /* More than may wait: the rest is told so at once. The agent may have been quick with some. */
    guint told = fixture->failures;
    g_assert_cmpuint(told, >, 0);
    g_assert_cmpuint(told, <=, 600 - 512);
    assert_message(fixture->failure, "too much");
    iterate_until(fixture, 600);
    g_assert_cmpuint(fixture->failures, ==, told);
}

static void
test_first_ed25519_key_is_the_default(Fixture *fixture, gconstpointer data)
{
    g_autofree char *other = g_build_filename(fixture->folder, "other", NULL);
    g_autofree char *ecdsa = g_build_filename(fixture->folder, "ecdsa", NULL);
    g_autoptr(CbusSigner) named = load(fixture, CBUS_ROLE_PROXY, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(run(NULL, "ssh-add", "-q", "-D", NULL));
    g_assert_true(run(NULL, "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", ecdsa, NULL));
    g_assert_true(run(NULL, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other, NULL));
    g_assert_true(run(NULL, "ssh-add", "-q", ecdsa, fixture->key, other, NULL));
    g_autoptr(CbusSigner) first = cbus_signer_new_for_ssh_agent(NULL, NULL, CBUS_ROLE_PROXY, &error);
    g_assert_no_error(error);
    g_assert_true(cbus_key_equal(&first->public_key, &named->public_key));
}

/* An operator's key behind a passphrase: the file is refused with a word on what to do, which works. */
static void
test_key_behind_passphrase(Fixture *fixture, gconstpointer data)
{
    g_autoptr(CbusSigner) signer = load(fixture, CBUS_ROLE_PROXY, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(run(NULL, "ssh-keygen", "-q", "-p", "-N", "secret", "-f", fixture->key, NULL));
    g_assert_null(cbus_signer_load(fixture->key, CBUS_ROLE_PROXY, NULL, &error));
    g_assert_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_ENCRYPTED);
    assert_message(error->message, "ssh-agent:");
    check_nonces(&signer->public_key, FALSE, sign_string, signer);
}

static void
assert_not_loaded(const char *public_key_file, CbusSshAgentError code, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(cbus_signer_new_for_ssh_agent(NULL, public_key_file, CBUS_ROLE_PROXY, &error));
    g_assert_error(error, CBUS_SSH_AGENT_ERROR, (gint)code);
    assert_message(error->message, part);
}

static void
assert_not_signed(Fixture *fixture, CbusSigner *signer, const char *part)
{
    guint8 message[64] = {0}, signature[CBUS_SIGNATURE_BYTES];
    guint answers = fixture->answers, failures = fixture->failures;
    g_autoptr(GError) error = NULL;

    signer->sign_transcript(signer, message, sizeof message, on_signed, fixture);
    iterate_until(fixture, answers + 1);
    g_assert_cmpuint(fixture->failures, ==, failures + 1);
    assert_message(fixture->failure, part);
    assert_message(fixture->failure, fixture->socket);
    g_assert_false(signer->sign_nonce(signer, "abcdefghijklmno", signature, &error));
    assert_message(error->message, part);
    assert_message(error->message, fixture->socket);
}

static void
test_absent_agent_is_said(Fixture *fixture, gconstpointer data)
{
    g_autoptr(CbusSigner) signer = load(fixture, CBUS_ROLE_PROXY, &fixture->loop);

    end_agent(fixture);
    assert_not_loaded(NULL, CBUS_SSH_AGENT_ERROR_AWAY, fixture->socket);
    assert_not_signed(fixture, signer, "nobody answers");
    g_unsetenv("SSH_AUTH_SOCK");
    assert_not_loaded(NULL, CBUS_SSH_AGENT_ERROR_AWAY, "SSH_AUTH_SOCK");
    /* Another agent in its place is as good. */
    start_agent(fixture);
    g_setenv("SSH_AUTH_SOCK", fixture->socket, TRUE);
    g_assert_true(run(NULL, "ssh-add", "-q", fixture->key, NULL));
    check_nonces(&signer->public_key, FALSE, sign_string, signer);
}

static void
test_missing_key_is_said(Fixture *fixture, gconstpointer data)
{
    g_autoptr(CbusSigner) signer = load(fixture, CBUS_ROLE_PROXY, &fixture->loop);
    g_autoptr(GError) error = NULL;

    g_assert_true(run(NULL, "ssh-add", "-q", "-D", NULL));
    assert_not_loaded(fixture->public_key, CBUS_SSH_AGENT_ERROR_NO_KEY, "ssh-add");
    assert_not_loaded(NULL, CBUS_SSH_AGENT_ERROR_NO_KEY, "ssh-add");
    assert_not_signed(fixture, signer, "taken out");
    g_assert_null(cbus_signer_new_for_ssh_agent(NULL, fixture->key, CBUS_ROLE_PROXY, &error));
    g_assert_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_PRIVATE);
}

static void
test_locked_agent_is_said(Fixture *fixture, gconstpointer data)
{
    g_autoptr(CbusSigner) signer = load(fixture, CBUS_ROLE_PROXY, &fixture->loop);
    g_autofree char *askpass = write_file(fixture, "askpass", "#!/bin/sh\necho secret\n", -1);

    g_assert_cmpint(g_chmod(askpass, 0700), ==, 0);
    g_setenv("SSH_ASKPASS", askpass, TRUE);
    g_setenv("SSH_ASKPASS_REQUIRE", "force", TRUE);
    g_assert_true(run(NULL, "ssh-add", "-x", NULL));
    assert_not_loaded(fixture->public_key, CBUS_SSH_AGENT_ERROR_NO_KEY, "ssh-add -X");
    assert_not_signed(fixture, signer, "ssh-add -X");
    g_assert_true(run(NULL, "ssh-add", "-X", NULL));
    check_nonces(&signer->public_key, FALSE, sign_string, signer);
}

static void
test_stopped_agent_holds_nobody_up_for_long(Fixture *fixture, gconstpointer data)
{
    g_autoptr(CbusSigner) signer = load(fixture, CBUS_ROLE_PROXY, &fixture->loop);
    guint8 message[64] = {0}, signature[CBUS_SIGNATURE_BYTES];
    g_autoptr(GError) error = NULL;
    gint64 start = g_get_monotonic_time();

    g_assert_cmpint(kill(fixture->agent, SIGSTOP), ==, 0);
    for (guint i = 0; i < 300; i++)
        signer->sign_transcript(signer, message, sizeof message, on_signed, fixture);
    g_assert_false(signer->sign_nonce(signer, "abcdefghijklmno", signature, &error));
    g_assert_error(error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_TIMEOUT);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 2 * G_USEC_PER_SEC);
    iterate_until(fixture, 300);
    g_assert_cmpuint(fixture->failures, ==, 300);
    assert_message(fixture->failure, "waiting for somebody");
    g_assert_cmpint(g_get_monotonic_time() - start, <, 10 * G_USEC_PER_SEC);
    g_assert_cmpint(kill(fixture->agent, SIGCONT), ==, 0);
    signer->sign_transcript(signer, message, sizeof message, on_signed, fixture);
    iterate_until(fixture, 301);
    g_assert_cmpuint(fixture->failures, ==, 300);
}

static void
test_freeing_answers_what_waits(Fixture *fixture, gconstpointer data)
{
    CbusSigner *signer = load(fixture, CBUS_ROLE_PROXY, &fixture->loop);
    guint8 message[64] = {0};

    for (guint i = 0; i < 3; i++)
        signer->sign_transcript(signer, message, sizeof message, on_signed, fixture);
    g_assert_cmpuint(fixture->answers, <, 3);
    cbus_signer_free(signer);
    g_assert_cmpuint(fixture->answers, ==, 3);
}

/* A socket where one connection is answered with the given bytes, by a thread. */
typedef struct {
    int listener;
    GBytes *answer;
} Liar;

static gpointer
lie(gpointer data)
{
    Liar *liar = data;
    guint8 question[4096];
    gsize len;
    const guint8 *answer = g_bytes_get_data(liar->answer, &len);
    int fd = accept(liar->listener, NULL, NULL);

    if (read(fd, question, sizeof question) > 0)
        (void)!send(fd, answer, len, MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static void
assert_lie(Fixture *fixture, CbusSigner *signer, const void *bytes, gsize len)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autoptr(GBytes) answer = g_bytes_new(bytes, len);
    Liar liar = {.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .answer = answer};
    guint8 signature[CBUS_SIGNATURE_BYTES] = {0};
    static const guint8 untouched[CBUS_SIGNATURE_BYTES];
    g_autoptr(GError) error = NULL;

    g_unlink(fixture->socket);
    g_strlcpy(address.sun_path, fixture->socket, sizeof address.sun_path);
    g_assert_cmpint(bind(liar.listener, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(liar.listener, 8), ==, 0);
    GThread *thread = g_thread_new("liar", lie, &liar);
    g_assert_false(signer->sign_nonce(signer, "abcdefghijklmno", signature, &error));
    g_assert_cmpint(error->domain, ==, CBUS_SSH_AGENT_ERROR);
    g_assert_cmpmem(signature, sizeof signature, untouched, sizeof untouched);
    g_thread_join(thread);
    close(liar.listener);
}

static void
test_nonsense_is_refused(Fixture *fixture, gconstpointer data)
{
    static const guint8 huge[] = {0xff, 0xff, 0xff, 0xff, 14}, empty[] = {0, 0, 0, 0},
                        over[] = {0, 4, 0, 1, 14}, other[] = {0, 0, 0, 1, 6}, cut[] = {0, 0, 0, 99, 14, 0};
    g_autoptr(CbusSigner) signer = load(fixture, CBUS_ROLE_PROXY, NULL);

    end_agent(fixture);
    assert_lie(fixture, signer, "", 0);
    assert_lie(fixture, signer, huge, sizeof huge);
    assert_lie(fixture, signer, over, sizeof over);
    assert_lie(fixture, signer, empty, sizeof empty);
    assert_lie(fixture, signer, other, sizeof other);
    assert_lie(fixture, signer, cut, sizeof cut);
    assert_lie(fixture, signer, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
#define ADD(name, func) g_test_add("/ssh-agent/" name, Fixture, NULL, set_up_agent, func, tear_down)
    ADD("keygen-accepts-transcripts", test_keygen_accepts_transcripts);
    ADD("signs-nonces-alone", test_signs_nonces_alone);
    ADD("many-are-signed-in-turn", test_many_are_signed_in_turn);
    ADD("first-ed25519-key-is-the-default", test_first_ed25519_key_is_the_default);
    ADD("key-behind-passphrase", test_key_behind_passphrase);
    ADD("absent-agent-is-said", test_absent_agent_is_said);
    ADD("missing-key-is-said", test_missing_key_is_said);
    ADD("locked-agent-is-said", test_locked_agent_is_said);
    ADD("stopped-agent-holds-nobody-up-for-long", test_stopped_agent_holds_nobody_up_for_long);
    ADD("freeing-answers-what-waits", test_freeing_answers_what_waits);
    ADD("nonsense-is-refused", test_nonsense_is_refused);
#undef ADD
    return g_test_run();
}
