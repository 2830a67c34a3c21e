/* An established link: records over sealed packets, channels, credit, pings (design, "One idea carries
 * everything").
 *
 * Begins with the session of a finished handshake, on either side. Knows neither NATS nor D-Bus daemons: it
 * is given packets, and gives packets to a function. Any packet that opens but is not next, or holds no valid
 * records, ends it at once. Loop thread only. */
#pragma once
#include "link/loop.h"
#include "wire/record.h"
#include "wire/seal.h"

typedef struct _CbusLink CbusLink;

typedef enum {
    CBUS_LINK_ERROR_LOST,     /* gap, silence, no responders, broker gone */
    CBUS_LINK_ERROR_PROTOCOL, /* the peer sent what no honest peer sends */
    CBUS_LINK_ERROR_REFUSED,  /* REFUSED for the whole link; the message says why */
    CBUS_LINK_ERROR_CLOSED,   /* we or the peer ended it in order (farewell, replaced, revoked) */
} CbusLinkError;
#define CBUS_LINK_ERROR (cbus_link_error_quark())
GQuark cbus_link_error_quark(void);

typedef enum {
    CBUS_SIDE_PROXY,
    CBUS_SIDE_AGENT,
} CbusSide;

/* One per process: 32 MiB of credit over all links, beyond 32 KiB that each link has (design, "NATS"). */
typedef struct _CbusBudget CbusBudget;
CbusBudget *cbus_budget_new(gsize bytes);
void cbus_budget_free(CbusBudget *budget); /* every link must be gone */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusBudget, cbus_budget_free)

typedef struct {
    /* Agent: FINISH arrived with this signature, to be verified over T by the caller, which then calls
     * cbus_link_accept() or cbus_link_refuse(). Nothing else is delivered before. */
    void (*finish)(CbusLink *link, const guint8 signature[64], gpointer user_data);
    /* Proxy: SERVERINFO (strings borrowed): the link is online; again whenever it changes. */
    void (*server_info)(CbusLink *link, const char *name, const char *machine_id, const char *boot_id,
                        const char *version, gpointer user_data);
    /* Agent: OPEN. Answer with cbus_link_opened() or cbus_link_close_channel(). Messages may follow at once.
     */
    void (*open)(CbusLink *link, guint32 channel, guint32 uid_claim, gpointer user_data);
    /* Proxy. */
    void (*opened)(CbusLink *link, guint32 channel, gpointer user_data);
    /* A whole D-Bus message, framed but not viewed; borrowed until return. */
    void (*message)(CbusLink *link, guint32 channel, const guint8 *message, gsize size, gpointer user_data);
    /* The channel is over: CLOSE or REFUSED. ERROR_NAME and MESSAGE may be "". The id is free of state
     * already. */
    void (*channel_closed)(CbusLink *link, guint32 channel, const char *error_name, const char *message,
                           gpointer user_data);
    /* A channel that this side closed is forgotten, and nothing waits in it any more. May come before
     * cbus_link_close_channel() returns; call nothing on LINK. Not told when the link is over. */
    void (*channel_gone)(CbusLink *link, guint32 channel, gpointer user_data);
    /* TREE: on the agent a request (PAYLOAD: the destination, NUL-terminated); on the proxy an answer (see
     * wire/tree.h, from the status on). */
    void (*tree)(CbusLink *link, guint32 channel, guint32 id, const guint8 *payload, gsize len,
                 gpointer user_data);
    /* The link is over, once, never from inside a call of the user: free it here or later. All its channels
     * are over with it. */
    void (*ended)(CbusLink *link, const GError *reason, gpointer user_data);
} CbusLinkHandler;

/* Sends one sealed packet. PROBE: ask for a 503 if nobody listens (reply subject .gone). FALSE: it could not
 * be queued, and the link ends. */
typedef gboolean (*CbusLinkSend)(const guint8 *packet, gsize len, gboolean probe, gpointer send_data);

/* How many bytes SEND's transport holds that are not written yet. While there are many, the channels' queues
 * wait, so that large messages over a slow connection do not end links. */
typedef gsize (*CbusLinkBacklog)(gpointer send_data);

/* SESSION: (transfer full). MAX_PAYLOAD: of the NATS connection. A proxy's link begins by
 * cbus_link_send_finish(). */
CbusLink *cbus_link_new(CbusLoop *loop, CbusSide side, CbusSession *session, gsize max_payload,
                        CbusBudget *budget, CbusLinkSend send, gpointer send_data,
                        const CbusLinkHandler *handler, gpointer user_data);
/* Silent: no handler is called afterwards, only functions given to cbus_link_ping() are, before it returns.
 * Safe in handlers. */
void cbus_link_free(CbusLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusLink, cbus_link_free)

/* Hands the link to another owner: later events go to HANDLER (copied). */
void cbus_link_set_handler(CbusLink *link, const CbusLinkHandler *handler, gpointer user_data);
void cbus_link_set_backlog(CbusLink *link, CbusLinkBacklog backlog);
const guint8 *cbus_link_id(const CbusLink *link);
/* A packet with this link's id; opened in place. Whatever does not open is counted and dropped. */
void cbus_link_receive(CbusLink *link, guint8 *packet, gsize len);

void cbus_link_send_finish(CbusLink *link, const guint8 signature[64]); /* proxy; packet 0 */
void cbus_link_accept(CbusLink *link);                                  /* agent: FINISH was good */
/* Agent: sends REFUSED for the link, then ends it quietly (no `ended`). */
void cbus_link_refuse(CbusLink *link, const char *error_name, const char *message);
/* Either side, in order: sends CLOSE for channel 0 with the reason, flushes. No `ended`; free it afterwards.
 */
void cbus_link_close(CbusLink *link, const char *message);
void cbus_link_send_server_info(CbusLink *link, const char *name, const char *machine_id, const char *boot_id,
                                const char *version);

/* Proxy: opens a new channel; messages may be sent at once. Never 0, never reused. UID: a claim for the
 * audit, or G_MAXUINT32. */
guint32 cbus_link_open(CbusLink *link, guint32 uid);
void cbus_link_opened(CbusLink *link, guint32 channel); /* agent */
/* Either side; after what is queued in the channel unless DISCARD. On an agent before cbus_link_opened():
 * REFUSED. */
void cbus_link_close_channel(CbusLink *link, guint32 channel, const char *error_name, const char *message,
                             gboolean discard);

/* Sends a message in a channel. Small messages with nothing queued before them and credit at hand are packed
 * at once, without allocation; others wait in the channel's queue. Returns FALSE (nothing done) if the
 * channel is not open or more than cbus_link_set_channel_quota would wait behind the first message that waits
 * (16 MiB). */
gboolean cbus_link_send(CbusLink *link, guint32 channel, const guint8 *message,
                        gsize size) G_GNUC_WARN_UNUSED_RESULT;
void cbus_link_set_channel_quota(CbusLink *link, guint32 channel, gsize bytes);
void cbus_link_send_tree_request(CbusLink *link, guint32 channel, guint32 request, const char *destination);
void cbus_link_send_tree_answer(CbusLink *link, guint32 channel, const guint8 *answer,
                                gsize len); /* from the id on */

/* How many messages were given to cbus_link_send() for CHANNEL, and of these how many have wholly or partly
 * left in a published packet. The rest was certainly not executed. Valid in `ended`, and in `channel_closed`
 * for its channel, too. */
guint64 cbus_link_accepted(const CbusLink *link, guint32 channel);
guint64 cbus_link_departed(const CbusLink *link, guint32 channel);
gsize cbus_link_queued(const CbusLink *link, guint32 channel); /* bytes waiting */
/* FALSE before FINISH was accepted, and from the moment the link is over, which `ended` tells a little later:
 * nothing more will leave. */
gboolean cbus_link_is_open(const CbusLink *link);

/* BUSY: calls are pending or portals open: ping each second, else every 30 s. 10 s of unanswered pings end
 * the link. Counted: each TRUE is taken back by one FALSE. */
void cbus_link_set_busy(CbusLink *link, gboolean busy);
/* A 503 arrived: ping; the link ends unless something opens within max(500 ms, 4 × round trip). */
void cbus_link_suspect(CbusLink *link);
/* Ends the link at once with REASON, through `ended` (from an idle callback). */
void cbus_link_fail(CbusLink *link, CbusLinkError code, const char *message);
/* Measures: cb is called once with the round trip in µs, or −1 when the link ended first. */
typedef void (*CbusPingFunc)(gint64 round_trip_us, gpointer user_data);
void cbus_link_ping(CbusLink *link, CbusPingFunc func, gpointer user_data);
gint64 cbus_link_round_trip(const CbusLink *link); /* µs of the last ping, 0 when none yet */
guint64 cbus_link_dropped(const CbusLink *link);   /* packets that did not open */
