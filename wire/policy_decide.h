/* Judging a message by a policy (design, "Judging a message"). Pure: the same facts get the same verdict. */
#pragma once
#include "wire/message.h"
#include "wire/policy.h"

/* What a verdict may depend on. Spans borrow from the message. */
typedef struct {
    guint8 type, flags;
    gboolean from_bus;  /* a message that the caller would receive */
    gboolean requested; /* a reply: there was such a call */
    CbusSpan destination, sender, path, interface, member;
    /* The first two arguments, where they are of type s or o; absent otherwise. */
    CbusSpan arguments[2];
    /* Of org.freedesktop.DBus.Properties: the arguments have the types that they should have. */
    gboolean is_regular;
} CbusFacts;

typedef enum {
    CBUS_VERDICT_ALLOW,
    CBUS_VERDICT_DENY,
    CBUS_VERDICT_HIDE, /* the answer is the one for a name that nobody owns */
} CbusVerdict;

typedef struct {
    CbusVerdict verdict;
    const CbusRule *rule; /* that decided; NULL: what holds for everybody */
} CbusDecision;

/* The well-known names of the connection that owns NAME, well-known or unique: NULL-terminated, borrowed
 * until the next call. NULL: nobody owns NAME. */
typedef const char *const *(*CbusNamesFunc)(CbusSpan name, gpointer user_data);

typedef struct {
    const CbusPolicy *policy;
    CbusNamesFunc names;
    gpointer user_data;
    CbusSpan self; /* the caller's unique name; absent before Hello's answer */
} CbusJudge;

/* Takes the facts out of a message whose body was checked. */
void cbus_facts_of(const CbusMessage *message, CbusFacts *out);
CbusDecision cbus_judge(const CbusJudge *judge, const CbusFacts *facts);
/* TRUE if NAME may be listed and looked up. */
gboolean cbus_judge_visible(const CbusJudge *judge, CbusSpan name);
/* What rule would allow what these facts say. (transfer full) */
char *cbus_judge_hint(const CbusFacts *facts);

typedef enum {
    CBUS_ACCESS_NONE,
    CBUS_ACCESS_SOME, /* each property decides */
    CBUS_ACCESS_ALL,
} CbusAccess;
/* How much of INTERFACE ("": all of them in one) of PATH may be read of whoever owns NAME. */
CbusAccess cbus_judge_interface(const CbusJudge *judge, CbusSpan name, CbusSpan path, CbusSpan interface);
gboolean cbus_judge_property(const CbusJudge *judge, CbusSpan name, CbusSpan path, CbusSpan interface,
                             CbusSpan property);
