/* The answer of TREE: every object of one service with its introspection XML, each distinct XML once.
 *
 * After the u32 id: u8 status. 0: an error follows: s error name, s message. 1: u8 complete (0: cut at a
 * limit), u32 number of documents, each s; u32 number of objects, each s path, u32 document index. Paths are
 * valid object paths in ascending order. */
#pragma once
#include "wire/bytes.h"

#define CBUS_TREE_MAX_OBJECTS  20000
#define CBUS_TREE_MAX_DOCUMENT (1024 * 1024)
#define CBUS_TREE_MAX_BYTES    (16 * 1024 * 1024)

typedef struct _CbusTree CbusTree;
CbusTree *cbus_tree_new(void);
void cbus_tree_free(CbusTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusTree, cbus_tree_free)

/* Adds an object; equal XML is stored once. FALSE (and marks the tree cut) when a limit above is reached, or
 * when the path is no valid object path. Adding a path again replaces its XML. */
gboolean cbus_tree_add(CbusTree *tree, const char *path, const char *xml, gsize xml_len);
void cbus_tree_set_cut(CbusTree *tree);
gboolean cbus_tree_is_cut(const CbusTree *tree);
guint cbus_tree_size(const CbusTree *tree); /* objects */
/* The XML of PATH, borrowed, or NULL. */
const char *cbus_tree_lookup(const CbusTree *tree, const char *path, gsize *len);
typedef void (*CbusTreeFunc)(const char *path, const char *xml, gsize xml_len, gpointer user_data);
void cbus_tree_foreach(const CbusTree *tree, CbusTreeFunc func,
                       gpointer user_data); /* in ascending path order */

/* Appends the answer (from the id on). */
void cbus_tree_write(const CbusTree *tree, guint32 id, GByteArray *out);
void cbus_tree_write_error(guint32 id, const char *error_name, const char *message, GByteArray *out);
/* Reads an answer. Returns NULL with ERROR_NAME and MESSAGE set when it carries an error, NULL with both NULL
 * when the bytes are no answer. ID is set whenever it could be read. */
CbusTree *cbus_tree_read(const guint8 *data, gsize len, guint32 *id, char **error_name, char **message);
