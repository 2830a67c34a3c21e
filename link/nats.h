/* One NATS connection, made again for ever, on the loop (design, "NATS").
 *
 * nats.c's own reconnect and ping timer are off. A worker thread makes each connection and hands it over;
 * from then on every library call is on the loop thread. Subscriptions outlive connections. On loss
 * everything of the old connection is destroyed from an idle callback, and after a growing, jittered pause
 * (20 ms → 5 s) a new one is made. Loop thread only. */
#pragma once
#include "link/loop.h"
#include "wire/key.h"

typedef struct _CbusNats CbusNats;

typedef enum {
    CBUS_NATS_ERROR_OPTIONS, /* an option, URL or file that can not be used */
    CBUS_NATS_ERROR_CONNECT, /* no server answers as one */
    CBUS_NATS_ERROR_LOGIN,   /* the server does not let us in */
    CBUS_NATS_ERROR_LOST,    /* a connection that was there is gone */
} CbusNatsError;
#define CBUS_NATS_ERROR (cbus_nats_error_quark())
GQuark cbus_nats_error_quark(void);

/* Signs a login nonce; called on the WORKER thread, may block. NULL if none. */
typedef gboolean (*CbusNonceSigner)(const char *nonce, guint8 signature[CBUS_SIGNATURE_BYTES],
                                    gpointer user_data, GError **error);

typedef struct {
    const char *urls; /* comma-separated */
    const char *name; /* client name shown by the server: "cbus-agent" … */
    /* Logins; each may be NULL. */
    const char *creds_file, *jwt_file, *ca_file, *cert_file, *cert_key_file;
    const char *user, *password, *token; /* instead of the URL's */
    const char *nkey_file;               /* the seed of an NKey that is not the identity's */
    const CbusKey *identity; /* with SIGNER: log in by NKey, or by jwt_file and signature. NULL: neither. */
    CbusNonceSigner signer;
    gpointer signer_data;
    guint beat_ms; /* how often a silent connection is looked at; 0: 6 000 */
} CbusNatsOptions; /* all copied */

/* Whether a connection could be tried with OPTIONS: URLs are good, files can be read by who we are now and
 * hold what they should. Blocks; connects to nobody. */
gboolean cbus_nats_options_check(const CbusNatsOptions *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef struct {
    void (*up)(CbusNats *nats, gpointer user_data); /* connected; subscriptions are in place */
    void (*down)(CbusNats *nats, const GError *reason,
                 gpointer user_data); /* lost: everything in flight is lost */
    void (*failed)(CbusNats *nats, const GError *reason, guint pause_ms,
                   gpointer user_data); /* an attempt failed; the next comes after the pause */
} CbusNatsHandler;

/* A message; all borrowed. DATA may be written to (packets open in place). */
typedef void (*CbusNatsFunc)(const char *subject, const char *reply, guint8 *data, gsize len,
                             gpointer user_data);

/* A header of a message to publish. The value is one line. */
typedef struct {
    const char *name, *value;
} CbusNatsHeader;

CbusNats *cbus_nats_new(CbusLoop *loop, const CbusNatsOptions *options, const CbusNatsHandler *handler,
                        gpointer user_data, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Before start. SUBJECT is subscribed to by NATS's owner and takes empty messages: one is published there
 * when the server has been silent, and its echo is life. Without it a silent server is not noticed. */
void cbus_nats_set_beat(CbusNats *nats, const char *subject);
void cbus_nats_start(CbusNats *nats);
/* Safe in every handler and function; none is called afterwards, the signer neither. Writes what the kernel
 * takes at once; see cbus_nats_flush(). */
void cbus_nats_free(CbusNats *nats);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusNats, cbus_nats_free)
/* Tries to write out what is buffered for at most TIMEOUT_MS: for the farewell of a clean stop, nowhere else.
 */
void cbus_nats_flush(CbusNats *nats, guint timeout_ms);

gboolean cbus_nats_is_up(const CbusNats *nats);
/* Data: drained at once after each read event, in order. Before or after start; kept over reconnects. Returns
 * an id. */
guint cbus_nats_subscribe(CbusNats *nats, const char *subject, CbusNatsFunc func, gpointer user_data);
/* 503s ("no responders") that arrive on SUBJECT: func gets the concrete subject and no data. */
guint cbus_nats_subscribe_no_responders(CbusNats *nats, const char *subject, CbusNatsFunc func,
                                        gpointer user_data);
void cbus_nats_unsubscribe(CbusNats *nats, guint id);

/* Inside a CbusNatsFunc alone: a header of its message, borrowed until return, or NULL. Any bytes but NUL.
 * Not for the hot path: the message is parsed. */
const char *cbus_nats_header(CbusNats *nats, const char *name);

/* Queues; written at the end of the turn. REPLY may be NULL. FALSE when down or when the bounded queue is
 * full (16 MiB): nothing was queued. */
gboolean cbus_nats_publish(CbusNats *nats, const char *subject, const char *reply, const guint8 *data,
                           gsize len) G_GNUC_WARN_UNUSED_RESULT;
/* The same with headers, which count as payload. HEADERS ends with a NULL name. */
gboolean cbus_nats_publish_headers(CbusNats *nats, const char *subject, const char *reply,
                                   const CbusNatsHeader *headers, const guint8 *data,
                                   gsize len) G_GNUC_WARN_UNUSED_RESULT;
gsize cbus_nats_max_payload(const CbusNats *nats); /* bytes; 1 MiB while down */
gsize cbus_nats_buffered(const CbusNats *nats);    /* bytes published but not yet written */
