/* One interleaved measurement: D, the direct call on one bus; N, a bare NATS round trip; M, the mirrored
 * call; P, the call through a portal; O, opening a connection through it (idle.c has P beside idle ones).
 *
 *   bench echo ADDRESS NAME…                serves echoes on a bus
 *   bench responder NATS-URL                serves echoes on NATS (library threads, callback subscription)
 *   bench measure KEY=VALUE…                prints one JSON object
 *
 * Rounds of a few hundred D, N and M calls follow one another, so that whatever else the computer does hits
 * all alike; only their ratios mean anything. The processor time of proxy and agent is read from the
 * kernel around the rounds with 64 calls in flight. */
#include "tests/bench/client.h"
#include "tests/bench/samples.h"
#include <errno.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLIGHT 64

static const char *
argument(char **argv, const char *key)
{
    gsize len = strlen(key);
    for (; *argv != NULL; argv++)
        if (strncmp(*argv, key, len) == 0 && (*argv)[len] == '=')
            return *argv + len + 1;
    g_error("missing %s=…", key);
}

static void
respond(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    natsConnection_Publish(nc, natsMsg_GetReply(msg), natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
}

static natsConnection *
connect_nats(const char *url)
{
    natsOptions *options = NULL;
    natsConnection *nc = NULL;
    natsStatus s = natsOptions_Create(&options);
    if (s == NATS_OK)
        s = natsOptions_SetURL(options, url);
    if (s == NATS_OK)
        s = natsOptions_SetSendAsap(options, true);
    if (s == NATS_OK)
        s = natsConnection_Connect(&nc, options);
    if (s != NATS_OK)
        g_error("NATS: %s", natsStatus_GetText(s));
    natsOptions_Destroy(options);
    return nc;
}

/* Processor time of all threads of PID, in µs. */
static double
cpu_us(const char *pid)
{
    g_autofree char *directory = g_strdup_printf("/proc/%s/task", pid);
    g_autoptr(GDir) tasks = g_dir_open(directory, 0, NULL);
    double sum = 0;
    if (tasks == NULL)
        g_error("no process %s", pid);
    for (const char *task; (task = g_dir_read_name(tasks)) != NULL;) {
        g_autofree char *file = g_build_filename(directory, task, "schedstat", NULL);
        g_autofree char *text = NULL;
        if (g_file_get_contents(file, &text, NULL, NULL))
            sum += g_ascii_strtod(text, NULL) / 1e3;
    }
    return sum;
}

static void
nats_sequential(natsConnection *nc, guint size, guint count, GArray *samples)
{
    g_autofree char *data = g_malloc0(size);
    for (guint i = 0; i < count; i++) {
        natsMsg *reply = NULL;
        gdouble start = bench_now_us();
        natsStatus s = natsConnection_Request(&reply, nc, "bench.echo", data, (int)size, 5000);
        gdouble took = bench_now_us() - start;
        if (s != NATS_OK)
            g_error("NATS request: %s", natsStatus_GetText(s));
        natsMsg_Destroy(reply);
        g_array_append_val(samples, took);
    }
}

/* COUNT calls with FLIGHT of them under way; returns calls a second. */
static double
flight(BenchClient *client, guint count)
{
    double start = bench_now_us();
    guint sent = 0, received = 0;
    for (; sent < FLIGHT; sent++)
        bench_client_send(client);
    bench_client_flush(client);
    while (received < count) {
        guint n = bench_client_receive(client);
        received += n;
        for (; n > 0 && sent < count; n--, sent++)
            bench_client_send(client);
        bench_client_flush(client);
    }
    return count / (bench_now_us() - start) * 1e6;
}

typedef struct {
    BenchClient *direct, *mirror, *portal;
    natsConnection *nats;
    const char *portal_address, *proxy, *agent, *name, *path;
    guint rounds;
} Bench;

enum { DIRECT, NATS, MIRROR, PORTAL, KINDS };

static void
prepare(Bench *b, guint size)
{
    bench_client_prepare(b->direct, b->name, "/", size);
    bench_client_prepare(b->mirror, "ie.bmcgee.CBus", b->path, size);
    bench_client_prepare(b->portal, b->name, "/", size);
}

static void
measure_latency(Bench *b, guint size)
{
    GArray *samples[KINDS];
    double p50[KINDS];

    for (guint i = 0; i < KINDS; i++)
        samples[i] = bench_samples_new();
    prepare(b, size);
    for (guint round = 0; round < b->rounds + 1; round++) {
        for (guint i = 0; round == 1 && i < KINDS; i++) /* the first one warms up */
            g_array_set_size(samples[i], 0);
        bench_sequential(b->direct, 100, samples[DIRECT]);
        nats_sequential(b->nats, size, 100, samples[NATS]);
        bench_sequential(b->mirror, 100, samples[MIRROR]);
        bench_sequential(b->portal, 100, samples[PORTAL]);
    }
    double p99 = bench_samples_quantile(samples[MIRROR], 0.99);
    for (guint i = 0; i < KINDS; i++) {
        p50[i] = bench_samples_quantile(samples[i], 0.5);
        g_array_unref(samples[i]);
    }
    double floor = p50[DIRECT] + p50[NATS];
    printf("\"latency_%u\": {\"direct_us\": %.1f, \"nats_us\": %.1f, \"mirror_us\": %.1f, \"mirror_p99_us\": "
           "%.1f, \"ratio\": %.3f, \"portal_us\": %.1f, \"portal_ratio\": %.3f}, ",
           size, p50[DIRECT], p50[NATS], p50[MIRROR], p99, p50[MIRROR] / floor, p50[PORTAL],
           p50[PORTAL] / floor);
}

static void
measure_rate(Bench *b, guint size)
{
    g_autoptr(GArray) direct = bench_samples_new();
    g_autoptr(GArray) mirror = bench_samples_new();
    g_autoptr(GArray) portal = bench_samples_new();
    double proxy = 0, agent = 0, calls = 0;
    guint count = 4000;

    prepare(b, size);
    flight(b->direct, count);
    flight(b->mirror, count);
    flight(b->portal, count);
    for (guint round = 0; round < b->rounds / 2 + 1; round++) {
        gdouble rate = flight(b->direct, count);
        g_array_append_val(direct, rate);
        double proxy_before = cpu_us(b->proxy), agent_before = cpu_us(b->agent);
        rate = flight(b->mirror, count);
        g_array_append_val(mirror, rate);
        proxy += cpu_us(b->proxy) - proxy_before;
        agent += cpu_us(b->agent) - agent_before;
        calls += count;
        rate = flight(b->portal, count);
        g_array_append_val(portal, rate);
    }
    double d = bench_samples_quantile(direct, 0.5), m = bench_samples_quantile(mirror, 0.5),
           p = bench_samples_quantile(portal, 0.5);
    printf("\"rate_%u\": {\"direct\": %.0f, \"mirror\": %.0f, \"ratio\": %.3f, \"proxy_cpu_us\": %.2f, "
           "\"agent_cpu_us\": %.2f, \"portal\": %.0f, \"portal_ratio\": %.3f}, ",
           size, d, m, m / d, proxy / calls, agent / calls, p, p / d);
}

/* Connect to Hello's answer, against a direct call and a NATS round trip of the same time. */
static void
measure_opening(Bench *b)
{
    g_autoptr(GArray) direct = bench_samples_new();
    g_autoptr(GArray) nats = bench_samples_new();
    g_autoptr(GArray) opening = bench_samples_new();

    prepare(b, 32);
    for (guint round = 0; round < b->rounds; round++) {
        bench_sequential(b->direct, 20, direct);
        nats_sequential(b->nats, 32, 20, nats);
        for (guint i = 0; i < 20; i++) {
            double start = bench_now_us();
            BenchClient *client = bench_client_new(b->portal_address);
            gdouble took = bench_now_us() - start;

            g_array_append_val(opening, took);
            bench_client_free(client);
        }
    }
    double d = bench_samples_quantile(direct, 0.5), n = bench_samples_quantile(nats, 0.5),
           o = bench_samples_quantile(opening, 0.5);
    printf("\"opening\": {\"direct_us\": %.1f, \"nats_us\": %.1f, \"opening_us\": %.1f, \"ratio\": %.3f}, ",
           d, n, o, o / (d + n));
}

static void
measure(char **argv)
{
    Bench b = {
        .direct = bench_client_new(argument(argv, "remote")),
        .mirror = bench_client_new(argument(argv, "session")),
        .portal = bench_client_new(argument(argv, "portal")),
        .portal_address = argument(argv, "portal"),
        .nats = connect_nats(argument(argv, "nats")),
        .proxy = argument(argv, "proxy"),
        .agent = argument(argv, "agent"),
        .name = argument(argv, "name"),
        .path = argument(argv, "path"),
        .rounds = (guint)g_ascii_strtoull(argument(argv, "rounds"), NULL, 10),
    };
    printf("{");
    measure_latency(&b, 32);
    measure_latency(&b, 4096);
    measure_rate(&b, 32);
    measure_rate(&b, 4096);
    measure_opening(&b);
    printf("\"rounds\": %u}\n", b.rounds);
    natsConnection_Destroy(b.nats);
    bench_client_free(b.direct);
    bench_client_free(b.mirror);
    bench_client_free(b.portal);
}

int
main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "echo") == 0) {
        BenchClient *client = bench_client_new(argv[2]);
        for (int i = 3; i < argc; i++)
            bench_client_request_name(client, argv[i]);
        bench_serve(client);
    } else if (argc == 3 && strcmp(argv[1], "responder") == 0) {
        natsConnection *nc = connect_nats(argv[2]);
        natsSubscription *sub = NULL;
        if (natsConnection_Subscribe(&sub, nc, "bench.echo", respond, NULL) != NATS_OK)
            g_error("can not subscribe");
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
        g_main_loop_run(loop);
    } else if (argc > 2 && strcmp(argv[1], "measure") == 0) {
        measure(argv + 2);
        nats_Close();
    } else {
        fprintf(stderr, "usage: bench echo ADDRESS NAME… | responder URL | measure KEY=VALUE…\n");
        return 2;
    }
    return 0;
}
