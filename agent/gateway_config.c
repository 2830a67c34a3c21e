/* The gateway's part of the configuration.
 *
 *     [gateway]
 *     user=cbus-gateway
 *     policy=readonly
 *     broadcast=no
 *     timeout=25
 *
 * Whoever may publish to the broker may do what this group says, so that nothing in it is guessed: without
 * user= or policy=, with a policy that is not there, an unknown key, one that stands twice (of which GKeyFile
 * takes the last without a word) or a value that is none, there is no gateway, and the reason is told. A
 * missing group is the usual case and no fault.
 *
 * The connector reads it to decide as whom it connects, the network process to know what to serve; both the
 * same text by this function, once it was read under the same conditions as authorized-keys
 * (agent/policy_file.c).
 *
 * Trust: the text is the operator's, its size was bounded. Pure. */
#include "agent/gateway_config.h"
#include "wire/bytes.h"

#define GROUP           "gateway"
#define TIMEOUT_SECONDS 25
#define TIMEOUT_MOST    3600

G_DEFINE_QUARK(cbus_gateway_config_error_quark, cbus_gateway_config_error)

G_GNUC_PRINTF(2, 3)
static void
set_fault(GError **error, const char *format, ...)
{
    va_list values;

    va_start(values, format);
    g_autofree char *reason = g_strdup_vprintf(format, values);
    va_end(values);
    g_set_error(error, CBUS_GATEWAY_CONFIG_ERROR, CBUS_GATEWAY_CONFIG_ERROR_INVALID,
                "[gateway]: %s: there is no gateway", reason);
}

/* The line on which the group begins; 0: there is none. TWICE: which of its keys stands twice, or the group
 * itself does; NULL: none. (transfer full) */
static guint
find_group(const char *text, gsize len, char **twice)
{
    g_autoptr(GHashTable) keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    gboolean inside = FALSE;
    guint line = 0, found = 0;

    for (gsize at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        gsize size = newline != NULL ? (gsize)(newline - (text + at)) : len - at;
        g_autofree char *copy = g_strstrip(g_strndup(text + at, size));

        line++;
        at += size + 1;
        if (copy[0] == '[') {
            inside = g_str_equal(copy, "[" GROUP "]");
            if (inside && found != 0 && *twice == NULL)
                *twice = g_steal_pointer(&copy);
            else if (inside && found == 0)
                found = line;
        } else if (inside && copy[0] != '#' && copy[0] != '\0') {
            copy[strcspn(copy, "=")] = '\0';
            g_strchomp(copy);
            if (g_hash_table_contains(keys, copy) && *twice == NULL)
                *twice = g_strdup(copy);
            g_hash_table_add(keys, g_steal_pointer(&copy));
        }
    }
    return found;
}

static gboolean
read_broadcast(const char *text, CbusGatewayConfig *config, GError **error)
{
    static const char *const yes[] = {"yes", "true", "on", "1", NULL};
    static const char *const no[] = {"no", "false", "off", "0", NULL};

    config->broadcast = g_strv_contains(yes, text);
    if (config->broadcast || g_strv_contains(no, text))
        return TRUE;
    set_fault(error, "broadcast=%.64s: say yes or no", text);
    return FALSE;
}

static gboolean
read_timeout(const char *text, CbusGatewayConfig *config, GError **error)
{
    guint64 seconds = 0;

    if (!g_ascii_string_to_unsigned(text, 10, 1, TIMEOUT_MOST, &seconds, NULL)) {
        set_fault(error, "timeout=%.64s: say how many seconds, 1 to %d", text, TIMEOUT_MOST);
        return FALSE;
    }
    config->timeout_ms = (guint)seconds * 1000;
    return TRUE;
}

static gboolean
read_key(GKeyFile *file, const char *key, CbusGatewayConfig *config, GError **error)
{
    g_autofree char *value = g_key_file_get_string(file, GROUP, key, error);

    if (value == NULL) {
        g_prefix_error(error, "[gateway]: there is no gateway: ");
        return FALSE;
    }
    if (g_str_equal(key, "broadcast"))
        return read_broadcast(value, config, error);
    if (g_str_equal(key, "timeout"))
        return read_timeout(value, config, error);
    if (g_str_equal(key, "user")) {
        config->user = g_steal_pointer(&value);
    } else if (g_str_equal(key, "policy")) {
        config->policy = g_steal_pointer(&value);
    } else {
        set_fault(error, "'%.64s' is no key of it: user, policy, broadcast and timeout are", key);
        return FALSE;
    }
    return TRUE;
}

static gboolean
is_whole(const CbusGatewayConfig *config, const CbusPolicies *policies, GError **error)
{
    if (config->user == NULL || config->user[0] == '\0') {
        set_fault(error, "user= is missing: say as whom it connects to the bus");
        return FALSE;
    }
    if (config->policy == NULL || config->policy[0] == '\0') {
        set_fault(error, "policy= is missing: say what everybody who may publish to the broker may do");
        return FALSE;
    }
    if (cbus_policies_lookup(policies, config->policy) == NULL) {
        set_fault(error, "policy=%.64s: there is no such policy, or it is refused", config->policy);
        return FALSE;
    }
    return TRUE;
}

CbusGatewayConfig *
cbus_gateway_config_parse(const char *text, gsize len, const CbusPolicies *policies, guint *line,
                          GError **error)
{
    g_autoptr(CbusGatewayConfig) config = g_new0(CbusGatewayConfig, 1);
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_auto(GStrv) keys = NULL;
    g_autofree char *twice = NULL;
    guint found = find_group(text, len, &twice);

    if (line != NULL)
        *line = found;
    if (found == 0)
        return NULL;
    if (twice != NULL) {
        set_fault(error, "'%.64s' stands twice", twice);
        return NULL;
    }
    config->timeout_ms = TIMEOUT_SECONDS * 1000;
    if (!g_key_file_load_from_data(file, text, len, G_KEY_FILE_NONE, error) ||
        (keys = g_key_file_get_keys(file, GROUP, NULL, error)) == NULL) {
        g_prefix_error(error, "[gateway]: there is no gateway: ");
        return NULL;
    }
    for (char **key = keys; *key != NULL; key++)
        if (!read_key(file, *key, config, error))
            return NULL;
    return is_whole(config, policies, error) ? g_steal_pointer(&config) : NULL;
}

void
cbus_gateway_config_free(CbusGatewayConfig *config)
{
    if (config == NULL)
        return;
    g_free(config->user);
    g_free(config->policy);
    g_free(config);
}

gboolean
cbus_gateway_config_equal(const CbusGatewayConfig *a, const CbusGatewayConfig *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return g_str_equal(a->user, b->user) && g_str_equal(a->policy, b->policy) &&
           a->broadcast == b->broadcast && a->timeout_ms == b->timeout_ms;
}
