/* known_machines: which name an operator has pinned to which identity (design, "Who may do what").
 *
 * Pure: text in, entries out. A line is `NKEY NAME [TAG,TAG…]`; '#' begins a comment. */
#pragma once
#include "wire/key.h"

#define CBUS_MACHINE_NAME_MAX      64
#define CBUS_MACHINE_TAGS_MAX      16
#define CBUS_KNOWN_MACHINES_MAX    4096          /* lines that may pin */
#define CBUS_KNOWN_MACHINES_LENGTH (1024 * 1024) /* bytes of a file */

typedef enum {
    CBUS_KNOWN_ERROR_NAME,      /* not a machine's name, or one that could be an NKey prefix */
    CBUS_KNOWN_ERROR_KEY,       /* not a public NKey */
    CBUS_KNOWN_ERROR_LINE,      /* not two or three words */
    CBUS_KNOWN_ERROR_TAG,       /* not a tag, or too many */
    CBUS_KNOWN_ERROR_DUPLICATE, /* name or key stand on an earlier line */
    CBUS_KNOWN_ERROR_LIMIT,     /* too many lines or bytes */
} CbusKnownError;
#define CBUS_KNOWN_ERROR (cbus_known_error_quark())
GQuark cbus_known_error_quark(void);

typedef struct {
    CbusKey key;
    char name[CBUS_MACHINE_NAME_MAX + 1];
    char **tags; /* NULL-terminated; NULL for none */
    guint line;  /* counted from 1 */
} CbusKnownMachine;

typedef struct _CbusKnownMachines CbusKnownMachines;

/* Told of each line that is refused; ERROR's message names the line. The line pins nothing, the others
 * stand. */
typedef void (*CbusKnownFault)(guint line, const GError *error, gpointer user_data);

/* FAULT may be NULL. Never NULL: what is wrong is told to FAULT. */
CbusKnownMachines *cbus_known_machines_parse(const char *text, gsize len, CbusKnownFault fault,
                                             gpointer user_data) G_GNUC_WARN_UNUSED_RESULT;
void cbus_known_machines_free(CbusKnownMachines *known);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusKnownMachines, cbus_known_machines_free)

guint cbus_known_machines_size(const CbusKnownMachines *known);
const CbusKnownMachine *cbus_known_machines_get(const CbusKnownMachines *known, guint i); /* in file order */
/* Borrowed, NULL when there is none. */
const CbusKnownMachine *cbus_known_machines_by_key(const CbusKnownMachines *known, const CbusKey *key);
const CbusKnownMachine *cbus_known_machines_by_name(const CbusKnownMachines *known, const char *name);
/* The pinned machine whose name NAME could be taken for: case, the separators ._- and characters that look
 * alike (1 l i, 0 o, w vv, m rn) do not tell names apart. */
const CbusKnownMachine *cbus_known_machines_resembling(const CbusKnownMachines *known, const char *name);

/* [A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?, and not "U" with four or more base32 characters [A-Z2-7] to
 * its end, since MACHINE arguments take such a word for the beginning of an NKey. */
gboolean cbus_machine_name_check(const char *name, gsize len, GError **error) G_GNUC_WARN_UNUSED_RESULT;
