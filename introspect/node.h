/* Introspection XML: remote text parsed with limits, validated, rebuilt. Never relayed as it came. */
#pragma once
#include "wire/bytes.h"
#include <gio/gio.h>

#define CBUS_NODE_MAX_BYTES      (1024 * 1024) /* of remote XML */
#define CBUS_NODE_MAX_REBUILT    (2 * CBUS_NODE_MAX_BYTES)
#define CBUS_NODE_MAX_INTERFACES 256
#define CBUS_NODE_MAX_MEMBERS    4096 /* methods, signals and properties of all interfaces together */
#define CBUS_NODE_MAX_CHILDREN   20000
#define CBUS_NODE_MAX_DEPTH      32 /* elements inside each other, dropped ones too */
#define CBUS_NODE_MAX_ANNOTATION 1024

typedef enum {
    CBUS_NODE_ERROR_INVALID, /* no XML, or no introspection data */
    CBUS_NODE_ERROR_LIMIT,   /* over one of the limits above */
} CbusNodeError;

#define CBUS_NODE_ERROR (cbus_node_error_quark())
GQuark cbus_node_error_quark(void);

typedef struct _CbusNode CbusNode; /* refcounted, immutable once parsed; one thread */
CbusNode *cbus_node_ref(CbusNode *node);
void cbus_node_unref(CbusNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNode, cbus_node_unref)

/* Parses remote XML (hostile). Names, signatures, access and direction are checked; what is invalid refuses
 * the document (CBUS_NODE_ERROR). Dropped without a word: unknown elements, annotations with odd names or
 * values, an interface that was there before, children whose name is no relative path. Child nodes keep the
 * first element of their names only. Errors name the line and never hold more than a short, escaped piece of
 * the document. (transfer full) */
CbusNode *cbus_node_parse(const char *xml, gsize len, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The interfaces, rebuilt as XML text without <node>: the part that a thousand machines share. Borrowed,
 * cached in the node. */
const char *cbus_node_interfaces_xml(CbusNode *node, gsize *len);
/* Names of child nodes, NULL-terminated, sorted, borrowed. */
const char *const *cbus_node_children(const CbusNode *node);
gboolean cbus_node_has_interface(const CbusNode *node, const char *name);

/* A whole document for a local object: INTERFACES (may be NULL) and CHILDREN (NULL-terminated, may be NULL).
 * EXTRA_INTERFACES_XML (may be NULL) is our own text and goes in as it is. (transfer full) */
char *cbus_node_document(CbusNode *interfaces, const char *extra_interfaces_xml, const char *const *children);

/* What the node occupies, in bytes. */
gsize cbus_node_cost(const CbusNode *node);
/* Calls GONE once, when the last reference goes and before the memory does. One watcher a node; NULL ends
 * the watch. */
typedef void (*CbusNodeGone)(CbusNode *node, gpointer user_data);
void cbus_node_watch(CbusNode *node, CbusNodeGone gone, gpointer user_data);
