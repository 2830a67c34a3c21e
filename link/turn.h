/* The end of a loop turn: what gathered while reading is sent once.
 *
 * One GSource of the highest priority whose prepare runs the deferred functions: first the phase PACK (links
 * seal, buses write), then the phase WRITE (the NATS socket). Nothing is ever deferred past the next poll.
 * Loop thread only. */
#pragma once
#include <glib.h>

typedef enum {
    CBUS_TURN_PACK,
    CBUS_TURN_WRITE,
    CBUS_TURN_PHASES,
} CbusTurnPhase;

typedef struct _CbusTurn CbusTurn;

/* Embedded in whatever defers; zero-initialised. Must be cancelled before its memory goes. */
typedef struct _CbusDeferred CbusDeferred;
struct _CbusDeferred {
    void (*func)(gpointer user_data);
    gpointer user_data;
    CbusDeferred *next, *prev; /* the turn's; NULL when not queued */
};

CbusTurn *cbus_turn_new(GMainContext *context);
void cbus_turn_free(CbusTurn *turn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusTurn, cbus_turn_free)
/* Queues DEFERRED once (again is a no-op). A function may defer others; they run in the same turn. */
void cbus_turn_defer(CbusTurn *turn, CbusTurnPhase phase, CbusDeferred *deferred);
void cbus_turn_cancel(CbusDeferred *deferred);
/* The poller's: something was reported; all is dealt with, so what is deferred runs; before the next wait,
 * while many messages are under way, a sleep of less than a millisecond (rest.h). */
void cbus_turn_begin(CbusTurn *turn);
void cbus_turn_end(CbusTurn *turn);
void cbus_turn_rest(const CbusTurn *turn);
/* Counts a message that came in the turn that runs. */
void cbus_turn_count(CbusTurn *turn);
