/* The child nodes that an introspection document names: all that walking a service needs of it. */
#pragma once
#include "wire/bytes.h"

/* NAME: one valid path element, borrowed. */
typedef void (*CbusChildFunc)(const char *name, gpointer user_data);

/* Calls FUNC for each <node name="…"/> directly below the document's root node; names that are no path
 * element are skipped. FALSE when the document is malformed; some names may have been given by then.
 * Pure. */
gboolean cbus_children_parse(const char *xml, gsize len, CbusChildFunc func, gpointer user_data);
