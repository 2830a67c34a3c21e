/* One machine of the roster: its facts, its link while there is one, its mirror always. Loop thread only. */
#pragma once
#include "proxy/facts.h"
#include "proxy/mirror.h"
#include "proxy/portal.h"
#include "wire/known_machines.h"

typedef struct _CbusMachine CbusMachine;

typedef struct {
    /* CHANGED: an a{sv} of the properties that differ now; borrowed. NULL: some do, and will be told later
     * (pace.c). */
    void (*changed)(CbusMachine *machine, GVariant *changed, gpointer user_data);
    /* Why the valid name CLAIMED must not be shown (transfer full), or NULL: it may. */
    char *(*refuse_name)(CbusMachine *machine, const char *claimed, gpointer user_data);
    /* LINK ended, and is freed when this returns: forget its route. */
    void (*link_gone)(CbusMachine *machine, CbusLink *link, gpointer user_data);
} CbusMachineHandler;

/* RUNTIME_DIR: below which its portal listens. PIN: its line in known_machines, NULL if it has none; only
 * read now. */
CbusMachine *cbus_machine_new(CbusLoop *loop, CbusFront *front, CbusNodeStore *store, const char *runtime_dir,
                              const CbusKey *key, const CbusKnownMachine *pin,
                              const CbusMachineHandler *handler, gpointer user_data);
/* Answers what is pending. A link is closed in order, with REASON, before; the caller has its route go. */
void cbus_machine_close_link(CbusMachine *machine, const char *reason);
void cbus_machine_free(CbusMachine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusMachine, cbus_machine_free)

const CbusKey *cbus_machine_key(const CbusMachine *machine);
const char *cbus_machine_path(const CbusMachine *machine); /* /ie/bmcgee/CBus/<nkey> */
const char *cbus_machine_nkey(const CbusMachine *machine);
const char *cbus_machine_name(const CbusMachine *machine);
gboolean cbus_machine_is_pinned(const CbusMachine *machine);
CbusMachineState cbus_machine_state(const CbusMachine *machine);
CbusMirror *cbus_machine_mirror(CbusMachine *machine);

/* Properties of ie.bmcgee.CBus1.Machine; floating. */
GVariant *cbus_machine_property(CbusMachine *machine, const char *name);
GVariant *cbus_machine_properties(CbusMachine *machine);

void cbus_machine_set_pin(CbusMachine *machine, const CbusKnownMachine *pin); /* NULL: no longer pinned */
void cbus_machine_review_name(CbusMachine *machine); /* refuse_name() may judge otherwise now */
void cbus_machine_seen(CbusMachine *machine);
/* Without a link; ignored while there is one. MESSAGE: why. */
void cbus_machine_set_state(CbusMachine *machine, CbusMachineState state, const char *message);
/* LINK: (transfer full). The strings are the machine's claims. */
void cbus_machine_link_up(CbusMachine *machine, CbusLink *link, const char *name, const char *machine_id,
                          const char *boot_id, const char *version);

/* FUNC is called once: the round trip in µs, or −1 when the link ended first. FALSE, and nothing done, when
 * there is no link or when too many wait; ERROR_NAME (static) and MESSAGE (transfer full) say which. */
gboolean cbus_machine_ping(CbusMachine *machine, CbusPingFunc func, gpointer user_data,
                           const char **error_name, char **message) G_GNUC_WARN_UNUSED_RESULT;
/* "Machine web1 (U…) is offline: …": what an error reply says while there is no link. */
const char *cbus_machine_absence(const CbusMachine *machine, const char **error_name);
