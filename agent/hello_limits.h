/* How many strangers an agent listens to (design, "Who is not welcome"). Loop thread only. */
#pragma once
#include "wire/key.h"

#define CBUS_HALF_OPEN_EACH 4
#define CBUS_HALF_OPEN_ALL  256
#define CBUS_HALF_OPEN_US   (10 * G_USEC_PER_SEC)

typedef struct _CbusHelloLimits CbusHelloLimits;
CbusHelloLimits *cbus_hello_limits_new(void);
void cbus_hello_limits_free(CbusHelloLimits *limits);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusHelloLimits, cbus_hello_limits_free)

/* May a hello that claims to come from PROXY be looked at? 32 a second for each, 500 in all. NOW in µs. */
gboolean cbus_hello_limits_admit(CbusHelloLimits *limits, const CbusKey *proxy,
                                 gint64 now) G_GNUC_WARN_UNUSED_RESULT;
/* May one who is not authorized be told so? 10 a second for all together. */
gboolean cbus_hello_limits_refusal(CbusHelloLimits *limits, gint64 now) G_GNUC_WARN_UNUSED_RESULT;
