/* cbus-proxy: settings in, a running proxy, an exit status out.
 *
 * Whatever can be refused is refused here, before anything is connected, in one line that says what to do: an
 * option or a file that can not be read (2), a value that can not be used, a key that others can read, a
 * runtime directory that another proxy holds, a bus that is not there (1). SIGTERM and SIGINT stop in order
 * (0); a bus or a name that is lost ends the process (1), and the service manager may start it again.
 *
 * Signals are blocked from the first moment on until the loop takes them, so that one that comes early ends a
 * proxy in order, too. SIGHUP does nothing: what can be read again is watched.
 *
 * The process holds a private key: it is not dumpable. It has few allocations but several threads (GDBus,
 * NATS's connecting one), so the C library keeps to two arenas.
 *
 * The main thread is the I/O thread; its context is the default one. */
#include "link/log.h"
#include "link/nats_context.h"
#include "link/nats_dial.h"
#include "link/process.h"
#include "link/ssh_agent.h"
#include "link/stop.h"
#include "proxy/proxy.h"
#include "proxy/runtime_dir.h"
#include "proxy/signal_rules.h"

#include "link/settings.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#define EXIT_USAGE 2

static const CbusSetting settings_table[] = {
    {"nats", "NATS_URL", "nats://127.0.0.1:4222", "Where nats-server is", "URL[,URL…]"},
    {"key", "NATS_HOST_KEY_FILE", NULL,
     "The operator's key: OpenSSH ed25519 or NKey seed (~/.ssh/id_ed25519, else the ssh-agent's first)",
     "FILE|ssh-agent:PUBLIC-KEY-FILE"},
    {"bus", NULL, "session", "The bus to serve", "session|system|ADDRESS"},
    {"known-machines", NULL, NULL, "Pinned machines (~/.config/cbus/known_machines)", "FILE"},
    {"known-only", NULL, NULL, "List pinned machines only", NULL},
    {"signals", NULL, NULL, "Match rules of the signals to mirror (all)", "RULE[;RULE…]"},
    {"runtime-dir", NULL, NULL, "For sockets and the lock ($XDG_RUNTIME_DIR/cbus)", "DIR"},
    {"context", NULL, NULL, "NATS servers and login as in a context of the nats command", "NAME"},
    {"creds", "NATS_CREDENTIALS_FILE", NULL, "NATS login: a .creds file", "FILE"},
    {"jwt", "NATS_JWT_FILE", NULL, "NATS login: a user JWT for the operator's key", "FILE"},
    {"ca", NULL, NULL, "NATS over TLS: the authorities to trust", "FILE"},
    {"cert", NULL, NULL, "NATS over TLS: our certificate", "FILE"},
    {"cert-key", NULL, NULL, "NATS over TLS: our certificate's key", "FILE"},
    {"log-level", "LOG_LEVEL", "1", "0 warnings, 1 info, 2 debug", "LEVEL"},
    {"version", NULL, NULL, "Print the version and exit", NULL},
    {NULL},
};

typedef struct {
    GMainLoop *main_loop;
    CbusProxy *proxy;
    int status;
} Run;

/* HOW: SIG_BLOCK before there are threads, which inherit it; SIG_UNBLOCK in the loop's. */
static void
mask_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(how, &set, NULL);
}

static CbusSettings *
read_settings(int *argc, char ***argv, GError **error)
{
    g_autofree char *own = g_build_filename(g_get_user_config_dir(), "cbus", "proxy.conf", NULL);
    const char *const files[] = {own, "/etc/cbus/proxy.conf", NULL};
    return cbus_settings_parse(settings_table, "proxy", files,
                               "Shows machines that run cbus-agent as ie.bmcgee.CBus on a D-Bus message bus.",
                               argc, argv, error);
}

/* SETTING, or a path below BASE. (transfer full) */
static char *
path_or(const CbusSettings *settings, const char *name, const char *base, const char *rest)
{
    const char *given = cbus_settings_get(settings, name);
    return given != NULL ? g_strdup(given) : g_build_filename(base, rest, NULL);
}

/* Without --key: the operator's SSH key where ssh-keygen makes it, else the first that an ssh-agent holds. */
static CbusSigner *
load_default_signer(CbusLoop *loop, GError **error)
{
    g_autofree char *file = g_build_filename(g_get_home_dir(), ".ssh", "id_ed25519", NULL);
    if (g_file_test(file, G_FILE_TEST_EXISTS)) {
        return cbus_signer_load(file, CBUS_ROLE_PROXY, loop, error);
    }
    CbusSigner *signer = cbus_signer_new_for_ssh_agent(loop, NULL, CBUS_ROLE_PROXY, error);
    if (signer == NULL) {
        g_prefix_error(error, "there is no %s, and ", file);
    }
    return signer;
}

static CbusSigner *
load_signer(const CbusSettings *settings, CbusLoop *loop, GError **error)
{
    const char *key = cbus_settings_get(settings, "key");
    CbusSigner *signer =
        key != NULL ? cbus_signer_load(key, CBUS_ROLE_PROXY, loop, error) : load_default_signer(loop, error);
    if (signer == NULL) {
        g_prefix_error(error, "The operator's key can not be used (--key names another): ");
    }
    return signer;
}

static CbusRuntimeDir *
lock_runtime_dir(const CbusSettings *settings, GError **error)
{
    const char *base = g_getenv("XDG_RUNTIME_DIR");
    if (base == NULL && cbus_settings_get(settings, "runtime-dir") == NULL) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                    "There is no XDG_RUNTIME_DIR to make a directory in: name one with --runtime-dir");
        return NULL;
    }
    g_autofree char *path = path_or(settings, "runtime-dir", base, "cbus");
    return cbus_runtime_dir_new(path, error);
}

static void
on_ended(const GError *reason, gpointer user_data)
{
    Run *run = user_data;
    if (reason != NULL) {
        cbus_log(G_LOG_LEVEL_CRITICAL, reason->message, NULL);
        run->status = EXIT_FAILURE;
    }
    g_main_loop_quit(run->main_loop);
}

static gboolean
on_signal(gpointer user_data)
{
    Run *run = user_data;
    cbus_stop_begin();
    cbus_proxy_stop(run->proxy);
    return G_SOURCE_CONTINUE;
}

static gboolean
run_loop(CbusLoop *loop, const CbusSettings *settings, CbusSigner *signer, const CbusRuntimeDir *runtime_dir,
         int *status, GError **error)
{
    g_autofree char *known =
        path_or(settings, "known-machines", g_get_user_config_dir(), "cbus/known_machines");
    g_auto(GStrv) signals = cbus_signal_rules_parse(cbus_settings_get(settings, "signals"), error);
    if (signals == NULL) {
        return FALSE;
    }
    CbusProxyOptions options = {
        .signals = (const char *const *)signals,
        .bus = cbus_settings_get(settings, "bus"),
        .known_machines = known,
        .runtime_dir = cbus_runtime_dir_path(runtime_dir),
        .known_only = cbus_settings_flag(settings, "known-only"),
    };
    g_autoptr(CbusNatsContext) context = NULL;
    if (!cbus_nats_options_from_settings(settings, &context, &options.nats, error)) {
        return FALSE;
    }
    options.nats.name = "cbus-proxy";
    options.nats.identity = &signer->public_key;
    g_autoptr(GMainLoop) main_loop = g_main_loop_new(loop->context, FALSE);
    Run run = {.main_loop = main_loop};
    g_autoptr(CbusProxy) proxy = cbus_proxy_new(loop, &options, signer, on_ended, &run, error);
    if (proxy == NULL) {
        return FALSE;
    }
    run.proxy = proxy;
    guint term = g_unix_signal_add(SIGTERM, on_signal, &run);
    guint interrupt = g_unix_signal_add(SIGINT, on_signal, &run);
    mask_signals(SIG_UNBLOCK);
    g_main_loop_run(main_loop);
    g_source_remove(term);
    g_source_remove(interrupt);
    *status = run.status;
    return TRUE;
}

static gboolean
serve(const CbusSettings *settings, int *status, GError **error)
{
    GMainContext *context = g_main_context_default();
    g_autoptr(CbusTurn) turn = cbus_turn_new(context);
    g_autoptr(CbusPoller) poller = cbus_poller_new(context, turn, error);
    if (poller == NULL) {
        return FALSE;
    }
    CbusLoop loop = {.context = context, .turn = turn, .poller = poller};
    g_autoptr(CbusSigner) signer = load_signer(settings, &loop, error);
    if (signer == NULL) {
        return FALSE;
    }
    g_autoptr(CbusRuntimeDir) runtime_dir = lock_runtime_dir(settings, error);
    if (runtime_dir == NULL) {
        return FALSE;
    }
    return run_loop(&loop, settings, signer, runtime_dir, status, error);
}

int
main(int argc, char **argv)
{
    mask_signals(SIG_BLOCK);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    cbus_process_tune(2);
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSettings) settings = read_settings(&argc, &argv, &error);
    int status = EXIT_SUCCESS, level = 1;
    if (settings == NULL || !cbus_log_level_parse(cbus_settings_get(settings, "log-level"), &level, &error)) {
        g_printerr("cbus-proxy: %s\n", error->message);
        return EXIT_USAGE;
    }
    if (cbus_settings_flag(settings, "version")) {
        g_print("cbus-proxy %s\n", CBUS_VERSION);
        return EXIT_SUCCESS;
    }
    cbus_log_init("cbus-proxy", level);
    if (!serve(settings, &status, &error) && !cbus_stop_is_wanted()) {
        cbus_log(G_LOG_LEVEL_CRITICAL, error->message, NULL);
        status = EXIT_FAILURE;
    }
    return cbus_nats_dial_leave(status);
}
