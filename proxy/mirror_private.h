/* What the files of the mirror share; nobody else includes it.
 *
 * Three kinds of things live in a mirror. A service is one remote bus name with its local path prefix and
 * what was seen of its tree. A channel is one remote bus connection of ours with the table of what was asked
 * over it. A caller is a unique name of the session bus that has something pending. Pending entries hold
 * references to services and callers, never the other way round. */
#pragma once
#include "introspect/translate.h"
#include "proxy/mirror.h"
#include "wire/body.h"

#define CBUS_MIRROR_CHANNELS    8    /* remote connections per link */
#define CBUS_MIRROR_PENDING     96   /* calls per channel: a system bus refuses the 129th */
#define CBUS_MIRROR_STALE       48   /* calls nobody waits for that make a channel retire */
#define CBUS_MIRROR_QUEUE_CALLS 4096 /* not yet sent, per machine */
#define CBUS_MIRROR_QUEUE_BYTES (16u * 1024 * 1024)
#define CBUS_MIRROR_SERVICES    8192 /* names listed of one machine */
/* All of them together: the names of 256 strangers must leave room for others in one GetManagedObjects. */
#define CBUS_MIRROR_SERVICES_BYTES (64u * 1024)
#define CBUS_MIRROR_OWN_BYTES      (64u * 1024) /* that wait for the link, above which a peer is not answered */
#define CBUS_MIRROR_WAITING        256          /* introspections that wait for one thing */
/* Unwritten bytes above which replies become errors: the front gives up its connection at twice that. */
#define CBUS_MIRROR_FRONT_BYTES (192u * 1024 * 1024)
#define CBUS_MIRROR_OLD_S       600
#define CBUS_MIRROR_LAST_SERIAL 0x7fff0000u

#define CBUS_DRIVER_NAME     "org.freedesktop.DBus"
#define CBUS_DRIVER_PATH     "/org/freedesktop/DBus"
#define CBUS_SYSTEMD_NAME    "org.freedesktop.systemd1"
#define CBUS_SYSTEMD_PATH    "/org/freedesktop/systemd1"
#define CBUS_SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"
#define CBUS_INTROSPECTABLE  "org.freedesktop.DBus.Introspectable"
#define CBUS_PROPERTIES      "org.freedesktop.DBus.Properties"
#define CBUS_PEER            "org.freedesktop.DBus.Peer"
#define CBUS_OBJECT_MANAGER  "org.freedesktop.DBus.ObjectManager"

typedef struct {
    guint refs;
    gboolean gone;
    CbusMirrorAnswer answer; /* of a call of the proxy's own; NULL for callers on the session bus */
    gpointer user_data;
    char name[]; /* unique on the session bus, or mirror_ask.c's */
} CbusCaller;

typedef struct {
    CbusMirror *mirror;
    guint refs;
    gboolean owned, activatable;
    gboolean listed; /* either of them */
    gboolean kept;   /* the mirror itself holds a reference: listed, or its tree may be wanted again */
    char *name;
    char *prefix; /* NULL until wanted: most services of a fleet are never asked */
    char *owner;  /* unique name; NULL while not known */
    CbusServiceTree *tree;
    guint32 tree_id, tree_channel; /* the TREE under way; 0: none */
    gint64 tree_asked_at;
    gboolean tree_outdated; /* invalidated while under way */
    GQueue tree_waiting;    /* of CbusWaiting */
} CbusService;

/* An Introspect that is answered later. */
typedef struct {
    CbusCaller *caller;
    guint32 serial;
    CbusService *service; /* NULL: the machine's node */
    char *path;           /* remote path; for the machine's node the extra interfaces */
} CbusWaiting;

typedef enum {
    CBUS_ASKED_CALL,   /* a caller's own call */
    CBUS_ASKED_OBJECT, /* Introspect of one object, for `waiting` */
    CBUS_ASKED_HELLO,  /* from here on our own */
    CBUS_ASKED_MATCH,
    CBUS_ASKED_NAMES,
    CBUS_ASKED_ACTIVATABLE,
    CBUS_ASKED_OWNER, /* GetNameOwner of `service` */
} CbusAsked;

typedef struct {
    CbusService *service;
    union {
        CbusCaller *caller;   /* CALL */
        CbusWaiting *waiting; /* OBJECT */
    };
    guint32 caller_serial;
    guint32 since; /* seconds, monotonic */
    guint8 asked;  /* CbusAsked */
} CbusPending;

typedef struct {
    guint32 id;          /* on the link */
    guint32 uid;         /* the local user whose calls it has, as claimed in OPEN */
    guint32 next_serial; /* the n-th message has serial n: departed counters compare with it */
    GHashTable *pending; /* serial → CbusPending */
    guint waiting;       /* CALL and OBJECT entries among them */
    guint trees;         /* TREEs under way */
    guint32 used;        /* seconds, monotonic */
    gboolean opened;     /* OPENED came: what is sent reaches the bus */
    gboolean retired;    /* takes no new calls */
    guint32 subscribed;  /* serial of the last Subscribe to systemd; 0: none */
    gboolean asked_activatable, ask_activatable; /* under way; again when it is answered */
} CbusChannel;

struct _CbusMirror {
    CbusLoop *loop;
    CbusFront *front;
    CbusNodeStore *store;
    CbusMirrorHandler handler;
    gpointer user_data;
    gint64 (*clock)(gpointer data); /* NULL: the monotonic one */
    gpointer clock_data;
    char nkey[CBUS_NKEY_LENGTH + 1];
    char *path; /* the machine's node */
    char *label, *absence_error, *absence_message;
    GByteArray *scratch;
    GHashTable *callers; /* name → CbusCaller */

    CbusLink *link; /* NULL: absent */
    GPtrArray *channels;
    CbusChannel *main; /* has the matches; NULL while the remote bus is away */
    CbusChannel *heir; /* becomes main once its match is in place */
    GSource *reopen;
    gboolean sweeping; /* something may have to be tidied up at a tick */
    guint reopen_ms;
    char *away; /* why main is NULL */
    guint pending;
    gboolean busy;

    GHashTable *services;           /* name → CbusService (weak; `kept` ones hold a reference) */
    GHashTable *owners;             /* unique name → GPtrArray of CbusService */
    guint listed;                   /* services with `listed` */
    gsize listed_bytes;             /* of their names */
    guint names_answered, names_ok; /* CBUS_NAMES_* */
    char **names;                   /* sorted; NULL: to be made */
    GQueue waiting;                 /* of CbusWaiting, for the names */
    guint32 next_tree;
    guint64 last_ask;

    const char *const *signals; /* match rules; borrowed */
    guint64 signals_lost;
    gboolean overflowing;
    GSource *lost_notice;
};

#define CBUS_NAMES_OWNED       0x1u
#define CBUS_NAMES_ACTIVATABLE 0x2u
#define CBUS_NAMES_ALL         0x3u

static inline gint64
cbus_mirror_now(const CbusMirror *self)
{
    return self->clock != NULL ? self->clock(self->clock_data) : g_get_monotonic_time();
}

static inline guint32
cbus_mirror_seconds(const CbusMirror *self)
{
    return (guint32)(cbus_mirror_now(self) / G_USEC_PER_SEC);
}

/* mirror_ask.c */
/* As the front's functions of these names, but for calls of the proxy's own, too. */
void cbus_mirror_reply_error(CbusMirror *self, const CbusMessage *call, const char *error_name,
                             const char *format, ...) G_GNUC_PRINTF(4, 5);
void cbus_mirror_reply_empty(CbusMirror *self, const CbusMessage *call);
/* Hands MESSAGE, which is a whole one, to who asked for it. */
void cbus_mirror_ask_answer(CbusMirror *self, CbusCaller *caller, const GByteArray *message);
void cbus_mirror_ask_answer_error(CbusMirror *self, CbusCaller *caller, const char *name,
                                  const char *message);

/* mirror.c */
/* The service that CALL may be forwarded to, or NULL: it was answered. */
CbusService *cbus_mirror_admit(CbusMirror *self, const CbusPlace *place, const CbusMessage *call);

/* mirror_calls.c */
CbusCaller *cbus_mirror_caller(CbusMirror *self, CbusSpan name); /* a new reference */
void cbus_caller_unref(CbusCaller *caller);
/* Answers SERIAL of CALLER unless it is gone. */
void cbus_mirror_answer_error(CbusMirror *self, CbusCaller *caller, guint32 serial, const char *name,
                              const char *message);
/* Appends HEADER and MESSAGE's body, checked and translated; OUT is cut back on failure. */
gboolean cbus_mirror_append(GByteArray *out, const CbusHeader *header, const CbusMessage *message,
                            const CbusTranslation *translation, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* As cbus_mirror_append, into what the front sends; nothing that the bus would not take. */
gboolean cbus_mirror_put(CbusMirror *self, const CbusHeader *header, const CbusMessage *message,
                         const CbusTranslation *translation, GError **error) G_GNUC_WARN_UNUSED_RESULT;
gboolean cbus_mirror_has_descriptors(const CbusMessage *message);
/* CALL is for PATH of SERVICE, on account of the local user UID. */
void cbus_mirror_forward(CbusMirror *self, CbusService *service, CbusSpan path, const CbusMessage *call,
                         guint32 uid);
/* A reply from CHANNEL, which may be closed by it. */
void cbus_mirror_replied(CbusMirror *self, CbusChannel *channel, const CbusMessage *reply);
/* A REPLY as it came, but for its paths, to SERIAL of CALLER. FALSE: the remote sent rubbish. */
gboolean cbus_mirror_relay(CbusMirror *self, CbusCaller *caller, guint32 serial, CbusService *service,
                           const CbusMessage *reply, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A call that a remote peer made to our connection. */
void cbus_mirror_decline(CbusMirror *self, CbusChannel *channel, const CbusMessage *call);
/* Answers all that is pending in CHANNEL. Serials up to DEPARTED were sent. REFUSAL: error name for the
 * others, or NULL for Offline. */
void cbus_mirror_fail_pending(CbusMirror *self, CbusChannel *channel, guint64 departed, const char *refusal,
                              const char *cause);
void cbus_pending_free(CbusPending *pending);

/* mirror_pool.c */
CbusChannel *cbus_mirror_pool_find(const CbusMirror *self, guint32 id);
/* A channel for one more call of the local user UID, or NULL with ERROR_NAME and CAUSE (both static or the
 * mirror's) set. */
CbusChannel *cbus_mirror_pool_pick(CbusMirror *self, guint32 uid, gboolean wants_reply,
                                   const char **error_name, const char **cause) G_GNUC_WARN_UNUSED_RESULT;
void cbus_mirror_pool_open_main(CbusMirror *self);
void cbus_mirror_pool_promote(CbusMirror *self, CbusChannel *channel);
/* Sends MESSAGE, which was built with CHANNEL's next serial. FALSE: the channel's queue is full. */
gboolean cbus_mirror_pool_send(CbusMirror *self, CbusChannel *channel,
                               const GByteArray *message) G_GNUC_WARN_UNUSED_RESULT;
/* Enters what the message just sent asks for. PENDING's kind, service and caller are taken over. */
void cbus_mirror_pool_expect(CbusMirror *self, CbusChannel *channel, const CbusPending *pending);
/* Takes the entry of SERIAL out, to be freed with cbus_pending_free(); NULL if none. */
CbusPending *cbus_mirror_pool_take(CbusMirror *self, CbusChannel *channel, guint32 serial);
/* Asks the bus driver, or whoever HEADER's destination is, over CHANNEL. ARG may be NULL. FALSE: not sent. */
gboolean cbus_mirror_pool_ask(CbusMirror *self, CbusChannel *channel, CbusHeader header, const char *arg,
                              const CbusPending *pending);
/* CHANNEL is over: all that is pending in it is answered, and a main channel is made anew. */
void cbus_mirror_pool_lost(CbusMirror *self, CbusChannel *channel, const char *error_name, const char *cause);
/* As lost, but it is us who close it, since the remote sent what no bus sends. */
void cbus_mirror_pool_break(CbusMirror *self, CbusChannel *channel, const char *cause);
/* Retires channels that nobody living waits on, closes idle ones. */
void cbus_mirror_pool_review(CbusMirror *self);
/* Keeps the link's pings as fast as what is pending needs. */
void cbus_mirror_pool_wake(CbusMirror *self);
/* The link is over (LINK still valid). */
void cbus_mirror_pool_clear(CbusMirror *self, const char *cause, gboolean close);

/* mirror_names.c */
CbusService *cbus_mirror_service(CbusMirror *self, const char *name); /* a new reference */
CbusService *cbus_service_ref(CbusService *service);
const char *cbus_service_prefix(CbusService *service); /* "/ie/bmcgee/CBus/<nkey>/<service>" */
void cbus_service_unref(CbusService *service);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusService, cbus_service_unref)
/* All services, each with a reference, so that any may go while the array is walked. (transfer full) */
GPtrArray *cbus_mirror_services_snapshot(CbusMirror *self);
void cbus_mirror_names_ask(CbusMirror *self, CbusChannel *channel);
void cbus_mirror_names_ask_activatable(CbusMirror *self, CbusChannel *channel);
/* A reply to NAMES, ACTIVATABLE or OWNER. */
void cbus_mirror_names_replied(CbusMirror *self, CbusChannel *channel, const CbusPending *pending,
                               const CbusMessage *reply);
void cbus_mirror_names_owner_changed(CbusMirror *self, const CbusMessage *signal);
/* The names are unknown from now on; trees are kept. */
void cbus_mirror_names_forget(CbusMirror *self);
/* As forget, and the trees go too. */
void cbus_mirror_names_clear(CbusMirror *self);
/* TRUE once both lists are answered, or while nobody can be asked. */
gboolean cbus_mirror_names_settled(const CbusMirror *self);
/* TRUE when SERVICE is certainly neither owned nor activatable. */
gboolean cbus_mirror_names_absent(const CbusMirror *self, const CbusService *service);
/* Services that the unique name OWNER has now, or NULL. */
const GPtrArray *cbus_mirror_names_of(const CbusMirror *self, CbusSpan owner);

/* mirror_signals.c */
void cbus_mirror_signal(CbusMirror *self, CbusChannel *channel, const CbusMessage *signal);
void cbus_mirror_signals_clear(CbusMirror *self);

/* mirror_driver.c */
/* TRUE: answered here; FALSE: the remote driver may be asked. */
gboolean cbus_mirror_driver_call(CbusMirror *self, const CbusPlace *place, const CbusMessage *call);
/* A local Subscribe or Unsubscribe of systemd, answered as done. */
gboolean cbus_mirror_systemd_call(CbusMirror *self, const CbusPlace *place, const CbusMessage *call);
void cbus_mirror_systemd_subscribe(CbusMirror *self);

/* mirror_introspect.c */
void cbus_mirror_introspect(CbusMirror *self, CbusService *service, CbusSpan path, const CbusMessage *call);
/* Answers those who waited for the names. */
void cbus_mirror_introspect_resume(CbusMirror *self);
/* FALSE: the remote sent rubbish. */
gboolean cbus_mirror_introspect_replied(CbusMirror *self, CbusWaiting *waiting, const CbusMessage *reply,
                                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* CHANNEL (0: any) is over: whoever waits for a TREE over it is answered. */
void cbus_mirror_introspect_lost(CbusMirror *self, guint32 channel, const char *cause);
/* Gives up on TREEs that were asked before SINCE (µs, monotonic). */
void cbus_mirror_introspect_expire(CbusMirror *self, gint64 since);
void cbus_service_invalidate(CbusService *service);
void cbus_waiting_free(CbusWaiting *waiting);
