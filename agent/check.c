/* What --check looks at: the settings, and the files that decide who this machine is, who may come in, what
 * each may do and how to log in to NATS; judged by the same functions as at work, and by the user who will do
 * it. Everything that keeps a running agent from its work or that it would log as a warning is an error here,
 * a missing authorized-keys file included: without it nobody can do anything, which nobody wants to find out
 * later. All faults are told, not the first alone.
 *
 * The configuration file was read before: its faults (a key that is unknown or stands twice, with its line)
 * end the program earlier. Output is for a person, or for a deployment's log. */
#include "agent/check.h"
#include "agent/audit.h"
#include "agent/keys_file.h"
#include "agent/policy_file.h"
#include "agent/sandbox.h"
#include "agent/server_info.h"
#include "agent/user_child.h"
#include "link/bus.h"
#include "link/nats_context.h"
#include "link/signer.h"
#include "wire/authorized_keys.h"
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    const char *file, *config;
    guint faults;
} Check;

static void
line_refused(guint number, const char *reason, gpointer user_data)
{
    Check *check = user_data;

    check->faults++;
    g_printerr("%s:%u: line refused: %s\n", check->file, number, reason);
}

static void
policy_refused(guint line, const char *reason, gpointer user_data)
{
    Check *check = user_data;

    check->faults++;
    g_printerr("%s:%u: %s\n", check->config, line, reason);
}

/* It lets in whoever may publish to the broker: nobody should have one without knowing. */
static void
tell_gateway(const Check *check, const CbusGatewayConfig *gateway)
{
    if (gateway != NULL)
        g_print("%s: a gateway, as user %s under policy %s%s\n", check->config, gateway->user,
                gateway->policy, gateway->broadcast ? ", broadcasts included" : "");
}

static void
check_keys(Check *check)
{
    g_autoptr(CbusPolicyFile) policies = cbus_policy_file_new(check->config, geteuid());
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text = cbus_keys_file_read(check->file, geteuid(), CBUS_KEYS_FILE_NOBODY, &error);
    gsize len = 0;

    (void)cbus_policy_file_read(policies, policy_refused, check);
    tell_gateway(check, cbus_policy_file_gateway(policies));
    if (text == NULL) {
        check->faults++;
        g_printerr("%s\n", error->message);
        return;
    }
    const char *data = g_bytes_get_data(text, &len);
    g_autoptr(CbusAuthorizedKeys) keys = cbus_authorized_keys_parse(data, len, line_refused, check);
    cbus_authorized_keys_judge(keys, cbus_user_child_judge, NULL, line_refused, check);
    cbus_authorized_keys_require(keys, cbus_policy_file_policies(policies), line_refused, check);
    g_print("%s: %u authorized keys\n", check->file, cbus_authorized_keys_size(keys));
}

static void
complain(Check *check, const GError *error)
{
    check->faults++;
    g_printerr("%s\n", error->message);
}

/* What start-up would refuse, all of it and not the first alone. */
static void
check_settings(Check *check, const CbusSettings *settings)
{
    g_autoptr(GError) name = NULL, user = NULL, audit = NULL, bus = NULL;
    g_autoptr(CbusServerInfo) info = cbus_server_info_new(cbus_settings_get(settings, "name"), &name);
    CbusAuditOptions unused;
    int fd;

    if (info == NULL)
        complain(check, name);
    if (!cbus_user_child_judge_default(cbus_settings_get(settings, "default-user"), &user))
        complain(check, user);
    if (!cbus_audit_options_parse(cbus_settings_get(settings, "audit"),
                                  cbus_settings_get(settings, "audit-failure"), &unused, &audit))
        complain(check, audit);
    /* A bus that is not there may come; an address that is none stays one. */
    if ((fd = cbus_bus_connect(cbus_settings_get(settings, "bus"), &bus)) >= 0)
        close(fd);
    else if (g_error_matches(bus, CBUS_BUS_ERROR, CBUS_BUS_ERROR_ADDRESS))
        complain(check, bus);
}

static gboolean
sign_nothing(const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES], gpointer user_data, GError **error)
{
    g_set_error_literal(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS, "this is a check");
    return FALSE;
}

/* In a process that is who the network process will be: what that one may not read is a fault. */
static void
check_login(Check *check, const CbusNatsOptions *nats, const CbusSandboxUser *user)
{
    g_autoptr(GError) error = NULL;
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        if (cbus_sandbox_enter(user, &error) && cbus_nats_options_check(nats, &error))
            _exit(0);
        g_printerr("%s\n", error->message);
        _exit(1);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid < 0)
        g_printerr("fork: %s\n", g_strerror(errno));
    if (pid < 0 || status != 0)
        check->faults++;
}

static void
check_nats(Check *check, const CbusSettings *settings, const CbusKey *identity)
{
    g_autoptr(GError) error = NULL, nobody = NULL;
    g_autoptr(CbusNatsContext) context = NULL;
    CbusNatsOptions nats = {0};
    CbusSandboxUser user = {0};

    if (geteuid() == 0 && !cbus_sandbox_find(cbus_settings_get(settings, "network-user"), &user, &nobody)) {
        complain(check, nobody);
        return;
    }
    if (!cbus_nats_options_from_settings(settings, &context, &nats, &error)) {
        complain(check, error);
        return;
    }
    nats.identity = identity;
    nats.signer = sign_nothing;
    check_login(check, &nats, &user);
}

gboolean
cbus_check(const CbusSettings *settings)
{
    const char *key_file = cbus_settings_get(settings, "key");
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSigner) signer = cbus_signer_load(key_file, CBUS_ROLE_AGENT, NULL, &error);
    Check check = {.file = cbus_settings_get(settings, "authorized-keys"),
                   .config = cbus_settings_file(settings)};
    const CbusKey nobody = {{0}};
    char nkey[CBUS_NKEY_LENGTH + 1];

    if (signer != NULL) {
        cbus_nkey_encode(&signer->public_key, nkey);
        g_print("%s: this machine is %s\n", key_file, nkey);
    } else {
        complain(&check, error);
    }
    check_settings(&check, settings);
    check_nats(&check, settings, signer != NULL ? &signer->public_key : &nobody);
    check_keys(&check);
    return check.faults == 0;
}
