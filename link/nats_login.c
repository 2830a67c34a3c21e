/* Logging in to NATS: from the operator's options to the library's.
 *
 * The kinds of login, in the order in which they exclude each other: a .creds file (the user's JWT and seed,
 * read by the library); a JWT file together with a signer; an NKey with a signer; what the URL holds
 * (user:password@ or token@, which the library prefers over an NKey); nothing. Files are read anew at every
 * attempt, so a renewed JWT or certificate counts from the next connection on.
 *
 * The signer is the identity's, and may be another process: it is called on the worker thread, may block, and
 * is guarded by a lock of its own, so that cbus_nats_login_disarm() can promise that it is neither running
 * nor ever called again. A server that asks for no signature sends no nonce; then nothing is signed, and the
 * signature field holds zeros that such a server does not look at. Which nonces may be signed at all is the
 * signer's check (design, "Identity and links"), because it holds the key.
 *
 * Trust: the options are the operator's; the nonce is the broker's and hostile. Errors name URLs without
 * their credentials. All but the signer's lock is constant after cbus_nats_login_new(). */
#include "link/nats_login.h"
#include <gio/gio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT 4222
#define JWT_MAX      (64 * 1024)
#define JWT_BEGIN    "-----BEGIN NATS USER JWT-----"

struct _CbusNatsLogin {
    GPtrArray *urls; /* char *, as given */
    GArray *ports;   /* guint16 */
    char *servers, *name, *creds_file, *jwt_file, *ca_file, *cert_file, *cert_key_file;
    char nkey[CBUS_NKEY_LENGTH + 1]; /* "": no login by NKey */
    GMutex signing;
    CbusNonceSigner signer; /* guarded by signing; NULL once disarmed */
    gpointer signer_data;
};

G_DEFINE_QUARK(cbus_nats_error_quark, cbus_nats_error)

/* Of "[scheme://][user[:password]@]host[:port][/…]". SHOWN: without the credentials. */
static gboolean
parse_url(const char *url, char **shown, guint16 *port, GError **error)
{
    const char *scheme_end = g_strstr_len(url, -1, "://");
    const char *rest = scheme_end != NULL ? scheme_end + 3 : url;
    g_autofree char *scheme = scheme_end != NULL ? g_strndup(url, scheme_end - url) : g_strdup("nats");
    const char *at = strrchr(rest, '@');
    g_autofree char *host = g_strndup(at != NULL ? at + 1 : rest, strcspn(at != NULL ? at + 1 : rest, "/"));
    const char *colon = strrchr(host, ':');
    guint64 number = DEFAULT_PORT;

    if (!g_str_equal(scheme, "nats") && !g_str_equal(scheme, "tls")) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "NATS server '%s://%s': the scheme is nats or tls", scheme, host);
        return FALSE;
    }
    if (colon != NULL && strchr(colon, ']') == NULL &&
        !g_ascii_string_to_unsigned(colon + 1, 10, 1, G_MAXUINT16, &number, NULL)) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "NATS server '%s://%s': the port is a number from 1 to 65535", scheme, host);
        return FALSE;
    }
    if (*host == '\0' || colon == host) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS, "NATS server '%s://%s': no host", scheme,
                    host);
        return FALSE;
    }
    *shown = g_strdup_printf("%s://%s", scheme, host);
    *port = (guint16)number;
    return TRUE;
}

static gboolean
parse_urls(CbusNatsLogin *login, const char *urls, GError **error)
{
    g_auto(GStrv) words = g_strsplit(urls, ",", -1);
    g_autoptr(GString) servers = g_string_new(NULL);

    for (char **word = words; *word != NULL; word++) {
        g_autofree char *shown = NULL;
        guint16 port;

        if (*g_strstrip(*word) == '\0')
            continue;
        if (!parse_url(*word, &shown, &port, error))
            return FALSE;
        g_ptr_array_add(login->urls, g_strdup(*word));
        g_array_append_val(login->ports, port);
        g_string_append_printf(servers, "%s%s", servers->len > 0 ? ", " : "", shown);
    }
    if (login->urls->len == 0) {
        g_set_error_literal(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS, "no NATS server is named");
        return FALSE;
    }
    login->servers = g_strdup(servers->str);
    return TRUE;
}

static gboolean
check(const CbusNatsOptions *options, GError **error)
{
    const char *wrong = NULL;

    if ((options->cert_file == NULL) != (options->cert_key_file == NULL))
        wrong = "a certificate and its key (--cert, --cert-key) go together";
    else if (options->creds_file != NULL && options->jwt_file != NULL)
        wrong = "--creds and --jwt exclude each other";
    else if (options->jwt_file != NULL && (options->identity == NULL || options->signer == NULL))
        wrong = "--jwt needs an identity key that signs";
    if (wrong != NULL)
        g_set_error_literal(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS, wrong);
    return wrong == NULL;
}

static void
clear_login(gpointer data)
{
    CbusNatsLogin *login = data;

    g_ptr_array_unref(login->urls);
    g_array_unref(login->ports);
    g_free(login->servers);
    g_free(login->name);
    g_free(login->creds_file);
    g_free(login->jwt_file);
    g_free(login->ca_file);
    g_free(login->cert_file);
    g_free(login->cert_key_file);
    g_mutex_clear(&login->signing);
}

CbusNatsLogin *
cbus_nats_login_new(const CbusNatsOptions *options, GError **error)
{
    g_autoptr(CbusNatsLogin) login = g_atomic_rc_box_new0(CbusNatsLogin);

    g_mutex_init(&login->signing);
    login->urls = g_ptr_array_new_with_free_func(g_free);
    login->ports = g_array_new(FALSE, FALSE, sizeof(guint16));
    login->name = g_strdup(options->name);
    login->creds_file = g_strdup(options->creds_file);
    login->jwt_file = g_strdup(options->jwt_file);
    login->ca_file = g_strdup(options->ca_file);
    login->cert_file = g_strdup(options->cert_file);
    login->cert_key_file = g_strdup(options->cert_key_file);
    if (options->identity != NULL && options->signer != NULL) {
        login->signer = options->signer;
        login->signer_data = options->signer_data;
        if (options->jwt_file == NULL && options->creds_file == NULL)
            cbus_nkey_encode(options->identity, login->nkey);
    }
    if (!check(options, error) || !parse_urls(login, options->urls, error))
        return NULL;
    return g_steal_pointer(&login);
}

CbusNatsLogin *
cbus_nats_login_ref(CbusNatsLogin *login)
{
    return g_atomic_rc_box_acquire(login);
}

void
cbus_nats_login_unref(CbusNatsLogin *login)
{
    g_atomic_rc_box_release_full(login, clear_login);
}

void
cbus_nats_login_disarm(CbusNatsLogin *login)
{
    g_mutex_lock(&login->signing);
    login->signer = NULL;
    g_mutex_unlock(&login->signing);
}

/* The library frees texts and signatures with free(). */
static natsStatus
refuse(char **library_text, const char *text)
{
    *library_text = strdup(text);
    return NATS_ERR;
}

static natsStatus
on_sign(char **text, unsigned char **signature, int *len, const char *nonce, void *closure)
{
    CbusNatsLogin *login = closure;
    g_autofree guint8 *bytes = g_malloc0(CBUS_SIGNATURE_BYTES);
    g_autoptr(GError) error = NULL;
    gboolean good = TRUE;

    if (nonce != NULL && *nonce != '\0') {
        g_mutex_lock(&login->signing);
        good = login->signer != NULL && login->signer(nonce, bytes, login->signer_data, &error);
        g_mutex_unlock(&login->signing);
    }
    if (!good)
        return refuse(text, error != NULL ? error->message : "the identity key can not sign");
    *signature = malloc(CBUS_SIGNATURE_BYTES);
    if (*signature == NULL)
        return NATS_NO_MEMORY;
    memcpy(*signature, bytes, CBUS_SIGNATURE_BYTES);
    *len = CBUS_SIGNATURE_BYTES;
    return NATS_OK;
}

/* The token itself: the line after the BEGIN mark, or the whole file. */
static char *
jwt_of(const char *text)
{
    const char *mark = g_strstr_len(text, -1, JWT_BEGIN);
    const char *start = mark != NULL ? mark + strlen(JWT_BEGIN) : text;

    start += strspn(start, " \t\r\n-");
    return g_strndup(start, strcspn(start, " \t\r\n"));
}

static natsStatus
on_jwt(char **jwt, char **text, void *closure)
{
    CbusNatsLogin *login = closure;
    g_autofree char *contents = NULL;
    g_autofree char *token = NULL;
    g_autofree char *message = NULL;
    g_autoptr(GError) error = NULL;
    gsize len;

    if (!g_file_get_contents(login->jwt_file, &contents, &len, &error))
        return refuse(text, error->message);
    token = len <= JWT_MAX ? jwt_of(contents) : NULL;
    if (token == NULL || *token == '\0') {
        message = g_strdup_printf("%s holds no user JWT of at most %d bytes", login->jwt_file, JWT_MAX);
        return refuse(text, message);
    }
    *jwt = strdup(token);
    return *jwt != NULL ? NATS_OK : NATS_NO_MEMORY;
}

/* What the library would otherwise print to standard error. The loop asks for the last error itself. */
static void
on_library_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *closure)
{
}

static natsStatus
set_fixed_options(natsOptions *options)
{
    natsStatus s = natsOptions_SetAllowReconnect(options, false);

    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(options, 0);
    if (s == NATS_OK)
        s = natsOptions_SetSendAsap(options, true);
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(options, 2000);
    if (s == NATS_OK)
        s = natsOptions_SetIOBufSize(options, 32768);
    if (s == NATS_OK)
        s = natsOptions_SetNoEcho(options, true);
    if (s == NATS_OK)
        s = natsOptions_SetIgnoreDiscoveredServers(options, true);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(options, on_library_error, NULL);
    return s;
}

static natsStatus
set_tls(CbusNatsLogin *login, natsOptions *options)
{
    gboolean secure = login->ca_file != NULL || login->cert_file != NULL;
    natsStatus s = NATS_OK;

    for (guint i = 0; i < login->urls->len; i++)
        secure |= g_str_has_prefix(login->urls->pdata[i], "tls://");
    if (secure)
        s = natsOptions_SetSecure(options, true);
    if (s == NATS_OK && login->ca_file != NULL)
        s = natsOptions_LoadCATrustedCertificates(options, login->ca_file);
    if (s == NATS_OK && login->cert_file != NULL)
        s = natsOptions_LoadCertificatesChain(options, login->cert_file, login->cert_key_file);
    /* Bounds what a half-written TLS record can cost the loop; a plain socket never waits. */
    if (s == NATS_OK)
        s = natsOptions_SetWriteDeadline(options, 300);
    return s;
}

static natsStatus
set_credentials(CbusNatsLogin *login, natsOptions *options)
{
    if (login->creds_file != NULL)
        return natsOptions_SetUserCredentialsFromFiles(options, login->creds_file, NULL);
    if (login->jwt_file != NULL)
        return natsOptions_SetUserCredentialsCallbacks(options, on_jwt, login, on_sign, login);
    if (login->nkey[0] != '\0')
        return natsOptions_SetNKey(options, login->nkey, on_sign, login);
    return NATS_OK;
}

natsOptions *
cbus_nats_login_options(CbusNatsLogin *login, GError **error)
{
    natsOptions *options = NULL;
    natsStatus s = natsOptions_Create(&options);

    if (s == NATS_OK)
        s = natsOptions_SetServers(options, (const char **)login->urls->pdata, login->urls->len);
    if (s == NATS_OK && login->name != NULL)
        s = natsOptions_SetName(options, login->name);
    if (s == NATS_OK)
        s = set_fixed_options(options);
    if (s == NATS_OK)
        s = set_tls(login, options);
    if (s == NATS_OK)
        s = set_credentials(login, options);
    if (s != NATS_OK) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS, "NATS options: %s", cbus_nats_detail(s));
        natsOptions_Destroy(options);
        return NULL;
    }
    return options;
}

const char *
cbus_nats_login_servers(const CbusNatsLogin *login)
{
    return login->servers;
}

gboolean
cbus_nats_login_has_port(const CbusNatsLogin *login, guint16 port)
{
    for (guint i = 0; i < login->ports->len; i++) {
        if (g_array_index(login->ports, guint16, i) == port)
            return TRUE;
    }
    return FALSE;
}

/* The library begins its texts with "(file.c:line): ", which tells an operator nothing. */
const char *
cbus_nats_detail(natsStatus status)
{
    const char *text = nats_GetLastError(NULL);
    const char *end = text != NULL && *text == '(' ? g_strstr_len(text, -1, "): ") : NULL;

    if (end != NULL)
        text = end + strlen("): ");
    return text != NULL && *text != '\0' ? text : natsStatus_GetText(status);
}
