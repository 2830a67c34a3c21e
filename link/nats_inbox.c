/* "No responders" answers.
 *
 * When a message with a reply subject finds no subscriber, the server answers to that subject with a status
 * 503. A synchronous subscription turns it into a bare error: the subject, which says whose packet found
 * nobody, is lost. So these subscriptions are asynchronous: nats.c gives each a delivery thread, which calls
 * on_message() here, and what it finds is brought to the loop through a queue and one idle source.
 *
 * Any NATS user can publish what looks like a 503, so the queue is bounded and what does not fit is dropped:
 * a 503 is a suspicion that a ping settles, not a fact (design, "Identity and links").
 *
 * Threads: on_message() and on_complete() run on the library's threads, which live for an unknown time after
 * their subscription was destroyed; therefore the state is counted, one reference for the loop and one for
 * each subscription, given back when the library says that it is complete. All of it is guarded by the mutex
 * except what is constant; `func` is called on the loop, without the lock. */
#include "link/nats_inbox.h"

#define WAITING_MAX 1024

struct _CbusNatsInbox {
    GMutex mutex;
    GMainContext *context;
    CbusNatsInboxFunc func; /* constant */
    gpointer user_data;
    GQueue waiting; /* Notice */
    GSource *wake;  /* NULL: none is under way */
    gboolean closed;
};

typedef struct {
    guint id;
    char *subject;
} Notice;

/* What a subscription's callbacks get. */
typedef struct {
    CbusNatsInbox *inbox;
    guint id;
} Closure;

static void
notice_free(gpointer data)
{
    Notice *notice = data;

    g_free(notice->subject);
    g_free(notice);
}

static void
clear_inbox(gpointer data)
{
    CbusNatsInbox *inbox = data;

    g_queue_clear_full(&inbox->waiting, notice_free);
    g_main_context_unref(inbox->context);
    g_mutex_clear(&inbox->mutex);
}

static void
inbox_unref(gpointer inbox)
{
    g_atomic_rc_box_release_full(inbox, clear_inbox);
}

static gboolean
on_wake(gpointer user_data)
{
    CbusNatsInbox *inbox = user_data;
    GQueue arrived = G_QUEUE_INIT;
    Notice *notice;

    g_mutex_lock(&inbox->mutex);
    arrived = inbox->waiting;
    g_queue_init(&inbox->waiting);
    g_clear_pointer(&inbox->wake, g_source_unref);
    g_mutex_unlock(&inbox->mutex);
    while ((notice = g_queue_pop_head(&arrived)) != NULL) {
        /* Only the loop closes, so on the loop it can be read without the lock. */
        if (!inbox->closed)
            inbox->func(notice->id, notice->subject, inbox->user_data);
        notice_free(notice);
    }
    return G_SOURCE_REMOVE;
}

/* With the lock held. */
static void
post(CbusNatsInbox *inbox, guint id, const char *subject)
{
    Notice *notice;

    if (inbox->closed || inbox->waiting.length >= WAITING_MAX)
        return;
    notice = g_new(Notice, 1);
    *notice = (Notice){.id = id, .subject = g_strdup(subject)};
    g_queue_push_tail(&inbox->waiting, notice);
    if (inbox->wake != NULL)
        return;
    inbox->wake = g_idle_source_new();
    g_source_set_priority(inbox->wake, G_PRIORITY_DEFAULT);
    g_source_set_callback(inbox->wake, on_wake, g_atomic_rc_box_acquire(inbox), inbox_unref);
    g_source_attach(inbox->wake, inbox->context);
}

static void
on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *user_data)
{
    Closure *closure = user_data;

    if (natsMsg_IsNoResponders(message)) {
        g_mutex_lock(&closure->inbox->mutex);
        post(closure->inbox, closure->id, natsMsg_GetSubject(message));
        g_mutex_unlock(&closure->inbox->mutex);
    }
    natsMsg_Destroy(message);
}

static void
on_complete(void *user_data)
{
    Closure *closure = user_data;

    inbox_unref(closure->inbox);
    g_free(closure);
}

CbusNatsInbox *
cbus_nats_inbox_new(GMainContext *context, CbusNatsInboxFunc func, gpointer user_data)
{
    CbusNatsInbox *inbox = g_atomic_rc_box_new0(CbusNatsInbox);

    g_mutex_init(&inbox->mutex);
    g_queue_init(&inbox->waiting);
    inbox->context = g_main_context_ref(context);
    inbox->func = func;
    inbox->user_data = user_data;
    return inbox;
}

void
cbus_nats_inbox_close(CbusNatsInbox *inbox)
{
    GSource *wake;

    g_mutex_lock(&inbox->mutex);
    inbox->closed = TRUE;
    wake = g_steal_pointer(&inbox->wake);
    g_mutex_unlock(&inbox->mutex);
    if (wake != NULL) {
        g_source_destroy(wake);
        g_source_unref(wake);
    }
    inbox_unref(inbox);
}

/* OUT is to be destroyed only after CONNECTION was closed: the library is not safe while messages arrive. */
natsStatus
cbus_nats_inbox_subscribe(CbusNatsInbox *inbox, natsConnection *connection, const char *subject, guint id,
                          natsSubscription **out)
{
    natsSubscription *subscription = NULL;
    Closure *closure = g_new(Closure, 1);
    natsStatus s;

    *closure = (Closure){.inbox = g_atomic_rc_box_acquire(inbox), .id = id};
    s = natsConnection_Subscribe(&subscription, connection, subject, on_message, closure);
    if (s == NATS_OK)
        s = natsSubscription_SetOnCompleteCB(subscription, on_complete, closure);
    if (s != NATS_OK) {
        /* With a subscription its thread may hold the closure: then a few bytes are lost with the connection.
         */
        if (subscription == NULL)
            on_complete(closure);
        else
            natsSubscription_Destroy(subscription);
        return s;
    }
    *out = subscription;
    return NATS_OK;
}
