/* What links said when they ended and nobody could be told: said on the next connection until it is heard.
 * Loop thread only. */
#pragma once
#include "link/nats.h"

typedef struct _CbusLastWords CbusLastWords;
CbusLastWords *cbus_last_words_new(CbusLoop *loop, CbusNats *nats);
void cbus_last_words_free(CbusLastWords *words);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusLastWords, cbus_last_words_free)

/* PACKET, sealed, could not be published to the subject OUT of a proxy process. */
void cbus_last_words_keep(CbusLastWords *words, const char *out, const guint8 *packet, gsize len);
/* The proxy process behind OUT has a new link, so it knows that the one before is over. */
void cbus_last_words_heard(CbusLastWords *words, const char *out);
void cbus_last_words_up(CbusLastWords *words);   /* NATS is: they are said at once, then again and again */
void cbus_last_words_down(CbusLastWords *words); /* NATS is */
