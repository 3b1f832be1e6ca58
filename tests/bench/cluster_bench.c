/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "replikv.h"

/* Quorum puts and gets of a real cluster of three on this machine: a closed
 * loop of clients, each with one request in flight and a connection of its own
 * unless --connections says fewer, spread over the nodes. Prints the median of
 * several runs, puts and gets in turn, beside what the system that inspired
 * replikv reached with the same load on such a machine, without a sync before
 * it acknowledged: that one is not built here, so its numbers are constants. */

enum {
    NODES = 3,
    CLIENTS_MAX = 256,
    VALUE_BYTES = 100,
    KEYS = 20000,
    SAMPLES_MAX = 1 << 20,
    RUNS_MAX = 99,
    READY_MS = 20000,
};

/* Measured once on a machine of two cores: three nodes, quorum, 100 bytes, 16
 * clients. Its gets were 3,000 to 4,500; the most counts. */
static const double REFERENCE_PUTS = 2500, REFERENCE_GETS = 4500;

struct client {
    struct replikv *connection; /* maybe shared with others */
    struct bench *bench;
    uint64_t random;
    int64_t started_us;
};

struct bench {
    const char *engine, *sync, *replikvd;
    char directory[64];
    int port;
    unsigned clients, connections, runs, seconds;
    pid_t nodes[NODES];
    enum replikv_kind kind;
    bool filling; /* each key once, rather than any */
    atomic_uint next_key;
    int64_t end_us;
    atomic_uint running;
    atomic_ulong done, failed;
    uint32_t *samples; /* latencies in us */
    struct client list[CLIENTS_MAX];
};

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void rest(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* --- the nodes --- */

static void write_config(const struct bench *bench, int node)
{
    char path[128];
    snprintf(path, sizeof path, "%s/n%d.yaml", bench->directory, node);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    fprintf(file,
            "node: {name: n%d, data_dir: %s/n%d}\n"
            "listen: {client: \"tcp://127.0.0.1:%d\","
            " peer: \"tcp://127.0.0.1:%d\"}\n"
            "storage: {engine: %s, sync: %s}\n"
            "buckets: [{name: bench, kind: lww}]\n"
            "cluster:\n  bootstrap: [n0, n1, n2]\n  seeds:\n",
            node, bench->directory, node, bench->port + node,
            bench->port + NODES + node, bench->engine, bench->sync);
    for (int i = 0; i < NODES; i++)
        fprintf(file, "    - tcp://127.0.0.1:%d\n", bench->port + NODES + i);
    fclose(file);
}

static pid_t start_node(const struct bench *bench, int node)
{
    char config[128], log[128];
    snprintf(config, sizeof config, "%s/n%d.yaml", bench->directory, node);
    snprintf(log, sizeof log, "%s/n%d.log", bench->directory, node);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    if (freopen(log, "w", stderr) == NULL)
        _exit(1);
    execl(bench->replikvd, bench->replikvd, "--config", config, (char *)NULL);
    _exit(1);
}

static struct replikv *connect_to(const struct bench *bench, int node)
{
    char endpoint[64];
    const char *endpoints[] = {endpoint};
    struct replikv *connection = NULL;
    struct replikv_error error;
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d",
             bench->port + node);
    if (replikv_open(&(struct replikv_options){.endpoints = endpoints,
                                               .endpoint_count = 1},
                     &connection, &error) != REPLIKV_OK) {
        fprintf(stderr, "cluster_bench: %s\n", error.text);
        exit(1);
    }
    return connection;
}

static bool is_ready(const struct bench *bench, int node)
{
    struct replikv *connection = connect_to(bench, node);
    struct replikv_result *result = replikv_call(
        connection,
        &(struct replikv_request){.kind = REPLIKV_ADMIN, .timeout_ms = 500});
    bool ready = result->status == REPLIKV_OK && result->node->ready;
    replikv_result_free(result);
    replikv_close(connection);
    return ready;
}

static void stop_nodes(struct bench *bench)
{
    for (int i = 0; i < NODES; i++)
        if (bench->nodes[i] > 0)
            kill(bench->nodes[i], SIGTERM);
    for (int i = 0; i < NODES; i++)
        if (bench->nodes[i] > 0)
            waitpid(bench->nodes[i], NULL, 0);
}

static void start_nodes(struct bench *bench)
{
    int64_t start = now_us();
    for (int i = 0; i < NODES; i++) {
        write_config(bench, i);
        bench->nodes[i] = start_node(bench, i);
    }
    for (int i = 0; i < NODES; i++)
        while (!is_ready(bench, i)) {
            if (now_us() - start > READY_MS * 1000) {
                fprintf(stderr, "cluster_bench: n%d is not ready, see %s\n", i,
                        bench->directory);
                stop_nodes(bench);
                exit(1);
            }
            rest();
        }
    printf("ready after %.2f s\n", (double)(now_us() - start) / 1e6);
}

/* --- the load --- */

static void go_on(struct client *client);

static void heard(void *user, struct replikv_result *result)
{
    struct client *client = user;
    struct bench *bench = client->bench;
    bool good = bench->kind == REPLIKV_PUT ? result->outcome == REPLIKV_APPLIED
                                           : result->status == REPLIKV_OK;
    replikv_result_free(result);
    if (good) {
        unsigned long at = atomic_fetch_add(&bench->done, 1);
        if (at < SAMPLES_MAX)
            bench->samples[at] = (uint32_t)(now_us() - client->started_us);
    } else {
        atomic_fetch_add(&bench->failed, 1);
    }
    go_on(client);
}

/* Xorshift (Marsaglia 2003): any keys will do, the same in every run. */
static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static bool is_over(struct client *client, unsigned *key)
{
    struct bench *bench = client->bench;
    client->started_us = now_us();
    *key = bench->filling ? atomic_fetch_add(&bench->next_key, 1)
                          : (unsigned)(draw(&client->random) % KEYS);
    return bench->filling ? *key >= KEYS : client->started_us >= bench->end_us;
}

static void go_on(struct client *client)
{
    struct bench *bench = client->bench;
    char key[32];
    unsigned number;
    static const char value[VALUE_BYTES] = "a value of a hundred bytes";
    if (is_over(client, &number)) {
        atomic_fetch_sub(&bench->running, 1);
        return;
    }
    /* The bucket is lww: without a context, every other write would leave a
     * sibling. */
    int size = snprintf(key, sizeof key, "key%08u", number);
    struct replikv_request request = {
        .kind = bench->kind,
        .bucket = "bench",
        .key = replikv_bytes_of(key, (size_t)size),
        .value = replikv_bytes_of(value, sizeof value),
    };
    struct replikv_error error;
    if (replikv_start(client->connection, &request, heard, client, &error) !=
        REPLIKV_OK) {
        fprintf(stderr, "cluster_bench: %s\n", error.text);
        exit(1);
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

struct run {
    double rate;
    uint32_t p50_us, p99_us;
};

static struct run run(struct bench *bench, enum replikv_kind kind)
{
    bench->kind = kind;
    atomic_store(&bench->done, 0);
    atomic_store(&bench->running, bench->clients);
    int64_t start = now_us();
    bench->end_us = start + (int64_t)bench->seconds * 1000000;
    for (unsigned i = 0; i < bench->clients; i++)
        go_on(&bench->list[i]);
    while (atomic_load(&bench->running) > 0)
        rest();
    double took = (double)(now_us() - start) / 1e6;
    size_t done = atomic_load(&bench->done);
    size_t samples = done < SAMPLES_MAX ? done : SAMPLES_MAX;
    qsort(bench->samples, samples, sizeof *bench->samples, by_size);
    if (samples == 0)
        return (struct run){0};
    return (struct run){
        .rate = (double)done / took,
        .p50_us = bench->samples[samples / 2],
        .p99_us = bench->samples[samples * 99 / 100],
    };
}

static int by_rate(const void *a, const void *b)
{
    double x = ((const struct run *)a)->rate, y = ((const struct run *)b)->rate;
    return (x > y) - (x < y);
}

static void report(const struct bench *bench, const char *what,
                   struct run *runs, double reference)
{
    qsort(runs, bench->runs, sizeof *runs, by_rate);
    struct run median = runs[bench->runs / 2];
    printf("%-7s %-8s %3u clients %s  %9.0f/s (%.0f to %.0f)  p50 %u us  "
           "p99 %u us  reference %.0f/s  ratio %.2f\n",
           bench->engine, bench->sync, bench->clients, what, median.rate,
           runs[0].rate, runs[bench->runs - 1].rate, median.p50_us,
           median.p99_us, reference, median.rate / reference);
}

static void load(struct bench *bench)
{
    struct run puts[RUNS_MAX], gets[RUNS_MAX];
    unsigned connections = bench->connections < bench->clients
                               ? bench->connections
                               : bench->clients;
    for (unsigned i = 0; i < bench->clients; i++)
        bench->list[i] = (struct client){
            .connection = i < connections
                              ? connect_to(bench, (int)i % NODES)
                              : bench->list[i % connections].connection,
            .bench = bench,
            .random = UINT64_C(0x9e3779b97f4a7c15) * (i + 1),
        };
    bench->filling = true;
    (void)run(bench, REPLIKV_PUT);
    bench->filling = false;
    for (unsigned i = 0; i < bench->runs; i++) {
        puts[i] = run(bench, REPLIKV_PUT);
        gets[i] = run(bench, REPLIKV_GET);
    }
    for (unsigned i = 0; i < connections; i++)
        replikv_close(bench->list[i].connection);
    report(bench, "put", puts, REFERENCE_PUTS);
    report(bench, "get", gets, REFERENCE_GETS);
    printf("failed: %lu\n", atomic_load(&bench->failed));
}

static int misused(void)
{
    fprintf(stderr,
            "usage: cluster_bench [--engine NAME] [--sync batch|interval|none]"
            "\n           [--clients 16] [--connections CLIENTS] [--runs 5]"
            "\n           [--seconds 3] [--port 23001] [--replikvd PATH]\n");
    return 2;
}

static unsigned number(const char *text, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || value < 1 || value > max)
        exit(misused());
    return (unsigned)value;
}

static void parse(struct bench *bench, int argc, char **argv)
{
    static const struct option options[] = {
        {"engine", required_argument, NULL, 'e'},
        {"sync", required_argument, NULL, 's'},
        {"clients", required_argument, NULL, 'c'},
        {"connections", required_argument, NULL, 'n'},
        {"runs", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 't'},
        {"port", required_argument, NULL, 'p'},
        {"replikvd", required_argument, NULL, 'd'},
        {NULL, 0, NULL, 0},
    };
    for (int option;
         (option = getopt_long(argc, argv, "", options, NULL)) >= 0;)
        switch (option) {
        case 'e':
            bench->engine = optarg;
            break;
        case 's':
            bench->sync = optarg;
            break;
        case 'c':
            bench->clients = number(optarg, CLIENTS_MAX);
            break;
        case 'n':
            bench->connections = number(optarg, CLIENTS_MAX);
            break;
        case 'r':
            bench->runs = number(optarg, RUNS_MAX);
            break;
        case 't':
            bench->seconds = number(optarg, 3600);
            break;
        case 'p':
            bench->port = (int)number(optarg, 65000);
            break;
        case 'd':
            bench->replikvd = optarg;
            break;
        default:
            exit(misused());
        }
}

static void remove_directory(const struct bench *bench)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", bench->directory, (char *)NULL);
        _exit(1);
    }
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    static struct bench bench = {
        .engine = "lsm",
        .sync = "batch",
        .replikvd = REPLIKVD,
        .directory = "replikv-bench-XXXXXX",
        .port = 23001,
        .clients = 16,
        .connections = CLIENTS_MAX,
        .runs = 5,
        .seconds = 3,
    };
    parse(&bench, argc, argv);
    bench.samples = malloc(SAMPLES_MAX * sizeof *bench.samples);
    /* Here and not in /tmp, which may be memory. */
    if (bench.samples == NULL || mkdtemp(bench.directory) == NULL) {
        perror(bench.directory);
        return 1;
    }
    start_nodes(&bench);
    load(&bench);
    stop_nodes(&bench);
    remove_directory(&bench);
    free(bench.samples);
    return atomic_load(&bench.failed) == 0 ? 0 : 1;
}
