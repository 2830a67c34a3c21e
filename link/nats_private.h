/* What nats.c and nats_publish.c share. */
#pragma once
#include "link/nats.h"
#include "link/nats_beat.h"
#include "link/nats_dial.h"
#include "link/nats_queue.h"
#include "link/nats_subscriptions.h"

struct _CbusNats {
    CbusLoop *loop;
    CbusNatsHandler handler;
    gpointer user_data;
    CbusNatsLogin *login;
    CbusNatsSubscriptions *subscriptions;

    /* Between connections. */
    CbusNatsDial *dial;
    GSource *pause;
    guint pause_ms;

    /* Of the connection. */
    natsConnection *connection;
    CbusNatsSource *source;
    CbusNatsBeat *beat;
    CbusNatsQueue queue;
    CbusDeferred write;
    gsize max_payload;
    gint64 up_since;
    gboolean up, blocked, denial_shown, headers_missed;
    GError *loss; /* set: waits for its burial */
    GSource *burial;
    guint beat_ms;
    char *beat_subject;

    guint depth;
    gboolean freed;
};

/* Writes at the end of the turn. USER_DATA: the CbusNats. */
void cbus_nats_want_write(gpointer user_data);
