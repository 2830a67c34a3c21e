/* The last words of links that ended while NATS took nothing.
 *
 * An agent that loses its NATS connection ends its links and can tell nobody. In a cluster the proxies are on
 * other servers: they notice nothing, and find this agent's subject served again a moment later, so that no
 * 503 makes them suspect either. So each link's sealed CLOSE is kept here and said first of all on the next
 * connection. The proxy opens it, or finds a packet missing before it; both end the link.
 *
 * Publishing proves nothing: this connection may break as well, or its server may have joined the cluster a
 * moment ago and not know yet who subscribed to what on the others. So words are said on each connection
 * anew, and on each again after 1, 2, 4 … s. They are heard when the same proxy process has made a new link,
 * as it does at once; then they go. After a minute they go, too: by then the proxy's own pings have told it,
 * of an idle link as well, or it is no more.
 *
 * Saying words again harms nobody: a packet of a link that the proxy has forgotten is dropped there, and so
 * is a number that was seen.
 *
 * Bounded: of one proxy process there is one link at a time, so there are few; beyond KEPT_MAX the oldest go.
 * Loop thread only. */
#include "agent/last_words.h"

#include "wire/subject.h"
#include <string.h>

#define KEPT_MAX 1024
#define KEPT_US  (60 * G_USEC_PER_SEC) /* longer than silence takes to be noticed on an idle link */
#define AGAIN_MS 1000                  /* doubles */

typedef struct {
    gint64 since;
    char out[CBUS_SUBJECT_MAX];
    gsize len;
    guint8 packet[];
} Words;

struct _CbusLastWords {
    CbusLoop *loop;
    CbusNats *nats;
    GQueue kept; /* of Words, oldest first */
    GSource *again;
    guint pause_ms;
};

CbusLastWords *
cbus_last_words_new(CbusLoop *loop, CbusNats *nats)
{
    CbusLastWords *words = g_new0(CbusLastWords, 1);

    words->loop = loop;
    words->nats = nats;
    g_queue_init(&words->kept);
    return words;
}

void
cbus_last_words_down(CbusLastWords *words)
{
    if (words->again != NULL)
        g_source_destroy(words->again);
    g_clear_pointer(&words->again, g_source_unref);
}

void
cbus_last_words_free(CbusLastWords *words)
{
    if (words == NULL)
        return;
    cbus_last_words_down(words);
    g_queue_clear_full(&words->kept, g_free);
    g_free(words);
}

static void
drop_stale(CbusLastWords *words)
{
    gint64 now = g_get_monotonic_time();
    const Words *oldest;

    while ((oldest = g_queue_peek_head(&words->kept)) != NULL && now - oldest->since >= KEPT_US)
        g_free(g_queue_pop_head(&words->kept));
}

static gboolean on_again(gpointer user_data);

static void
say_again_in(CbusLastWords *words, guint pause_ms)
{
    cbus_last_words_down(words);
    words->pause_ms = pause_ms;
    words->again = g_timeout_source_new(pause_ms);
    g_source_set_callback(words->again, on_again, words, NULL);
    g_source_attach(words->again, words->loop->context);
}

static void
say_all(CbusLastWords *words)
{
    drop_stale(words);
    for (GList *node = words->kept.head; node != NULL; node = node->next) {
        const Words *said = node->data;
        if (!cbus_nats_publish(words->nats, said->out, NULL, said->packet, said->len))
            g_debug("a link's last words were not published");
    }
}

static gboolean
on_again(gpointer user_data)
{
    CbusLastWords *words = user_data;

    say_all(words);
    if (words->kept.length > 0)
        say_again_in(words, words->pause_ms * 2);
    else
        cbus_last_words_down(words);
    return G_SOURCE_REMOVE;
}

void
cbus_last_words_up(CbusLastWords *words)
{
    say_all(words);
    if (words->kept.length > 0)
        say_again_in(words, AGAIN_MS);
}

void
cbus_last_words_keep(CbusLastWords *words, const char *out, const guint8 *packet, gsize len)
{
    Words *kept = g_malloc(sizeof *kept + len);

    kept->since = g_get_monotonic_time();
    g_strlcpy(kept->out, out, sizeof kept->out);
    kept->len = len;
    memcpy(kept->packet, packet, len);
    g_queue_push_tail(&words->kept, kept);
    if (words->kept.length > KEPT_MAX)
        g_free(g_queue_pop_head(&words->kept));
    /* Up, and yet it took nothing: its queue is full. Whoever comes next does not put the first off. */
    if (cbus_nats_is_up(words->nats) && (words->again == NULL || words->pause_ms > AGAIN_MS))
        say_again_in(words, AGAIN_MS);
}

void
cbus_last_words_heard(CbusLastWords *words, const char *out)
{
    for (GList *node = words->kept.head; node != NULL;) {
        GList *next = node->next;
        if (g_str_equal(((Words *)node->data)->out, out)) {
            g_free(node->data);
            g_queue_delete_link(&words->kept, node);
        }
        node = next;
    }
    if (words->kept.length == 0)
        cbus_last_words_down(words);
}
