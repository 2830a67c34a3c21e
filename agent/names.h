/* Who owns which names on a bus, as a channel's own connection sees it. Loop thread only. */
#pragma once
#include "wire/bytes.h"

#define CBUS_NAMES_MAX 16384

typedef struct _CbusNames CbusNames;
CbusNames *cbus_names_new(void);
void cbus_names_free(CbusNames *names);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNames, cbus_names_free)

/* NAME, well-known, is OWNER's from now on; an empty OWNER: nobody's. FALSE: more than CBUS_NAMES_MAX. */
gboolean cbus_names_set_owner(CbusNames *names, CbusSpan name, CbusSpan owner) G_GNUC_WARN_UNUSED_RESULT;
/* The connection with this unique name is gone. */
void cbus_names_forget(CbusNames *names, CbusSpan unique);
/* The names of whoever owns NAME, well-known or unique, NULL-terminated; borrowed until a change. NULL:
 * nobody that owns a name. */
const char *const *cbus_names_of(const CbusNames *names, CbusSpan name);
/* A stranger with this unique name called the client, which may follow it from now on. */
void cbus_names_meet(CbusNames *names, CbusSpan unique);
gboolean cbus_names_has_met(const CbusNames *names, CbusSpan unique);
