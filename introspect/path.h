/* Where a remote object lives locally: /ie/bmcgee/CBus/<nkey>/<service, escaped>/<remote path>, both ways.
 *
 * <service> is escaped as sd_bus_path_encode and g_dbus_escape_object_path do. Only what encoding would have
 * produced decodes: decode∘encode is the identity and nothing else is accepted. */
#pragma once
#include "wire/bytes.h"
#include "wire/key.h"

#define CBUS_ROOT_PATH        "/ie/bmcgee/CBus"
#define CBUS_ROOT_PATH_LEN    15
#define CBUS_MACHINE_PATH_LEN (CBUS_ROOT_PATH_LEN + 1 + CBUS_NKEY_LENGTH)

typedef enum {
    CBUS_PLACE_OUTSIDE, /* not at or below the root */
    CBUS_PLACE_ROOT,    /* the root itself */
    CBUS_PLACE_MACHINE, /* <nkey> */
    CBUS_PLACE_SERVICE, /* <nkey>/<service>[/<path>]: path is "/" at the service node itself */
    CBUS_PLACE_UNKNOWN, /* below the root, but no such thing can be: bad nkey or service element */
} CbusPlaceKind;

typedef struct {
    CbusPlaceKind kind;
    CbusKey machine;
    CbusSpan nkey;            /* borrowed from the path */
    CbusSpan service_element; /* borrowed, escaped */
    char service[256];        /* decoded bus name, a valid one; NUL-terminated */
    CbusSpan path;            /* the remote path: borrowed; "/" (static) for the service node */
} CbusPlace;

void cbus_place_parse(CbusSpan path, CbusPlace *out);

/* Appends "/ie/bmcgee/CBus/<nkey>" or "…/<escaped service>" to OUT. */
void cbus_place_append_machine(GString *out, const char *nkey);
void cbus_place_append_service(GString *out, const char *nkey, const char *service);
void cbus_service_escape(GString *out, const char *service);
/* FALSE unless ELEMENT is exactly what escaping a valid bus name gives. */
gboolean cbus_service_unescape(CbusSpan element, char out[256]) G_GNUC_WARN_UNUSED_RESULT;
