/* Places for small secrets: apart from one another, empty when taken, and gone with their pages. */
#include "wire/vault.h"
#include <string.h>

#define MANY 1000

static void
test_places_do_not_overlap_and_keep_what_is_in_them(void)
{
    guint8 *places[MANY];

    for (guint i = 0; i < MANY; i++) {
        places[i] = cbus_vault_take();
        memset(places[i], (int)(i % 251), CBUS_VAULT_BYTES);
    }
    for (guint i = 0; i < MANY; i++)
        for (guint at = 0; at < CBUS_VAULT_BYTES; at++)
            g_assert_cmpuint(places[i][at], ==, i % 251);
    for (guint i = 0; i < MANY; i++)
        cbus_vault_give(places[i]);
}

static void
test_a_place_is_empty_whoever_had_it(void)
{
    static const guint8 nothing[CBUS_VAULT_BYTES];
    gpointer neighbour = cbus_vault_take(), place = cbus_vault_take();

    memset(place, 0xa5, CBUS_VAULT_BYTES);
    cbus_vault_give(place);
    gpointer again = cbus_vault_take();
    g_assert_true(again == place);
    g_assert_cmpmem(again, CBUS_VAULT_BYTES, nothing, sizeof nothing);
    cbus_vault_give(again);
    cbus_vault_give(neighbour);
}

static void
test_many_places_share_few_pages_and_leave_none(void)
{
    gpointer places[MANY];
    gsize taken, pages;

    for (guint i = 0; i < MANY; i++)
        places[i] = cbus_vault_take();
    cbus_vault_count(&taken, &pages);
    g_assert_cmpuint(taken, ==, MANY);
    g_assert_cmpuint(pages, <=, MANY / 20);
    /* Every second one first, so that each page has holes for a while. */
    for (guint i = 0; i < MANY; i += 2)
        cbus_vault_give(places[i]);
    for (guint i = 0; i < MANY; i += 2)
        places[i] = cbus_vault_take();
    cbus_vault_count(&taken, &pages);
    g_assert_cmpuint(pages, <=, MANY / 20);
    for (guint i = 0; i < MANY; i++)
        cbus_vault_give(places[i]);
    cbus_vault_count(&taken, &pages);
    g_assert_cmpuint(taken, ==, 0);
    g_assert_cmpuint(pages, ==, 0);
}

static void
test_what_runs_past_a_page_is_stopped(void)
{
    if (g_test_subprocess()) {
        gsize taken, pages = 1;
        volatile guint8 *last = NULL;

        /* The highest place of a full page ends where its guard begins. */
        for (cbus_vault_count(&taken, &pages); pages <= 1; cbus_vault_count(&taken, &pages)) {
            guint8 *place = cbus_vault_take();
            cbus_vault_count(&taken, &pages);
            if (pages <= 1 && (last == NULL || place > (guint8 *)last))
                last = place;
        }
        last[CBUS_VAULT_BYTES] = 1;
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/places-do-not-overlap", test_places_do_not_overlap_and_keep_what_is_in_them);
    g_test_add_func("/vault/a-place-is-empty", test_a_place_is_empty_whoever_had_it);
    g_test_add_func("/vault/many-share-few-pages", test_many_places_share_few_pages_and_leave_none);
    g_test_add_func("/vault/past-a-page", test_what_runs_past_a_page_is_stopped);
    return g_test_run();
}
