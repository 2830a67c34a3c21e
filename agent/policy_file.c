/* The configuration file, as far as policies and the gateway are concerned.
 *
 * A policy restricts what a key may do, so that whoever can write this file can widen it: it is read under
 * the same conditions as authorized-keys (agent/keys_file.c), and a file that fails them has no policies,
 * which refuses every line that names one of them.
 *
 * The connector decides by it which lines stand; the network process judges messages by it, and gets the
 * text, in pieces, because it may not be able to read the file. Both read the same text with the same
 * function.
 *
 * Runs in the connector, and once for --check. One thread; blocks on the file system. */
#include "agent/policy_file.h"
#include "agent/keys_file.h"
#include "agent/keys_watch.h"
#include "agent/user_child.h"

/* What comes of a file that can not be read, or not be trusted. */
#define UNREAD "it has no policies and no gateway"

struct _CbusPolicyFile {
    const char *file;
    uid_t owner;
    CbusKeysWatch *watch; /* NULL: no file */
    GBytes *text;         /* of the last reading; empty when there was none */
    char *trouble;        /* why there was none */
    CbusPolicies *policies;
    CbusGatewayConfig *gateway; /* NULL: none */
};

CbusPolicyFile *
cbus_policy_file_new(const char *file, uid_t owner)
{
    CbusPolicyFile *self = g_new0(CbusPolicyFile, 1);

    self->file = file;
    self->owner = owner;
    self->watch = file != NULL ? cbus_keys_watch_new(file) : NULL;
    return self;
}

void
cbus_policy_file_free(CbusPolicyFile *self)
{
    g_clear_pointer(&self->watch, cbus_keys_watch_free);
    g_clear_pointer(&self->text, g_bytes_unref);
    g_clear_pointer(&self->policies, cbus_policies_free);
    g_clear_pointer(&self->gateway, cbus_gateway_config_free);
    g_free(self->trouble);
    g_free(self);
}

int
cbus_policy_file_fd(const CbusPolicyFile *self)
{
    return self->watch != NULL ? cbus_keys_watch_fd(self->watch) : -1;
}

gboolean
cbus_policy_file_drain(CbusPolicyFile *self)
{
    return self->watch != NULL && cbus_keys_watch_drain(self->watch);
}

gboolean
cbus_policy_file_is_watched(const CbusPolicyFile *self)
{
    return self->watch == NULL || cbus_keys_watch_is_whole(self->watch);
}

/* After the policies: it names one. */
static void
read_gateway(CbusPolicyFile *self, const char *text, gsize len, CbusPolicyFault fault, gpointer user_data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *unfit = NULL;
    guint line = 0;

    g_clear_pointer(&self->gateway, cbus_gateway_config_free);
    self->gateway = cbus_gateway_config_parse(text, len, self->policies, &line, &error);
    if (self->gateway != NULL) {
        const CbusAuthorizedLine as_line = {.user = self->gateway->user};
        unfit = cbus_user_child_judge(&as_line, NULL);
    }
    if (unfit != NULL) {
        g_set_error(&error, CBUS_GATEWAY_CONFIG_ERROR, CBUS_GATEWAY_CONFIG_ERROR_INVALID,
                    "[gateway]: %s: there is no gateway", unfit);
        g_clear_pointer(&self->gateway, cbus_gateway_config_free);
    }
    if (error != NULL && fault != NULL)
        fault(line, error->message, user_data);
}

gboolean
cbus_policy_file_read(CbusPolicyFile *self, CbusPolicyFault fault, gpointer user_data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text = NULL;
    const char *trouble = NULL;
    gsize len = 0;

    if (self->watch != NULL)
        cbus_keys_watch_renew(self->watch);
    if (self->file != NULL && (text = cbus_keys_file_read(self->file, self->owner, UNREAD, &error)) == NULL)
        trouble = error->message;
    if (text == NULL)
        text = g_bytes_new_static("", 0);
    if (self->policies != NULL && g_bytes_equal(text, self->text) && g_strcmp0(trouble, self->trouble) == 0)
        return FALSE;
    g_clear_pointer(&self->policies, cbus_policies_free);
    g_clear_pointer(&self->text, g_bytes_unref);
    g_free(self->trouble);
    self->trouble = g_strdup(trouble);
    self->text = g_steal_pointer(&text);
    if (trouble != NULL && fault != NULL)
        fault(0, trouble, user_data);
    const char *data = g_bytes_get_data(self->text, &len);
    self->policies = cbus_policies_parse(data != NULL ? data : "", len, self->file != NULL ? self->file : "",
                                         fault, user_data);
    read_gateway(self, data != NULL ? data : "", len, fault, user_data);
    return TRUE;
}

void
cbus_policy_file_forget(CbusPolicyFile *self)
{
    g_clear_pointer(&self->policies, cbus_policies_free);
}

const CbusPolicies *
cbus_policy_file_policies(const CbusPolicyFile *self)
{
    return self->policies;
}

const CbusGatewayConfig *
cbus_policy_file_gateway(const CbusPolicyFile *self)
{
    return self->gateway;
}

/* As the table: flags, then a piece. The first piece begins with the file's name and a NUL. */
gboolean
cbus_policy_file_push(const CbusPolicyFile *self, int fd, GError **error)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    const char *name = self->file != NULL ? self->file : "";
    gsize len = 0, at = 0, most = CBUS_DATAGRAM_MAX - sizeof(guint32);
    const guint8 *data = g_bytes_get_data(self->text, &len);

    g_byte_array_append(all, (const guint8 *)name, (guint)strlen(name) + 1);
    if (len > 0)
        g_byte_array_append(all, data, (guint)len);
    do {
        g_autofree guint8 *payload = g_malloc(CBUS_DATAGRAM_MAX);
        gsize n = MIN(all->len - at, most);
        guint32 flags = (at == 0 ? CBUS_TABLE_FIRST : 0) | (at + n == all->len ? CBUS_TABLE_LAST : 0) |
                        (at == 0 && self->gateway != NULL ? CBUS_TABLE_GATEWAY : 0);
        memcpy(payload, &flags, sizeof flags);
        memcpy(payload + sizeof flags, all->data + at, n);
        if (cbus_datagram_send(fd, CBUS_DATAGRAM_POLICIES, 0, payload, sizeof flags + n, -1, error) != 1)
            return FALSE;
        at += n;
    } while (at < all->len);
    return TRUE;
}
