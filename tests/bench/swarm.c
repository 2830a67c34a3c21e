/* Many agents in one process: machines by the thousand on one small computer.
 *
 *   swarm keys PREFIX COUNT                          prints known_machines of such a swarm
 *   swarm run PREFIX COUNT NATS-URL[,URL…] BUS-ADDRESS OPERATOR-NKEY
 *
 * Each agent is a CbusAgent, the object that cbus-agent runs: a key, a NATS connection, links, channels and
 * limits of its own; only the connector is ours (keyring.c), and the bus behind them all is one. Keys follow
 * from PREFIX and number, so that both commands agree without a file.
 *
 * With several URLs the agents spread over the servers: nats.c shuffles them.
 *
 * Agents are started a few at a time, since every one of them dials in a thread of its own until it is in.
 * SIGTERM and SIGINT end the swarm without a farewell: machines that lose their power say none. */
#include "agent/agent.h"
#include "link/log.h"
#include "tests/bench/keyring.h"
#include <errno.h>
#include <glib-unix.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define START_MS    10
#define START_COUNT 4

typedef struct {
    SwarmKeyring *keyring;
    CbusServerInfo *info;
    CbusAgent *agent;
} Machine;

typedef struct {
    CbusLoop loop;
    GMainLoop *main_loop;
    SwarmBus *bus;
    CbusKey operator;
    const char *prefix;
    const char *urls;
    Machine *machines;
    guint count, started;
} Swarm;

static CbusSecret *
make_secret(const char *prefix, guint number)
{
    g_autofree char *text = g_strdup_printf("swarm %s %u", prefix, number);
    guint8 seed[32];

    crypto_generichash(seed, sizeof seed, (const guint8 *)text, strlen(text), NULL, 0);
    return cbus_secret_new_from_seed(seed);
}

static int
print_keys(const char *prefix, guint count)
{
    for (guint i = 0; i < count; i++) {
        g_autoptr(CbusSecret) secret = make_secret(prefix, i);
        char nkey[CBUS_NKEY_LENGTH + 1];

        cbus_nkey_encode(cbus_secret_public(secret), nkey);
        printf("%s %s%u\n", nkey, prefix, i);
    }
    return 0;
}

static void
agent_lost(gpointer user_data)
{
    g_error("an agent of the swarm lost its keyring");
}

static void
start_machine(Swarm *swarm, guint number)
{
    Machine *machine = &swarm->machines[number];
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("%s%u", swarm->prefix, number);
    CbusConnectorEnds ends;

    machine->keyring =
        swarm_keyring_new(swarm->bus, make_secret(swarm->prefix, number), &swarm->operator, & ends, &error);
    if (machine->keyring == NULL)
        g_error("%s", error->message);
    machine->info = cbus_server_info_new(name, &error);
    if (machine->info == NULL)
        g_error("%s", error->message);
    const CbusAgentOptions options = {.nats = {.urls = swarm->urls},
                                      .message_limit = CBUS_MESSAGE_MAX,
                                      .info = machine->info,
                                      .audit = {.target = CBUS_AUDIT_OFF, .journal = -1}};
    machine->agent = cbus_agent_new(&swarm->loop, &ends, &options, agent_lost, swarm, &error);
    if (machine->agent == NULL)
        g_error("%s", error->message);
}

static gboolean
on_start(gpointer user_data)
{
    Swarm *swarm = user_data;

    for (guint i = 0; i < START_COUNT && swarm->started < swarm->count; i++)
        start_machine(swarm, swarm->started++);
    if (swarm->started < swarm->count)
        return G_SOURCE_CONTINUE;
    printf("started\n");
    fflush(stdout);
    return G_SOURCE_REMOVE;
}

static gboolean
on_signal(gpointer user_data)
{
    g_main_loop_quit(user_data);
    return G_SOURCE_REMOVE;
}

static void
raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void
run_swarm(Swarm *swarm)
{
    swarm->machines = g_new0(Machine, swarm->count);
    swarm->main_loop = g_main_loop_new(swarm->loop.context, FALSE);
    g_timeout_add(START_MS, on_start, swarm);
    g_unix_signal_add(SIGTERM, on_signal, swarm->main_loop);
    g_unix_signal_add(SIGINT, on_signal, swarm->main_loop);
    g_main_loop_run(swarm->main_loop);
    for (guint i = 0; i < swarm->started; i++) {
        cbus_agent_free(swarm->machines[i].agent);
        swarm_keyring_free(swarm->machines[i].keyring);
        cbus_server_info_free(swarm->machines[i].info);
    }
    g_main_loop_unref(swarm->main_loop);
    g_free(swarm->machines);
}

static int
run(const char *prefix, guint count, const char *urls, const char *bus, const char *operator)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CbusTurn) turn = cbus_turn_new(NULL);
    g_autoptr(CbusPoller) poller = cbus_poller_new(NULL, turn, &error);
    Swarm swarm = {.prefix = prefix, .count = count, .urls = urls};

    if (poller == NULL || !cbus_nkey_decode(operator, - 1, &swarm.operator, & error)) {
        fprintf(stderr, "swarm: %s\n", error->message);
        return 1;
    }
    swarm.loop = (CbusLoop){.context = g_main_context_default(), .turn = turn, .poller = poller};
    g_autoptr(SwarmBus) shared = swarm_bus_new(&swarm.loop, bus);
    swarm.bus = shared;
    raise_limits();
    run_swarm(&swarm);
    return 0;
}

int
main(int argc, char **argv)
{
    guint64 count = 0;

    cbus_log_init("swarm", 0);
    if (sodium_init() < 0 || argc < 4 || !g_ascii_string_to_unsigned(argv[3], 10, 1, 100000, &count, NULL)) {
        fprintf(stderr, "usage: swarm keys PREFIX COUNT | swarm run PREFIX COUNT URLS BUS OPERATOR-NKEY\n");
        return 2;
    }
    if (argc == 4 && strcmp(argv[1], "keys") == 0)
        return print_keys(argv[2], (guint)count);
    if (argc == 7 && strcmp(argv[1], "run") == 0)
        return run(argv[2], (guint)count, argv[4], argv[5], argv[6]);
    fprintf(stderr, "swarm: no such command\n");
    return 2;
}
