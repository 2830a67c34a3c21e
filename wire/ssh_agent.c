/* The ssh-agent protocol (draft-miller-ssh-agent), as little of it as CBus needs: which keys, and sign.
 *
 *     message:      u32 length, then as many bytes, of which the first is the type
 *     list:         11                      → 12, u32 count, count × (s public blob, s comment)
 *     sign:         13, s blob, s data, u32 flags (0)  → 14, s (s "ssh-ed25519", s signature)
 *     any:          5: failure, without a word why
 *
 * Promise: a signature that comes out is the key's over the data that was asked for; it is checked here, so
 * that whatever answers at the socket can at worst refuse. Other answers are errors that name what may be the
 * matter. A locked agent says that it has no keys, and fails to sign, as one does whose owner declined a
 * confirmation (ssh-add -c): the messages name both.
 *
 * Trust: the answer's bytes are anything; they are of one message, whole, and bounded by who read them.
 *
 * Threads: any; pure. */
#include "wire/ssh_agent.h"

#include "wire/crypto.h"
#include "wire/ssh_wire.h"
#include <sodium.h>

#define FAILURE      5
#define ASK_LIST     11
#define ANSWER_LIST  12
#define ASK_SIGN     13
#define ANSWER_SIGN  14
#define SHORTEST_KEY 8 /* two empty strings */

G_DEFINE_QUARK(cbus_ssh_agent_error_quark, cbus_ssh_agent_error)

static GByteArray *
begin(guint8 type)
{
    GByteArray *request = g_byte_array_new();

    cbus_ssh_append_u32(request, 0);
    g_byte_array_append(request, &type, 1);
    return request;
}

static GByteArray *
end(GByteArray *request)
{
    cbus_put_be32(request->data, request->len - 4);
    return request;
}

GByteArray *
cbus_ssh_agent_list_request(void)
{
    return end(begin(ASK_LIST));
}

GByteArray *
cbus_ssh_agent_sign_request(const CbusKey *key, const guint8 *data, gsize len)
{
    GByteArray *request = begin(ASK_SIGN);
    guint8 blob[CBUS_SSH_BLOB_BYTES];

    cbus_ssh_blob_encode(key, blob);
    cbus_ssh_append_string(request, blob, sizeof blob);
    cbus_ssh_append_string(request, data, len);
    cbus_ssh_append_u32(request, 0);
    return end(request);
}

static gboolean
refuse_nonsense(GError **error)
{
    g_set_error_literal(error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_PROTOCOL,
                        "what answers makes no sense: is it an ssh-agent?");
    return FALSE;
}

/* Takes the type off ANSWER, which must be WANTED. */
static gboolean
open_answer(const guint8 *answer, gsize len, guint8 wanted, CbusSshReader *out, GError **error)
{
    if (len == 1 && answer[0] == FAILURE) {
        g_set_error_literal(
            error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_REFUSED,
            "it refuses: it is locked (ssh-add -X unlocks it), the key was taken out of it, or "
            "somebody declined to confirm");
        return FALSE;
    }
    if (len == 0 || answer[0] != wanted)
        return refuse_nonsense(error);
    *out = (CbusSshReader){answer + 1, len - 1};
    return TRUE;
}

GArray *
cbus_ssh_agent_read_list(const guint8 *answer, gsize len, guint *others, GError **error)
{
    g_autoptr(GArray) keys = g_array_new(FALSE, FALSE, sizeof(CbusKey));
    CbusSshReader reader;
    CbusSpan blob, comment;
    guint32 count;
    guint left_out = 0;
    CbusKey key;

    if (!open_answer(answer, len, ANSWER_LIST, &reader, error))
        return NULL;
    if (!cbus_ssh_take_u32(&reader, &count) || count > reader.left / SHORTEST_KEY) {
        (void)refuse_nonsense(error);
        return NULL;
    }
    for (guint32 i = 0; i < count; i++) {
        if (!cbus_ssh_take_string(&reader, &blob) || !cbus_ssh_take_string(&reader, &comment)) {
            (void)refuse_nonsense(error);
            return NULL;
        }
        if (cbus_ssh_blob_decode((const guint8 *)blob.text, blob.len, &key, NULL))
            g_array_append_val(keys, key);
        else
            left_out++;
    }
    *others = left_out;
    return g_steal_pointer(&keys);
}

gboolean
cbus_ssh_agent_read_signature(const guint8 *answer, gsize len, const CbusKey *key, const guint8 *data,
                              gsize data_len, guint8 signature[CBUS_SIGNATURE_BYTES], GError **error)
{
    CbusSshReader reader, inside;
    CbusSpan wrapped, type, bytes;

    if (!open_answer(answer, len, ANSWER_SIGN, &reader, error))
        return FALSE;
    if (!cbus_ssh_take_string(&reader, &wrapped))
        return refuse_nonsense(error);
    inside = (CbusSshReader){(const guint8 *)wrapped.text, wrapped.len};
    if (!cbus_ssh_take_string(&inside, &type) || !cbus_ssh_take_string(&inside, &bytes) ||
        !cbus_span_is(type, "ssh-ed25519") || bytes.len != CBUS_SIGNATURE_BYTES)
        return refuse_nonsense(error);
    cbus_crypto_init();
    if (crypto_sign_verify_detached((const guint8 *)bytes.text, data, data_len, key->bytes) != 0) {
        g_set_error_literal(error, CBUS_SSH_AGENT_ERROR, CBUS_SSH_AGENT_ERROR_PROTOCOL,
                            "its signature is not of the key that was asked for");
        return FALSE;
    }
    memcpy(signature, bytes.text, CBUS_SIGNATURE_BYTES);
    return TRUE;
}
