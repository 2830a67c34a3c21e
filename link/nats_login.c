/* Logging in to NATS: from the operator's options to the library's.
 *
 * The kinds of login, in the order in which they exclude each other: a .creds file (the user's JWT and seed,
 * read by the library); a JWT file together with the identity's signer; an NKey's seed file; user and
 * password, or a token; what the URL holds (user:password@ or token@); the identity's NKey with its signer.
 * The last is what is left, so a server that wants no login is told a public key that it does not ask for and
 * that it reads in subjects anyhow. Files are read anew at every attempt, so a renewed JWT or certificate
 * counts from the next connection on. They are opened before the library does, because its errors do not say
 * which file, and because the user that may not read one is the network process's, not the operator.
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
#include "link/nats_url.h"
#include "link/signer.h"
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JWT_MAX  (64 * 1024)
#define FILE_MAX (1024 * 1024)
/* What one read may take: a packet of any size and what came with it, so that the library seldom has to put a
 * message together from pieces. Never below 16 KiB: OpenSSL would keep the rest of a record. */
#define READ_BYTES (256 * 1024)
#define JWT_BEGIN  "-----BEGIN NATS USER JWT-----"

struct _CbusNatsLogin {
    GPtrArray *urls; /* char *, with their schemes */
    GArray *ports;   /* guint16 */
    gboolean in_url; /* some URL holds a login */
    char *servers, *name, *creds_file, *jwt_file, *ca_file, *cert_file, *cert_key_file, *nkey_file;
    char *user, *password, *token;
    char nkey[CBUS_NKEY_LENGTH + 1]; /* the identity's; "": no login by it */
    GMutex signing;
    CbusNonceSigner signer; /* guarded by signing; NULL once disarmed */
    gpointer signer_data;
};

G_DEFINE_QUARK(cbus_nats_error_quark, cbus_nats_error)

static gboolean
parse_urls(CbusNatsLogin *login, const char *urls, GError **error)
{
    g_auto(GStrv) words = g_strsplit(urls, ",", -1);
    g_autoptr(GString) servers = g_string_new(NULL);

    for (char **word = words; *word != NULL; word++) {
        g_autofree char *shown = NULL;
        char *whole = NULL;
        guint16 port;

        if (*g_strstrip(*word) == '\0')
            continue;
        if (!cbus_nats_url_parse(*word, &shown, &whole, &port, error))
            return FALSE;
        g_ptr_array_add(login->urls, whole);
        g_array_append_val(login->ports, port);
        login->in_url |= strchr(*word, '@') != NULL;
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
    else if (options->password != NULL && options->user == NULL)
        wrong = "a password needs a user";
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
    g_free(login->nkey_file);
    g_free(login->user);
    g_free(login->password);
    g_free(login->token);
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
    login->nkey_file = g_strdup(options->nkey_file);
    login->user = g_strdup(options->user);
    login->password = g_strdup(options->password);
    login->token = g_strdup(options->token);
    if (options->identity != NULL && options->signer != NULL) {
        login->signer = options->signer;
        login->signer_data = options->signer_data;
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

/* The token itself: the first line with something in it, or the first below the BEGIN mark if there is one.
 */
static char *
jwt_of(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    char **line = lines;

    for (guint i = 0; lines[i] != NULL; i++)
        if (g_str_equal(g_strstrip(lines[i]), JWT_BEGIN))
            line = &lines[i + 1];
    while (*line != NULL && **line == '\0')
        line++;
    return g_strdup(*line);
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

/* The seed's file is read for each signature, so that no second secret is kept here. */
static natsStatus
on_sign_by_file(char **text, unsigned char **signature, int *len, const char *nonce, void *closure)
{
    const CbusNatsLogin *login = closure;
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusSecret) secret = cbus_secret_load(login->nkey_file, &error);
    guint8 *bytes = secret != NULL ? calloc(1, CBUS_SIGNATURE_BYTES) : NULL;

    if (secret != NULL && bytes == NULL)
        return NATS_NO_MEMORY;
    if (secret == NULL || (nonce != NULL && *nonce != '\0' &&
                           !cbus_secret_sign_nonce(secret, nonce, strlen(nonce), bytes, &error))) {
        free(bytes);
        return refuse(text, error->message);
    }
    *signature = bytes;
    *len = CBUS_SIGNATURE_BYTES;
    return NATS_OK;
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
        s = natsOptions_SetIOBufSize(options, READ_BYTES);
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
set_credentials(CbusNatsLogin *login, natsOptions *options, const char *file_nkey)
{
    if (login->creds_file != NULL)
        return natsOptions_SetUserCredentialsFromFiles(options, login->creds_file, NULL);
    if (login->jwt_file != NULL)
        return natsOptions_SetUserCredentialsCallbacks(options, on_jwt, login, on_sign, login);
    if (login->nkey_file != NULL)
        return natsOptions_SetNKey(options, file_nkey, on_sign_by_file, login);
    if (login->user != NULL)
        return natsOptions_SetUserInfo(options, login->user, login->password);
    if (login->token != NULL)
        return natsOptions_SetToken(options, login->token);
    if (login->nkey[0] != '\0')
        return natsOptions_SetNKey(options, login->nkey, on_sign, login);
    return NATS_OK;
}

/* Whom a file must be readable for: in an agent, not whoever started it. */
static char *
describe_self(void)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) == 0 && found != NULL)
        return g_strdup_printf("user %s", found->pw_name);
    return g_strdup_printf("uid %u", (guint)geteuid());
}

static gboolean
check_file(const char *file, GError **error)
{
    g_autofree char *self = describe_self();
    struct stat status;
    int saved, fd;

    if (file == NULL)
        return TRUE;
    fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    saved = errno;
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size <= FILE_MAX) {
        close(fd);
        return TRUE;
    }
    if (fd >= 0)
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "the NATS login needs %s, which is no file of at most 1 MiB", file);
    else
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "the NATS login needs %s: %s: %s must be able to read it", file, g_strerror(saved), self);
    if (fd >= 0)
        close(fd);
    return FALSE;
}

static gboolean
check_files(const CbusNatsLogin *login, char file_nkey[CBUS_NKEY_LENGTH + 1], GError **error)
{
    const char *const files[] = {login->creds_file, login->jwt_file,      login->ca_file,
                                 login->cert_file,  login->cert_key_file, login->nkey_file};

    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        if (!check_file(files[i], error))
            return FALSE;
    }
    if (login->nkey_file != NULL) {
        g_autoptr(CbusSecret) secret = cbus_secret_load(login->nkey_file, error);

        if (secret == NULL)
            return FALSE;
        cbus_nkey_encode(cbus_secret_public(secret), file_nkey);
    }
    return TRUE;
}

natsOptions *
cbus_nats_login_options(CbusNatsLogin *login, GError **error)
{
    char file_nkey[CBUS_NKEY_LENGTH + 1] = "";
    natsOptions *options = NULL;
    natsStatus s;

    if (!check_files(login, file_nkey, error))
        return NULL;
    s = natsOptions_Create(&options);
    if (s == NATS_OK)
        s = natsOptions_SetServers(options, (const char **)login->urls->pdata, login->urls->len);
    if (s == NATS_OK && login->name != NULL)
        s = natsOptions_SetName(options, login->name);
    if (s == NATS_OK)
        s = set_fixed_options(options);
    if (s == NATS_OK)
        s = set_tls(login, options);
    if (s == NATS_OK)
        s = set_credentials(login, options, file_nkey);
    if (s != NATS_OK) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS, "NATS options: %s", cbus_nats_detail(s));
        natsOptions_Destroy(options);
        return NULL;
    }
    return options;
}

gboolean
cbus_nats_options_check(const CbusNatsOptions *options, GError **error)
{
    g_autoptr(CbusNatsLogin) login = cbus_nats_login_new(options, error);
    natsOptions *made = login != NULL ? cbus_nats_login_options(login, error) : NULL;

    natsOptions_Destroy(made);
    return made != NULL;
}

char *
cbus_nats_login_describe(const CbusNatsLogin *login)
{
    if (login->creds_file != NULL)
        return g_strdup_printf("the credentials in %s", login->creds_file);
    if (login->jwt_file != NULL)
        return g_strdup_printf("the JWT in %s and the key %s", login->jwt_file, login->nkey);
    if (login->nkey_file != NULL)
        return g_strdup_printf("the NKey in %s", login->nkey_file);
    if (login->user != NULL)
        return g_strdup_printf("the context's user %s", login->user);
    if (login->token != NULL)
        return g_strdup("the context's token");
    if (login->in_url)
        return g_strdup("the user and password, or the token, in the URL");
    return login->nkey[0] != '\0' ? g_strdup_printf("the NKey %s", login->nkey) : g_strdup("no login");
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

const char *
cbus_nats_plain(const char *text)
{
    const char *end = text != NULL && *text == '(' ? text + strcspn(text, ")") : NULL;

    return end != NULL && g_str_has_prefix(end, "): ") ? end + strlen("): ") : text;
}

const char *
cbus_nats_detail(natsStatus status)
{
    const char *text = cbus_nats_plain(nats_GetLastError(NULL));

    return text != NULL && *text != '\0' ? text : natsStatus_GetText(status);
}
