/* Inside a link: the state that link*.c, credit.c and assembly.c share. For these files, the acceptor and the
 * dialer (cbus_link_end_now) and tests only. Loop thread only. */
#pragma once
#include "link/link.h"
#include "wire/key.h"

#define CBUS_WINDOW_FIRST (32u * 1024)
#define CBUS_WINDOW_MAX   (4u * 1024 * 1024)
#define CBUS_CHANNELS_MAX 1024
#define CBUS_PACKET_MAX   (32u * 1024)
#define CBUS_QUEUE_QUOTA  (16u * 1024 * 1024)

typedef struct _CbusChannel CbusChannel;
typedef struct _CbusQueued CbusQueued;

/* A message or tree that waits, wholly or in part, for credit. */
struct _CbusQueued {
    CbusQueued *next;
    gsize size, sent;
    guint8 type, flags;
    guint8 data[];
};

/* What arrived of a message or tree that was cut. */
typedef struct {
    GByteArray *bytes; /* NULL: nothing under way */
    gsize whole;       /* what it may grow to: the promised length, or a tree's bound */
} CbusAssembly;

struct _CbusChannel {
    guint32 id;
    gboolean opened;  /* OPENED was sent or heard */
    gboolean closing; /* we closed it: CLOSE follows what is queued */
    char *close_name, *close_message;
    CbusQueued *first, *last;
    gsize queued, quota;
    guint64 accepted, packed, departed;
    GList ready;    /* in link->ready while something is queued */
    GList in_batch; /* in link->in_batch while packed > departed */
    gboolean is_ready, is_in_batch;
    CbusAssembly message, tree;
};

/* Positions count bytes of MESSAGE and TREE records, headers too, since the link began. */
typedef struct {
    guint64 sent, limit, asked_at; /* ours to spend; the limit at which WANTED was last told */
    guint64 received, told, hard;  /* the peer's; HARD is the highest limit ever told */
    guint64 peer_wanted;
    gsize window;
    gboolean due;   /* a CREDIT record is to be packed */
    gboolean rides; /* likewise, if anything else is */
    gint64 sent_at, received_at;
} CbusCredit;

typedef enum {
    CBUS_LINK_NEW,   /* no FINISH yet */
    CBUS_LINK_ASKED, /* agent: FINISH was handed to the user, who has not decided */
    CBUS_LINK_OPEN,
    CBUS_LINK_OVER, /* decided; perhaps `ended` is still to be told */
} CbusLinkState;

typedef struct {
    CbusPingFunc func;
    gpointer user_data;
} CbusPinger;

struct _CbusLink {
    CbusLoop *loop;
    CbusBudget *budget;
    CbusSide side;
    CbusLinkState state;
    CbusSession *session;
    CbusLinkSend send;
    CbusLinkBacklog backlog;
    gpointer send_data;
    CbusLinkHandler handler;
    gpointer user_data;
    guint inside; /* calls of handlers under way: freed only when 0 */
    gboolean freed;
    gboolean last_words; /* over, but one packet more may go */
    GError *reason;
    GSource *ending;
    GList in_budget;

    GHashTable *channels; /* id → CbusChannel */
    CbusChannel *leaving; /* its `channel_closed` is running: counters stay valid */
    guint32 last_channel; /* the highest id ever opened */

    GByteArray *batch; /* room for a packet's prefix, then records */
    gsize packet_max;
    gboolean probe, stalled;
    CbusDeferred pack;
    GQueue ready, in_batch;
    gsize queued;
    CbusCredit credit;
    gsize assembling;

    guint busy; /* how many said so */
    gint64 last_sent, last_opened, ping_at, ping_sent, suspected_until;
    guint64 ping_cookie;
    gint64 round_trip;
    GArray *pingers_now, *pingers_next; /* of CbusPinger: for the ping under way, for the one after it */
    guint64 dropped;
};

struct _CbusBudget {
    gsize bytes, used;
    gsize assembling;
    GQueue links;
    GSource *timer;
    gint64 tick_at;
    gint64 asleep;
    gint64 (*now)(gpointer data);
    gpointer now_data;
};

/* link.c */
/* Decides that the link ends; REASON: (transfer full). NOTIFY: tell the peer in a last packet. */
void cbus_link_end(CbusLink *link, GError *reason, gboolean notify);
void cbus_link_end_protocol(CbusLink *link, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* As cbus_link_fail(), but `ended` is called before this returns. Never from inside a call on LINK. */
void cbus_link_end_now(CbusLink *link, CbusLinkError code, const char *message);
/* The route is gone: SEND is not called again, and what is still sent is lost, which ends the link. */
void cbus_link_cut(CbusLink *link);
/* Around calls of handlers: a link freed in between goes when the last has returned. */
void cbus_link_enter(CbusLink *link);
void cbus_link_leave(CbusLink *link);
/* Inside SEND: the packet is the link's last. */
static inline gboolean
cbus_link_says_last(const CbusLink *link)
{
    return link->last_words;
}
gint64 cbus_link_now(const CbusLink *link);

/* link_batch.c */
guint8 *cbus_batch_reserve(CbusLink *link, gsize len);
gsize cbus_batch_room(const CbusLink *link);
gsize cbus_batch_capacity(const CbusLink *link);
void cbus_batch_discard(CbusLink *link);
void cbus_batch_tick(CbusLink *link, gint64 now);
/* Appends TEXT as a string of at most MAX bytes of valid UTF-8. */
void cbus_batch_put_text(GByteArray *out, const char *text, gsize max);
/* Packs a control record; the batch is sent at the end of the turn, or at once when it is full. */
void cbus_link_control(CbusLink *link, CbusRecordType type, guint32 channel, const guint8 *payload,
                       gsize len);
void cbus_link_control_reason(CbusLink *link, CbusRecordType type, guint32 channel, const char *error_name,
                              const char *message);
void cbus_link_wake(CbusLink *link); /* have the turn pack */
void cbus_link_pack(gpointer link);
gboolean cbus_link_flush(CbusLink *link); /* FALSE: the link is over */
void cbus_link_check_backlog(CbusLink *link);

/* link_queue.c */
void cbus_link_drain(CbusLink *link);
void cbus_link_channel_discard(CbusLink *link, CbusChannel *channel);

/* link_channel.c */
CbusChannel *cbus_link_channel(const CbusLink *link, guint32 id);
CbusChannel *cbus_link_add_channel(CbusLink *link, guint32 id);
/* Its queue is sent: CLOSE (or REFUSED), and the channel is forgotten. */
void cbus_link_say_closed(CbusLink *link, CbusChannel *channel);
void cbus_link_remove_channel(CbusLink *link, CbusChannel *channel);
/* Tells the user and forgets the channel. Between cbus_link_enter() and cbus_link_leave(). */
void cbus_link_channel_over(CbusLink *link, CbusChannel *channel, const char *error_name,
                            const char *message);
void cbus_link_channel_free(gpointer channel);

/* credit.c */
void cbus_credit_init(CbusLink *link);
void cbus_credit_clear(CbusLink *link);
static inline guint64
cbus_credit_left(const CbusLink *link)
{
    return link->credit.limit - link->credit.sent;
}
void cbus_credit_spend(CbusLink *link, gsize bytes);
gboolean cbus_credit_consume(CbusLink *link, gsize bytes); /* FALSE: more than was granted */
gboolean cbus_credit_heard(CbusLink *link, guint64 limit, guint64 wanted);
void cbus_credit_pack(CbusLink *link);
void cbus_credit_tick(CbusLink *link, gint64 now);

/* assembly.c */
typedef enum {
    CBUS_ASSEMBLY_WAIT,    /* more is to come */
    CBUS_ASSEMBLY_WHOLE,   /* *DATA and *LEN are set; call cbus_assembly_clear() after use */
    CBUS_ASSEMBLY_INVALID, /* no honest peer sends this; *FAULT says what */
    CBUS_ASSEMBLY_LIMIT,   /* would hold too much: the channel must go */
} CbusAssemblyResult;
CbusAssemblyResult cbus_assembly_add(CbusLink *link, CbusAssembly *assembly, const CbusRecord *record,
                                     const guint8 **data, gsize *len, const char **fault);
void cbus_assembly_clear(CbusLink *link, CbusAssembly *assembly);

/* link_ping.c */
void cbus_ping_init(CbusLink *link);
void cbus_ping_opened(CbusLink *link); /* a packet opened */
void cbus_ping_pong(CbusLink *link, guint64 cookie);
void cbus_ping_tick(CbusLink *link, gint64 now);
void cbus_ping_over(CbusLink *link); /* tells all who wait −1 */

/* link_shared.c */
void cbus_budget_attach(CbusBudget *budget, CbusLink *link);
void cbus_budget_detach(CbusBudget *budget, CbusLink *link);
void cbus_budget_wake_at(CbusBudget *budget, gint64 when);
/* For tests: another clock (µs), under which nothing wakes early; and what the timer does. */
void cbus_budget_set_clock(CbusBudget *budget, gint64 (*now)(gpointer data), gpointer data);
void cbus_budget_tick(CbusBudget *budget);
