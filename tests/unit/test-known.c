/* known_machines and the runtime directory, on a real file system: changes are seen however they are made,
 * and what is not private is refused. */
#include "proxy/known.h"
#include "proxy/runtime_dir.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A valid NKey (the ed25519 base point), so that lines pin. */
#define NKEY "UBMGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGMZTGNGPY"

typedef struct {
    CbusLoop loop;
    char *directory, *file;
    CbusKnown *known;
    guint told;
    char *name; /* of the one machine, NULL: none */
} Fixture;

static void
on_known(CbusKnownMachines *known, gpointer user_data)
{
    Fixture *fixture = user_data;
    fixture->told++;
    g_free(fixture->name);
    fixture->name =
        cbus_known_machines_size(known) > 0 ? g_strdup(cbus_known_machines_get(known, 0)->name) : NULL;
    cbus_known_machines_free(known);
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    fixture->loop.context = g_main_context_default();
    fixture->loop.turn = cbus_turn_new(fixture->loop.context);
    fixture->loop.poller = cbus_poller_new(fixture->loop.context, fixture->loop.turn, &error);
    g_assert_no_error(error);
    fixture->directory = g_dir_make_tmp("cbus-known-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->file = g_build_filename(fixture->directory, "config", "cbus", "known_machines", NULL);
    fixture->known = cbus_known_new(&fixture->loop, fixture->file, on_known, fixture, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(fixture->told, ==, 1);
    g_assert_null(fixture->name);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_autofree char *inner = g_path_get_dirname(fixture->file), *outer = g_path_get_dirname(inner);
    cbus_known_free(fixture->known);
    cbus_poller_free(fixture->loop.poller);
    cbus_turn_free(fixture->loop.turn);
    g_unlink(fixture->file);
    g_rmdir(inner);
    g_rmdir(outer);
    g_rmdir(fixture->directory);
    g_free(fixture->directory);
    g_free(fixture->file);
    g_free(fixture->name);
}

static void
write_name(const char *file, const char *name)
{
    g_autofree char *text = g_strdup_printf(NKEY " %s\n", name);
    g_autoptr(GError) error = NULL;
    g_file_set_contents_full(file, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, &error);
    g_assert_no_error(error);
}

static void
wait_for(Fixture *fixture, const char *name)
{
    while (g_strcmp0(fixture->name, name) != 0) {
        g_main_context_iteration(fixture->loop.context, TRUE);
    }
}

static void
make_directory(Fixture *fixture)
{
    g_autofree char *directory = g_path_get_dirname(fixture->file);
    g_assert_cmpint(g_mkdir_with_parents(directory, 0700), ==, 0);
}

static void
test_directories_may_come_later(Fixture *fixture, gconstpointer data)
{
    g_autofree char *inner = g_path_get_dirname(fixture->file), *outer = g_path_get_dirname(inner);
    g_assert_cmpint(g_mkdir(outer, 0700), ==, 0);
    while (g_main_context_iteration(fixture->loop.context, FALSE)) {}
    g_assert_cmpint(g_mkdir(inner, 0700), ==, 0);
    write_name(fixture->file, "first");
    wait_for(fixture, "first");
}

/* `cbus trust` follows the link and replaces what it leads to. */
static void
test_what_a_link_leads_to_is_seen(Fixture *fixture, gconstpointer data)
{
    g_autofree char *elsewhere = g_build_filename(fixture->directory, "elsewhere", NULL);
    g_autofree char *real = g_build_filename(elsewhere, "machines", NULL);
    make_directory(fixture);
    g_assert_cmpint(g_mkdir(elsewhere, 0700), ==, 0);
    write_name(real, "first");
    g_assert_cmpint(symlink(real, fixture->file), ==, 0);
    wait_for(fixture, "first");
    while (g_main_context_iteration(fixture->loop.context, FALSE)) {} /* what the directories still say */
    write_name(real, "second");
    wait_for(fixture, "second");

    /* Where it is a file again, nobody cares for the other directory, and changes are seen as before. */
    write_name(fixture->file, "own");
    wait_for(fixture, "own");
    write_name(fixture->file, "last");
    wait_for(fixture, "last");
    g_unlink(real);
    g_rmdir(elsewhere);
}

static void
test_changes_are_seen(Fixture *fixture, gconstpointer data)
{
    make_directory(fixture);
    write_name(fixture->file, "first");
    wait_for(fixture, "first");
    write_name(fixture->file, "rewritten");
    wait_for(fixture, "rewritten");

    g_autofree char *other = g_strconcat(fixture->file, ".new", NULL);
    write_name(other, "renamed");
    g_assert_cmpint(g_rename(other, fixture->file), ==, 0);
    wait_for(fixture, "renamed");

    g_unlink(fixture->file);
    wait_for(fixture, NULL);
    write_name(fixture->file, "again");
    wait_for(fixture, "again");
}

/* UNREADABLE takes the file's place, and the machines stay; what can be read counts again. */
static void
assert_changes_nothing(Fixture *fixture, const char *unreadable)
{
    write_name(fixture->file, "first");
    wait_for(fixture, "first");
    guint told = fixture->told;
    g_assert_cmpint(g_rename(unreadable, fixture->file), ==, 0);
    g_main_context_iteration(fixture->loop.context, TRUE);
    g_assert_cmpuint(fixture->told, ==, told);
    g_assert_cmpstr(fixture->name, ==, "first");

    g_unlink(fixture->file);
    write_name(fixture->file, "second");
    wait_for(fixture, "second");
}

static void
test_what_can_not_be_read_changes_nothing(Fixture *fixture, gconstpointer data)
{
    /* A FIFO would block whoever opens it carelessly. */
    g_autofree char *fifo = g_strconcat(fixture->file, ".fifo", NULL);
    make_directory(fixture);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    assert_changes_nothing(fixture, fifo);
}

/* A disk that fails in mid-file must not unpin a fleet: the kernel has regular files whose reading fails. */
static void
test_a_failing_disk_changes_nothing(Fixture *fixture, gconstpointer data)
{
    static const char broken[] = "/sys/class/net/lo/speed";
    g_autofree char *text = NULL, *link = g_strconcat(fixture->file, ".link", NULL);
    if (!g_file_test(broken, G_FILE_TEST_IS_REGULAR) || g_file_get_contents(broken, &text, NULL, NULL)) {
        g_test_skip("no file here whose reading fails");
        return;
    }
    make_directory(fixture);
    g_assert_cmpint(symlink(broken, link), ==, 0);
    assert_changes_nothing(fixture, link);
}

static void
test_equal_content_is_no_change(Fixture *fixture, gconstpointer data)
{
    make_directory(fixture);
    write_name(fixture->file, "first");
    wait_for(fixture, "first");
    guint told = fixture->told;
    write_name(fixture->file, "first");
    g_main_context_iteration(fixture->loop.context, TRUE);
    g_assert_cmpuint(fixture->told, ==, told);
}

/* Begins to write FILE in place, as editors and shells do: TEXT so far. */
static int
begin_to_write(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, text, strlen(text)), ==, (gssize)strlen(text));
    return fd;
}

/* Another file changes in the same directory: an event that says nothing of known_machines. */
static void
change_another(Fixture *fixture)
{
    g_autofree char *other = g_strconcat(fixture->file, ".other", NULL);
    write_name(other, "other");
    g_main_context_iteration(fixture->loop.context, TRUE);
    g_unlink(other);
    g_main_context_iteration(fixture->loop.context, TRUE);
}

static void
test_what_is_being_written_is_not_believed(Fixture *fixture, gconstpointer data)
{
    static const char *const parts[] = {"", "# machines\n", NKEY " sec"};
    make_directory(fixture);
    write_name(fixture->file, "first");
    wait_for(fixture, "first");
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
        guint told = fixture->told;
        int fd = begin_to_write(fixture->file, parts[i]);
        change_another(fixture);
        g_assert_cmpuint(fixture->told, ==, told);
        g_assert_cmpstr(fixture->name, ==, "first");
        g_assert_cmpint(ftruncate(fd, 0), ==, 0);
        g_assert_cmpint(pwrite(fd, NKEY " second\n", strlen(NKEY " second\n"), 0), >, 0);
        close(fd);
        wait_for(fixture, "second");
        g_assert_cmpuint(fixture->told, ==, told + 1);
        write_name(fixture->file, "first");
        wait_for(fixture, "first");
    }
}

/* Also when it is not told that the writer is done. */
static void
test_what_stays_empty_is_believed(Fixture *fixture, gconstpointer data)
{
    make_directory(fixture);
    write_name(fixture->file, "first");
    wait_for(fixture, "first");
    guint told = fixture->told;
    int fd = begin_to_write(fixture->file, "");
    change_another(fixture);
    g_assert_cmpuint(fixture->told, ==, told);
    wait_for(fixture, NULL);
    g_assert_cmpuint(fixture->told, ==, told + 1);
    close(fd);
}

/* A writer that never rests: its comment grows with each look at the file. */
static void
test_what_never_rests_is_believed(Fixture *fixture, gconstpointer data)
{
    make_directory(fixture);
    write_name(fixture->file, "first");
    wait_for(fixture, "first");
    int fd = begin_to_write(fixture->file, "#");
    while (fixture->name != NULL) {
        g_assert_cmpint(write(fd, "#", 1), ==, 1);
        change_another(fixture);
    }
    close(fd);
}

static void
test_runtime_dir_is_private_and_locked(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *parent = g_dir_make_tmp("cbus-run-XXXXXX", &error);
    g_assert_no_error(error);
    g_autofree char *path = g_build_filename(parent, "cbus", NULL),
                    *lock = g_build_filename(path, "lock", NULL);
    CbusRuntimeDir *dir = cbus_runtime_dir_new(path, &error);
    g_assert_no_error(error);
    struct stat st;
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0700);

    g_assert_null(cbus_runtime_dir_new(path, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN);
    g_clear_error(&error);
    cbus_runtime_dir_free(dir);
    dir = cbus_runtime_dir_new(path, &error);
    g_assert_no_error(error);
    cbus_runtime_dir_free(dir);

    g_assert_cmpint(chmod(path, 0750), ==, 0);
    g_assert_null(cbus_runtime_dir_new(path, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM);
    g_clear_error(&error);

    g_autofree char *by_link = g_build_filename(parent, "link", NULL);
    g_assert_cmpint(chmod(path, 0700), ==, 0);
    g_assert_cmpint(symlink(path, by_link), ==, 0);
    g_assert_null(cbus_runtime_dir_new(by_link, &error));
    g_assert_nonnull(error);
    g_unlink(by_link);
    g_unlink(lock);
    g_rmdir(path);
    g_rmdir(parent);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/known/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("a-link-is-followed", test_what_a_link_leads_to_is_seen);
    ADD("directories-may-come-later", test_directories_may_come_later);
    ADD("changes-are-seen", test_changes_are_seen);
    ADD("what-can-not-be-read-changes-nothing", test_what_can_not_be_read_changes_nothing);
    ADD("a-failing-disk-changes-nothing", test_a_failing_disk_changes_nothing);
    ADD("equal-content-is-no-change", test_equal_content_is_no_change);
    ADD("what-is-being-written-is-not-believed", test_what_is_being_written_is_not_believed);
    ADD("what-stays-empty-is-believed", test_what_stays_empty_is_believed);
    ADD("what-never-rests-is-believed", test_what_never_rests_is_believed);
    g_test_add_func("/runtime-dir/is-private-and-locked", test_runtime_dir_is_private_and_locked);
    return g_test_run();
}
