/* Bodies that tell of many names or properties at once, without those that a policy hides. */
#pragma once
#include "wire/policy_decide.h"

typedef enum {
    CBUS_SHAPE_NONE,
    CBUS_SHAPE_NAMES,      /* as: bus names */
    CBUS_SHAPE_PROPERTIES, /* a{sv}: GetAll's answer */
    CBUS_SHAPE_OBJECTS,    /* a{oa{sa{sv}}}: GetManagedObjects's answer */
    CBUS_SHAPE_ADDED,      /* oa{sa{sv}}: InterfacesAdded */
    CBUS_SHAPE_REMOVED,    /* oas: InterfacesRemoved */
    CBUS_SHAPE_CHANGED,    /* sa{sv}as: PropertiesChanged */
} CbusShape;

typedef struct {
    const CbusJudge *judge;
    CbusSpan name;            /* whose objects: the sender */
    CbusSpan path, interface; /* of CBUS_SHAPE_PROPERTIES: what GetAll was about */
} CbusReader;

/* The shape of a signal; CBUS_SHAPE_NONE when it is an ordinary one. */
CbusShape cbus_signal_shape(const CbusMessage *message);
/* Appends MESSAGE's body (checked) without what READER may not see to OUT, which is empty. As long as the
 * body itself: nothing was left out. FALSE when nothing remains that says anything, or the signature is
 * another than SHAPE's; OUT is then to be thrown away. */
gboolean cbus_policy_body(const CbusReader *reader, const CbusMessage *message, CbusShape shape,
                          GByteArray *out) G_GNUC_WARN_UNUSED_RESULT;
