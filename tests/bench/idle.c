/* A busy connection alone and beside idle ones, by the thousand.
 *
 *   bench-idle COUNT ROUNDS NAME BUSY ADDRESS…     prints one JSON object
 *
 * COUNT idle connections spread over the portals at ADDRESS…; the busy one calls the echo NAME through the
 * portal BUSY. A round measures it alone, opens the others, measures it again and closes them, so that
 * whatever else the computer does hits both alike. Between the two the calls go on for SETTLE_US without
 * being counted: what opening and closing leave to do is not what idle connections cost. */
#include "tests/bench/samples.h"
#include <stdio.h>
#include <sys/resource.h>

#define CALLS     300
#define SETTLE_US 300e3

static void
settle(BenchClient *busy)
{
    g_autoptr(GArray) samples = bench_samples_new();
    double end = bench_now_us() + SETTLE_US;

    while (bench_now_us() < end)
        bench_sequential(busy, 10, samples);
}

static double
measure(BenchClient *busy)
{
    g_autoptr(GArray) samples = bench_samples_new();

    settle(busy);
    bench_sequential(busy, CALLS, samples);
    return bench_samples_quantile(samples, 0.5);
}

static void
run(BenchClient *busy, guint count, guint rounds, char **portals)
{
    g_autoptr(GArray) alone = bench_samples_new();
    g_autoptr(GArray) beside = bench_samples_new();
    g_autoptr(GArray) ratios = bench_samples_new();
    g_autofree BenchClient **idle = g_new(BenchClient *, count);
    guint doors = g_strv_length(portals);

    for (guint round = 0; round < rounds; round++) {
        gdouble a = measure(busy);
        for (guint i = 0; i < count; i++)
            idle[i] = bench_client_new(portals[i % doors]);
        gdouble b = measure(busy), ratio = b / a;
        for (guint i = 0; i < count; i++)
            bench_client_free(idle[i]);
        g_array_append_val(alone, a);
        g_array_append_val(beside, b);
        g_array_append_val(ratios, ratio);
    }
    printf(
        "{\"connections\": %u, \"portals\": %u, \"alone_us\": %.1f, \"beside_us\": %.1f, \"ratio\": %.3f}\n",
        count, doors, bench_samples_quantile(alone, 0.5), bench_samples_quantile(beside, 0.5),
        bench_samples_quantile(ratios, 0.5));
}

int
main(int argc, char **argv)
{
    guint64 count = 0, rounds = 0;
    struct rlimit limit;

    if (argc < 6 || !g_ascii_string_to_unsigned(argv[1], 10, 1, 100000, &count, NULL) ||
        !g_ascii_string_to_unsigned(argv[2], 10, 1, 1000, &rounds, NULL)) {
        fprintf(stderr, "usage: bench-idle COUNT ROUNDS NAME BUSY ADDRESS…\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    BenchClient *busy = bench_client_new(argv[4]);
    bench_client_prepare(busy, argv[3], "/", 32);
    run(busy, (guint)count, (guint)rounds, argv + 5);
    bench_client_free(busy);
    return 0;
}
