/* Whether the server at the other end of a connection still lives. Loop thread only. */
#pragma once
#include <glib.h>

typedef struct _CbusNatsBeat CbusNatsBeat;
typedef struct {
    void (*ask)(gpointer user_data);              /* publish what the server will echo */
    void (*silent)(guint ms, gpointer user_data); /* the server has said nothing for so long; once */
} CbusNatsBeatHandler;

/* HANDLER is borrowed. */
CbusNatsBeat *cbus_nats_beat_new(GMainContext *context, guint interval_ms, const CbusNatsBeatHandler *handler,
                                 gpointer user_data);
void cbus_nats_beat_stop(CbusNatsBeat *beat);
/* After the connection was closed. */
void cbus_nats_beat_free(CbusNatsBeat *beat);
/* Bytes have come and were processed. No-op for NULL. */
void cbus_nats_beat_alive(CbusNatsBeat *beat);
