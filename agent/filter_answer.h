/* Answers that a filter gives in the bus's name. Pure. */
#pragma once
#include "wire/policy_decide.h"

/* Each writes into OUT, in place of what is there, the answer to the client's CALL; SELF is its unique name,
 * or NULL. FALSE: CALL wants none, or is no call. */
gboolean cbus_filter_answer_error(GByteArray *out, const char *self, const CbusMessage *call,
                                  const char *name, const char *text) G_GNUC_WARN_UNUSED_RESULT;
gboolean cbus_filter_answer_done(GByteArray *out, const char *self,
                                 const CbusMessage *call) G_GNUC_WARN_UNUSED_RESULT;
/* As a bus on which nobody has the name that the call with these FACTS is about. */
gboolean cbus_filter_answer_hidden(GByteArray *out, const char *self, const CbusMessage *call,
                                   const CbusFacts *facts) G_GNUC_WARN_UNUSED_RESULT;

/* TRUE if the call is one of the bus itself. */
gboolean cbus_facts_are_lookup(const CbusFacts *facts);
/* The name that a call is about. */
CbusSpan cbus_facts_name(const CbusFacts *facts);
