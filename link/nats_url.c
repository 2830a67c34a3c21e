/* URLs of NATS servers, as an operator writes them and as he may see them.
 *
 * "[scheme://][user[:password]@]host[:port][/…]", where the library decodes nothing: user and password are
 * what stands there, up to the last "@". So GUri, which follows RFC 3986, would understand some passwords
 * otherwise than the library that logs in with them, or refuse them; and only the two together know whether a
 * login is in a URL. What the library is given always has its scheme, since it takes the first "://" for the
 * end of one, and a password may hold that.
 *
 * No part of a login is ever shown. What should be a port and is none is not shown either: it may be a piece
 * of a password with a comma in it, at which the list of servers is cut.
 *
 * Trust: the operator's text, of any content. Pure, any thread. */
#include "link/nats_url.h"
#include "link/nats.h"
#include <string.h>

#define DEFAULT_PORT 4222
#define SCHEME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-."

/* What stands behind "scheme://" in URL, and the scheme; "nats" where none is named. A password may hold
 * "://", so that a scheme is only what has the characters of one up to there. */
static const char *
cut_scheme(const char *url, char **scheme)
{
    gsize len = strspn(url, SCHEME_CHARS);

    if (len == 0 || !g_str_has_prefix(url + len, "://")) {
        *scheme = g_strdup("nats");
        return url;
    }
    *scheme = g_strndup(url, len);
    return url + len + strlen("://");
}

gboolean
cbus_nats_url_parse(const char *url, char **shown, char **whole, guint16 *port, GError **error)
{
    g_autofree char *scheme = NULL;
    const char *rest = cut_scheme(url, &scheme), *at = strrchr(rest, '@');
    g_autofree char *host = g_strndup(at != NULL ? at + 1 : rest, strcspn(at != NULL ? at + 1 : rest, "/"));
    char *colon = strrchr(host, ':');
    guint64 number = DEFAULT_PORT;

    if (!g_str_equal(scheme, "nats") && !g_str_equal(scheme, "tls")) {
        g_set_error(error, CBUS_NATS_ERROR, CBUS_NATS_ERROR_OPTIONS,
                    "NATS server '%s://%s': the scheme is nats or tls", scheme, host);
        return FALSE;
    }
    if (colon != NULL && strchr(colon, ']') == NULL &&
        !g_ascii_string_to_unsigned(colon + 1, 10, 1, G_MAXUINT16, &number, NULL)) {
        if (colon[1 + strspn(colon + 1, "0123456789")] != '\0')
            *colon = '\0';
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
    *whole = g_strdup_printf("%s://%s", scheme, rest);
    *port = (guint16)number;
    return TRUE;
}
