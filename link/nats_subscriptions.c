/* Subscriptions that outlive connections.
 *
 * Each is a record here and, while a connection is up, a subscription of the library's. Those for data are
 * synchronous: the library only queues what it parses, and cbus_nats_subscriptions_drain(), called after each
 * read, hands it out on the loop without a thread switch (an asynchronous one costs 50 to 135 µs a round
 * trip). Those for "no responders" are asynchronous and come through the inbox (nats_inbox.c).
 *
 * Order: what one subscription received is handed out in the order of the wire; several of them, within one
 * read, in the order in which they were subscribed.
 *
 * A function may subscribe, unsubscribe, and end everything (close): a record that is removed while records
 * are being walked keeps its place with id 0 until the walk is over. The library is not safe when an
 * asynchronous subscription is destroyed while messages arrive for it, so such a handle waits in `dead` until
 * its connection is closed.
 *
 * The library frees a message on a thread of its own, which natsMsg_Destroy() wakes whenever that thread has
 * nothing to do: measured, two context switches a message, a third of the processor time of a call. So spent
 * messages wait here and are handed over together; how many and how large is bounded.
 *
 * One thread: the loop's. */
#include "link/nats_subscriptions.h"
#include "link/nats_inbox.h"

#define SPENT_MAX   64
#define SPENT_BYTES (256 * 1024)

typedef struct {
    guint id; /* 0: removed */
    char *subject;
    gboolean no_responders;
    CbusNatsFunc func;
    gpointer user_data;
    natsSubscription *handle; /* NULL: not made */
} Subscription;

struct _CbusNatsSubscriptions {
    GPtrArray *records; /* Subscription */
    GPtrArray *dead;    /* natsSubscription */
    CbusNatsInbox *inbox;
    natsMsg *current; /* that a function is called for */
    guint last_id, walks;
    gboolean closed, removed, freed;
    natsMsg *spent[SPENT_MAX]; /* handed out, not yet destroyed */
    guint spent_count;
    gsize spent_bytes;
};

static void
bury_spent(CbusNatsSubscriptions *subscriptions)
{
    while (subscriptions->spent_count > 0)
        natsMsg_Destroy(subscriptions->spent[--subscriptions->spent_count]);
    subscriptions->spent_bytes = 0;
}

static void
spend(CbusNatsSubscriptions *subscriptions, natsMsg *message)
{
    subscriptions->spent[subscriptions->spent_count++] = message;
    subscriptions->spent_bytes += (gsize)natsMsg_GetDataLength(message);
    if (subscriptions->spent_count == SPENT_MAX || subscriptions->spent_bytes > SPENT_BYTES)
        bury_spent(subscriptions);
}

static void
subscription_free(gpointer data)
{
    Subscription *subscription = data;

    g_free(subscription->subject);
    g_free(subscription);
}

static void
destroy(CbusNatsSubscriptions *subscriptions)
{
    bury_spent(subscriptions);
    g_ptr_array_unref(subscriptions->records);
    g_ptr_array_unref(subscriptions->dead);
    g_free(subscriptions);
}

/* What a function that was called may have removed, or freed, goes now. */
static void
end_walk(CbusNatsSubscriptions *subscriptions)
{
    if (--subscriptions->walks == 0 && subscriptions->freed) {
        destroy(subscriptions);
        return;
    }
    if (subscriptions->walks > 0 || !subscriptions->removed)
        return;
    for (guint i = subscriptions->records->len; i > 0; i--) {
        if (((Subscription *)subscriptions->records->pdata[i - 1])->id == 0)
            g_ptr_array_remove_index(subscriptions->records, i - 1);
    }
    subscriptions->removed = FALSE;
}

static Subscription *
find(CbusNatsSubscriptions *subscriptions, guint id)
{
    for (guint i = 0; id != 0 && i < subscriptions->records->len; i++) {
        Subscription *subscription = subscriptions->records->pdata[i];

        if (subscription->id == id)
            return subscription;
    }
    return NULL;
}

static void
on_no_responders(guint id, const char *subject, gpointer user_data)
{
    CbusNatsSubscriptions *subscriptions = user_data;
    Subscription *subscription = find(subscriptions, id);

    subscriptions->walks++;
    if (subscription != NULL)
        subscription->func(subject, NULL, NULL, 0, subscription->user_data);
    end_walk(subscriptions);
}

CbusNatsSubscriptions *
cbus_nats_subscriptions_new(GMainContext *context)
{
    CbusNatsSubscriptions *subscriptions = g_new0(CbusNatsSubscriptions, 1);

    subscriptions->records = g_ptr_array_new_with_free_func(subscription_free);
    subscriptions->dead = g_ptr_array_new_with_free_func((GDestroyNotify)natsSubscription_Destroy);
    subscriptions->inbox = cbus_nats_inbox_new(context, on_no_responders, subscriptions);
    return subscriptions;
}

void
cbus_nats_subscriptions_close(CbusNatsSubscriptions *subscriptions)
{
    subscriptions->closed = TRUE;
    g_clear_pointer(&subscriptions->inbox, cbus_nats_inbox_close);
}

void
cbus_nats_subscriptions_free(CbusNatsSubscriptions *subscriptions)
{
    g_clear_pointer(&subscriptions->inbox, cbus_nats_inbox_close);
    subscriptions->freed = TRUE;
    if (subscriptions->walks == 0)
        destroy(subscriptions);
}

guint
cbus_nats_subscriptions_add(CbusNatsSubscriptions *subscriptions, const char *subject, gboolean no_responders,
                            CbusNatsFunc func, gpointer user_data)
{
    Subscription *subscription = g_new0(Subscription, 1);

    subscription->id = ++subscriptions->last_id;
    subscription->subject = g_strdup(subject);
    subscription->no_responders = no_responders;
    subscription->func = func;
    subscription->user_data = user_data;
    g_ptr_array_add(subscriptions->records, subscription);
    return subscription->id;
}

void
cbus_nats_subscriptions_remove(CbusNatsSubscriptions *subscriptions, guint id)
{
    Subscription *subscription = find(subscriptions, id);

    if (subscription == NULL)
        return;
    subscriptions->walks++;
    subscription->id = 0;
    subscriptions->removed = TRUE;
    if (subscription->handle != NULL)
        natsSubscription_Unsubscribe(subscription->handle);
    if (subscription->handle != NULL && subscription->no_responders)
        g_ptr_array_add(subscriptions->dead, g_steal_pointer(&subscription->handle));
    g_clear_pointer(&subscription->handle, natsSubscription_Destroy);
    end_walk(subscriptions);
}

static natsStatus
make_one(CbusNatsSubscriptions *subscriptions, Subscription *subscription, natsConnection *connection)
{
    natsStatus s;

    if (subscription->no_responders)
        return cbus_nats_inbox_subscribe(subscriptions->inbox, connection, subscription->subject,
                                         subscription->id, &subscription->handle);
    s = natsConnection_SubscribeSync(&subscription->handle, connection, subscription->subject);
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(subscription->handle, -1, -1);
    return s;
}

natsStatus
cbus_nats_subscriptions_make(CbusNatsSubscriptions *subscriptions, natsConnection *connection)
{
    natsStatus s = NATS_OK;

    for (guint i = 0; s == NATS_OK && i < subscriptions->records->len; i++) {
        Subscription *subscription = subscriptions->records->pdata[i];

        if (subscription->handle == NULL && subscription->id != 0)
            s = make_one(subscriptions, subscription, connection);
    }
    return s;
}

static void
drain_one(CbusNatsSubscriptions *subscriptions, Subscription *subscription)
{
    int count = 0;

    natsSubscription_GetPending(subscription->handle, &count, NULL);
    for (; count > 0 && !subscriptions->closed && subscription->id != 0; count--) {
        natsMsg *message = NULL;

        if (natsSubscription_NextMsg(&message, subscription->handle, 0) != NATS_OK)
            continue; /* a 503: the library hands out no message for it */
        subscriptions->current = message;
        /* The message is ours until it is destroyed; the library's const is for callers that share it. */
        subscription->func(natsMsg_GetSubject(message), natsMsg_GetReply(message),
                           (guint8 *)natsMsg_GetData(message), (gsize)natsMsg_GetDataLength(message),
                           subscription->user_data);
        subscriptions->current = NULL;
        spend(subscriptions, message);
    }
}

const char *
cbus_nats_subscriptions_header(CbusNatsSubscriptions *subscriptions, const char *name)
{
    const char *value = NULL;

    if (subscriptions->current == NULL || natsMsgHeader_Get(subscriptions->current, name, &value) != NATS_OK)
        return NULL;
    return value;
}

void
cbus_nats_subscriptions_drain(CbusNatsSubscriptions *subscriptions)
{
    subscriptions->walks++;
    for (guint i = 0; i < subscriptions->records->len && !subscriptions->closed; i++) {
        Subscription *subscription = subscriptions->records->pdata[i];

        if (subscription->handle != NULL && !subscription->no_responders)
            drain_one(subscriptions, subscription);
    }
    end_walk(subscriptions);
}

void
cbus_nats_subscriptions_unmake(CbusNatsSubscriptions *subscriptions)
{
    bury_spent(subscriptions);
    for (guint i = 0; i < subscriptions->records->len; i++) {
        Subscription *subscription = subscriptions->records->pdata[i];

        g_clear_pointer(&subscription->handle, natsSubscription_Destroy);
    }
    g_ptr_array_set_size(subscriptions->dead, 0);
}
