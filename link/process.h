/* What both daemons ask of the system for themselves, once, before they have threads. */
#pragma once
#include <glib.h>

/* ARENAS: how many of the C library's, one for each thread that allocates much. */
void cbus_process_tune(guint arenas);
