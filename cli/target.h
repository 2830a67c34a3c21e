/* DEST and PATH arguments. */
#pragma once
#include <glib.h>

/* FALSE, and told, unless DESTINATION is a bus name and PATH an object path of a machine. */
gboolean cbus_target_check(const char *destination, const char *path) G_GNUC_WARN_UNUSED_RESULT;
