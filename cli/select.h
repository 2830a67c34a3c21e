/* Which machine a MACHINE argument means. */
#pragma once
#include "cli/roster.h"

typedef enum {
    CBUS_SELECT_ERROR_NONE,      /* no machine is meant */
    CBUS_SELECT_ERROR_AMBIGUOUS, /* several could be */
} CbusSelectError;
#define CBUS_SELECT_ERROR (cbus_select_error_quark())
GQuark cbus_select_error_quark(void);

/* An exact NKey, else an exact pinned name, else the beginning (5 characters or more) of one NKey alone.
 * Claimed names select nothing. Borrowed from ROSTER. */
const CbusRosterMachine *cbus_select_machine(const GPtrArray *roster, const char *word,
                                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* All that LIST means: words with commas between them, each as above, a shell glob over pinned names, or
 * @TAG. NULL: the pinned machines, and the others if UNPINNED or if none is pinned. Each machine once, in the
 * order of the words. Borrowed from ROSTER. (transfer container) */
GPtrArray *cbus_select_machines(const GPtrArray *roster, const char *list, gboolean unpinned,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The directory whose entry <nkey>/bus is MACHINE's portal; NULL when its BusAddress is none. (transfer full)
 */
char *cbus_select_portals(const CbusRosterMachine *machine);
