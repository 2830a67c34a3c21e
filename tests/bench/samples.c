/* Quantiles are those of the samples themselves: no mean is taken, since one hiccup of the computer would be
 * in it. */
#include "tests/bench/samples.h"
#include <time.h>

double
bench_now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

GArray *
bench_samples_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(gdouble));
}

static int
compare(gconstpointer a, gconstpointer b)
{
    gdouble x = *(const gdouble *)a, y = *(const gdouble *)b;

    return x < y ? -1 : x > y;
}

double
bench_samples_quantile(GArray *samples, double q)
{
    g_array_sort(samples, compare);
    return g_array_index(samples, gdouble, (guint)((samples->len - 1) * q));
}

void
bench_sequential(BenchClient *client, guint count, GArray *samples)
{
    for (guint i = 0; i < count; i++) {
        gdouble start = bench_now_us();

        bench_client_send(client);
        bench_client_flush(client);
        bench_client_receive(client);

        gdouble took = bench_now_us() - start;
        g_array_append_val(samples, took);
    }
}
