/* Signals of machines as the mirror re-emits them, told apart by machine and service again.
 *
 * The mirror emits /ie/bmcgee/CBus/<nkey>/<service>/<path>: here that becomes machine, sender and path as
 * they are on the machine, which is what match rules of `cbus monitor` are about. The sender is the
 * well-known name: what two names of one process emit is seen under both.
 *
 * Rules are parsed and compared as a bus would (wire/match_rule.c). Path and body are remote text: what is
 * printed is escaped, as busctl or JSON has it. Pure. */
#include "cli/remote_signal.h"

#include "cli/bus.h"
#include "cli/json.h"
#include "cli/value.h"

#include <string.h>

#define NKEY_LENGTH 56

const CbusRosterMachine *
cbus_signal_machine(const GPtrArray *machines, const char *path, const char **rest)
{
    static const gsize root = sizeof CBUS_PROXY_PATH; /* with the slash behind it */

    if (!g_str_has_prefix(path, CBUS_PROXY_PATH "/") || strlen(path) < root + NKEY_LENGTH)
        return NULL;
    *rest = path + root + NKEY_LENGTH;
    if (**rest != '\0' && **rest != '/')
        return NULL;
    for (guint i = 0; i < machines->len; i++) {
        const CbusRosterMachine *machine = machines->pdata[i];

        if (strncmp(machine->nkey, path + root, NKEY_LENGTH) == 0)
            return machine;
    }
    return NULL;
}

gboolean
cbus_signal_read(CbusSignal *out, const GPtrArray *machines, const char *path, const char *interface,
                 const char *member, GVariant *body)
{
    const char *rest = NULL, *end;
    const CbusRosterMachine *machine = cbus_signal_machine(machines, path, &rest);
    g_autofree char *prefix = NULL, *element = NULL;
    g_autofree guint8 *sender = NULL;

    if (machine == NULL || rest[0] == '\0')
        return FALSE;
    end = strchr(rest + 1, '/');
    if (end == NULL)
        end = rest + strlen(rest);
    element = g_strndup(rest + 1, (gsize)(end - rest) - 1);
    sender = g_dbus_unescape_object_path(element);
    if (sender == NULL)
        return FALSE;
    prefix = g_strndup(path, (gsize)(end - path));
    *out = (CbusSignal){.machine = machine,
                        .sender = g_strdup((const char *)sender),
                        .path = g_strdup(end[0] != '\0' ? end : "/"),
                        .interface = interface,
                        .member = member,
                        .body = cbus_value_unmirror(body, prefix)};
    return TRUE;
}

void
cbus_signal_clear(CbusSignal *signal)
{
    g_clear_pointer(&signal->sender, g_free);
    g_clear_pointer(&signal->path, g_free);
    g_clear_pointer(&signal->body, g_variant_unref);
}

gboolean
cbus_signal_is_wanted(const CbusSignal *signal, const GPtrArray *rules)
{
    gsize n = g_variant_n_children(signal->body);
    g_autofree CbusMatchArgument *arguments = g_new0(CbusMatchArgument, n + 1);
    const CbusMatchSignal message = {.sender = cbus_span(signal->sender),
                                     .path = cbus_span(signal->path),
                                     .interface = cbus_span(signal->interface),
                                     .member = cbus_span(signal->member),
                                     .arguments = arguments,
                                     .n_arguments = (guint)n};

    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) value = g_variant_get_child_value(signal->body, i);

        arguments[i].is_path = g_variant_is_of_type(value, G_VARIANT_TYPE_OBJECT_PATH);
        if (arguments[i].is_path || g_variant_is_of_type(value, G_VARIANT_TYPE_STRING))
            /* Lives in the body, which outlives this. */
            arguments[i].text = cbus_span(g_variant_get_string(value, NULL));
    }
    for (guint i = 0; i < rules->len; i++) {
        if (cbus_match_rule_wants_signal(rules->pdata[i], &message))
            return TRUE;
    }
    return rules->len == 0;
}

char *
cbus_signal_clock(gint64 now)
{
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(now / G_USEC_PER_SEC);
    g_autoptr(GDateTime) local = g_date_time_to_local(utc);
    g_autofree char *seconds = g_date_time_format(local, "%H:%M:%S");

    return g_strdup_printf("%s.%06d", seconds, (int)(now % G_USEC_PER_SEC));
}

char *
cbus_signal_timestamp(gint64 now)
{
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(now / G_USEC_PER_SEC);
    g_autofree char *seconds = g_date_time_format(utc, "%Y-%m-%dT%H:%M:%S");

    return g_strdup_printf("%s.%06dZ", seconds, (int)(now % G_USEC_PER_SEC));
}

char *
cbus_signal_text(const CbusSignal *signal, gint64 now)
{
    const CbusRosterMachine *machine = signal->machine;
    g_autofree char *clock = cbus_signal_clock(now), *body = cbus_value_body_text(signal->body);
    g_autofree char *name = cbus_text_escape(machine->pinned ? machine->name : machine->nkey, 64);

    return g_strdup_printf("%s %s %s %s %s.%s%s%s", clock, name, signal->sender, signal->path,
                           signal->interface, signal->member, body[0] != '\0' ? " " : "", body);
}

char *
cbus_signal_json(const CbusSignal *signal, gint64 now)
{
    const char *type = g_variant_get_type_string(signal->body);
    g_autofree char *signature = g_strndup(type + 1, strlen(type) - 2);
    g_autofree char *time = cbus_signal_timestamp(now);
    const char *const fields[][2] = {
        {"time", time},
        {"nkey", signal->machine->nkey},
        {"name", signal->machine->name},
        {"sender", signal->sender},
        {"path", signal->path},
        {"interface", signal->interface},
        {"member", signal->member},
        {"type", signature},
    };
    GString *out = g_string_new("{");

    for (guint i = 0; i < G_N_ELEMENTS(fields); i++) {
        cbus_json_append_string(out, fields[i][0]);
        g_string_append_c(out, ':');
        cbus_json_append_string(out, fields[i][1]);
        g_string_append_c(out, ',');
    }
    g_string_append(out, "\"data\":");
    cbus_json_append_value(out, signal->body);
    g_string_append_c(out, '}');
    return g_string_free(out, FALSE);
}
