/* Who did what on this machine's bus: structured records with stable MESSAGE_IDs (design, "Audit";
 * docs/audit.md). Loop thread only. */
#pragma once
#include "link/loop.h"
#include "wire/key.h"
#include "wire/message.h"

#define CBUS_AUDIT_ID_OPENED "9489776a77cc430aac8600cb358ee2d4"
#define CBUS_AUDIT_ID_CALLED "3e56d66ecb2841848a8e5338d9876c73"
#define CBUS_AUDIT_ID_DENIED "2a346b86cda045a9886a09fd4d213c13"

/* What the caller of a call that could not be recorded is told. */
#define CBUS_AUDIT_REFUSAL                                                                                   \
    "this machine can not record the call and denies what it can not record (audit-failure=deny): it was "   \
    "not executed; have the machine's journal looked at"

typedef enum {
    CBUS_AUDIT_JOURNAL, /* the journal's native protocol */
    CBUS_AUDIT_STDERR,  /* lines of text */
    CBUS_AUDIT_OFF,
} CbusAuditTarget;

typedef struct {
    CbusAuditTarget target;
    gboolean lenient;   /* what can not be recorded happens all the same */
    int journal;        /* its socket of datagrams, or −1 */
    const char *socket; /* the journal's, or NULL for the usual one; outlives the audit */
} CbusAuditOptions;

/* TARGET: journal, stderr, off, or NULL: the journal where there is one, else stderr. FAILURE: deny, ignore,
 * or NULL: deny. OUT is untouched on failure. */
gboolean cbus_audit_options_parse(const char *target, const char *failure, CbusAuditOptions *out,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Opens what the target needs. As root, before privileges go: the queue may be longer then. */
void cbus_audit_options_open(CbusAuditOptions *options);

typedef struct _CbusAudit CbusAudit; /* one a process */
/* The socket of OPTIONS is taken. */
CbusAudit *cbus_audit_new(CbusLoop *loop, const CbusAuditOptions *options);
void cbus_audit_free(CbusAudit *audit); /* every trail must be gone */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusAudit, cbus_audit_free)

/* On whose account: one a channel, since who speaks does not change in it. */
typedef struct _CbusAuditTrail CbusAuditTrail;
/* CALLER is copied. LINK: 16 bytes. CLAIM: the local uid that the proxy claims to ask for, or G_MAXUINT32. */
CbusAuditTrail *cbus_audit_trail_new(CbusAudit *audit, const CbusKey *caller, const guint8 link[16],
                                     guint32 channel, guint32 claim);
/* Of whoever may publish to the broker: the caller is "gateway", in no link and no channel. */
CbusAuditTrail *cbus_audit_trail_new_gateway(CbusAudit *audit);
/* Writes the counts that it still owes. */
void cbus_audit_trail_free(CbusAuditTrail *trail);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusAuditTrail, cbus_audit_trail_free)

/* The channel is connected to the bus as UID; USER: its name, or NULL when it is not known. Records it, and
 * later records of the trail say so, too. FALSE: it could not be recorded, and must not be. */
gboolean cbus_audit_opened(CbusAuditTrail *trail, guint32 uid, const char *user) G_GNUC_WARN_UNUSED_RESULT;
/* MESSAGE of the caller is about to be forwarded. Plain reads, and replies, cost a comparison and are not
 * recorded. FALSE: it could not be recorded and must not be forwarded; answer it with CBUS_AUDIT_REFUSAL. */
gboolean cbus_audit_forward(CbusAuditTrail *trail, const CbusMessage *message) G_GNUC_WARN_UNUSED_RESULT;
/* MESSAGE of the caller is not forwarded; REASON: by which rule, or what it broke; one line. */
void cbus_audit_denied(CbusAuditTrail *trail, const CbusMessage *message, const char *reason);
