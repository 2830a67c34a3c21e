/* Measured times, in µs. */
#pragma once
#include "tests/bench/client.h"

double bench_now_us(void);
GArray *bench_samples_new(void);
double bench_samples_quantile(GArray *samples, double q);
/* COUNT calls of CLIENT one after the other; the time of each goes into SAMPLES. */
void bench_sequential(BenchClient *client, guint count, GArray *samples);
