/* What the settings say about NATS: servers and login by flags, or by a context of the `nats` command. */
#pragma once
#include "link/nats.h"
#include "link/settings.h"

typedef struct _CbusNatsContext CbusNatsContext;

/* The context called NAME of the user who runs this: <config dir>/nats/context/NAME.json. Blocks on the file.
 * CBUS_NATS_ERROR_OPTIONS names the file, the key and what to do. */
CbusNatsContext *cbus_nats_context_load(const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same from TEXT; FILE is for errors. */
CbusNatsContext *cbus_nats_context_parse(const char *text, gsize len, const char *file,
                                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_nats_context_free(CbusNatsContext *context); /* wipes the password and the token */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNatsContext, cbus_nats_context_free)
/* Sets servers and login of OPTIONS to the context's, which must outlive their use. */
void cbus_nats_context_apply(const CbusNatsContext *context, CbusNatsOptions *options);

/* Sets servers and login of OPTIONS from the settings nats, creds, jwt, ca, cert, cert-key and context. A
 * context comes alone: beside any of the others but nats, whose place its url takes, it is refused. *CONTEXT
 * (transfer full; NULL if none is named) and SETTINGS must outlive OPTIONS. */
gboolean cbus_nats_options_from_settings(const CbusSettings *settings, CbusNatsContext **context,
                                         CbusNatsOptions *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;
