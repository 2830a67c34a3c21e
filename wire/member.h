/* A method or property, and the interface that it belongs to when that was left out. */
#pragma once
#include <glib.h>

typedef enum {
    CBUS_MEMBER_METHOD,
    CBUS_MEMBER_PROPERTY,
} CbusMemberKind;

typedef enum {
    CBUS_MEMBER_ERROR_WORD,      /* neither MEMBER nor INTERFACE.MEMBER */
    CBUS_MEMBER_ERROR_NONE,      /* no machine that was asked shows it */
    CBUS_MEMBER_ERROR_NOBODY,    /* no machine is online to show it */
    CBUS_MEMBER_ERROR_AMBIGUOUS, /* several interfaces have it */
} CbusMemberError;
#define CBUS_MEMBER_ERROR (cbus_member_error_quark())
GQuark cbus_member_error_quark(void);

typedef struct {
    char *interface; /* NULL: left out */
    char *name;
    char *signature; /* of a method's arguments, once it was looked up */
} CbusMember;

void cbus_member_clear(CbusMember *member);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CbusMember, cbus_member_clear)

/* WORD: [INTERFACE.]MEMBER. */
gboolean cbus_member_parse(const char *word, CbusMember *out, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* XML: what an object says of itself. Fills in the interface, and a method's signature. */
gboolean cbus_member_match(const char *xml, CbusMemberKind kind, CbusMember *member,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
