/* One machine's mirror: method calls, replies, signals and introspection between the session bus and that
 * machine's link (design, "The mirror, precisely"). Lives as long as the machine is in the roster; links come
 * and go. Loop thread only. */
#pragma once
#include "introspect/cache.h"
#include "introspect/path.h"
#include "link/link.h"
#include "proxy/front.h"

typedef struct _CbusMirror CbusMirror;

typedef struct {
    void (*services_changed)(CbusMirror *mirror, gpointer user_data);     /* cbus_mirror_services() differs */
    void (*signals_lost_changed)(CbusMirror *mirror, gpointer user_data); /* at most once a second */
    /* The link lives, but the machine's bus can not be reached, for this REASON (borrowed; maybe the one told
     * before), or, with NULL, is back. A link that ends is not told. The mirror must not be entered. */
    void (*bus_changed)(CbusMirror *mirror, const char *reason, gpointer user_data);
} CbusMirrorHandler;

CbusMirror *cbus_mirror_new(CbusLoop *loop, CbusFront *front, CbusNodeStore *store, const CbusKey *machine,
                            const CbusMirrorHandler *handler, gpointer user_data);
/* Answers whatever is pending (NoReply or Offline) first. */
void cbus_mirror_free(CbusMirror *mirror);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusMirror, cbus_mirror_free)

/* How error messages name the machine: "web1 (UABCD…)". And what they say while there is no link: the D-Bus
 * error name and message (Offline, AccessDenied or Incompatible). Copied. */
void cbus_mirror_set_label(CbusMirror *mirror, const char *label);
void cbus_mirror_set_absence(CbusMirror *mirror, const char *error_name, const char *message);

/* The match rules of the signals that are repeated, from the next link on; borrowed. Every signal unless set.
 */
void cbus_mirror_set_signals(CbusMirror *mirror, const char *const *rules);

/* Instead of the monotonic clock, in µs: for tests. */
void cbus_mirror_set_clock(CbusMirror *mirror, gint64 (*clock)(gpointer data), gpointer data);

/* The roster owns the link and its handler, and passes on what concerns the mirror's channels. */
void cbus_mirror_link_up(CbusMirror *mirror, CbusLink *link); /* borrowed until link_down */
/* Call while LINK's counters are still valid: sent calls are answered NoReply, unsent ones Offline. */
void cbus_mirror_link_down(CbusMirror *mirror, const GError *reason);
/* Each returns FALSE if CHANNEL is not the mirror's. */
gboolean cbus_mirror_opened(CbusMirror *mirror, guint32 channel);
gboolean cbus_mirror_message(CbusMirror *mirror, guint32 channel, const guint8 *message, gsize size);
gboolean cbus_mirror_channel_closed(CbusMirror *mirror, guint32 channel, const char *error_name,
                                    const char *message);
gboolean cbus_mirror_tree(CbusMirror *mirror, guint32 channel, guint32 id, const guint8 *answer, gsize len);

/* A call at a place of kind SERVICE on this machine: forwarded or answered. Introspect calls are answered
 * from the cache or a TREE. */
void cbus_mirror_call(CbusMirror *mirror, const CbusPlace *place, const CbusMessage *call,
                      const guint8 *bytes);
/* Introspect of the machine's own node: EXTRA_INTERFACES is the XML of what the proxy itself serves there. */
void cbus_mirror_introspect_machine(CbusMirror *mirror, const CbusMessage *call,
                                    const char *extra_interfaces);
void cbus_mirror_caller_gone(CbusMirror *mirror, const char *unique_name);

/* A return or an error, as a session bus caller would get it, and its bytes; borrowed. The mirror must not be
 * entered from it. */
typedef void (*CbusMirrorAnswer)(const CbusMessage *answer, const guint8 *bytes, gpointer user_data);
/* A call of the proxy's own, of which PLACE's service and path count; CALL's serial does not, and its sender
 * is on whose account it is. ANSWER is called once, maybe before this returns, unless CALL wants no reply.
 * Returns what cancels it. */
guint64 cbus_mirror_ask(CbusMirror *mirror, const CbusPlace *place, const CbusMessage *call,
                        CbusMirrorAnswer answer, gpointer user_data);
/* The answer is not wanted any more; nothing happens when it came already. */
void cbus_mirror_ask_cancel(CbusMirror *mirror, guint64 ask);

/* To be called every few seconds: closes channels that nobody needs any more, gives up trees that never came,
 * and has an idle link pinged less often. Next to nothing when there was no call since the last. */
void cbus_mirror_tick(CbusMirror *mirror);

/* Well-known names on the remote bus, activatable ones too, sorted; NULL-terminated; borrowed until the next
 * change. */
const char *const *cbus_mirror_services(const CbusMirror *mirror);
guint64 cbus_mirror_signals_lost(const CbusMirror *mirror);
