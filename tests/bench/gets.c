/* One property of every machine, asked for at the same time; and the list of all machines.
 *
 *   gets BUS-ADDRESS ROUNDS KNOWN-MACHINES      prints one JSON object
 *
 * A round writes one mirrored Properties.Get for each line of the file at once and waits for all replies. The
 * property is the remote bus's own (org.freedesktop.DBus, Features): every machine has it, and answering it
 * costs a bus next to nothing. Then, as often, somebody lists all machines while another asks one of them.
 * An error reply ends the program: a measurement with errors in it is none. */
#include "tests/bench/client.h"
#include <stdio.h>

#define BELOW "org_2efreedesktop_2eDBus/org/freedesktop/DBus"

static GPtrArray *
read_paths(const char *file)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    if (!g_file_get_contents(file, &text, NULL, &error))
        g_error("%s", error->message);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit(lines[i], " ", 2);
        if (words[0] != NULL && *words[0] != '\0')
            g_ptr_array_add(paths, g_strdup_printf("/ie/bmcgee/CBus/%s/" BELOW, words[0]));
    }
    return paths;
}

/* The µs until the first and until the last reply. */
static void
measure(BenchClient *client, const GPtrArray *paths, gint64 *first, gint64 *last)
{
    gint64 start = g_get_monotonic_time();
    guint answered = 0;

    *first = 0;
    for (guint i = 0; i < paths->len; i++)
        bench_client_get(client, "ie.bmcgee.CBus", paths->pdata[i], "org.freedesktop.DBus", "Features");
    bench_client_flush(client);
    while (answered < paths->len) {
        answered += bench_client_receive(client);
        if (*first == 0)
            *first = g_get_monotonic_time() - start;
    }
    *last = g_get_monotonic_time() - start;
}

/* The µs until the list is there; and until OTHER, who asked right behind, has its answer. */
static void
measure_list(BenchClient *client, BenchClient *other, const char *path, gint64 *list, gint64 *meanwhile)
{
    gint64 start = g_get_monotonic_time();

    bench_client_list(client);
    bench_client_flush(client);
    bench_client_get(other, "ie.bmcgee.CBus", path, "org.freedesktop.DBus", "Features");
    bench_client_flush(other);
    bench_client_receive(other);
    *meanwhile = g_get_monotonic_time() - start;
    bench_client_receive(client);
    *list = g_get_monotonic_time() - start;
}

int
main(int argc, char **argv)
{
    guint64 rounds = 0;

    if (argc != 4 || !g_ascii_string_to_unsigned(argv[2], 10, 1, 1000, &rounds, NULL)) {
        fprintf(stderr, "usage: gets BUS-ADDRESS ROUNDS KNOWN-MACHINES\n");
        return 2;
    }
    g_autoptr(GPtrArray) paths = read_paths(argv[3]);
    BenchClient *client = bench_client_new(argv[1]);
    printf("{\"machines\": %u, \"rounds_us\": [", paths->len);
    for (guint64 i = 0; i < rounds; i++) {
        gint64 first, last;
        measure(client, paths, &first, &last);
        printf("%s[%" G_GINT64_FORMAT ", %" G_GINT64_FORMAT "]", i > 0 ? ", " : "", first, last);
    }
    printf("], \"lists_us\": [");
    BenchClient *other = bench_client_new(argv[1]);
    for (guint64 i = 0; i < rounds; i++) {
        gint64 list, meanwhile;
        measure_list(client, other, paths->pdata[0], &list, &meanwhile);
        printf("%s[%" G_GINT64_FORMAT ", %" G_GINT64_FORMAT "]", i > 0 ? ", " : "", list, meanwhile);
    }
    printf("]}\n");
    bench_client_free(other);
    bench_client_free(client);
    return 0;
}
