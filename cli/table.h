/* Text for a terminal: remote strings made harmless, and columns. */
#pragma once
#include <glib.h>

/* TEXT with everything that a terminal might obey (control, format and unassigned characters, bytes that are
 * no UTF-8, the backslash) written as \xNN, \uNNNN or \UNNNNNNNN, and cut after MAX characters (0: never).
 * (transfer full) */
char *cbus_text_escape(const char *text, guint max);

typedef struct _CbusTable CbusTable;
CbusTable *cbus_table_new(const char *const *headings); /* NULL-terminated; borrowed for its life */
void cbus_table_free(CbusTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusTable, cbus_table_free)
/* The next cell, row by row; escaped and cut here. */
void cbus_table_add(CbusTable *table, const char *text);
/* All rows below the headings, in columns that are as wide as they must be. (transfer full) */
char *cbus_table_render(const CbusTable *table);
