/* URLs of NATS servers. */
#pragma once
#include <glib.h>

/* Reads "[scheme://][user[:password]@]host[:port][/…]". SHOWN (transfer full): without the credentials, for
 * people; WHOLE (transfer full): with the scheme, also where none was named; PORT: 4222 where none was.
 * CBUS_NATS_ERROR_OPTIONS names scheme and host. */
gboolean cbus_nats_url_parse(const char *url, char **shown, char **whole, guint16 *port,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
