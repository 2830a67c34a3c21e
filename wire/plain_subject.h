/* The subjects of the gateway's plain protocol (docs/gateway.md):
 *
 *     dbus.agent.<nkey>.<service>[.<path, / as .>].method.<Member>
 *     dbus.agent.<nkey>.<service>[.<path, / as .>].prop.<Name>
 *     dbus.broadcast.<service>…                                     the same, to every machine
 *     dbus.signals.<nkey>.<sender>[.<path, / as .>]
 *
 * <service> and <sender> are bus names with '.' and ':' as '_'. */
#pragma once
#include "wire/key.h"
#include "wire/message.h"

#define CBUS_PLAIN_SUBJECT_MAX 1024 /* bytes; a server closes connections over lines of 4096 */
#define CBUS_PLAIN_BROADCASTS  "dbus.broadcast.>"

typedef struct {
    gboolean is_property;
    CbusSpan service, member; /* borrowed from the subject */
    char *path;
} CbusPlainRequest;

/* What AGENT subscribes to. (transfer full) */
char *cbus_plain_requests(const CbusKey *agent);
/* Reads the subject of a request. FALSE with WHY, a constant that says what is wrong; OUT is untouched then.
 */
gboolean cbus_plain_request_parse(const char *subject, const CbusKey *agent, CbusPlainRequest *out,
                                  const char **why) G_GNUC_WARN_UNUSED_RESULT;
void cbus_plain_request_clear(CbusPlainRequest *request);

/* TRUE if an answer may be sent to REPLY: not where it would itself be a request, of this protocol, of links
 * or of the server, made with the agent's permissions instead of the client's. */
gboolean cbus_plain_may_answer(const char *reply);
/* TRUE if NAME, a bus name, is spelt SERVICE in a subject. */
gboolean cbus_plain_is_spelling(CbusSpan service, CbusSpan name);
/* The subject of a signal; NULL when it is too long for one. SENDER and PATH are valid. (transfer full) */
char *cbus_plain_signal(const CbusKey *agent, CbusSpan sender, CbusSpan path);
