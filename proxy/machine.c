/* One machine of the roster.
 *
 * Joins what comes from elsewhere: facts (what its D-Bus object shows), a link (made by the dialer, owned
 * here while it lasts), a mirror (calls, replies, signals) and a portal (connections of their own); both live
 * as long as the machine. The link's events that concern channels are passed on to whose channel it is;
 * SERVERINFO and the end stay here.
 *
 * When a link ends, first the mirror answers everything that was pending and the portal closes its
 * connections, then the state changes, then the change is told: a client that sees Online go false has no
 * call left in the air. When a link comes up it is the other way round: the mirror may call before the roster
 * shows Online.
 *
 * What the machine says of itself is a claim. A name that is none, or that the roster takes for an imitation
 * of a pinned one, is shown as "" and LastError says so. How often it is told has a bound (proxy/pace.c).
 *
 * Loop thread only. */
#include "proxy/machine.h"

#include "link/log.h"
#include "proxy/pace.h"
#include "proxy/pings.h"
#include "wire/known_machines.h"

struct _CbusMachine {
    CbusMachineHandler handler;
    gpointer user_data;
    CbusKey key;
    char *path;
    CbusFacts facts;
    char *claim; /* the name as last claimed, shown or not */
    GVariant *told;
    CbusPace *pace;          /* of telling */
    gboolean services_stale; /* the mirror knows better */
    CbusMirror *mirror;
    CbusPortal *portal; /* NULL when there can be none */
    CbusLink *link;
    const char *absence_error;
    char *absence;
    CbusPings *pings;
};

static const CbusFacts *
fresh_facts(CbusMachine *machine)
{
    if (machine->services_stale) {
        machine->services_stale = FALSE;
        g_strfreev(machine->facts.services);
        machine->facts.services = g_strdupv((char **)cbus_mirror_services(machine->mirror));
    }
    machine->facts.round_trip = machine->link != NULL ? cbus_link_round_trip(machine->link) : 0;
    return &machine->facts;
}

static void
tell_now(gpointer user_data)
{
    CbusMachine *machine = user_data;
    GVariant *differences = cbus_facts_differences(fresh_facts(machine), machine->told);
    if (differences == NULL) {
        return;
    }
    g_autoptr(GVariant) changed = g_variant_ref_sink(differences);
    g_variant_unref(machine->told);
    machine->told = g_variant_ref_sink(cbus_facts_properties(&machine->facts));
    machine->handler.changed(machine, changed, machine->user_data);
}

static void
tell(CbusMachine *machine)
{
    if (cbus_pace_may(machine->pace)) {
        tell_now(machine);
    } else {
        machine->handler.changed(machine, NULL, machine->user_data);
    }
}

/* How errors name the machine, and what they say while it is away. */
static void
describe(CbusMachine *machine)
{
    g_autofree char *label = cbus_facts_label(&machine->facts);
    g_free(machine->absence);
    machine->absence = cbus_facts_absence(&machine->facts, &machine->absence_error);
    cbus_mirror_set_label(machine->mirror, label);
    cbus_mirror_set_absence(machine->mirror, machine->absence_error, machine->absence);
    if (machine->portal != NULL) {
        cbus_portal_set_absence(machine->portal, machine->absence);
        cbus_portal_set_name(machine->portal, machine->facts.pinned_name);
    }
}

/* ---- pings ---- */

/* The link keeps the measurement; RoundTrip is read from there. */
static void
on_first_pong(gint64 round_trip, gpointer user_data)
{
}

gboolean
cbus_machine_ping(CbusMachine *machine, CbusPingFunc func, gpointer user_data, const char **error_name,
                  char **message)
{
    if (machine->link == NULL) {
        *message = g_strdup(cbus_machine_absence(machine, error_name));
        return FALSE;
    }
    if (!cbus_pings_add(machine->pings, machine->link, func, user_data)) {
        g_autofree char *label = cbus_facts_label(&machine->facts);
        *error_name = CBUS_DBUS_ERROR("LimitsExceeded");
        *message = g_strdup_printf("%d pings of machine %s are waiting already; wait for their answers",
                                   CBUS_PINGS_LIMIT, label);
        return FALSE;
    }
    return TRUE;
}

/* ---- what the link says ---- */

static void
judge_name(CbusMachine *machine)
{
    g_clear_pointer(&machine->facts.claimed_name, g_free);
    g_clear_pointer(&machine->facts.name_error, g_free);
    if (machine->claim == NULL || machine->claim[0] == '\0' || machine->facts.pinned_name != NULL) {
        return;
    }
    g_autoptr(GError) error = NULL;
    if (!cbus_machine_name_check(machine->claim, strlen(machine->claim), &error)) {
        g_autofree char *shown = g_strescape(machine->claim, NULL);
        machine->facts.name_error =
            g_strdup_printf("The name that it claims, \"%.80s\", is not shown: %s", shown, error->message);
        return;
    }
    machine->facts.name_error = machine->handler.refuse_name(machine, machine->claim, machine->user_data);
    if (machine->facts.name_error == NULL) {
        machine->facts.claimed_name = g_strdup(machine->claim);
    }
}

static void
take_server_info(CbusMachine *machine, const char *name, const char *machine_id, const char *boot_id,
                 const char *version)
{
    g_free(machine->claim);
    machine->claim = g_strdup(name);
    cbus_facts_set_ids(&machine->facts, machine_id, boot_id, version);
    judge_name(machine);
}

static void
on_server_info(CbusLink *link, const char *name, const char *machine_id, const char *boot_id,
               const char *version, gpointer user_data)
{
    CbusMachine *machine = user_data;
    take_server_info(machine, name, machine_id, boot_id, version);
    describe(machine);
    tell(machine);
}

static void
on_opened(CbusLink *link, guint32 channel, gpointer user_data)
{
    CbusMachine *machine = user_data;
    (void)cbus_mirror_opened(machine->mirror, channel);
}

static void
on_message(CbusLink *link, guint32 channel, const guint8 *message, gsize size, gpointer user_data)
{
    CbusMachine *machine = user_data;
    if (!cbus_mirror_message(machine->mirror, channel, message, size) && machine->portal != NULL) {
        (void)cbus_portal_message(machine->portal, channel, message, size);
    }
}

static void
on_channel_closed(CbusLink *link, guint32 channel, const char *error_name, const char *message,
                  gpointer user_data)
{
    CbusMachine *machine = user_data;
    if (!cbus_mirror_channel_closed(machine->mirror, channel, error_name, message) &&
        machine->portal != NULL) {
        (void)cbus_portal_channel_closed(machine->portal, channel, error_name, message);
    }
}

static void
on_tree(CbusLink *link, guint32 channel, guint32 id, const guint8 *payload, gsize len, gpointer user_data)
{
    CbusMachine *machine = user_data;
    (void)cbus_mirror_tree(machine->mirror, channel, id, payload, len);
}

/* Everything of the link but the link itself; its counters are still valid. */
static void
settle(CbusMachine *machine, const GError *reason)
{
    machine->facts.state = CBUS_MACHINE_OFFLINE;
    g_free(machine->facts.state_error);
    machine->facts.state_error = g_strdup(reason->message);
    g_clear_pointer(&machine->facts.bus_error, g_free);
    machine->facts.round_trip = 0;
    describe(machine);
    cbus_mirror_link_down(machine->mirror, reason);
    if (machine->portal != NULL) {
        cbus_portal_link_down(machine->portal, reason);
    }
    cbus_pings_abandon(machine->pings);
    cbus_log(G_LOG_LEVEL_INFO, "A machine went offline", CBUS_LOG_MACHINE, machine->facts.nkey, CBUS_LOG_NAME,
             cbus_facts_name(&machine->facts), CBUS_LOG_REASON, reason->message, NULL);
}

static void
on_ended(CbusLink *link, const GError *reason, gpointer user_data)
{
    CbusMachine *machine = user_data;
    settle(machine, reason);
    machine->link = NULL;
    cbus_pings_fail(machine->pings);
    tell(machine);
    machine->handler.link_gone(machine, link, machine->user_data);
    cbus_link_free(link);
}

void
cbus_machine_link_up(CbusMachine *machine, CbusLink *link, const char *name, const char *machine_id,
                     const char *boot_id, const char *version)
{
    static const CbusLinkHandler handler = {
        .server_info = on_server_info,
        .opened = on_opened,
        .message = on_message,
        .channel_closed = on_channel_closed,
        .tree = on_tree,
        .ended = on_ended,
    };
    if (machine->link != NULL) {
        cbus_machine_close_link(machine, "replaced by a newer link");
    }
    machine->link = link;
    cbus_link_set_handler(link, &handler, machine);
    machine->facts.state = CBUS_MACHINE_ONLINE;
    g_clear_pointer(&machine->facts.state_error, g_free);
    machine->facts.last_seen = g_get_real_time();
    take_server_info(machine, name, machine_id, boot_id, version);
    describe(machine);
    cbus_mirror_link_up(machine->mirror, link);
    if (machine->portal != NULL) {
        cbus_portal_link_up(machine->portal, link);
    }
    cbus_log(G_LOG_LEVEL_INFO, "A machine is online", CBUS_LOG_MACHINE, machine->facts.nkey, CBUS_LOG_NAME,
             cbus_facts_name(&machine->facts), NULL);
    tell(machine);
    cbus_link_ping(link, on_first_pong, NULL);
}

void
cbus_machine_close_link(CbusMachine *machine, const char *reason)
{
    if (machine->link == NULL) {
        return;
    }
    CbusLink *link = machine->link;
    g_autoptr(GError) error = g_error_new_literal(CBUS_LINK_ERROR, CBUS_LINK_ERROR_CLOSED, reason);
    settle(machine, error);
    machine->link = NULL;
    cbus_link_close(link, reason);
    cbus_pings_fail(machine->pings);
    tell_now(machine); /* it may be about to go */
    machine->handler.link_gone(machine, link, machine->user_data);
    cbus_link_free(link);
}

/* ---- what the roster says ---- */

static void
take_pin(CbusMachine *machine, const CbusKnownMachine *pin)
{
    g_free(machine->facts.pinned_name);
    g_strfreev(machine->facts.tags);
    machine->facts.pinned_name = pin != NULL ? g_strdup(pin->name) : NULL;
    machine->facts.tags = pin != NULL ? g_strdupv(pin->tags) : NULL;
}

void
cbus_machine_set_pin(CbusMachine *machine, const CbusKnownMachine *pin)
{
    take_pin(machine, pin);
    cbus_machine_review_name(machine);
}

void
cbus_machine_review_name(CbusMachine *machine)
{
    judge_name(machine);
    describe(machine);
    tell(machine);
}

void
cbus_machine_seen(CbusMachine *machine)
{
    machine->facts.last_seen = g_get_real_time();
}

void
cbus_machine_set_state(CbusMachine *machine, CbusMachineState state, const char *message)
{
    if (machine->link != NULL) {
        return;
    }
    gboolean news = machine->facts.state != state;
    machine->facts.state = state;
    if (state != CBUS_MACHINE_CONNECTING || machine->facts.state_error == NULL) {
        /* While it connects, the last error tells more than that it does. */
        g_free(machine->facts.state_error);
        machine->facts.state_error = g_utf8_make_valid(message != NULL ? message : "", -1);
    }
    describe(machine);
    tell(machine);
    if (news && (state == CBUS_MACHINE_UNAUTHORIZED || state == CBUS_MACHINE_INCOMPATIBLE)) {
        cbus_log(G_LOG_LEVEL_WARNING, machine->absence, CBUS_LOG_MACHINE, machine->facts.nkey, CBUS_LOG_NAME,
                 cbus_facts_name(&machine->facts), CBUS_LOG_REASON, machine->facts.state_error, NULL);
    }
}

/* ---- what the mirror says ---- */

static void
on_services_changed(CbusMirror *mirror, gpointer user_data)
{
    CbusMachine *machine = user_data;
    machine->services_stale = TRUE;
    tell(machine);
}

static void
on_signals_lost_changed(CbusMirror *mirror, gpointer user_data)
{
    CbusMachine *machine = user_data;
    machine->facts.signals_lost = cbus_mirror_signals_lost(mirror);
    tell(machine);
}

static void
on_bus_changed(CbusMirror *mirror, const char *reason, gpointer user_data)
{
    CbusMachine *machine = user_data;
    g_free(machine->facts.bus_error);
    machine->facts.bus_error =
        reason != NULL ? g_strdup_printf("its bus can not be reached: %s", reason) : NULL;
    tell(machine);
}

/* A machine whose portal can not be made is still served by the mirror. */
static void
open_portal(CbusMachine *machine, CbusLoop *loop, const char *runtime_dir)
{
    g_autoptr(GError) error = NULL;
    machine->portal = cbus_portal_new(loop, runtime_dir, machine->facts.nkey, &error);
    if (machine->portal != NULL) {
        machine->facts.bus_address = g_strdup(cbus_portal_address(machine->portal));
        return;
    }
    cbus_log(G_LOG_LEVEL_WARNING, "A machine has no portal", CBUS_LOG_MACHINE, machine->facts.nkey,
             CBUS_LOG_REASON, error->message, NULL);
}

CbusMachine *
cbus_machine_new(CbusLoop *loop, CbusFront *front, CbusNodeStore *store, const char *runtime_dir,
                 const CbusKey *key, const CbusKnownMachine *pin, const CbusMachineHandler *handler,
                 gpointer user_data)
{
    static const CbusMirrorHandler mirror_handler = {
        .services_changed = on_services_changed,
        .signals_lost_changed = on_signals_lost_changed,
        .bus_changed = on_bus_changed,
    };
    CbusMachine *machine = g_new0(CbusMachine, 1);
    machine->handler = *handler;
    machine->user_data = user_data;
    machine->key = *key;
    cbus_nkey_encode(key, machine->facts.nkey);
    machine->path = g_strconcat(CBUS_ROOT_PATH "/", machine->facts.nkey, NULL);
    take_pin(machine, pin);
    machine->facts.state_error = g_strdup("nobody answers on NATS");
    machine->pings = cbus_pings_new();
    machine->pace = cbus_pace_new(loop, tell_now, machine);
    machine->mirror = cbus_mirror_new(loop, front, store, key, &mirror_handler, machine);
    open_portal(machine, loop, runtime_dir);
    describe(machine);
    machine->told = g_variant_ref_sink(cbus_facts_properties(&machine->facts));
    return machine;
}

void
cbus_machine_free(CbusMachine *machine)
{
    if (machine == NULL) {
        return;
    }
    cbus_machine_close_link(machine, "no longer wanted");
    cbus_portal_free(machine->portal);
    cbus_mirror_free(machine->mirror);
    cbus_pings_free(machine->pings);
    cbus_pace_free(machine->pace);
    g_variant_unref(machine->told);
    cbus_facts_clear(&machine->facts);
    g_free(machine->claim);
    g_free(machine->absence);
    g_free(machine->path);
    g_free(machine);
}

const CbusKey *
cbus_machine_key(const CbusMachine *machine)
{
    return &machine->key;
}

const char *
cbus_machine_path(const CbusMachine *machine)
{
    return machine->path;
}

const char *
cbus_machine_nkey(const CbusMachine *machine)
{
    return machine->facts.nkey;
}

const char *
cbus_machine_name(const CbusMachine *machine)
{
    return cbus_facts_name(&machine->facts);
}

gboolean
cbus_machine_is_pinned(const CbusMachine *machine)
{
    return machine->facts.pinned_name != NULL;
}

CbusMachineState
cbus_machine_state(const CbusMachine *machine)
{
    return machine->facts.state;
}

CbusMirror *
cbus_machine_mirror(CbusMachine *machine)
{
    return machine->mirror;
}

/* As fresh_facts(), for somebody who asks. What he sees before it was told has to be told, even if it becomes
 * again what was told last: else he would keep it. */
static const CbusFacts *
shown_facts(CbusMachine *machine)
{
    const CbusFacts *facts = fresh_facts(machine);

    if (cbus_pace_is_due(machine->pace)) {
        g_autoptr(GVariant) before = machine->told;

        machine->told = g_variant_ref_sink(cbus_facts_agreeing(facts, before));
    }
    return facts;
}

GVariant *
cbus_machine_property(CbusMachine *machine, const char *name)
{
    return cbus_facts_property(shown_facts(machine), name);
}

GVariant *
cbus_machine_properties(CbusMachine *machine)
{
    return cbus_facts_properties(shown_facts(machine));
}

const char *
cbus_machine_absence(const CbusMachine *machine, const char **error_name)
{
    *error_name = machine->absence_error;
    return machine->absence;
}
