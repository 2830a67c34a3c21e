/* What this machine says of itself inside a link.
 *
 * The name is a claim: a proxy shows it until its operator pins one, and never selects by it. Still it has to
 * be a name that could be pinned, so that a name given by --name is checked, and a host name that does not
 * fit is made to. The machine id tells reinstalled machines apart, the boot id tells a restart; both are
 * files that everyone may read. In a container either may be missing, and then the field is empty.
 *
 * Read once, at start; blocks on small files. */
#include "agent/server_info.h"
#include <gio/gio.h>
#include <string.h>

#define NAME_MAX_BYTES 64

static gboolean
is_edge(char c)
{
    return g_ascii_isalnum(c);
}

static gboolean
is_inner(char c)
{
    return g_ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
}

static gboolean
is_name(const char *name)
{
    gsize len = strlen(name);

    if (len == 0 || len > NAME_MAX_BYTES || !is_edge(name[0]) || !is_edge(name[len - 1]))
        return FALSE;
    for (gsize i = 0; i < len; i++)
        if (!is_inner(name[i]))
            return FALSE;
    return TRUE;
}

static char *
host_name(void)
{
    char *name = g_strndup(g_get_host_name(), NAME_MAX_BYTES);

    for (char *c = name; *c != '\0'; c++)
        if (!is_inner(*c))
            *c = '-';
    if (!is_name(name)) {
        g_free(name);
        return g_strdup("machine");
    }
    return name;
}

/* The 32 hexadecimal digits in FILE, with or without dashes; "" when it holds none. */
static char *
read_id(const char *file)
{
    g_autofree char *text = NULL;
    g_autoptr(GString) id = g_string_sized_new(32);

    if (!g_file_get_contents(file, &text, NULL, NULL))
        return g_strdup("");
    for (const char *c = text; *c != '\0' && *c != '\n'; c++)
        if (*c != '-')
            g_string_append_c(id, g_ascii_tolower(*c));
    if (id->len != 32 || strspn(id->str, "0123456789abcdef") != 32)
        return g_strdup("");
    return g_string_free(g_steal_pointer(&id), FALSE);
}

CbusServerInfo *
cbus_server_info_new(const char *name, GError **error)
{
    CbusServerInfo *self;

    if (name != NULL && !is_name(name)) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
            "--name %s: a name is 1 to %d letters, digits, '.', '_' or '-', a letter or digit at both "
            "ends",
            name, NAME_MAX_BYTES);
        return NULL;
    }
    self = g_new0(CbusServerInfo, 1);
    self->name = name != NULL ? g_strdup(name) : host_name();
    self->machine_id = read_id("/etc/machine-id");
    self->boot_id = read_id("/proc/sys/kernel/random/boot_id");
    self->version = CBUS_VERSION;
    return self;
}

void
cbus_server_info_free(CbusServerInfo *self)
{
    g_free(self->name);
    g_free(self->machine_id);
    g_free(self->boot_id);
    g_free(self);
}
