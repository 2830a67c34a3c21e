/* Places for the keys of links.
 *
 * sodium_malloc() takes two pages between two guards for each piece, however small: four mappings of the
 * kernel's, and one locked page. With the keys of a link in a piece of its own a thousand links had 8 MB and
 * 4 000 mappings for 170 KB of keys; the usual RLIMIT_MEMLOCK of 8 MB was full at two thousand, from where on
 * keys could have been swapped out, and the kernel's limit of mappings at sixteen thousand. So twenty-one
 * places share one such page.
 *
 * What is promised stays: a place is locked in memory, is not in a core dump, is wiped when it is given back,
 * and whatever runs past its page is stopped by the kernel. What is lost is a guard between two links of one
 * process: they are reached through one small struct of fixed size (wire/seal.c), which nothing indexes by a
 * number from outside.
 *
 * A page goes when its last place does, so that nothing is left when all links are gone. The lock is taken
 * when a link is made and when it goes, never on the way of a packet. */
#include "wire/vault.h"

#include "wire/crypto.h"
#include <sodium.h>
#include <string.h>

#define PLACES 21 /* what fits in 4096 bytes with libsodium's canary */

typedef struct _Page Page;

typedef struct {
    Page *page;
    guint8 bytes[CBUS_VAULT_BYTES];
} Place;

struct _Page {
    Place *places; /* guarded */
    guint32 taken; /* a bit for each */
    GList node;    /* in `roomy` while not all are */
};

G_STATIC_ASSERT(sizeof(Place) == 192);

static GMutex lock;
static GQueue roomy = G_QUEUE_INIT;
static gsize n_places, n_pages;

#define ALL ((1u << PLACES) - 1)

static Page *
page_new(void)
{
    Page *page = g_new0(Page, 1);

    cbus_crypto_init();
    page->places = sodium_allocarray(PLACES, sizeof(Place));
    if (page->places == NULL)
        g_error("out of memory for keys");
    page->node.data = page;
    g_queue_push_head_link(&roomy, &page->node);
    n_pages++;
    return page;
}

static void
page_free(Page *page)
{
    g_queue_unlink(&roomy, &page->node);
    sodium_free(page->places);
    g_free(page);
    n_pages--;
}

gpointer
cbus_vault_take(void)
{
    g_mutex_lock(&lock);
    Page *page = g_queue_is_empty(&roomy) ? page_new() : g_queue_peek_head(&roomy);
    int at = g_bit_nth_lsf(~page->taken, -1);
    Place *place = &page->places[at];
    page->taken |= 1u << at;
    if (page->taken == ALL)
        g_queue_unlink(&roomy, &page->node);
    n_places++;
    g_mutex_unlock(&lock);
    place->page = page;
    memset(place->bytes, 0, sizeof place->bytes);
    return place->bytes;
}

void
cbus_vault_give(gpointer bytes)
{
    if (bytes == NULL)
        return;
    Place *place = (gpointer)((guint8 *)bytes - G_STRUCT_OFFSET(Place, bytes));
    Page *page = place->page;
    sodium_memzero(place, sizeof *place);
    g_mutex_lock(&lock);
    if (page->taken == ALL)
        g_queue_push_head_link(&roomy, &page->node);
    page->taken &= ~(1u << (place - page->places));
    n_places--;
    if (page->taken == 0)
        page_free(page);
    g_mutex_unlock(&lock);
}

void
cbus_vault_count(gsize *places, gsize *pages)
{
    g_mutex_lock(&lock);
    *places = n_places;
    *pages = n_pages;
    g_mutex_unlock(&lock);
}
