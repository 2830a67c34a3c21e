/* What a filter remembers of a channel: calls without answer, both ways, and the client's match rules. Loop
 * thread only. */
#pragma once
#include "wire/policy_body.h"

typedef struct {
    gboolean is_hello;
    gboolean listens;       /* once the bus agrees, the client hears what is meant for others */
    CbusShape shape;        /* of the answer, if it has to be filtered */
    char *path, *interface; /* of CBUS_SHAPE_PROPERTIES */
    char *match;            /* of an AddMatch: its rule */
} CbusSentCall;
void cbus_sent_call_free(CbusSentCall *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusSentCall, cbus_sent_call_free)

typedef struct _CbusFilterCalls CbusFilterCalls;
CbusFilterCalls *cbus_filter_calls_new(void);
void cbus_filter_calls_free(CbusFilterCalls *calls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusFilterCalls, cbus_filter_calls_free)

/* The client's call with these FACTS, which the policy allows, is about to be forwarded. Returns NULL, or why
 * it must not be. */
const char *cbus_filter_calls_sent(CbusFilterCalls *calls, const CbusFacts *facts,
                                   guint32 serial) G_GNUC_WARN_UNUSED_RESULT;
/* Before that: whether it adds or removes the match rule of the census itself, which the bus must not hear.
 */
typedef enum {
    CBUS_OWN_MATCH_NONE,    /* it does neither */
    CBUS_OWN_MATCH_DONE,    /* noted; the client is to hear that it is done */
    CBUS_OWN_MATCH_MISSING, /* the client has no such rule to remove */
    CBUS_OWN_MATCH_FULL,    /* it has too many rules to add one */
} CbusOwnMatch;
CbusOwnMatch cbus_filter_calls_own_match(CbusFilterCalls *calls,
                                         const CbusFacts *facts) G_GNUC_WARN_UNUSED_RESULT;
/* An answer came. OUT: (transfer full) what has to be done with it, or NULL: nothing. FALSE: it answers no
 * call. FAILED: it is an error. */
gboolean cbus_filter_calls_answered(CbusFilterCalls *calls, guint32 serial, gboolean failed,
                                    CbusSentCall **out) G_GNUC_WARN_UNUSED_RESULT;
/* TRUE once the client was let listen to what is meant for others. */
gboolean cbus_filter_calls_listen(const CbusFilterCalls *calls);
/* TRUE if the client asked for NameOwnerChanged with these arguments. */
gboolean cbus_filter_calls_want_change(const CbusFilterCalls *calls, const CbusSpan arguments[3]);

/* SENDER calls the client. FALSE: too many calls are without answer. */
gboolean cbus_filter_calls_received(CbusFilterCalls *calls, CbusSpan sender,
                                    guint32 serial) G_GNUC_WARN_UNUSED_RESULT;
/* The client replies to SENDER. FALSE: to nothing. */
gboolean cbus_filter_calls_reply(CbusFilterCalls *calls, CbusSpan sender,
                                 guint32 serial) G_GNUC_WARN_UNUSED_RESULT;
