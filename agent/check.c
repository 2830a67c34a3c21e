/* What --check looks at: the files that decide who this machine is and who may come in, read by the same
 * functions as at work. Everything that a running agent would log as a warning is an error here, a missing
 * authorized-keys file included: without it nobody can do anything, which nobody wants to find out later.
 *
 * The configuration was read before. Output is for a person, or for a deployment's log. */
#include "agent/check.h"
#include "agent/keys_file.h"
#include "agent/policy_file.h"
#include "agent/user_child.h"
#include "link/signer.h"
#include "wire/authorized_keys.h"
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
    g_autoptr(GBytes) text = cbus_keys_file_read(check->file, geteuid(), &error);
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

gboolean
cbus_check(const char *key_file, const char *authorized_keys, const char *config)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSigner) signer = cbus_signer_load(key_file, CBUS_ROLE_AGENT, NULL, &error);
    Check check = {.file = authorized_keys, .config = config};
    char nkey[CBUS_NKEY_LENGTH + 1];

    if (signer != NULL) {
        cbus_nkey_encode(&signer->public_key, nkey);
        g_print("%s: this machine is %s\n", key_file, nkey);
    } else {
        check.faults++;
        g_printerr("%s\n", error->message);
    }
    check_keys(&check);
    return check.faults == 0;
}
