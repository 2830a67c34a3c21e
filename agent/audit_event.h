/* One thing for the audit: who did what; compared, copied, and put into words. Loop thread only. */
#pragma once
#include "agent/audit.h"

typedef enum {
    CBUS_AUDIT_OPENED,
    CBUS_AUDIT_CALLED,
    CBUS_AUDIT_DENIED,
} CbusAuditKind;

typedef enum {
    CBUS_AUDIT_DESTINATION,
    CBUS_AUDIT_INTERFACE,
    CBUS_AUDIT_MEMBER,
    CBUS_AUDIT_REASON,
    CBUS_AUDIT_PATH,
    CBUS_AUDIT_PARTS,
} CbusAuditPart;

#define CBUS_AUDIT_PATH_MAX 1024 /* bytes of a path that are written */

struct _CbusAuditTrail {
    CbusAudit *audit;
    char caller[CBUS_NKEY_LENGTH + 1];
    char *user;      /* for the message; NULL until connected */
    GString *fields; /* what is the same in each of its records, in the target's form */
};

/* Equal are events of one trail that differ in COUNT alone: how many came since it was written. Parts are
 * borrowed, or lie behind the event. */
typedef struct {
    CbusAuditTrail *trail;
    CbusAuditKind kind;
    guint8 type; /* CbusMessageType; 0: no message */
    guint hash;
    guint64 count;
    CbusSpan parts[CBUS_AUDIT_PARTS];
} CbusAuditEvent;

/* Parts are borrowed from MESSAGE and REASON, which may be NULL. KEY: crypto_shorthash's. */
CbusAuditEvent cbus_audit_event(CbusAuditTrail *trail, CbusAuditKind kind, const CbusMessage *message,
                                const char *reason, const guint8 *key);
guint cbus_audit_event_hash(gconstpointer event);
gboolean cbus_audit_event_equal(gconstpointer a, gconstpointer b);
/* One allocation: free it with g_free(). */
CbusAuditEvent *cbus_audit_event_copy(const CbusAuditEvent *event);

/* Appends a field in TARGET's form. */
void cbus_audit_append(GString *out, CbusAuditTarget target, const char *name, const char *value, gsize len);
void cbus_audit_append_number(GString *out, CbusAuditTarget target, const char *name, guint64 value);
/* Appends the whole record, with its line end. LOST: records that are missing before it. */
void cbus_audit_compose(GString *out, CbusAuditTarget target, const CbusAuditEvent *event, guint64 lost);
