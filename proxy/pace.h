/* How often something may be told: a few times a second at once, more often together. Loop thread only. */
#pragma once
#include "link/loop.h"

typedef struct _CbusPace CbusPace;

/* TELL: tells what has gathered, once after cbus_pace_may() said FALSE. */
CbusPace *cbus_pace_new(CbusLoop *loop, void (*tell)(gpointer user_data), gpointer user_data);
void cbus_pace_free(CbusPace *pace);
/* TRUE: tell it now. FALSE: TELL will be called, within a second. */
gboolean cbus_pace_may(CbusPace *pace) G_GNUC_WARN_UNUSED_RESULT;
/* TRUE while TELL is due. */
gboolean cbus_pace_is_due(const CbusPace *pace);
