/* Guarded memory for many small secrets: pages that they share. Any thread. */
#pragma once
#include <glib.h>

#define CBUS_VAULT_BYTES 184 /* of one place */

/* A place of CBUS_VAULT_BYTES zero bytes, aligned for any type, in memory that is locked, left out of core
 * dumps and between guard pages. Give it back with cbus_vault_give(). Never NULL. */
gpointer cbus_vault_take(void) G_GNUC_WARN_UNUSED_RESULT;
void cbus_vault_give(gpointer place); /* wipes it first; NULL is no place */
/* Places taken, and pages that they lie in. */
void cbus_vault_count(gsize *places, gsize *pages);
