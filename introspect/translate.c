/* Object paths in bodies, from remote to mirror and back (design, "The mirror, precisely").
 *
 * What is promised: type o, wherever it stands, and only type o. Towards the local side every path but "/"
 * (the "no object" idiom) gets the machine and the service that was called or emits, so that an answer can be
 * called and the keys of GetManagedObjects are objects. Towards the remote side a path of the same machine
 * loses both; a path that can only be meant for another machine, or for no remote object, refuses the
 * message, since it would name something else there; any other path stays as it is, so that a client may also
 * pass paths as the remote knows them. What went to the local side comes back as the same bytes.
 *
 * Whether an element means a machine is judged by its form (56 characters, U, A-Z and 2-7): a mistyped NKey
 * is answered with a clear error instead of being handed to the remote.
 *
 * The walk, its checks and its bounds are wire/body.c's; this file decides about one path at a time, without
 * allocation.
 *
 * What is trusted: the prefix and the machine of the translation, which are ours. Pure, any thread. */
#include "introspect/translate.h"
#include "introspect/path.h"
#include "wire/body.h"

static gboolean
map_to_local(CbusSpan path, CbusSpan *head, CbusSpan *tail, gconstpointer data, GError **error)
{
    const CbusTranslation *translation = data;
    if (path.len > 1)
        *head = translation->prefix;
    return TRUE;
}

/* TRUE if PATH is BASE or below it; REST is what follows BASE. */
static gboolean
is_below(CbusSpan path, CbusSpan base, CbusSpan *rest)
{
    if (path.len < base.len || memcmp(path.text, base.text, base.len) != 0)
        return FALSE;
    *rest = (CbusSpan){path.text + base.len, path.len - base.len};
    return rest->len == 0 || rest->text[0] == '/';
}

static gboolean
begins_with_nkey(CbusSpan rest)
{
    if (rest.len < 1 + CBUS_NKEY_LENGTH || rest.text[1] != 'U')
        return FALSE;
    for (gsize i = 1; i <= CBUS_NKEY_LENGTH; i++)
        if (!g_ascii_isupper(rest.text[i]) && !(rest.text[i] >= '2' && rest.text[i] <= '7'))
            return FALSE;
    return rest.len == 1 + CBUS_NKEY_LENGTH || rest.text[1 + CBUS_NKEY_LENGTH] == '/';
}

static gboolean
refuse(CbusSpan path, const char *why, GError **error)
{
    g_set_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_PATH,
                "the object path %.*s%s in the arguments %s: pass an object of the machine that is called",
                (int)MIN(path.len, 256), path.text, path.len > 256 ? "…" : "", why);
    return FALSE;
}

static gboolean
map_to_remote(CbusSpan path, CbusSpan *head, CbusSpan *tail, gconstpointer data, GError **error)
{
    const CbusTranslation *translation = data;
    CbusSpan rest;
    if (!is_below(path, translation->machine, &rest)) {
        if (is_below(path, CBUS_SPAN_LITERAL(CBUS_ROOT_PATH), &rest) && begins_with_nkey(rest))
            return refuse(path, "is of another machine", error);
        return TRUE;
    }
    if (rest.len == 0)
        return refuse(path, "is the machine itself, which is no object of its bus", error);
    const char *slash = memchr(rest.text + 1, '/', rest.len - 1);
    gsize len = slash != NULL ? (gsize)(slash - rest.text) : rest.len;
    char service[256];
    if (!cbus_service_unescape((CbusSpan){rest.text + 1, len - 1}, service))
        return refuse(path, "names no possible service", error);
    *tail = slash != NULL ? (CbusSpan){slash, rest.len - len} : CBUS_SPAN_LITERAL("/");
    return TRUE;
}

gboolean
cbus_translate_body(GByteArray *out, const guint8 *body, gsize len, guint8 endian, CbusSpan signature,
                    const CbusTranslation *translation, gsize limit, GError **error)
{
    CbusPathFunc map = translation->direction == CBUS_TO_LOCAL ? map_to_local : map_to_remote;
    return cbus_body_rewrite(out, body, len, endian, signature, map, translation, limit, error);
}
