/* What of the remote bus driver can be reached through the mirror, and the mirror's own subscription to
 * systemd.
 *
 * All callers of a mirror share its remote connections. What asks about the bus is harmless and is forwarded;
 * what would change a connection (names, matches, monitoring) would change it for everybody, or be undone
 * when somebody else leaves, and is refused: a portal gives each client a connection of its own. AddMatch and
 * RemoveMatch are answered as done, since the mirror already repeats every broadcast and GDBus-like clients
 * send them without being asked.
 *
 * The list is of what is allowed, by exact interface and member; a call without an interface counts as each
 * interface that has the member. systemd sends signals only to subscribers: the mirror subscribes whenever it
 * has an owner, for as long as the main channel lives, so a local Subscribe or Unsubscribe has nothing to do
 * but must not cut the others off.
 *
 * Trusts the front for a well-formed header. Loop thread only.
 */
#include "proxy/mirror_private.h"

static const char *const driver_members[] = {
    "GetAdtAuditSessionData",
    "GetConnectionCredentials",
    "GetConnectionSELinuxSecurityContext",
    "GetConnectionUnixProcessID",
    "GetConnectionUnixUser",
    "GetId",
    "GetNameOwner",
    "ListActivatableNames",
    "ListNames",
    "ListQueuedOwners",
    "NameHasOwner",
    "StartServiceByName",
};

static const char *const standard_members[][2] = {
    {CBUS_INTROSPECTABLE, "Introspect"},
    {CBUS_PEER, "GetMachineId"},
    {CBUS_PEER, "Ping"},
    {CBUS_PROPERTIES, "Get"},
    {CBUS_PROPERTIES, "GetAll"},
    {CBUS_PROPERTIES, "Set"},
};

static gboolean
is_method(const CbusMessage *call, const char *interface, const char *member)
{
    return cbus_span_is(call->member, member) &&
           (call->interface.len == 0 || cbus_span_is(call->interface, interface));
}

static gboolean
is_allowed(const CbusMessage *call)
{
    for (guint i = 0; i < G_N_ELEMENTS(driver_members); i++) {
        if (is_method(call, CBUS_DRIVER_NAME, driver_members[i]))
            return TRUE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(standard_members); i++) {
        if (is_method(call, standard_members[i][0], standard_members[i][1]))
            return TRUE;
    }
    return FALSE;
}

gboolean
cbus_mirror_driver_call(CbusMirror *self, const CbusPlace *place, const CbusMessage *call)
{
    if (!g_str_equal(place->service, CBUS_DRIVER_NAME))
        return FALSE;
    if (is_method(call, CBUS_DRIVER_NAME, "AddMatch") || is_method(call, CBUS_DRIVER_NAME, "RemoveMatch")) {
        cbus_mirror_reply_empty(self, call);
        return TRUE;
    }
    if (is_allowed(call))
        return FALSE;
    cbus_mirror_reply_error(
        self, call, CBUS_DBUS_ERROR("AccessDenied"),
        "%s: %.*s of the bus driver is not mirrored, since all callers share the mirror's "
        "connections; use the portal of the machine: it gives you a connection of your own",
        self->label, (int)call->member.len, call->member.text);
    return TRUE;
}

gboolean
cbus_mirror_systemd_call(CbusMirror *self, const CbusPlace *place, const CbusMessage *call)
{
    if (!g_str_equal(place->service, CBUS_SYSTEMD_NAME) || !cbus_span_is(place->path, CBUS_SYSTEMD_PATH) ||
        call->signature.len > 0 ||
        !(is_method(call, CBUS_SYSTEMD_MANAGER, "Subscribe") ||
          is_method(call, CBUS_SYSTEMD_MANAGER, "Unsubscribe")))
        return FALSE;
    cbus_mirror_reply_empty(self, call);
    return TRUE;
}

void
cbus_mirror_systemd_subscribe(CbusMirror *self)
{
    const CbusHeader header = {.flags = CBUS_FLAG_NO_REPLY | CBUS_FLAG_NO_AUTO_START,
                               .path = CBUS_SPAN_LITERAL(CBUS_SYSTEMD_PATH),
                               .interface = CBUS_SPAN_LITERAL(CBUS_SYSTEMD_MANAGER),
                               .member = CBUS_SPAN_LITERAL("Subscribe"),
                               .destination = CBUS_SPAN_LITERAL(CBUS_SYSTEMD_NAME)};

    CbusChannel *main = self->main;

    /* One that has not left yet will find who is there then. */
    if (main == NULL || main->subscribed > cbus_link_departed(self->link, main->id))
        return;
    if (cbus_mirror_pool_ask(self, main, header, NULL, NULL))
        main->subscribed = main->next_serial - 1;
}
