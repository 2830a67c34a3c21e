/* What the connector tells of authorized-keys: the table at the start and after each change, and none when
 * others could have written the file. */
#include "connector-fixture.h"

static void
test_changes_are_told(Fixture *fixture, gconstpointer data)
{
    g_autofree char *both = g_strconcat(line_a, "\n", line_b, "\n", NULL);
    g_autofree char *other = g_strconcat(line_a, " renamed\n", NULL);
    CbusTableEntry before = *cbus_connector_client_lookup(fixture->client, &key_a);

    write_keys(fixture, both);
    iterate_until(fixture, &fixture->tables, 2);
    g_assert_nonnull(cbus_connector_client_lookup(fixture->client, &key_b));
    g_assert_cmpmem(&before, sizeof before, cbus_connector_client_lookup(fixture->client, &key_a),
                    sizeof before);

    write_keys(fixture, other);
    iterate_until(fixture, &fixture->tables, 3);
    g_assert_null(cbus_connector_client_lookup(fixture->client, &key_b));
    g_assert_cmpint(memcmp(before.digest, cbus_connector_client_lookup(fixture->client, &key_a)->digest, 32),
                    !=, 0);

    g_assert_cmpint(g_chmod(fixture->keys_file, 0622), ==, 0);
    iterate_until(fixture, &fixture->tables, 4);
    g_assert_null(cbus_connector_client_lookup(fixture->client, &key_a));

    g_assert_cmpint(g_chmod(fixture->keys_file, 0600), ==, 0);
    iterate_until(fixture, &fixture->tables, 5);
    g_assert_nonnull(cbus_connector_client_lookup(fixture->client, &key_a));

    g_assert_cmpint(g_unlink(fixture->keys_file), ==, 0);
    iterate_until(fixture, &fixture->tables, 6);
    g_assert_null(cbus_connector_client_lookup(fixture->client, &key_a));
}

static void
test_writable_folder_authorizes_nobody(Fixture *fixture, gconstpointer data)
{
    g_assert_cmpint(g_chmod(fixture->folder, 0775), ==, 0);
    cbus_connector_client_reload(fixture->client);
    iterate_until(fixture, &fixture->tables, 2);
    g_assert_null(cbus_connector_client_lookup(fixture->client, &key_a));
}

static void
test_large_tables_arrive_whole(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GArray) keys = g_array_new(FALSE, FALSE, sizeof(CbusKey));

    for (guint i = 0; i < 3 * CBUS_TABLE_ENTRIES + 5; i++) {
        guint8 seed[crypto_sign_SEEDBYTES] = {i & 0xff, i >> 8, 1}, secret[crypto_sign_SECRETKEYBYTES];
        char nkey[CBUS_NKEY_LENGTH + 1];
        CbusKey key;

        crypto_sign_seed_keypair(key.bytes, secret, seed);
        cbus_nkey_encode(&key, nkey);
        g_string_append_printf(text, "%s\n", nkey);
        g_array_append_val(keys, key);
    }
    write_keys(fixture, text->str);
    iterate_until(fixture, &fixture->tables, 2);
    for (guint i = 0; i < keys->len; i++) {
        const CbusTableEntry *entry =
            cbus_connector_client_lookup(fixture->client, &g_array_index(keys, CbusKey, i));
        g_assert_nonnull(entry);
        g_assert_cmpuint(entry->number, ==, i + 1);
    }
}

/* The folder with the file in it goes away and comes back: what was watched is another folder then. */
static void
test_replaced_folder_is_seen(Fixture *fixture, gconstpointer data)
{
    g_autofree char *aside = g_strconcat(fixture->folder, ".aside", NULL);

    g_assert_cmpint(g_rename(fixture->folder, aside), ==, 0);
    iterate_until(fixture, &fixture->tables, 2);
    g_assert_null(cbus_connector_client_lookup(fixture->client, &key_a));
    g_assert_cmpint(g_rename(aside, fixture->folder), ==, 0);
    iterate_until(fixture, &fixture->tables, 3);
    g_assert_nonnull(cbus_connector_client_lookup(fixture->client, &key_a));
    write_keys(fixture, line_b);
    iterate_until(fixture, &fixture->tables, 4);
    g_assert_nonnull(cbus_connector_client_lookup(fixture->client, &key_b));
}

/* The file is a symbolic link: what it points at may change without the link's folder. */
static void
test_linked_file_is_seen(Fixture *fixture, gconstpointer data)
{
    g_autofree char *elsewhere = g_build_filename(fixture->folder, "elsewhere", NULL);
    g_autofree char *target = g_build_filename(elsewhere, "keys", NULL);
    g_autofree char *name = g_strdup(fixture->keys_file);

    g_assert_cmpint(g_mkdir(elsewhere, 0700), ==, 0);
    g_assert_cmpint(g_rename(fixture->keys_file, target), ==, 0);
    g_assert_cmpint(symlink(target, name), ==, 0);
    /* The table says the same; the reload is there to have the link seen. */
    cbus_connector_client_reload(fixture->client);
    g_free(g_steal_pointer(&fixture->keys_file));
    fixture->keys_file = g_strdup(target);
    write_keys(fixture, line_b);
    while (cbus_connector_client_lookup(fixture->client, &key_b) == NULL)
        iterate_until(fixture, &fixture->tables, fixture->tables + 1);
    /* Whoever may write the folder of what is pointed at decides. */
    g_assert_cmpint(g_chmod(elsewhere, 0777), ==, 0);
    while (cbus_connector_client_lookup(fixture->client, &key_b) != NULL)
        iterate_until(fixture, &fixture->tables, fixture->tables + 1);
}

/* Reloads until KEY is, or is not, in the table. */
static void
reload_until(Fixture *fixture, const CbusKey *key, gboolean wanted)
{
    do {
        cbus_connector_client_reload(fixture->client);
        iterate_until(fixture, &fixture->tables, fixture->tables + 1);
    } while ((cbus_connector_client_lookup(fixture->client, key) != NULL) != wanted);
}

/* A link by way of a link: who may write the folder in between decides, too. */
static void
test_every_link_on_the_way_counts(Fixture *fixture, gconstpointer data)
{
    g_autofree char *loose = g_build_filename(fixture->folder, "loose", NULL);
    g_autofree char *safe = g_build_filename(fixture->folder, "safe", NULL);
    g_autofree char *between = g_build_filename(loose, "between", NULL);
    g_autofree char *target = g_build_filename(safe, "keys", NULL);

    g_assert_cmpint(g_mkdir(loose, 0755), ==, 0);
    g_assert_cmpint(g_mkdir(safe, 0755), ==, 0);
    g_assert_cmpint(g_rename(fixture->keys_file, target), ==, 0);
    g_assert_cmpint(symlink("../safe/./keys", between), ==, 0);
    g_assert_cmpint(symlink("loose/between", fixture->keys_file), ==, 0);
    reload_until(fixture, &key_a, TRUE);
    g_assert_cmpint(g_chmod(loose, 0777), ==, 0);
    reload_until(fixture, &key_a, FALSE);
    g_assert_cmpint(g_chmod(loose, 01777), ==, 0);
    reload_until(fixture, &key_a, TRUE);
    if (geteuid() == 0) {
        g_assert_cmpint(lchown(between, 65534, 65534), ==, 0);
        reload_until(fixture, &key_a, FALSE);
        g_assert_cmpint(lchown(between, 0, 0), ==, 0);
        g_assert_cmpint(lchown(safe, 65534, 65534), ==, 0);
        reload_until(fixture, &key_a, FALSE);
        g_assert_cmpint(lchown(safe, 0, 0), ==, 0);
        reload_until(fixture, &key_a, TRUE);
    }
    /* A circle ends, and so does a link to nothing. */
    g_assert_cmpint(g_unlink(between), ==, 0);
    g_assert_cmpint(symlink("../authorized_keys", between), ==, 0);
    reload_until(fixture, &key_a, FALSE);
    g_assert_cmpint(g_unlink(between), ==, 0);
    g_assert_cmpint(symlink("../nowhere", between), ==, 0);
    reload_until(fixture, &key_a, FALSE);
}

/* Puts a link to TARGET in the place of NAME, as who switches between two sets of files does. */
static void
switch_link(const char *name, const char *target)
{
    g_autofree char *fresh = g_strconcat(name, ".new", NULL);

    g_assert_cmpint(symlink(target, fresh), ==, 0);
    g_assert_cmpint(g_rename(fresh, name), ==, 0);
}

static void
await_key(Fixture *fixture, const CbusKey *key)
{
    while (cbus_connector_client_lookup(fixture->client, key) == NULL)
        iterate_until(fixture, &fixture->tables, fixture->tables + 1);
}

/* What the name means hangs on a link to a folder: nothing happens to the name, to its folder's listing of it
 * or to what it meant when that is switched. */
static void
test_a_switched_folder_is_seen(Fixture *fixture, gconstpointer data)
{
    g_autofree char *one = g_build_filename(fixture->folder, "one", NULL);
    g_autofree char *two = g_build_filename(fixture->folder, "two", NULL);
    g_autofree char *current = g_build_filename(fixture->folder, "current", NULL);
    g_autofree char *keys_one = g_build_filename(one, "keys", NULL);
    g_autofree char *keys_two = g_build_filename(two, "keys", NULL);

    g_assert_cmpint(g_mkdir(one, 0755), ==, 0);
    g_assert_cmpint(g_mkdir(two, 0755), ==, 0);
    g_assert_cmpint(g_rename(fixture->keys_file, keys_one), ==, 0);
    switch_link(current, "one");
    switch_link(fixture->keys_file, "current/keys");
    g_free(g_steal_pointer(&fixture->keys_file));
    fixture->keys_file = g_steal_pointer(&keys_two);
    write_keys(fixture, line_b);
    reload_until(fixture, &key_a, TRUE);
    switch_link(current, "two");
    await_key(fixture, &key_b);
    g_assert_null(cbus_connector_client_lookup(fixture->client, &key_a));
    switch_link(current, "one");
    await_key(fixture, &key_a);
}

/* A link to a file that comes later. */
static void
test_what_a_link_will_mean_is_seen(Fixture *fixture, gconstpointer data)
{
    g_autofree char *elsewhere = g_build_filename(fixture->folder, "elsewhere", NULL);
    char *target = g_build_filename(elsewhere, "keys", NULL);

    g_assert_cmpint(g_mkdir(elsewhere, 0755), ==, 0);
    switch_link(fixture->keys_file, "elsewhere/keys");
    reload_until(fixture, &key_a, FALSE);
    g_free(g_steal_pointer(&fixture->keys_file));
    fixture->keys_file = target;
    write_keys(fixture, line_b);
    await_key(fixture, &key_b);
}

static void
test_folder_of_somebody_else_authorizes_nobody(Fixture *fixture, gconstpointer data)
{
    g_assert_cmpint(chown(fixture->folder, 65534, 65534), ==, 0);
    reload_until(fixture, &key_a, FALSE);
    g_assert_cmpint(chown(fixture->folder, 0, 0), ==, 0);
    reload_until(fixture, &key_a, TRUE);
}

#define ADD(name, test) g_test_add("/connector-table/" name, Fixture, NULL, set_up_client, test, tear_down)

int
main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    cbus_log_init("test-connector-table", 0);
    line_a = make_line(1, &key_a);
    line_b = make_line(2, &key_b);
    ADD("changes-are-told", test_changes_are_told);
    ADD("writable-folder-authorizes-nobody", test_writable_folder_authorizes_nobody);
    ADD("large-tables-arrive-whole", test_large_tables_arrive_whole);
    ADD("replaced-folder-is-seen", test_replaced_folder_is_seen);
    ADD("linked-file-is-seen", test_linked_file_is_seen);
    ADD("every-link-on-the-way-counts", test_every_link_on_the_way_counts);
    ADD("a-switched-folder-is-seen", test_a_switched_folder_is_seen);
    ADD("what-a-link-will-mean-is-seen", test_what_a_link_will_mean_is_seen);
    if (geteuid() == 0)
        ADD("folder-of-somebody-else-authorizes-nobody", test_folder_of_somebody_else_authorizes_nobody);
    status = g_test_run();
    g_free(line_a);
    g_free(line_b);
    return status;
}
