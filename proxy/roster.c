/* Which machines there are.
 *
 * Pinned machines (known_machines) are always listed, online or not: an operator who pinned a machine wants
 * to see that it is away. Unpinned ones are listed while they are there, since anyone on the broker can
 * announce a fresh key: at most 256 of them, 16 new ones a second, none with known_only. A link to each
 * listed machine is made and kept by the dialer; what it reports ends here and is passed on to the machine.
 *
 * A claimed name never stands beside a pinned one that it could be taken for, nor beside an equal claim of
 * another machine that was there before: names are what people type next. Whenever pins change every claim is
 * judged again, and those that were not shown are when a machine leaves.
 *
 * Who is listed is decided here alone; who is reachable, by a link alone. Presence is a hint from anybody.
 *
 * Loop thread only. Owns dialer, credit budget, node store and machines. */
#include "proxy/roster.h"

#include "link/log.h"
#include "proxy/dialer.h"
#include <malloc.h>

#define CREDIT_BYTES (32u * 1024 * 1024)
#define SETTLED_S    10
#define TICK_S       5

struct _CbusRoster {
    CbusLoop *loop;
    CbusFront *front;
    CbusRosterHandler handler;
    gpointer user_data;
    const char *runtime_dir;
    gboolean known_only, closing;
    const char *const *signals; /* NULL: every signal */
    CbusMachine *dropping;      /* its link is not to be made again */
    CbusBudget *budget;
    CbusNodeStore *store;
    CbusDialer *dialer;
    CbusKnownMachines *known;
    GHashTable *machines; /* CbusKey inside the machine → CbusMachine, owned */
    guint unpinned;
    gint64 window; /* µs, monotonic: when the second began in which NEWCOMERS came */
    guint newcomers;
    GSource *tick;
    GSource *settling; /* links were made lately */
    gint64 linked_at;  /* µs, monotonic: the last one */
};

/* ---- machines ---- */

static void
on_machine_changed(CbusMachine *machine, GVariant *changed, gpointer user_data)
{
    CbusRoster *roster = user_data;
    if (!roster->closing) {
        roster->handler.changed(roster, machine, changed, roster->user_data);
    }
}

static char *
on_refuse_name(CbusMachine *machine, const char *claimed, gpointer user_data)
{
    CbusRoster *roster = user_data;
    const CbusKnownMachine *pinned = cbus_known_machines_resembling(roster->known, claimed);
    if (pinned != NULL && !cbus_key_equal(&pinned->key, cbus_machine_key(machine))) {
        return g_strdup_printf(
            "The name that it claims, \"%s\", is not shown: it could be taken for \"%s\", which "
            "is pinned to another key",
            claimed, pinned->name);
    }
    GHashTableIter iter;
    gpointer other;
    g_hash_table_iter_init(&iter, roster->machines);
    while (g_hash_table_iter_next(&iter, NULL, &other)) {
        if (other != machine && g_ascii_strcasecmp(cbus_machine_name(other), claimed) == 0) {
            return g_strdup_printf(
                "The name that it claims, \"%s\", is not shown: machine %s goes by it already", claimed,
                cbus_machine_nkey(other));
        }
    }
    return NULL;
}

static void
on_link_gone(CbusMachine *machine, CbusLink *link, gpointer user_data)
{
    CbusRoster *roster = user_data;
    if (roster->closing || roster->dropping == machine) {
        cbus_dialer_unwant(roster->dialer, cbus_machine_key(machine));
    } else {
        cbus_dialer_forget(roster->dialer, link);
    }
}

static CbusMachine *
add(CbusRoster *roster, const CbusKey *key, const CbusKnownMachine *pin)
{
    static const CbusMachineHandler handler = {
        .changed = on_machine_changed,
        .refuse_name = on_refuse_name,
        .link_gone = on_link_gone,
    };
    CbusMachine *machine = cbus_machine_new(roster->loop, roster->front, roster->store, roster->runtime_dir,
                                            key, pin, &handler, roster);
    g_hash_table_insert(roster->machines, (gpointer)cbus_machine_key(machine), machine);
    if (roster->signals != NULL) {
        cbus_mirror_set_signals(cbus_machine_mirror(machine), roster->signals);
    }
    if (pin == NULL) {
        roster->unpinned++;
    }
    roster->handler.added(roster, machine, roster->user_data);
    return machine;
}

/* A name that was given up may be shown of who else claims it. */
static void
review_nameless(CbusRoster *roster)
{
    g_autoptr(GPtrArray) listed = cbus_roster_list(roster);
    for (guint i = 0; i < listed->len; i++) {
        CbusMachine *machine = g_ptr_array_index(listed, i);
        if (cbus_machine_name(machine)[0] == '\0') {
            cbus_machine_review_name(machine);
        }
    }
}

/* The link closes while the machine is still listed, so that its last change is told before it vanishes. */
static void
drop(CbusRoster *roster, CbusMachine *machine, const char *reason)
{
    CbusKey key = *cbus_machine_key(machine);
    gboolean named = cbus_machine_name(machine)[0] != '\0';
    if (!cbus_machine_is_pinned(machine)) {
        roster->unpinned--;
    }
    roster->dropping = machine;
    cbus_machine_close_link(machine, reason);
    roster->dropping = NULL;
    cbus_dialer_unwant(roster->dialer, &key);
    g_hash_table_steal(roster->machines, &key);
    roster->handler.removed(roster, machine, roster->user_data);
    cbus_machine_free(machine);
    if (named) {
        review_nameless(roster);
    }
}

/* ---- what the dialer says ---- */

static gboolean
admit(CbusRoster *roster)
{
    if (roster->known_only || roster->unpinned >= CBUS_ROSTER_UNPINNED_MAX) {
        return FALSE;
    }
    gint64 now = g_get_monotonic_time();
    if (now - roster->window >= G_USEC_PER_SEC) {
        roster->window = now;
        roster->newcomers = 0;
    }
    if (roster->newcomers >= CBUS_ROSTER_NEW_PER_SECOND) {
        return FALSE;
    }
    roster->newcomers++;
    return TRUE;
}

static gboolean
on_announced(const CbusKey *agent, gpointer user_data)
{
    CbusRoster *roster = user_data;
    CbusMachine *machine = cbus_roster_lookup(roster, agent);
    if (machine == NULL) {
        if (roster->closing || !admit(roster)) {
            return FALSE;
        }
        machine = add(roster, agent, NULL);
    }
    cbus_machine_seen(machine);
    return TRUE;
}

static void
on_seen(const CbusKey *agent, gboolean farewell, gpointer user_data)
{
    CbusMachine *machine = cbus_roster_lookup(user_data, agent);
    if (machine != NULL) {
        cbus_machine_seen(machine);
    }
}

static void
on_state(const CbusKey *agent, CbusDialState state, const char *message, gpointer user_data)
{
    static const CbusMachineState states[] = {
        [CBUS_DIAL_OFFLINE] = CBUS_MACHINE_OFFLINE,
        [CBUS_DIAL_CONNECTING] = CBUS_MACHINE_CONNECTING,
        [CBUS_DIAL_UNAUTHORIZED] = CBUS_MACHINE_UNAUTHORIZED,
        [CBUS_DIAL_INCOMPATIBLE] = CBUS_MACHINE_INCOMPATIBLE,
    };
    CbusMachine *machine = cbus_roster_lookup(user_data, agent);
    if (machine != NULL) {
        cbus_machine_set_state(machine, states[state], message);
    }
}

/* Links being made leave holes all over the heap, a third of it after a thousand. */
static gboolean
on_settling(gpointer user_data)
{
    CbusRoster *roster = user_data;
    if (g_get_monotonic_time() - roster->linked_at < SETTLED_S * G_USEC_PER_SEC) {
        return G_SOURCE_CONTINUE;
    }
    malloc_trim(0);
    g_clear_pointer(&roster->settling, g_source_unref);
    return G_SOURCE_REMOVE;
}

static void
await_settled(CbusRoster *roster)
{
    roster->linked_at = g_get_monotonic_time();
    if (roster->settling != NULL) {
        return;
    }
    roster->settling = g_timeout_source_new_seconds(SETTLED_S);
    g_source_set_callback(roster->settling, on_settling, roster, NULL);
    g_source_attach(roster->settling, roster->loop->context);
}

static void
on_linked(const CbusKey *agent, CbusLink *link, const char *name, const char *machine_id, const char *boot_id,
          const char *version, gpointer user_data)
{
    CbusRoster *roster = user_data;
    CbusMachine *machine = cbus_roster_lookup(roster, agent);
    if (machine != NULL) {
        cbus_machine_link_up(machine, link, name, machine_id, boot_id, version);
        await_settled(roster);
        return;
    }
    /* It was dropped while the handshake ran. */
    cbus_link_close(link, "no longer wanted");
    cbus_dialer_forget(roster->dialer, link);
    cbus_link_free(link);
}

static void
on_vanished(const CbusKey *agent, gpointer user_data)
{
    CbusRoster *roster = user_data;
    CbusMachine *machine = cbus_roster_lookup(roster, agent);
    if (machine != NULL && !cbus_machine_is_pinned(machine) &&
        cbus_machine_state(machine) != CBUS_MACHINE_ONLINE) {
        drop(roster, machine, "it vanished");
    }
}

/* ---- pins ---- */

static void
pin(CbusRoster *roster, const CbusKnownMachine *entry)
{
    CbusMachine *machine = cbus_roster_lookup(roster, &entry->key);
    if (machine == NULL) {
        add(roster, &entry->key, entry);
        cbus_dialer_want(roster->dialer, &entry->key);
        return;
    }
    if (!cbus_machine_is_pinned(machine)) {
        roster->unpinned--;
    }
    cbus_machine_set_pin(machine, entry);
}

/* A machine that lost its pin stays only as any unpinned one would. */
static void
unpin(CbusRoster *roster, CbusMachine *machine)
{
    if (cbus_machine_state(machine) != CBUS_MACHINE_ONLINE || roster->known_only ||
        roster->unpinned >= CBUS_ROSTER_UNPINNED_MAX) {
        drop(roster, machine, "no longer pinned");
        return;
    }
    roster->unpinned++;
    cbus_machine_set_pin(machine, NULL);
}

void
cbus_roster_set_known(CbusRoster *roster, CbusKnownMachines *known)
{
    g_autoptr(CbusKnownMachines) before = roster->known;
    roster->known = known;
    g_autoptr(GPtrArray) listed = cbus_roster_list(roster);
    for (guint i = 0; i < listed->len; i++) {
        CbusMachine *machine = g_ptr_array_index(listed, i);
        if (cbus_machine_is_pinned(machine) &&
            cbus_known_machines_by_key(known, cbus_machine_key(machine)) == NULL) {
            unpin(roster, machine);
        }
    }
    for (guint i = 0; i < cbus_known_machines_size(known); i++) {
        pin(roster, cbus_known_machines_get(known, i));
    }
    g_autoptr(GPtrArray) left = cbus_roster_list(roster);
    for (guint i = 0; i < left->len; i++) {
        CbusMachine *machine = g_ptr_array_index(left, i);
        if (!cbus_machine_is_pinned(machine)) {
            cbus_machine_review_name(machine);
        }
    }
}

/* ---- life ---- */

static gboolean
on_tick(gpointer user_data)
{
    CbusRoster *roster = user_data;
    GHashTableIter iter;
    gpointer machine;
    g_hash_table_iter_init(&iter, roster->machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine)) {
        cbus_mirror_tick(cbus_machine_mirror(machine));
    }
    return G_SOURCE_CONTINUE;
}

CbusRoster *
cbus_roster_new(CbusLoop *loop, CbusFront *front, CbusNats *nats, CbusSigner *signer, const char *runtime_dir,
                gboolean known_only, const CbusRosterHandler *handler, gpointer user_data)
{
    static const CbusDialerHandler dialer_handler = {
        .announced = on_announced,
        .seen = on_seen,
        .state = on_state,
        .linked = on_linked,
        .vanished = on_vanished,
    };
    CbusRoster *roster = g_new0(CbusRoster, 1);
    roster->loop = loop;
    roster->front = front;
    roster->handler = *handler;
    roster->user_data = user_data;
    roster->runtime_dir = runtime_dir;
    roster->known_only = known_only;
    roster->machines = g_hash_table_new(cbus_key_hash, cbus_key_equal);
    roster->known = cbus_known_machines_parse("", 0, NULL, NULL);
    roster->store = cbus_node_store_new();
    roster->budget = cbus_budget_new(CREDIT_BYTES);
    roster->dialer = cbus_dialer_new(loop, nats, signer, roster->budget, &dialer_handler, roster);
    roster->tick = g_timeout_source_new_seconds(TICK_S);
    g_source_set_callback(roster->tick, on_tick, roster, NULL);
    g_source_attach(roster->tick, loop->context);
    return roster;
}

void
cbus_roster_free(CbusRoster *roster)
{
    if (roster == NULL) {
        return;
    }
    roster->closing = TRUE;
    g_autoptr(GPtrArray) listed = cbus_roster_list(roster);
    for (guint i = 0; i < listed->len; i++) {
        CbusMachine *machine = g_ptr_array_index(listed, i);
        cbus_machine_close_link(machine, "cbus-proxy stops");
        g_hash_table_steal(roster->machines, cbus_machine_key(machine));
        cbus_machine_free(machine);
    }
    cbus_dialer_free(roster->dialer);
    g_source_destroy(roster->tick);
    g_source_unref(roster->tick);
    if (roster->settling != NULL) {
        g_source_destroy(roster->settling);
    }
    g_clear_pointer(&roster->settling, g_source_unref);
    cbus_budget_free(roster->budget);
    cbus_node_store_free(roster->store);
    cbus_known_machines_free(roster->known);
    g_hash_table_unref(roster->machines);
    g_free(roster);
}

void
cbus_roster_set_signals(CbusRoster *roster, const char *const *rules)
{
    roster->signals = rules;
}

void
cbus_roster_nats_up(CbusRoster *roster)
{
    cbus_dialer_nats_up(roster->dialer);
}

void
cbus_roster_nats_failed(CbusRoster *roster, const GError *reason)
{
    cbus_dialer_nats_failed(roster->dialer, reason);
}

void
cbus_roster_nats_down(CbusRoster *roster, const GError *reason)
{
    cbus_dialer_nats_down(roster->dialer, reason);
}

CbusMachine *
cbus_roster_lookup(CbusRoster *roster, const CbusKey *key)
{
    return g_hash_table_lookup(roster->machines, key);
}

static int
compare_nkeys(gconstpointer a, gconstpointer b)
{
    const CbusMachine *const *left = a, *const *right = b;
    return strcmp(cbus_machine_nkey(*left), cbus_machine_nkey(*right));
}

GPtrArray *
cbus_roster_list(CbusRoster *roster)
{
    GPtrArray *list = g_ptr_array_sized_new(g_hash_table_size(roster->machines));
    GHashTableIter iter;
    gpointer machine;
    g_hash_table_iter_init(&iter, roster->machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine)) {
        g_ptr_array_add(list, machine);
    }
    g_ptr_array_sort(list, compare_nkeys);
    return list;
}

void
cbus_roster_caller_gone(CbusRoster *roster, const char *unique_name)
{
    GHashTableIter iter;
    gpointer machine;
    g_hash_table_iter_init(&iter, roster->machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine)) {
        cbus_mirror_caller_gone(cbus_machine_mirror(machine), unique_name);
    }
}
