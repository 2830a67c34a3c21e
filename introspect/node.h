/* Introspection XML: remote text parsed with limits, validated, rebuilt. Never relayed as it came. */
#pragma once
#include "wire/bytes.h"
#include <gio/gio.h>

#define CBUS_NODE_MAX_BYTES      (1024 * 1024)
#define CBUS_NODE_MAX_INTERFACES 256
#define CBUS_NODE_MAX_MEMBERS    4096
#define CBUS_NODE_MAX_CHILDREN   20000
#define CBUS_NODE_MAX_DEPTH      8

typedef struct _CbusNode CbusNode; /* refcounted, immutable once parsed */
CbusNode *cbus_node_ref(CbusNode *node);
void cbus_node_unref(CbusNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNode, cbus_node_unref)

/* Parses remote XML (hostile). Names, signatures, access and direction are checked; what is invalid refuses
 * the document; unknown elements and annotations with odd names are dropped; child nodes keep their relative
 * names only. */
CbusNode *cbus_node_parse(const char *xml, gsize len, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The interfaces, rebuilt as XML text without <node>: the part that a thousand machines share. Borrowed,
 * cached in the node. */
const char *cbus_node_interfaces_xml(CbusNode *node, gsize *len);
/* Names of child nodes, NULL-terminated, sorted, borrowed. */
const char *const *cbus_node_children(const CbusNode *node);
gboolean cbus_node_has_interface(const CbusNode *node, const char *name);

/* A whole document for a local object: INTERFACES (may be NULL) and CHILDREN (NULL-terminated, may be NULL).
 * (transfer full) */
char *cbus_node_document(CbusNode *interfaces, const char *extra_interfaces_xml, const char *const *children);
