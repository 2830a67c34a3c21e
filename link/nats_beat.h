/* Whether the server at the other end of a connection still lives. Loop thread only. */
#pragma once
#include <glib.h>
#include <nats/nats.h>

typedef struct _CbusNatsBeat CbusNatsBeat;
typedef struct {
    void (*probe)(gpointer user_data);            /* a question waits to be written */
    void (*silent)(guint ms, gpointer user_data); /* the server has said nothing for so long; once */
} CbusNatsBeatHandler;

/* CONNECTION and HANDLER are borrowed. */
CbusNatsBeat *cbus_nats_beat_new(GMainContext *context, guint interval_ms, natsConnection *connection,
                                 const CbusNatsBeatHandler *handler, gpointer user_data);
void cbus_nats_beat_stop(CbusNatsBeat *beat);
/* After the connection was closed. */
void cbus_nats_beat_free(CbusNatsBeat *beat);
/* Bytes have come and were processed. */
void cbus_nats_beat_alive(CbusNatsBeat *beat);
