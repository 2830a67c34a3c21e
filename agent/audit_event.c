/* Events of the audit, and the records that they become.
 *
 * Events are equal when nothing but their count differs; a table of them finds repeats with one hash and one
 * comparison. Callers choose what is hashed, so the hash is keyed: nobody can pile a table's entries up.
 *
 * A record is a sentence for people and fields for programs (docs/audit.md): as the journal's native protocol
 * has them, or as one line of text. Names come from messages whose header was checked, which leaves no
 * control character in them; a reason is free text and goes into a field, where it is framed or escaped
 * (link/log_form.h), so nobody writes fields or lines of their own. Paths have no bound on a bus: what is
 * over CBUS_AUDIT_PATH_MAX is cut, and the whole length is told.
 *
 * Pure, but for the caller's GString. */
#include "agent/audit_event.h"
#include "link/log.h"
#include "link/log_form.h"
#include <sodium.h>
#include <string.h>

static guint
hash_of(const CbusAuditEvent *event, const guint8 *key)
{
    guint64 hash = (guint64)(gsize)event->trail + event->kind;

    for (guint i = 0; i < CBUS_AUDIT_PARTS; i++) {
        guint8 bytes[crypto_shorthash_BYTES] = {0};
        guint64 part;

        if (event->parts[i].len > 0)
            (void)crypto_shorthash(bytes, (const guint8 *)event->parts[i].text, event->parts[i].len, key);
        memcpy(&part, bytes, sizeof part);
        hash = (hash ^ part) * G_GUINT64_CONSTANT(0x9E3779B97F4A7C15);
    }
    return (guint)(hash >> 32);
}

CbusAuditEvent
cbus_audit_event(CbusAuditTrail *trail, CbusAuditKind kind, const CbusMessage *message, const char *reason,
                 const guint8 *key)
{
    CbusAuditEvent event = {.trail = trail, .kind = kind};

    if (message != NULL) {
        event.type = message->type;
        event.parts[CBUS_AUDIT_DESTINATION] = message->destination;
        event.parts[CBUS_AUDIT_INTERFACE] = message->interface;
        event.parts[CBUS_AUDIT_MEMBER] = message->member;
        event.parts[CBUS_AUDIT_PATH] = message->path;
    }
    event.parts[CBUS_AUDIT_REASON] = cbus_span(reason);
    event.hash = hash_of(&event, key);
    return event;
}

guint
cbus_audit_event_hash(gconstpointer event)
{
    return ((const CbusAuditEvent *)event)->hash;
}

gboolean
cbus_audit_event_equal(gconstpointer a, gconstpointer b)
{
    const CbusAuditEvent *x = a, *y = b;

    if (x->trail != y->trail || x->kind != y->kind || x->type != y->type)
        return FALSE;
    for (guint i = 0; i < CBUS_AUDIT_PARTS; i++)
        if (!cbus_span_equal(x->parts[i], y->parts[i]))
            return FALSE;
    return TRUE;
}

CbusAuditEvent *
cbus_audit_event_copy(const CbusAuditEvent *event)
{
    gsize size = sizeof *event;
    CbusAuditEvent *copy;
    char *text;

    for (guint i = 0; i < CBUS_AUDIT_PARTS; i++)
        size += event->parts[i].len;
    copy = g_malloc(size);
    *copy = *event;
    text = (char *)(copy + 1);
    for (guint i = 0; i < CBUS_AUDIT_PARTS; i++) {
        if (event->parts[i].len > 0)
            memcpy(text, event->parts[i].text, event->parts[i].len);
        copy->parts[i].text = text;
        text += event->parts[i].len;
    }
    return copy;
}

void
cbus_audit_append(GString *out, CbusAuditTarget target, const char *name, const char *value, gsize len)
{
    if (target == CBUS_AUDIT_JOURNAL)
        cbus_log_append_journal(out, name, value, len);
    else
        cbus_log_append_text_field(out, name, value, len);
}

void
cbus_audit_append_number(GString *out, CbusAuditTarget target, const char *name, guint64 value)
{
    char text[24];
    int len = g_snprintf(text, sizeof text, "%" G_GUINT64_FORMAT, value);

    cbus_audit_append(out, target, name, text, (gsize)len);
}

static const char *
verb_of(const CbusAuditEvent *event)
{
    if (event->kind == CBUS_AUDIT_OPENED)
        return "opened a channel";
    if (event->type == CBUS_MESSAGE_SIGNAL)
        return event->kind == CBUS_AUDIT_DENIED ? "was denied to emit" : "emitted";
    return event->kind == CBUS_AUDIT_DENIED ? "was denied to call" : "called";
}

static void
append_sentence(GString *out, const CbusAuditEvent *event)
{
    const CbusSpan *parts = event->parts;

    g_string_append_printf(out, "%s %s", event->trail->caller, verb_of(event));
    if (event->kind != CBUS_AUDIT_OPENED) {
        g_string_append_c(out, ' ');
        if (parts[CBUS_AUDIT_INTERFACE].len > 0) {
            g_string_append_len(out, parts[CBUS_AUDIT_INTERFACE].text,
                                (gssize)parts[CBUS_AUDIT_INTERFACE].len);
            g_string_append_c(out, '.');
        }
        g_string_append_len(out, parts[CBUS_AUDIT_MEMBER].text, (gssize)parts[CBUS_AUDIT_MEMBER].len);
        g_string_append(out, " on ");
        if (parts[CBUS_AUDIT_DESTINATION].len > 0) {
            g_string_append_len(out, parts[CBUS_AUDIT_DESTINATION].text,
                                (gssize)parts[CBUS_AUDIT_DESTINATION].len);
            g_string_append_c(out, ' ');
        }
        g_string_append_len(out, parts[CBUS_AUDIT_PATH].text,
                            (gssize)MIN(parts[CBUS_AUDIT_PATH].len, CBUS_AUDIT_PATH_MAX));
    }
    if (event->trail->user != NULL)
        g_string_append_printf(out, " as %s", event->trail->user);
    if (event->count > 0)
        g_string_append_printf(out, " (%" G_GUINT64_FORMAT " more)", event->count);
}

static void
append_head(GString *out, CbusAuditTarget target, const CbusAuditEvent *event)
{
    static const char *const ids[] = {[CBUS_AUDIT_OPENED] = CBUS_AUDIT_ID_OPENED,
                                      [CBUS_AUDIT_CALLED] = CBUS_AUDIT_ID_CALLED,
                                      [CBUS_AUDIT_DENIED] = CBUS_AUDIT_ID_DENIED};
    const char *id = ids[event->kind];

    if (target == CBUS_AUDIT_JOURNAL) {
        /* Facility 10, authpriv, is what syslog keeps from most eyes; priorities: warning, notice. */
        g_string_append_printf(out,
                               "MESSAGE_ID=%s\nPRIORITY=%d\nSYSLOG_FACILITY=10\n"
                               "SYSLOG_IDENTIFIER=cbus-agent\nMESSAGE=",
                               id, event->kind == CBUS_AUDIT_DENIED ? 4 : 5);
        append_sentence(out, event);
        g_string_append_c(out, '\n');
    } else {
        g_string_append(out, "cbus-agent: audit: ");
        append_sentence(out, event);
        cbus_audit_append(out, target, "MESSAGE_ID", id, strlen(id));
    }
}

void
cbus_audit_compose(GString *out, CbusAuditTarget target, const CbusAuditEvent *event, guint64 lost)
{
    static const char *const names[CBUS_AUDIT_PARTS] = {"CBUS_DESTINATION", "CBUS_INTERFACE", "CBUS_MEMBER",
                                                        CBUS_LOG_REASON, "CBUS_PATH"};
    const char *verdict = event->kind == CBUS_AUDIT_DENIED ? "denied" : "allowed";
    gsize path = event->parts[CBUS_AUDIT_PATH].len;

    append_head(out, target, event);
    cbus_audit_append(out, target, "CBUS_VERDICT", verdict, strlen(verdict));
    g_string_append_len(out, event->trail->fields->str, (gssize)event->trail->fields->len);
    for (guint i = 0; i < CBUS_AUDIT_PARTS; i++) {
        gsize len = i == CBUS_AUDIT_PATH ? MIN(path, CBUS_AUDIT_PATH_MAX) : event->parts[i].len;
        if (len > 0)
            cbus_audit_append(out, target, names[i], event->parts[i].text, len);
    }
    if (path > CBUS_AUDIT_PATH_MAX)
        cbus_audit_append_number(out, target, "CBUS_PATH_LENGTH", path);
    if (event->count > 0)
        cbus_audit_append_number(out, target, "CBUS_COUNT", event->count);
    if (lost > 0)
        cbus_audit_append_number(out, target, "CBUS_AUDIT_LOST", lost);
    if (target != CBUS_AUDIT_JOURNAL)
        g_string_append_c(out, '\n');
}
