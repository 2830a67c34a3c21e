/* Plain subjects: bus names, paths and members spelt as tokens.
 *
 * A path's elements and a member are tokens already. A bus name has dots, and unique names a colon, which
 * become '_'; this loses what they were, so that a name is never made from a subject: it is found among the
 * names that exist, by cbus_plain_is_spelling(). A subject is read from its end, where kind and member stand,
 * since an element of a path may be called "method".
 *
 * A reply subject is the client's choice, and what is sent there is sent with the agent's permissions: so it
 * may not be one where messages have effects that this agent knows of, nor one that is too long: a server
 * closes the connection over a line that is longer than it allows, and the client's own may allow more.
 *
 * Trust: whoever may publish wrote the subject. What passes here is a valid path and member, and a
 * token that may spell a bus name. Pure functions, any thread. */
#include "wire/plain_subject.h"

#define AGENT     "dbus.agent."
#define BROADCAST "dbus.broadcast."
#define SIGNALS   "dbus.signals."

char *
cbus_plain_requests(const CbusKey *agent)
{
    char nkey[CBUS_NKEY_LENGTH + 1];

    cbus_nkey_encode(agent, nkey);
    return g_strconcat(AGENT, nkey, ".>", NULL);
}

/* Takes the last token, and the dot before it, off REST; an absent span when there is none. */
static CbusSpan
take_last(CbusSpan *rest)
{
    const char *dot = rest->len > 0 ? memrchr(rest->text, '.', rest->len) : NULL;
    CbusSpan token = {NULL, 0};

    if (dot == NULL)
        return token;
    token = (CbusSpan){dot + 1, (gsize)(rest->text + rest->len - dot - 1)};
    rest->len = (gsize)(dot - rest->text);
    return token;
}

/* What stands behind the prefix; absent when it is another's. */
static CbusSpan
behind_prefix(const char *subject, const CbusKey *agent)
{
    char nkey[CBUS_NKEY_LENGTH + 1];
    g_autofree char *prefix = NULL;

    if (g_str_has_prefix(subject, BROADCAST))
        return cbus_span(subject + strlen(BROADCAST));
    cbus_nkey_encode(agent, nkey);
    prefix = g_strconcat(AGENT, nkey, ".", NULL);
    return cbus_span(g_str_has_prefix(subject, prefix) ? subject + strlen(prefix) : NULL);
}

/* What a bus name can be spelt as: else nothing would be found by it, and errors would quote any bytes. */
static gboolean
is_service(CbusSpan token)
{
    for (gsize i = 0; i < token.len; i++)
        if (!g_ascii_isalnum(token.text[i]) && token.text[i] != '_' && token.text[i] != '-')
            return FALSE;
    return token.len > 0 && token.len <= 255;
}

static gboolean
is_property(CbusSpan name)
{
    for (gsize i = 0; i < name.len; i++)
        if (!g_ascii_isgraph(name.text[i]))
            return FALSE;
    return name.len > 0 && name.len <= 255;
}

/* The elements, with dots between, as a path. (transfer full) */
static char *
path_of(CbusSpan elements)
{
    char *path = g_strdup_printf("/%.*s", (int)elements.len, elements.text);

    return g_strdelimit(path, ".", '/');
}

gboolean
cbus_plain_request_parse(const char *subject, const CbusKey *agent, CbusPlainRequest *out, const char **why)
{
    CbusPlainRequest request = {0};
    CbusSpan rest = behind_prefix(subject, agent), kind;
    const char *dot;

    request.member = take_last(&rest);
    kind = take_last(&rest);
    request.is_property = cbus_span_is(kind, "prop");
    if (kind.text == NULL || (!request.is_property && !cbus_span_is(kind, "method"))) {
        *why = "the subject ends neither in .method.MEMBER nor in .prop.NAME";
        return FALSE;
    }
    if (!(request.is_property ? is_property(request.member) : cbus_is_member(request.member))) {
        *why = "the subject's last token is no name of a member";
        return FALSE;
    }
    dot = rest.len > 0 ? memchr(rest.text, '.', rest.len) : NULL;
    request.service = (CbusSpan){rest.text, dot != NULL ? (gsize)(dot - rest.text) : rest.len};
    if (dot != NULL)
        request.path = path_of((CbusSpan){dot + 1, rest.len - request.service.len - 1});
    else
        request.path = g_strdup("/");
    if (!is_service(request.service) || !cbus_is_object_path(cbus_span(request.path)) ||
        (dot != NULL && request.path[1] == '\0')) {
        cbus_plain_request_clear(&request);
        *why = "the subject has no bus name, or no object path behind it";
        return FALSE;
    }
    *out = request;
    return TRUE;
}

void
cbus_plain_request_clear(CbusPlainRequest *request)
{
    g_clear_pointer(&request->path, g_free);
}

gboolean
cbus_plain_may_answer(const char *reply)
{
    static const char *const reserved[] = {"dbus.", "cbus.", "$"};

    for (guint i = 0; i < G_N_ELEMENTS(reserved); i++)
        if (g_str_has_prefix(reply, reserved[i]))
            return FALSE;
    return strnlen(reply, CBUS_PLAIN_SUBJECT_MAX + 1) <= CBUS_PLAIN_SUBJECT_MAX;
}

static char
spelling(char c)
{
    return c == '.' || c == ':' ? '_' : c;
}

gboolean
cbus_plain_is_spelling(CbusSpan service, CbusSpan name)
{
    if (service.len != name.len)
        return FALSE;
    for (gsize i = 0; i < name.len; i++)
        if (service.text[i] != spelling(name.text[i]))
            return FALSE;
    return TRUE;
}

char *
cbus_plain_signal(const CbusKey *agent, CbusSpan sender, CbusSpan path)
{
    char nkey[CBUS_NKEY_LENGTH + 1], *subject, *at;
    gsize before = strlen(SIGNALS) + CBUS_NKEY_LENGTH + 1;

    if (sender.len == 0 || before + sender.len + path.len > CBUS_PLAIN_SUBJECT_MAX)
        return NULL;
    cbus_nkey_encode(agent, nkey);
    subject = g_strdup_printf(SIGNALS "%s.%.*s%.*s", nkey, (int)sender.len, sender.text,
                              path.len > 1 ? (int)path.len : 0, path.text);
    at = subject + before;
    for (gsize i = 0; i < sender.len; i++)
        at[i] = spelling(at[i]);
    g_strdelimit(at + sender.len, "/", '.');
    return subject;
}
