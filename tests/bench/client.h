/* A blocking D-Bus client and echo service for measurements: as little of its own between the call and the
 * reply as can be. */
#pragma once
#include <glib.h>

typedef struct _BenchClient BenchClient;

/* Connects to ADDRESS, authenticates and says Hello; aborts the program with a message when it can not. */
BenchClient *bench_client_new(const char *address);
void bench_client_free(BenchClient *client);
void bench_client_request_name(BenchClient *client, const char *name);

/* Sets what bench_client_send() calls: an echo of SIZE bytes as "ay". */
void bench_client_prepare(BenchClient *client, const char *destination, const char *path, gsize size);
/* Queues one call; bench_client_flush() writes what is queued. */
void bench_client_send(BenchClient *client);
void bench_client_flush(BenchClient *client);
/* Queues one Properties.Get instead. */
void bench_client_get(BenchClient *client, const char *destination, const char *path, const char *interface,
                      const char *property);
/* Queues one GetManagedObjects of the proxy instead. */
void bench_client_list(BenchClient *client);
/* Blocks until at least one reply is there; returns how many came. Error replies abort with their text. */
guint bench_client_receive(BenchClient *client);

/* Serves echoes for ever: every method call is answered with its own body. */
void bench_serve(BenchClient *client) G_GNUC_NORETURN;
