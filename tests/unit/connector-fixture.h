/* The connector's real processes for tests: its files in a folder of their own, a client on a loop, and what
 * the last connect and the last signature brought. Included by each test program once. */
#pragma once
#include "agent/connector_client.h"
#include "link/log.h"
#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_US (20 * G_USEC_PER_SEC)

typedef struct {
    char *folder, *key_file, *keys_file, *socket, *address;
    GPid daemon;
    CbusConnectorEnds ends;
    CbusLoop loop;
    CbusConnectorClient *client;
    guint tables, lost;
    /* Of the last connect. */
    gboolean answered;
    int fd;
    guint32 uid;
    char *user;
    char *failure;
    /* Of the last signature. */
    gboolean signed_or_failed;
    guint8 signature[CBUS_SIGNATURE_BYTES];
    char *sign_failure;
} Fixture;

static char *line_a, *line_b;
static CbusKey key_a, key_b;

static char *
make_line(guint8 seed_byte, CbusKey *key)
{
    guint8 seed[crypto_sign_SEEDBYTES], secret[crypto_sign_SECRETKEYBYTES];
    char nkey[CBUS_NKEY_LENGTH + 1];

    memset(seed, seed_byte, sizeof seed);
    crypto_sign_seed_keypair(key->bytes, secret, seed);
    cbus_nkey_encode(key, nkey);
    return g_strdup(nkey);
}

static void
write_keys(Fixture *fixture, const char *text)
{
    g_autofree char *fresh = g_strconcat(fixture->keys_file, ".new", NULL);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(fresh, text, -1, &error);
    g_assert_no_error(error);
    g_assert_cmpint(g_chmod(fresh, 0600), ==, 0);
    g_assert_cmpint(g_rename(fresh, fixture->keys_file), ==, 0);
}

static void
end_process(pid_t *pid)
{
    if (*pid == 0)
        return;
    kill(*pid, SIGKILL);
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    *pid = 0;
}

static void
on_changed(gpointer user_data)
{
    ((Fixture *)user_data)->tables++;
}

static void
on_lost(const GError *reason, gpointer user_data)
{
    ((Fixture *)user_data)->lost++;
}

static void
iterate_until(Fixture *fixture, const guint *counter, guint at_least)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE_US;

    while (*counter < at_least) {
        if (g_get_monotonic_time() > deadline)
            g_error("nothing came within %d s", (int)(PATIENCE_US / G_USEC_PER_SEC));
        if (!g_main_context_iteration(fixture->loop.context, FALSE))
            (void)poll(NULL, 0, 1);
    }
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *template = g_strdup("/tmp/cbus-connector-XXXXXX");

    fixture->folder = g_strdup(g_mkdtemp(template));
    g_assert_nonnull(fixture->folder);
    g_assert_cmpint(g_chmod(fixture->folder, 0755), ==, 0);
    fixture->key_file = g_build_filename(fixture->folder, "key", NULL);
    fixture->keys_file = g_build_filename(fixture->folder, "authorized_keys", NULL);
    fixture->socket = g_build_filename(fixture->folder, "bus", NULL);
    fixture->address = g_strconcat("unix:path=", fixture->socket, NULL);
    const char *keygen[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", fixture->key_file, NULL};
    g_spawn_sync(NULL, (char **)keygen, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    write_keys(fixture, line_a);

    const CbusConnectorOptions options = {.key_file = fixture->key_file,
                                          .authorized_keys = fixture->keys_file,
                                          .bus = fixture->address,
                                          .user = data};
    g_assert_true(cbus_connector_start(&options, &fixture->ends, &error));
    g_assert_no_error(error);
    fixture->loop.context = g_main_context_new();
    fixture->loop.turn = cbus_turn_new(fixture->loop.context);
    fixture->loop.poller = cbus_poller_new(fixture->loop.context, fixture->loop.turn, &error);
    g_assert_no_error(error);
    fixture->fd = -1;
}

static void
attach(Fixture *fixture)
{
    const CbusConnectorHandler handler = {.authorized_changed = on_changed, .lost = on_lost};
    g_autoptr(GError) error = NULL;

    fixture->client = cbus_connector_client_new(&fixture->loop, &fixture->ends, &handler, fixture, &error);
    g_assert_no_error(error);
    iterate_until(fixture, &fixture->tables, 1);
}

G_GNUC_UNUSED static void
set_up_client(Fixture *fixture, gconstpointer data)
{
    set_up(fixture, data);
    attach(fixture);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    const char *rm[] = {"rm", "-r", fixture->folder, NULL};

    g_clear_pointer(&fixture->client, cbus_connector_client_free);
    end_process(&fixture->ends.pid);
    end_process(&fixture->daemon);
    cbus_poller_free(fixture->loop.poller);
    cbus_turn_free(fixture->loop.turn);
    g_main_context_unref(fixture->loop.context);
    if (fixture->fd >= 0)
        close(fixture->fd);
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(fixture->folder);
    g_free(fixture->key_file);
    g_free(fixture->keys_file);
    g_free(fixture->socket);
    g_free(fixture->address);
    g_free(fixture->failure);
    g_free(fixture->user);
    g_free(fixture->sign_failure);
}
