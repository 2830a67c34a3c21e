/* Fragments of a message or a tree, put together again.
 *
 * The first fragment of a D-Bus message holds its fixed header, which says how long the whole is; fragments
 * then have to add up to exactly that. A tree says no length; it ends with the record without
 * CBUS_RECORD_MORE, and must not pass what an honest agent answers.
 *
 * What a peer can make us hold: one message of at most 128 MiB and one tree of at most 32 MiB per channel, in
 * all 256 MiB a link and 512 MiB a process, counted before it is stored. Memory grows with what arrives, not
 * with what is promised. Over a limit the channel goes with LimitsExceeded; the link stays.
 *
 * Trusts the record's bounds (wire/record.h), nothing else. The usual record is whole and is handed on in
 * place, without a copy. Loop thread only.
 */
#include "link/link_private.h"

#include "wire/message.h"
#include "wire/tree.h"

#define TREE_MAX    (2 * (gsize)CBUS_TREE_MAX_BYTES)
#define LINK_MAX    ((gsize)256 * 1024 * 1024)
#define PROCESS_MAX ((gsize)512 * 1024 * 1024)
#define RESERVE     (64u * 1024)

void
cbus_assembly_clear(CbusLink *link, CbusAssembly *assembly)
{
    if (assembly->bytes == NULL)
        return;
    link->assembling -= assembly->bytes->len;
    link->budget->assembling -= assembly->bytes->len;
    assembly->whole = 0;
    g_clear_pointer(&assembly->bytes, g_byte_array_unref);
}

/* The length of the whole that begins with RECORD; 0: no message, or shorter than the record already is. */
static gsize
promised(const CbusRecord *record, const char **fault)
{
    if (record->type == CBUS_RECORD_TREE)
        return TREE_MAX;
    gssize whole = cbus_message_frame(record->payload, record->len, CBUS_MESSAGE_MAX, NULL);
    if (whole <= 0)
        *fault = "what should be a D-Bus message has no valid header";
    else if (record->flags & CBUS_RECORD_MORE ? (gsize)whole <= record->len : (gsize)whole != record->len)
        *fault = "the length in a D-Bus message is not the length of its record";
    else
        return (gsize)whole;
    return 0;
}

static gboolean
store(CbusLink *link, CbusAssembly *assembly, const CbusRecord *record)
{
    if (record->len > LINK_MAX - link->assembling || record->len > PROCESS_MAX - link->budget->assembling)
        return FALSE;
    link->assembling += record->len;
    link->budget->assembling += record->len;
    if (assembly->bytes == NULL)
        assembly->bytes = g_byte_array_sized_new((guint)MIN(assembly->whole, RESERVE));
    g_byte_array_append(assembly->bytes, record->payload, record->len);
    return TRUE;
}

CbusAssemblyResult
cbus_assembly_add(CbusLink *link, CbusAssembly *assembly, const CbusRecord *record, const guint8 **data,
                  gsize *len, const char **fault)
{
    gboolean more = (record->flags & CBUS_RECORD_MORE) != 0;

    if (assembly->bytes == NULL) {
        gsize whole = promised(record, fault);
        if (whole == 0)
            return CBUS_ASSEMBLY_INVALID;
        if (more) {
            assembly->whole = whole;
            return store(link, assembly, record) ? CBUS_ASSEMBLY_WAIT : CBUS_ASSEMBLY_LIMIT;
        }
        *data = record->payload;
        *len = record->len;
        return CBUS_ASSEMBLY_WHOLE;
    }
    gsize have = assembly->bytes->len;
    gboolean message = record->type == CBUS_RECORD_MESSAGE;
    if (record->len > assembly->whole - have) {
        *fault = "fragments are longer than the whole that they began";
        return message ? CBUS_ASSEMBLY_INVALID : CBUS_ASSEMBLY_LIMIT;
    }
    if (message && more == (have + record->len == assembly->whole)) {
        *fault = "fragments do not add up to the message that they began";
        return CBUS_ASSEMBLY_INVALID;
    }
    if (!store(link, assembly, record))
        return CBUS_ASSEMBLY_LIMIT;
    if (more)
        return CBUS_ASSEMBLY_WAIT;
    *data = assembly->bytes->data;
    *len = assembly->bytes->len;
    return CBUS_ASSEMBLY_WHOLE;
}
