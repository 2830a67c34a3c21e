/* A context of the `nats` command: where the servers are and how to log in, in one file of JSON.
 *
 * The file is <config dir>/nats/context/NAME.json of the user who starts the daemon; `nats context save` and
 * an editor write it. It is read once, at start, and in an agent before privileges go, so that root's own
 * contexts can be used; the files that it names (creds, nkey, cert, key, ca) are read at each attempt to
 * connect, by the process that connects.
 *
 * Understood: url, user, password, token, creds, nkey (a seed file), cert, key, ca; "~/" in front of a file
 * is the home directory, "" is unset. Other keys are of no meaning for a client like this one (JetStream,
 * colours) and are ignored, except those that would change where or as whom it connects: these are refused by
 * name, because a login that silently is another one is worse than none.
 *
 * Trust: the file is the operator's. It is bounded all the same: 16 KiB, which bounds the parser's recursion,
 * too. It may hold a password: errors quote keys, never values. Not for the loop: blocks on the file. */
#include "link/nats_context.h"
#include "link/read_bounded.h"
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <sodium.h>
#include <string.h>

#define CONTEXT_MAX (16 * 1024)
#define NAME_CHARS  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

struct _CbusNatsContext {
    char *url, *user, *password, *token;
    char *creds, *nkey, *cert, *key, *ca; /* files */
};

static const struct {
    const char *key;
    gsize offset;
    gboolean is_file;
} served[] = {
    {"url", G_STRUCT_OFFSET(CbusNatsContext, url), FALSE},
    {"user", G_STRUCT_OFFSET(CbusNatsContext, user), FALSE},
    {"password", G_STRUCT_OFFSET(CbusNatsContext, password), FALSE},
    {"token", G_STRUCT_OFFSET(CbusNatsContext, token), FALSE},
    {"creds", G_STRUCT_OFFSET(CbusNatsContext, creds), TRUE},
    {"nkey", G_STRUCT_OFFSET(CbusNatsContext, nkey), TRUE},
    {"cert", G_STRUCT_OFFSET(CbusNatsContext, cert), TRUE},
    {"key", G_STRUCT_OFFSET(CbusNatsContext, key), TRUE},
    {"ca", G_STRUCT_OFFSET(CbusNatsContext, ca), TRUE},
};

/* Each with what to do instead. */
static const char *const refused[][2] = {
    {"nsc", "name the creds file of that user"},
    {"user_jwt", "put the JWT and the seed into a creds file"},
    {"user_seed", "put the JWT and the seed into a creds file"},
    {"socks_proxy", "connect without one, or over a leaf node"},
    {"tls_first", "let the server speak first"},
    {"windows_cert_store", "name cert and key files"},
};

void
cbus_nats_context_free(CbusNatsContext *context)
{
    if (context == NULL)
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(served); i++) {
        char *value = G_STRUCT_MEMBER(char *, context, served[i].offset);

        if (value != NULL)
            sodium_memzero(value, strlen(value));
        g_free(value);
    }
    g_free(context);
}

static gboolean
fail(const char *file, const char *key, const char *why, GError **error)
{
    g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS, "NATS context %s: \"%s\" %s", file, key,
                why);
    return FALSE;
}

/* Unset is how the `nats` command writes it when there is nothing to say. */
static gboolean
is_set(JsonNode *node)
{
    GType type = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_NONE;

    if (type == G_TYPE_STRING)
        return *json_node_get_string(node) != '\0';
    return type == G_TYPE_BOOLEAN ? json_node_get_boolean(node) : !JSON_NODE_HOLDS_NULL(node);
}

static gboolean
take(CbusNatsContext *context, JsonObject *object, gsize i, const char *file, GError **error)
{
    JsonNode *node = json_object_get_member(object, served[i].key);
    const char *text;

    if (node == NULL || !is_set(node))
        return TRUE;
    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING)
        return fail(file, served[i].key, "is no string", error);
    text = json_node_get_string(node);
    G_STRUCT_MEMBER(char *, context, served[i].offset) =
        served[i].is_file && g_str_has_prefix(text, "~/") ? g_build_filename(g_get_home_dir(), text + 2, NULL)
                                                          : g_strdup(text);
    return TRUE;
}

/* One login is what the operator meant; which of two would count nobody could tell. */
static gboolean
check_logins(const CbusNatsContext *context, const char *file, GError **error)
{
    guint logins = (context->user != NULL) + (context->token != NULL) + (context->creds != NULL) +
                   (context->nkey != NULL);

    if (context->password != NULL && context->user == NULL)
        return fail(file, "password", "needs \"user\"", error);
    if ((context->cert == NULL) != (context->key == NULL))
        return fail(file, "cert", "and \"key\" go together", error);
    if (logins > 1)
        return fail(file, context->creds != NULL ? "creds" : "user",
                    "is one login of several: keep one of user, token, creds and nkey", error);
    return TRUE;
}

CbusNatsContext *
cbus_nats_context_parse(const char *text, gsize len, const char *file, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(CbusNatsContext) context = g_new0(CbusNatsContext, 1);
    JsonNode *root;
    JsonObject *object;

    if (len > CONTEXT_MAX || !json_parser_load_from_data(parser, text, (gssize)len, NULL) ||
        (root = json_parser_get_root(parser)) == NULL || !JSON_NODE_HOLDS_OBJECT(root)) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "NATS context %s is no JSON object of at most %d bytes: see `nats context validate`",
                    file, CONTEXT_MAX);
        return NULL;
    }
    object = json_node_get_object(root);
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        JsonNode *node = json_object_get_member(object, refused[i][0]);
        g_autofree char *why = g_strdup_printf("can not be served: %s", refused[i][1]);

        if (node != NULL && is_set(node) && !fail(file, refused[i][0], why, error))
            return NULL;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(served); i++) {
        if (!take(context, object, i, file, error))
            return NULL;
    }
    return check_logins(context, file, error) ? g_steal_pointer(&context) : NULL;
}

CbusNatsContext *
cbus_nats_context_load(const char *name, GError **error)
{
    g_autofree char *base = g_strconcat(name, ".json", NULL);
    g_autofree char *file = g_build_filename(g_get_user_config_dir(), "nats", "context", base, NULL);
    g_autofree char *text = g_malloc(CONTEXT_MAX + 1);
    CbusNatsContext *context = NULL;
    gssize len;
    int fd;

    if (*name == '\0' || *name == '.' || strspn(name, NAME_CHARS) != strlen(name)) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "'%s' is no name of a NATS context: see `nats context ls`", name);
        return NULL;
    }
    fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    len = fd >= 0 ? cbus_read_bounded(fd, text, CONTEXT_MAX + 1) : -1;
    if (len >= 0)
        context = cbus_nats_context_parse(text, (gsize)len, file, error);
    else
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "NATS context %s: %s: see `nats context ls`", file, g_strerror(errno));
    if (fd >= 0)
        close(fd);
    sodium_memzero(text, CONTEXT_MAX + 1);
    return context;
}

void
cbus_nats_context_apply(const CbusNatsContext *context, CbusNatsOptions *options)
{
    if (context->url != NULL)
        options->urls = context->url;
    options->user = context->user;
    options->password = context->password;
    options->token = context->token;
    options->creds_file = context->creds;
    options->nkey_file = context->nkey;
    options->cert_file = context->cert;
    options->cert_key_file = context->key;
    options->ca_file = context->ca;
}

gboolean
cbus_nats_options_from_settings(const CbusSettings *settings, CbusNatsContext **context,
                                CbusNatsOptions *options, GError **error)
{
    static const char *const others[] = {"creds", "jwt", "ca", "cert", "cert-key"};
    const char *name = cbus_settings_get(settings, "context");
    g_autoptr(CbusNatsContext) loaded = NULL;

    for (gsize i = 0; name != NULL && i < G_N_ELEMENTS(others); i++) {
        if (cbus_settings_get(settings, others[i]) == NULL)
            continue;
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "context and %s exclude each other: a context holds the whole login", others[i]);
        return FALSE;
    }
    if (name != NULL && (loaded = cbus_nats_context_load(name, error)) == NULL)
        return FALSE;
    options->urls = cbus_settings_get(settings, "nats");
    options->creds_file = cbus_settings_get(settings, "creds");
    options->jwt_file = cbus_settings_get(settings, "jwt");
    options->ca_file = cbus_settings_get(settings, "ca");
    options->cert_file = cbus_settings_get(settings, "cert");
    options->cert_key_file = cbus_settings_get(settings, "cert-key");
    if (loaded != NULL)
        cbus_nats_context_apply(loaded, options);
    *context = g_steal_pointer(&loaded);
    return TRUE;
}
