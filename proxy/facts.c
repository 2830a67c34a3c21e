/* What is known of one machine.
 *
 * One table says for each property of ie.bmcgee.CBus1.Machine how it is read and whether its changes are
 * signalled; Get, GetAll, GetManagedObjects, InterfacesAdded and PropertiesChanged all come from it. Changes
 * are found by comparing with what was last told, not by bookkeeping at each place that changes something:
 * what nobody announces can not go wrong, and a value that goes and comes back within one event is no change.
 *
 * Values were checked by whoever set them (names are sanitised, strings are UTF-8). No I/O. */
#include "proxy/facts.h"

typedef GVariant *(*Reader)(const CbusFacts *facts);

static GVariant *
text(const char *value)
{
    return g_variant_new_string(value != NULL ? value : "");
}

static GVariant *
read_nkey(const CbusFacts *facts)
{
    return text(facts->nkey);
}

static GVariant *
read_name(const CbusFacts *facts)
{
    return text(cbus_facts_name(facts));
}

static GVariant *
read_name_pinned(const CbusFacts *facts)
{
    return g_variant_new_boolean(facts->pinned_name != NULL);
}

static GVariant *
read_online(const CbusFacts *facts)
{
    return g_variant_new_boolean(facts->state == CBUS_MACHINE_ONLINE);
}

static GVariant *
read_state(const CbusFacts *facts)
{
    return text(cbus_machine_state_name(facts->state));
}

static GVariant *
read_last_error(const CbusFacts *facts)
{
    if (facts->state_error != NULL) {
        return text(facts->state_error);
    }
    return text(facts->bus_error != NULL ? facts->bus_error : facts->name_error);
}

static GVariant *
read_last_seen(const CbusFacts *facts)
{
    return g_variant_new_uint64((guint64)facts->last_seen);
}

static GVariant *
read_round_trip(const CbusFacts *facts)
{
    return g_variant_new_uint64((guint64)facts->round_trip);
}

static GVariant *
read_machine_id(const CbusFacts *facts)
{
    return text(facts->machine_id);
}

static GVariant *
read_boot_id(const CbusFacts *facts)
{
    return text(facts->boot_id);
}

static GVariant *
read_version(const CbusFacts *facts)
{
    return text(facts->version);
}

static GVariant *
read_bus_address(const CbusFacts *facts)
{
    return text(facts->bus_address);
}

static GVariant *
read_services(const CbusFacts *facts)
{
    static const char *const none[] = {NULL};
    return g_variant_new_strv(facts->services != NULL ? (const char *const *)facts->services : none, -1);
}

static GVariant *
read_tags(const CbusFacts *facts)
{
    static const char *const none[] = {NULL};
    return g_variant_new_strv(facts->tags != NULL ? (const char *const *)facts->tags : none, -1);
}

static GVariant *
read_signals_lost(const CbusFacts *facts)
{
    return g_variant_new_uint64(facts->signals_lost);
}

static const struct {
    const char *name;
    Reader read;
    gboolean silent; /* no change signals */
} table[] = {
    {"NKey", read_nkey, FALSE},
    {"Name", read_name, FALSE},
    {"NamePinned", read_name_pinned, FALSE},
    {"Online", read_online, FALSE},
    {"State", read_state, FALSE},
    {"LastError", read_last_error, FALSE},
    {"LastSeen", read_last_seen, TRUE},
    {"RoundTrip", read_round_trip, TRUE},
    {"MachineId", read_machine_id, FALSE},
    {"BootId", read_boot_id, FALSE},
    {"Version", read_version, FALSE},
    {"BusAddress", read_bus_address, FALSE},
    {"Services", read_services, FALSE},
    {"SignalsLost", read_signals_lost, FALSE},
    {"Tags", read_tags, FALSE},
};

void
cbus_facts_clear(CbusFacts *facts)
{
    g_free(facts->pinned_name);
    g_free(facts->claimed_name);
    g_free(facts->name_error);
    g_free(facts->state_error);
    g_free(facts->bus_error);
    g_free(facts->machine_id);
    g_free(facts->boot_id);
    g_free(facts->version);
    g_free(facts->bus_address);
    g_strfreev(facts->services);
    g_strfreev(facts->tags);
    memset(facts, 0, sizeof *facts);
}

static gboolean
looks_like_id(const char *value)
{
    gsize len = strspn(value, "0123456789abcdef-");
    return len <= 36 && value[len] == '\0';
}

static gboolean
looks_like_version(const char *value)
{
    gsize len = 0;
    while (g_ascii_isgraph(value[len])) {
        len++;
    }
    return len <= 64 && value[len] == '\0';
}

void
cbus_facts_set_ids(CbusFacts *facts, const char *machine_id, const char *boot_id, const char *version)
{
    g_free(facts->machine_id);
    facts->machine_id = looks_like_id(machine_id) ? g_strdup(machine_id) : NULL;
    g_free(facts->boot_id);
    facts->boot_id = looks_like_id(boot_id) ? g_strdup(boot_id) : NULL;
    g_free(facts->version);
    facts->version = looks_like_version(version) ? g_strdup(version) : NULL;
}

const char *
cbus_facts_name(const CbusFacts *facts)
{
    if (facts->pinned_name != NULL) {
        return facts->pinned_name;
    }
    return facts->claimed_name != NULL ? facts->claimed_name : "";
}

char *
cbus_facts_label(const CbusFacts *facts)
{
    const char *name = cbus_facts_name(facts);
    return name[0] != '\0' ? g_strdup_printf("%s (%s)", name, facts->nkey) : g_strdup(facts->nkey);
}

char *
cbus_facts_absence(const CbusFacts *facts, const char **error_name)
{
    g_autofree char *label = cbus_facts_label(facts);
    const char *why = facts->state_error != NULL ? facts->state_error : "nobody answers on NATS";

    *error_name = CBUS_ERROR_OFFLINE;
    switch (facts->state) {
        case CBUS_MACHINE_UNAUTHORIZED:
            *error_name = CBUS_DBUS_ERROR("AccessDenied");
            return g_strdup_printf("Machine %s does not admit this operator: %s", label, why);
        case CBUS_MACHINE_INCOMPATIBLE:
            *error_name = CBUS_ERROR_INCOMPATIBLE;
            return g_strdup_printf("Machine %s speaks no version of the protocol that this proxy speaks: %s; "
                                   "update the older of cbus-agent and cbus-proxy",
                                   label, why);
        case CBUS_MACHINE_CONNECTING:
            return g_strdup_printf(
                "Machine %s is offline: the link to it is being made (%s); try again in a moment", label,
                why);
        case CBUS_MACHINE_ONLINE:
        case CBUS_MACHINE_OFFLINE:
            break;
    }
    return g_strdup_printf("Machine %s is offline: %s; check cbus-agent there and the NATS server between",
                           label, why);
}

const char *
cbus_machine_state_name(CbusMachineState state)
{
    switch (state) {
        case CBUS_MACHINE_ONLINE:
            return "online";
        case CBUS_MACHINE_CONNECTING:
            return "connecting";
        case CBUS_MACHINE_UNAUTHORIZED:
            return "unauthorized";
        case CBUS_MACHINE_INCOMPATIBLE:
            return "incompatible";
        case CBUS_MACHINE_OFFLINE:
            break;
    }
    return "offline";
}

GVariant *
cbus_facts_property(const CbusFacts *facts, const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        if (g_str_equal(table[i].name, name)) {
            return table[i].read(facts);
        }
    }
    return NULL;
}

GVariant *
cbus_facts_properties(const CbusFacts *facts)
{
    GVariantBuilder builder;
    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        g_variant_builder_add(&builder, "{sv}", table[i].name, table[i].read(facts));
    }
    GVariant *properties = g_variant_builder_end(&builder);
    /* As bytes: kept for every machine of a fleet, a tree of variants takes five times as much. */
    (void)g_variant_get_data(properties);
    return properties;
}

GVariant *
cbus_facts_differences(const CbusFacts *facts, GVariant *told)
{
    GVariantBuilder builder;
    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    gboolean any = FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        if (table[i].silent) {
            continue;
        }
        g_autoptr(GVariant) now = g_variant_ref_sink(table[i].read(facts));
        g_autoptr(GVariant) before = g_variant_lookup_value(told, table[i].name, NULL);
        if (before == NULL || !g_variant_equal(now, before)) {
            g_variant_builder_add(&builder, "{sv}", table[i].name, now);
            any = TRUE;
        }
    }
    if (!any) {
        g_variant_builder_clear(&builder);
        return NULL;
    }
    return g_variant_builder_end(&builder);
}

GVariant *
cbus_facts_agreeing(const CbusFacts *facts, GVariant *told)
{
    GVariantBuilder builder;
    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autoptr(GVariant) before = g_variant_lookup_value(told, table[i].name, NULL);
        g_autoptr(GVariant) now = g_variant_ref_sink(table[i].read(facts));
        if (before != NULL && g_variant_equal(now, before)) {
            g_variant_builder_add(&builder, "{sv}", table[i].name, now);
        }
    }
    return g_variant_builder_end(&builder);
}
