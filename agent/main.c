/* cbus-agent: the machine's bus, reachable over NATS.
 *
 * This process becomes the network process; the connector is forked from it before it has a thread or a
 * connection, and keeps the privileges that this one gives up (agent/connector.c says who may do what). Thus
 * the process that an operator started, that systemd watches and that signals reach is the one that does the
 * work, and the connector ends when this one does, whatever ended it.
 *
 * The order is what matters here: signals are blocked first of all, so that one that comes in the first
 * moments waits for the loop, where they arrive on a descriptor; descriptors inherited by accident are
 * closed; settings and names are looked up while that may still be done; then fork, then privileges go, then
 * NATS. SIGTERM and SIGINT end it in order within a second, SIGHUP has authorized-keys read again.
 *
 * Small by intent: one malloc arena, because the two or three threads that nats.c needs would otherwise each
 * bring one. Exit status: 0 after a signal, 1 failed, 2 usage. */
#include "agent/agent.h"
#include "agent/check.h"
#include "agent/check_policy.h"
#include "agent/notify.h"
#include "agent/sandbox.h"
#include "agent/user_child.h"
#include "link/bus.h"
#include "link/log.h"
#include "link/nats_context.h"
#include "link/nats_dial.h"
#include "link/process.h"
#include "link/settings.h"
#include "link/stop.h"
#include "wire/message.h"
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYSTEM_BUS_MAX (32u * 1024 * 1024) /* bytes a message, by the system bus's own configuration */
#define FLUSH_MS       300
#define CONNECTOR_MS   300

static const CbusSetting settings_table[] = {
    {"nats", "NATS_URL", "nats://127.0.0.1:4222", "NATS servers", "URL[,URL…]"},
    {"key", "NATS_HOST_KEY_FILE", "/etc/ssh/ssh_host_ed25519_key", "This machine's identity",
     "FILE|ssh-agent:PUBLIC-KEY-FILE"},
    {"authorized-keys", NULL, "/etc/cbus/authorized_keys", "Who may use this machine's bus", "FILE"},
    {"bus", NULL, "system", "Which bus", "system|session|ADDRESS"},
    {"name", NULL, NULL, "What to call this machine (default: host name)", "NAME"},
    {"context", NULL, NULL, "NATS servers and login as in a context of the nats command", "NAME"},
    {"creds", "NATS_CREDENTIALS_FILE", NULL, "NATS credentials", "FILE"},
    {"jwt", "NATS_JWT_FILE", NULL, "NATS user JWT, to log in with the machine's key", "FILE"},
    {"ca", NULL, NULL, "CA certificates that the NATS server must have", "FILE"},
    {"cert", NULL, NULL, "Client certificate for NATS", "FILE"},
    {"cert-key", NULL, NULL, "Key of the client certificate", "FILE"},
    {"default-user", NULL, NULL, "Whose bus connections (default: whoever starts the agent)", "USER"},
    {"network-user", NULL, NULL, "Whom the network process becomes (default: cbus, else nobody)", "USER"},
    {"audit", NULL, NULL, "Where audit records go (default: the journal, where there is one)",
     "journal|stderr|off"},
    {"audit-failure", NULL, "deny", "What happens to a call that can not be recorded", "deny|ignore"},
    {"log-level", "LOG_LEVEL", "1", "0 warnings, 1 info, 2 debug", "LEVEL"},
    {"check", NULL, NULL, "Check the settings and every file that they name, then exit", NULL},
    {"check-policy", NULL, NULL, "Say whether, and by which line, KEY may call this, then exit",
     "KEY DEST PATH INTERFACE MEMBER"},
    {"version", NULL, NULL, "Print the version and exit", NULL},
    {NULL},
};

typedef struct {
    const CbusSettings *settings;
    GMainLoop *main_loop;
    CbusAgent *agent;
    CbusAuditOptions audit;
    CbusNatsOptions nats;
    int signals;
    gboolean failed;
} Program;

static int
fail(const GError *error)
{
    g_printerr("cbus-agent: %s\n", error->message);
    return 1;
}

/* From the first moment on, the signals that the loop takes wait for it. */
static void
block_signals(sigset_t *set)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigprocmask(SIG_BLOCK, set, NULL);
}

static void
signal_event(guint32 events, gpointer user_data)
{
    Program *program = user_data;
    struct signalfd_siginfo info;

    if (read(program->signals, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGHUP)
        cbus_agent_reload(program->agent);
    else
        g_main_loop_quit(program->main_loop);
}

static void
agent_lost(gpointer user_data)
{
    Program *program = user_data;

    program->failed = TRUE;
    g_main_loop_quit(program->main_loop);
}

static void
log_start(const CbusConnectorEnds *ends, const CbusSettings *settings)
{
    char nkey[CBUS_NKEY_LENGTH + 1];

    cbus_nkey_encode(&ends->public_key, nkey);
    cbus_log(G_LOG_LEVEL_INFO, "cbus-agent " CBUS_VERSION " starts", CBUS_LOG_MACHINE, nkey, "CBUS_BUS",
             cbus_settings_get(settings, "bus"), NULL);
}

/* Runs until a signal comes or the connector is lost. */
static gboolean
run_loop(Program *program, CbusLoop *loop, const CbusConnectorEnds *ends, const CbusServerInfo *info,
         GError **error)
{
    const CbusSettings *settings = program->settings;
    gboolean is_system = cbus_bus_is_system(cbus_settings_get(settings, "bus"));
    const CbusAgentOptions options = {
        .nats = program->nats,
        .message_limit = is_system ? SYSTEM_BUS_MAX : CBUS_MESSAGE_MAX,
        .info = info,
        .authorized_keys = cbus_settings_get(settings, "authorized-keys"),
        .audit = program->audit,
    };
    CbusWatch *watch = cbus_poller_add(loop->poller, program->signals, EPOLLIN, signal_event, program, error);
    gboolean started;

    if (watch == NULL)
        return FALSE;
    program->agent = cbus_agent_new(loop, ends, &options, agent_lost, program, error);
    started = program->agent != NULL;
    if (started) {
        log_start(ends, settings);
        cbus_notify("READY=1");
        g_main_loop_run(program->main_loop);
        cbus_stop_begin();
        cbus_notify("STOPPING=1");
        cbus_agent_stop(program->agent, "agent is shutting down", FLUSH_MS);
        g_clear_pointer(&program->agent, cbus_agent_free);
    }
    cbus_watch_remove(watch);
    return started && !program->failed;
}

/* The connector ends when its sockets do; leave nothing of it behind, but do not wait for ever. */
static void
await_connector(pid_t pid)
{
    struct pollfd ended = {.fd = pidfd_open(pid, 0), .events = POLLIN};

    if (ended.fd >= 0) {
        (void)poll(&ended, 1, CONNECTOR_MS);
        close(ended.fd);
    }
    (void)waitpid(pid, NULL, WNOHANG);
}

static int
run_network(const CbusSettings *settings, const CbusConnectorEnds *ends, const CbusServerInfo *info,
            const CbusNatsOptions *nats, const CbusAuditOptions *audit, int signals)
{
    GMainContext *context = g_main_context_default();
    Program program = {.settings = settings, .signals = signals, .nats = *nats, .audit = *audit};
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusTurn) turn = cbus_turn_new(context);
    g_autoptr(CbusPoller) poller = cbus_poller_new(context, turn, &error);
    gboolean done = FALSE;

    if (poller != NULL) {
        CbusLoop loop = {.context = context, .turn = turn, .poller = poller};
        program.main_loop = g_main_loop_new(context, FALSE);
        done = run_loop(&program, &loop, ends, info, &error);
        g_main_loop_unref(program.main_loop);
    }
    if (error != NULL)
        (void)fail(error);
    await_connector(ends->pid);
    return cbus_nats_dial_leave(done ? 0 : 1);
}

static int
start(const CbusSettings *settings, const sigset_t *blocked)
{
    const CbusConnectorOptions connector = {
        .key_file = cbus_settings_get(settings, "key"),
        .authorized_keys = cbus_settings_get(settings, "authorized-keys"),
        .config = cbus_settings_file(settings),
        .bus = cbus_settings_get(settings, "bus"),
        .user = cbus_settings_get(settings, "default-user"),
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusServerInfo) info = cbus_server_info_new(cbus_settings_get(settings, "name"), &error);
    g_autoptr(CbusNatsContext) context = NULL;
    CbusNatsOptions nats = {0};
    CbusConnectorEnds ends;
    CbusAuditOptions audit;
    CbusSandboxUser user = {0};
    int signals;

    if (info == NULL || !cbus_user_child_judge_default(connector.user, &error) ||
        !cbus_nats_options_from_settings(settings, &context, &nats, &error) ||
        !cbus_audit_options_parse(cbus_settings_get(settings, "audit"),
                                  cbus_settings_get(settings, "audit-failure"), &audit, &error))
        return fail(error);
    if (geteuid() == 0 && !cbus_sandbox_find(cbus_settings_get(settings, "network-user"), &user, &error))
        return fail(error);
    signals = signalfd(-1, blocked, SFD_CLOEXEC | SFD_NONBLOCK);
    if (!cbus_connector_start(&connector, &ends, &error))
        return cbus_stop_is_wanted() ? 0 : fail(error);
    cbus_audit_options_open(&audit);
    if (!cbus_sandbox_enter(&user, &error))
        return fail(error);
    return run_network(settings, &ends, info, &nats, &audit, signals);
}

int
main(int argc, char **argv)
{
    static const char *const files[] = {"/etc/cbus/agent.conf", NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSettings) settings = NULL;
    const char *question[CBUS_QUESTION_WORDS];
    int log_level = 1;
    sigset_t signals;
    gboolean asked;

    block_signals(&signals);
    (void)close_range(3, ~0u, 0);
    cbus_process_tune(1);
    (void)umask(077);
    cbus_sandbox_hide();
    asked = cbus_check_policy_take(&argc, argv, question);
    settings = cbus_settings_parse(settings_table, "agent", files,
                                   "Makes this machine's D-Bus reachable over NATS.", &argc, &argv, &error);
    if (settings == NULL ||
        !cbus_log_level_parse(cbus_settings_get(settings, "log-level"), &log_level, &error)) {
        (void)fail(error);
        return 2;
    }
    if (cbus_settings_flag(settings, "version")) {
        g_print("cbus-agent %s\n", CBUS_VERSION);
        return 0;
    }
    cbus_log_init("cbus-agent", log_level);
    if (sodium_init() < 0) {
        g_printerr("cbus-agent: libsodium does not start\n");
        return 1;
    }
    if (cbus_settings_flag(settings, "check"))
        return !cbus_check(settings);
    if (asked)
        return cbus_check_policy(cbus_settings_get(settings, "authorized-keys"), cbus_settings_file(settings),
                                 question);
    if (cbus_settings_get(settings, "check-policy") != NULL) {
        g_printerr("cbus-agent: --check-policy takes KEY DEST PATH INTERFACE MEMBER\n");
        return 2;
    }
    return start(settings, &signals);
}
