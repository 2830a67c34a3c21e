/* The audit: what callers do on this machine's bus, on the record before it happens.
 *
 * A record is written for each channel that is opened, each act that is forwarded and each one that is
 * denied. An act is every message of a caller but replies and plain reads: Properties.Get and GetAll,
 * Introspect, Peer, GetManagedObjects. A call that names no interface may be any method, and is an act.
 * Arguments are never looked at.
 *
 * Before it happens: the first of equal events is handed to the journal before its message goes to the bus.
 * Those that follow within the second are counted, at the price of one lookup, and the count is written when
 * the second is over or the channel closes. What a killed process loses are such counts, never a first.
 *
 * Nothing waits for the journal: a record is one non-blocking datagram. When the journal does not take it, a
 * strict audit denies; a lenient one lets it happen and says later how many records are missing. Counts that
 * could not be written are kept, and while records fail nothing is counted: what is owed is written first,
 * then each event has to write itself.
 *
 * Bounds: SEEN_MAX different events a second are remembered, then the second ends early; events with an
 * uncommonly long path are written each time instead.
 *
 * Trust: callers are authenticated and may be hostile; agent/audit_event.c keeps their words in their place.
 * Loop thread only. */
#include "agent/audit_event.h"
#include "link/log.h"
#include "link/log_form.h"
#include <errno.h>
#include <gio/gio.h>
#include <sodium.h>
#include <unistd.h>

#define SEEN_MAX  256
#define SECOND_MS 1000
#define SAY_US    (10 * G_USEC_PER_SEC)

struct _CbusAudit {
    CbusLoop *loop;
    CbusAuditOptions options;
    int journal; /* −1 unless the target is the journal */
    guint8 hash_key[crypto_shorthash_KEYBYTES];
    GHashTable *seen; /* of CbusAuditEvents: what was written in this second */
    GSource *second;  /* while SEEN is not empty */
    gboolean failing; /* the last record could not be written */
    gint64 said_at;   /* monotonic µs; 0: never */
    guint64 lost;     /* events without a record, since the last record */
    GString *record;  /* scratch */
    guint trails;
};

/* Says so once an outage, and not for each of many short ones. */
static void
fail(CbusAudit *self, int code)
{
    gint64 now = g_get_monotonic_time();

    if (self->failing)
        return;
    self->failing = TRUE;
    if (self->said_at != 0 && now - self->said_at < SAY_US)
        return;
    self->said_at = now;
    cbus_log(G_LOG_LEVEL_WARNING,
             self->options.lenient ? "audit records can not be written: calls go on without"
                                   : "audit records can not be written: calls are denied",
             CBUS_LOG_REASON, g_strerror(code), NULL);
}

static gboolean
write_event(CbusAudit *self, const CbusAuditEvent *event)
{
    gboolean done;

    g_string_truncate(self->record, 0);
    cbus_audit_compose(self->record, self->options.target, event, self->lost);
    if (self->options.target == CBUS_AUDIT_JOURNAL)
        done = cbus_log_send_journal(self->journal, self->options.socket, self->record);
    else
        done = cbus_log_send_text(self->record);
    if (!done) {
        fail(self, errno);
        return FALSE;
    }
    self->lost = 0;
    self->failing = FALSE;
    return TRUE;
}

/* Writes the counts that are owed and forgets the events, up to the first that can not be written. */
static void
settle(CbusAudit *self)
{
    GHashTableIter iter;
    gpointer event;

    g_hash_table_iter_init(&iter, self->seen);
    while (g_hash_table_iter_next(&iter, &event, NULL)) {
        if (((CbusAuditEvent *)event)->count > 0 && !write_event(self, event))
            return;
        g_hash_table_iter_remove(&iter);
    }
}

static gboolean
second_over(gpointer user_data)
{
    CbusAudit *self = user_data;

    settle(self);
    if (g_hash_table_size(self->seen) > 0)
        return G_SOURCE_CONTINUE;
    g_clear_pointer(&self->second, g_source_unref);
    return G_SOURCE_REMOVE;
}

static void
remember(CbusAudit *self, const CbusAuditEvent *event)
{
    if (event->parts[CBUS_AUDIT_PATH].len > CBUS_AUDIT_PATH_MAX)
        return;
    if (g_hash_table_size(self->seen) >= SEEN_MAX)
        settle(self);
    if (g_hash_table_size(self->seen) >= SEEN_MAX)
        return;
    g_hash_table_add(self->seen, cbus_audit_event_copy(event));
    if (self->second != NULL)
        return;
    self->second = g_timeout_source_new(SECOND_MS);
    g_source_set_callback(self->second, second_over, self, NULL);
    g_source_attach(self->second, self->loop->context);
}

/* TRUE: there is a record of it. */
static gboolean
record(CbusAudit *self, const CbusAuditEvent *event)
{
    if (!self->failing) {
        CbusAuditEvent *known = g_hash_table_lookup(self->seen, event);
        if (known != NULL) {
            known->count++;
            return TRUE;
        }
    } else {
        settle(self);
        if (g_hash_table_size(self->seen) > 0)
            return FALSE;
    }
    if (!write_event(self, event))
        return FALSE;
    if (event->kind != CBUS_AUDIT_OPENED)
        remember(self, event);
    return TRUE;
}

/* TRUE: it may happen. */
static gboolean
note(CbusAuditTrail *trail, CbusAuditKind kind, const CbusMessage *message, const char *reason)
{
    CbusAudit *self = trail->audit;
    CbusAuditEvent event = cbus_audit_event(trail, kind, message, reason, self->hash_key);

    if (record(self, &event))
        return TRUE;
    self->lost++;
    return self->options.lenient;
}

static gboolean
is_plain_read(const CbusMessage *message)
{
    CbusSpan interface = message->interface;

    if (message->type != CBUS_MESSAGE_CALL)
        return FALSE;
    if (cbus_span_is(interface, "org.freedesktop.DBus.Properties"))
        return cbus_span_is(message->member, "Get") || cbus_span_is(message->member, "GetAll");
    if (cbus_span_is(interface, "org.freedesktop.DBus.Introspectable"))
        return cbus_span_is(message->member, "Introspect");
    if (cbus_span_is(interface, "org.freedesktop.DBus.ObjectManager"))
        return cbus_span_is(message->member, "GetManagedObjects");
    return cbus_span_is(interface, "org.freedesktop.DBus.Peer");
}

gboolean
cbus_audit_forward(CbusAuditTrail *trail, const CbusMessage *message)
{
    if (trail->audit->options.target == CBUS_AUDIT_OFF || message->type == CBUS_MESSAGE_RETURN ||
        message->type == CBUS_MESSAGE_ERROR || is_plain_read(message))
        return TRUE;
    return note(trail, CBUS_AUDIT_CALLED, message, NULL);
}

void
cbus_audit_denied(CbusAuditTrail *trail, const CbusMessage *message, const char *reason)
{
    if (trail->audit->options.target != CBUS_AUDIT_OFF)
        (void)note(trail, CBUS_AUDIT_DENIED, message, reason);
}

gboolean
cbus_audit_opened(CbusAuditTrail *trail, guint32 uid, const char *user)
{
    CbusAuditTarget target = trail->audit->options.target;

    if (target == CBUS_AUDIT_OFF)
        return TRUE;
    cbus_audit_append_number(trail->fields, target, "CBUS_UID", uid);
    if (user != NULL)
        cbus_audit_append(trail->fields, target, "CBUS_USER", user, strlen(user));
    trail->user = user != NULL ? g_strdup(user) : g_strdup_printf("uid %u", uid);
    return note(trail, CBUS_AUDIT_OPENED, NULL, NULL);
}

/* Of CALLER, at most as long as an NKey. */
static CbusAuditTrail *
trail_of(CbusAudit *self, const char *caller)
{
    CbusAuditTrail *trail = g_new0(CbusAuditTrail, 1);

    trail->audit = self;
    self->trails++;
    g_strlcpy(trail->caller, caller, sizeof trail->caller);
    trail->fields = g_string_sized_new(256);
    cbus_audit_append(trail->fields, self->options.target, CBUS_LOG_PROXY, caller, strlen(caller));
    return trail;
}

CbusAuditTrail *
cbus_audit_trail_new_gateway(CbusAudit *self)
{
    return trail_of(self, "gateway");
}

CbusAuditTrail *
cbus_audit_trail_new(CbusAudit *self, const CbusKey *caller, const guint8 link[16], guint32 channel,
                     guint32 claim)
{
    CbusAuditTarget target = self->options.target;
    char link_text[2 * 16 + 1], nkey[CBUS_NKEY_LENGTH + 1];
    CbusAuditTrail *trail;

    cbus_nkey_encode(caller, nkey);
    trail = trail_of(self, nkey);
    sodium_bin2hex(link_text, sizeof link_text, link, 16);
    cbus_audit_append(trail->fields, target, "CBUS_LINK", link_text, sizeof link_text - 1);
    cbus_audit_append_number(trail->fields, target, CBUS_LOG_CHANNEL, channel);
    if (claim != G_MAXUINT32)
        cbus_audit_append_number(trail->fields, target, "CBUS_CLAIMED_UID", claim);
    return trail;
}

void
cbus_audit_trail_free(CbusAuditTrail *trail)
{
    CbusAudit *self = trail->audit;
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, self->seen);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const CbusAuditEvent *event = key;
        if (event->trail != trail)
            continue;
        if (event->count > 0 && !write_event(self, event))
            self->lost += event->count;
        g_hash_table_iter_remove(&iter);
    }
    self->trails--;
    g_string_free(trail->fields, TRUE);
    g_free(trail->user);
    g_free(trail);
}

static gboolean
parse_target(const char *text, CbusAuditTarget *out)
{
    static const char *const names[] = {
        [CBUS_AUDIT_JOURNAL] = "journal", [CBUS_AUDIT_STDERR] = "stderr", [CBUS_AUDIT_OFF] = "off"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (g_str_equal(text, names[i])) {
            *out = (CbusAuditTarget)i;
            return TRUE;
        }
    return FALSE;
}

gboolean
cbus_audit_options_parse(const char *target, const char *failure, CbusAuditOptions *out, GError **error)
{
    CbusAuditTarget chosen = CBUS_AUDIT_STDERR;

    if (target == NULL && g_file_test(CBUS_LOG_JOURNAL, G_FILE_TEST_EXISTS))
        chosen = CBUS_AUDIT_JOURNAL;
    if (target != NULL && !parse_target(target, &chosen)) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "audit: \"%s\" is not one of journal, stderr and off", target);
        return FALSE;
    }
    if (failure != NULL && !g_str_equal(failure, "deny") && !g_str_equal(failure, "ignore")) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "audit-failure: \"%s\" is neither deny nor ignore", failure);
        return FALSE;
    }
    *out = (CbusAuditOptions){.target = chosen, .journal = -1, .lenient = g_strcmp0(failure, "ignore") == 0};
    return TRUE;
}

void
cbus_audit_options_open(CbusAuditOptions *options)
{
    if (options->target == CBUS_AUDIT_JOURNAL)
        options->journal = cbus_log_open_journal();
}

CbusAudit *
cbus_audit_new(CbusLoop *loop, const CbusAuditOptions *options)
{
    CbusAudit *self = g_new0(CbusAudit, 1);

    self->loop = loop;
    self->options = *options;
    if (options->socket == NULL)
        self->options.socket = CBUS_LOG_JOURNAL;
    self->journal = options->journal;
    crypto_shorthash_keygen(self->hash_key);
    self->seen = g_hash_table_new_full(cbus_audit_event_hash, cbus_audit_event_equal, g_free, NULL);
    self->record = g_string_sized_new(1024);
    return self;
}

void
cbus_audit_free(CbusAudit *self)
{
    g_assert(self->trails == 0);
    if (self->second != NULL) {
        g_source_destroy(self->second);
        g_source_unref(self->second);
    }
    if (self->journal >= 0)
        close(self->journal);
    g_hash_table_unref(self->seen);
    g_string_free(self->record, TRUE);
    g_free(self);
}
