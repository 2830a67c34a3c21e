/* One proxy's link: routes what arrives to its channels.
 *
 * A peer exists from the moment its link is accepted until the link ends, is revoked, or the agent stops. It
 * owns the link and the channels; a channel's end closes it on the link, a link's end closes all channels and
 * with them their bus connections, so that the machine's bus undoes what a lost proxy held.
 *
 * It remembers the authorized-keys line under which it was accepted: the connector compares the line with its
 * own reading at each new channel, and the agent does when the file changes.
 *
 * The link pings each second while calls are pending, and stops doing so five seconds after the last reply:
 * switching with every call would cost more than the pings.
 *
 * Trust: the proxy's identity is proved, its bytes are not to be trusted. How many channels it may have is
 * charged to its identity, and one that we closed is charged until what its queue holds is sent: a proxy that
 * grants no credit could have us keep any number of them. Loop thread only. */
#include "agent/peer.h"
#include "agent/channel.h"
#include "wire/tree.h"
#include <string.h>

#define CALM_S 5

struct _CbusPeer {
    const CbusHost *host;
    CbusLink *link;
    CbusKey caller;
    CbusTableEntry entry;
    CbusPeerEnded ended;
    gpointer user_data;
    GHashTable *channels; /* id → CbusAgentChannel */
    GHashTable *closing;  /* ids that we closed and the link still has */
    GSource *calm;        /* runs while the link is said to be busy */
};

static void
channel_ended(CbusAgentChannel *channel, const char *error_name, const char *message, gboolean discard,
              gpointer user_data)
{
    CbusPeer *self = user_data;
    guint32 id = cbus_agent_channel_id(channel);

    g_hash_table_add(self->closing, GUINT_TO_POINTER(id));
    cbus_link_close_channel(self->link, id, error_name, message, discard);
    g_hash_table_remove(self->channels, GUINT_TO_POINTER(id));
}

static gboolean
calm_down(gpointer user_data)
{
    CbusPeer *self = user_data;
    GHashTableIter iter;
    gpointer channel;

    g_hash_table_iter_init(&iter, self->channels);
    while (g_hash_table_iter_next(&iter, NULL, &channel))
        if (cbus_agent_channel_is_busy(channel))
            return G_SOURCE_CONTINUE;
    cbus_link_set_busy(self->link, FALSE);
    g_clear_pointer(&self->calm, g_source_unref);
    return G_SOURCE_REMOVE;
}

static void
channel_busy(CbusAgentChannel *channel, gpointer user_data)
{
    CbusPeer *self = user_data;

    if (self->calm != NULL)
        return;
    cbus_link_set_busy(self->link, TRUE);
    self->calm = g_timeout_source_new_seconds(CALM_S);
    g_source_set_callback(self->calm, calm_down, self, NULL);
    g_source_attach(self->calm, self->host->loop->context);
}

/* The policy of the line; NULL: it has none. FALSE: it names one that is not there. */
static gboolean
find_policy(CbusPeer *self, const CbusPolicy **policy)
{
    *policy = NULL;
    if (self->entry.policy[0] != '\0')
        *policy = cbus_connector_client_policy(self->host->connector, self->entry.policy);
    return *policy != NULL || self->entry.policy[0] == '\0';
}

static void
link_open(CbusLink *link, guint32 id, guint32 uid_claim, gpointer user_data)
{
    static const CbusAgentChannelHandler handler = {.ended = channel_ended, .busy = channel_busy};
    CbusPeer *self = user_data;
    const CbusPolicy *policy;

    if (!find_policy(self, &policy)) {
        cbus_link_close_channel(link, id, CBUS_DBUS_ERROR("AccessDenied"),
                                "the policy of this operator's key is missing on this machine", TRUE);
        return;
    }
    if (!cbus_quota_take_caller(self->host->quota, &self->caller)) {
        cbus_link_close_channel(link, id, CBUS_DBUS_ERROR("LimitsExceeded"),
                                "this operator has too many channels on this machine", TRUE);
        return;
    }
    CbusAgentChannel *channel = cbus_agent_channel_new(self->host, link, id, &self->caller,
                                                       self->entry.digest, uid_claim, &handler, self);
    if (channel == NULL) {
        cbus_quota_give_caller(self->host->quota, &self->caller);
        cbus_link_close_channel(link, id, CBUS_DBUS_ERROR("LimitsExceeded"),
                                "this machine makes too many bus connections at once: try again", TRUE);
        return;
    }
    cbus_agent_channel_set_policy(channel, policy);
    g_hash_table_insert(self->channels, GUINT_TO_POINTER(id), channel);
}

/* An unknown id is a channel that we closed while the proxy was still sending. */
static void
link_message(CbusLink *link, guint32 id, const guint8 *message, gsize size, gpointer user_data)
{
    CbusPeer *self = user_data;
    CbusAgentChannel *channel = g_hash_table_lookup(self->channels, GUINT_TO_POINTER(id));

    if (channel != NULL)
        cbus_agent_channel_message(channel, message, size);
}

static void
link_channel_closed(CbusLink *link, guint32 id, const char *error_name, const char *message,
                    gpointer user_data)
{
    CbusPeer *self = user_data;

    if (g_hash_table_remove(self->channels, GUINT_TO_POINTER(id)))
        cbus_quota_give_caller(self->host->quota, &self->caller);
}

static void
link_channel_gone(CbusLink *link, guint32 id, gpointer user_data)
{
    CbusPeer *self = user_data;

    if (g_hash_table_remove(self->closing, GUINT_TO_POINTER(id)))
        cbus_quota_give_caller(self->host->quota, &self->caller);
}

static void
link_tree(CbusLink *link, guint32 id, guint32 request, const guint8 *payload, gsize len, gpointer user_data)
{
    CbusPeer *self = user_data;
    CbusAgentChannel *channel = g_hash_table_lookup(self->channels, GUINT_TO_POINTER(id));

    if (channel != NULL)
        cbus_agent_channel_tree(channel, request, (const char *)payload); /* checked by the link */
}

static void
link_ended(CbusLink *link, const GError *reason, gpointer user_data)
{
    CbusPeer *self = user_data;

    self->ended(self, reason, self->user_data);
}

CbusPeer *
cbus_peer_new(const CbusHost *host, const CbusServerInfo *info, CbusLink *link, const CbusKey *caller,
              const CbusTableEntry *entry, CbusPeerEnded ended, gpointer user_data)
{
    static const CbusLinkHandler handler = {.open = link_open,
                                            .message = link_message,
                                            .channel_closed = link_channel_closed,
                                            .channel_gone = link_channel_gone,
                                            .tree = link_tree,
                                            .ended = link_ended};
    CbusPeer *self = g_new0(CbusPeer, 1);

    self->host = host;
    self->link = link;
    self->caller = *caller;
    self->entry = *entry;
    self->ended = ended;
    self->user_data = user_data;
    self->channels = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)cbus_agent_channel_free);
    self->closing = g_hash_table_new(NULL, NULL);
    cbus_link_set_handler(link, &handler, self);
    cbus_link_send_server_info(link, info->name, info->machine_id, info->boot_id, info->version);
    return self;
}

void
cbus_peer_free(CbusPeer *self)
{
    for (guint n = g_hash_table_size(self->channels) + g_hash_table_size(self->closing); n > 0; n--)
        cbus_quota_give_caller(self->host->quota, &self->caller);
    g_hash_table_unref(self->channels);
    g_hash_table_unref(self->closing);
    if (self->calm != NULL) {
        g_source_destroy(self->calm);
        g_source_unref(self->calm);
    }
    cbus_link_free(self->link);
    g_free(self);
}

void
cbus_peer_close(CbusPeer *self, const char *message)
{
    cbus_link_close(self->link, message);
}

CbusLink *
cbus_peer_link(const CbusPeer *self)
{
    return self->link;
}

const CbusKey *
cbus_peer_caller(const CbusPeer *self)
{
    return &self->caller;
}

void
cbus_peer_renew_policy(CbusPeer *self)
{
    const CbusPolicy *policy;
    GHashTableIter iter;
    gpointer channel;

    if (!find_policy(self, &policy)) {
        cbus_link_fail(self->link, CBUS_LINK_ERROR_CLOSED, "the policy of this operator's key is gone");
        return;
    }
    g_hash_table_iter_init(&iter, self->channels);
    while (g_hash_table_iter_next(&iter, NULL, &channel))
        cbus_agent_channel_set_policy(channel, policy);
}

gboolean
cbus_peer_is_under(const CbusPeer *self, const CbusTableEntry *entry)
{
    return entry != NULL && memcmp(entry->digest, self->entry.digest, sizeof entry->digest) == 0;
}
