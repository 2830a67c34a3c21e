/* What every part of the I/O thread shares. */
#pragma once
#include "link/poller.h"
#include "link/turn.h"

typedef struct {
    GMainContext *context;
    CbusTurn *turn;
    CbusPoller *poller;
} CbusLoop;
