/* A nats-server of a test's own, and waiting for what comes over it. Included by each test program once. */
#pragma once
#include "link/nats.h"

#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

typedef struct {
    CbusLoop loop;
    char *dir;
    GPid pid;
    guint port; /* 0: not started yet; kept over restarts */
} Server;

static gboolean
server_tick(gpointer user_data)
{
    return G_SOURCE_CONTINUE;
}

/* Turns the loop until CONDITION, which must come within 20 s. */
#define WAIT_UNTIL(condition)                                                                                \
    G_STMT_START                                                                                             \
    {                                                                                                        \
        guint tick_id = g_timeout_add(5, server_tick, NULL);                                                 \
        gint64 until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;                                     \
        while (!(condition) && g_get_monotonic_time() < until)                                               \
            g_main_context_iteration(NULL, TRUE);                                                            \
        g_source_remove(tick_id);                                                                            \
        g_assert_true(condition);                                                                            \
    }                                                                                                        \
    G_STMT_END

G_GNUC_UNUSED static void
server_turn_for(gint64 ms)
{
    gint64 until = g_get_monotonic_time() + ms * 1000;
    guint tick_id = g_timeout_add(5, server_tick, NULL);

    while (g_get_monotonic_time() < until)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(tick_id);
}

static guint
server_read_port(const char *path)
{
    g_autoptr(JsonParser) parser = json_parser_new();

    /* It may be there, but not written yet. */
    if (!json_parser_load_from_file(parser, path, NULL) || json_parser_get_root(parser) == NULL)
        return 0;
    JsonArray *urls =
        json_object_get_array_member(json_node_get_object(json_parser_get_root(parser)), "nats");
    const char *colon = strrchr(json_array_get_string_element(urls, 0), ':');
    return (guint)g_ascii_strtoull(colon + 1, NULL, 10);
}

/* A test that aborts leaves no server behind. */
static void
server_dies_with_us(gpointer user_data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void
server_start(Server *server)
{
    g_autofree char *port = g_strdup_printf("%d", server->port != 0 ? (int)server->port : -1);
    g_autoptr(GError) error = NULL;
    const char *argv[] = {"nats-server", "-a",        "127.0.0.1",        "-p",        port,
                          "-l",          "/dev/null", "--ports_file_dir", server->dir, NULL};

    g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                  server_dies_with_us, NULL, &server->pid, &error);
    g_assert_no_error(error);
    g_autofree char *ports = g_strdup_printf("%s/nats-server_%d.ports", server->dir, server->pid);
    WAIT_UNTIL((server->port = server_read_port(ports)) != 0);
}

static void
server_kill(Server *server)
{
    if (server->pid == 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

static void
server_init(Server *server)
{
    g_autoptr(GError) error = NULL;

    server->loop.context = g_main_context_default();
    server->loop.turn = cbus_turn_new(NULL);
    server->loop.poller = cbus_poller_new(NULL, &error);
    g_assert_no_error(error);
    server->dir = g_dir_make_tmp("cbus-link-XXXXXX", &error);
    g_assert_no_error(error);
    server_start(server);
}

static void
server_clear(Server *server)
{
    g_autoptr(GDir) dir = g_dir_open(server->dir, 0, NULL);
    const char *name;

    server_kill(server);
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(server->dir, name, NULL);
        g_unlink(path);
    }
    g_rmdir(server->dir);
    g_free(server->dir);
    cbus_poller_free(server->loop.poller);
    cbus_turn_free(server->loop.turn);
}
