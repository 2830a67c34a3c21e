/* Which signals of the machines are mirrored: `signals=` of the configuration. Any thread; pure. */
#pragma once
#include <glib.h>

/* TEXT: match rules (D-Bus specification, "Match Rules") with semicolons between; NULL or empty: every
 * signal. Returns what to ask each machine's bus for by AddMatch, NULL-terminated (transfer full); NULL with
 * a CBUS_MATCH_ERROR that quotes the rule. */
char **cbus_signal_rules_parse(const char *text, GError **error) G_GNUC_WARN_UNUSED_RESULT;
