/* The rows of one answer of ie.bmcgee.CBus1.Cluster: one a machine. Loop thread only. */
#pragma once
#include "wire/message.h"
#include <gio/gio.h>

#define CBUS_CLUSTER_BYTES (48 * 1024 * 1024) /* of replies in one answer */

typedef enum {
    CBUS_CLUSTER_GET,    /* a(sbvss): the value of a reply to Properties.Get */
    CBUS_CLUSTER_INVOKE, /* a(sbavss): each value of a reply */
} CbusClusterKind;

typedef struct _CbusClusterRows CbusClusterRows;

CbusClusterRows *cbus_cluster_rows_new(CbusClusterKind kind);
void cbus_cluster_rows_free(CbusClusterRows *rows);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusClusterRows, cbus_cluster_rows_free)

/* Adds a row for a machine, in the answer's order. Returns its index. */
guint cbus_cluster_rows_add(CbusClusterRows *rows, const char *nkey);
/* Each fills row I, once. */
void cbus_cluster_rows_fail(CbusClusterRows *rows, guint i, const char *error_name, const char *message);
/* ANSWER: a return or an error, checked, with its BYTES. What can not be shown becomes an error. */
void cbus_cluster_rows_take(CbusClusterRows *rows, guint i, const CbusMessage *answer, const guint8 *bytes);
gboolean cbus_cluster_rows_filled(const CbusClusterRows *rows, guint i);
/* Bytes of replies and error messages that are kept. */
gsize cbus_cluster_rows_bytes(const CbusClusterRows *rows);
/* The answer, (a(sbvss)) or (a(sbavss)); every row must be filled. Floating. */
GVariant *cbus_cluster_rows_end(CbusClusterRows *rows);
