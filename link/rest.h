/* How long a busy loop rests before it reads again. Pure: times are its caller's, in µs. Embedded;
 * zero-initialised. */
#pragma once
#include <glib.h>

typedef struct {
    gint64 began;   /* of the turn that runs */
    guint messages; /* in it, so far */
    guint depth;    /* the most messages of one turn, slowly forgotten */
    guint time_us;  /* of recent turns and of the messages in them, slowly forgotten */
    guint recent;
} CbusRest;

/* A turn begins at NOW: its wait has reported something. */
void cbus_rest_begin(CbusRest *rest, gint64 now);
/* FALSE: there will be no rest. */
gboolean cbus_rest_is_deep(const CbusRest *rest);
/* At the end of a turn: how many µs to sleep before the next wait; 0: none. */
guint cbus_rest_us(const CbusRest *rest, gint64 now) G_GNUC_WARN_UNUSED_RESULT;
