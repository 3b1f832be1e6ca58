/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/cli/bench_internal.h"

enum {
    /* Beside the value: more than a key and a context of many siblings. */
    REQUEST_BYTES = 64 * 1024,
};

#define SECOND_NS INT64_C(1000000000)

int64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec;
}

void bench_wait_until(struct bench_run *run, pthread_cond_t *what,
                      int64_t until_ns)
{
    const struct timespec until = {.tv_sec = until_ns / SECOND_NS,
                                   .tv_nsec = until_ns % SECOND_NS};
    pthread_cond_timedwait(what, &run->lock, &until);
}

static struct replikv *connect_to(const struct cli *cli, size_t first)
{
    const char *endpoints[REPLIKV_ENDPOINTS_MAX];
    const struct bench_options *options = &cli->bench;
    for (size_t i = 0; i < cli->endpoint_count; i++)
        endpoints[i] = cli->endpoints[(first + i) % cli->endpoint_count];
    return cli_open_with(&(struct replikv_options){
        .endpoints = endpoints,
        .endpoint_count = cli->endpoint_count,
        .timeout_ms = cli->timeout_ms,
        .inflight_max = cli->inflight * options->batch,
        .inflight_bytes_max = (size_t)cli->inflight * options->batch *
                              (options->value_bytes_max + REQUEST_BYTES),
    });
}

static void fill_pool(char *pool, size_t size, uint64_t seed)
{
    /* Xorshift (Marsaglia 2003), whose state is any number but 0. */
    uint64_t random = seed | UINT64_C(1) << 63;
    for (size_t i = 0; i < size; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        pool[i] = (char)(random >> 56);
    }
}

static void open_clients(struct bench_run *run)
{
    const struct bench_options *options = run->plan->options;
    for (uint32_t i = 0; i < options->clients; i++) {
        struct bench_client *client = &run->clients[i];
        client->run = run;
        client->connection = connect_to(run->cli, i);
        pthread_mutex_init(&client->lock, NULL);
        for (size_t kind = 0; kind < BENCH_KINDS; kind++)
            if (options->share[kind] > 0)
                client->counts.latency[kind] =
                    must_have(calloc(1, sizeof(struct histogram)));
    }
    for (size_t i = 0; i < run->slot_count; i++) {
        /* Neighbours are of different clients, so that the idle are. */
        run->slots[i].client = &run->clients[i % options->clients];
        run->slots[i].items = run->items + i * options->batch;
        run->slots[i].requests = run->requests + i * options->batch;
    }
}

struct bench_run *bench_run_new(const struct cli *cli,
                                const struct bench_plan *plan)
{
    const struct bench_options *options = plan->options;
    struct bench_run *run = must_have(calloc(1, sizeof(*run)));
    size_t pool_bytes = BENCH_POOL_BYTES + (size_t)options->value_bytes_max;
    pthread_condattr_t monotonic;
    run->cli = cli;
    run->plan = plan;
    run->slot_count = (size_t)options->clients * cli->inflight;
    run->clients = must_have(calloc(options->clients, sizeof(*run->clients)));
    run->slots = must_have(calloc(run->slot_count, sizeof(*run->slots)));
    size_t item_count = run->slot_count * options->batch;
    run->items = must_have(calloc(item_count, sizeof(*run->items)));
    run->requests = must_have(calloc(item_count, sizeof(*run->requests)));
    run->pool = must_have(malloc(pool_bytes));
    fill_pool(run->pool, pool_bytes, options->seed);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->done, &monotonic);
    pthread_cond_init(&run->idle_again, &monotonic);
    pthread_condattr_destroy(&monotonic);
    open_clients(run);
    return run;
}

static void start_all(struct bench_run *run)
{
    const struct bench_options *options = run->plan->options;
    for (uint32_t i = 0; i < options->clients; i++) {
        struct bench_client *client = &run->clients[i];
        struct bench_counts *counts = &client->counts;
        bench_stream_init(&client->stream, run->plan, i);
        counts->not_found = counts->siblings_max = 0;
        counts->loaded = counts->failed = 0;
        memset(counts->errors, 0, sizeof(counts->errors));
    }
    run->running = run->slot_count;
    run->idle = NULL;
    run->idle_end = &run->idle;
    for (size_t i = 0; i < run->slot_count; i++)
        bench_go_on(&run->slots[i]);
    if (pthread_create(&run->pacer, NULL, bench_pacer_main, run) != 0)
        must_have(NULL);
    run->paced = true;
}

static void join_pacer(struct bench_run *run)
{
    if (run->paced)
        pthread_join(run->pacer, NULL);
    run->paced = false;
}

void bench_run_load(struct bench_run *run)
{
    run->loading = true;
    start_all(run);
}

void bench_run_start(struct bench_run *run, int64_t start_ns)
{
    const struct bench_options *options = run->plan->options;
    join_pacer(run);
    run->loading = false;
    run->start_ns = start_ns;
    run->measure_ns = start_ns + options->warmup_s * SECOND_NS;
    run->end_ns = run->measure_ns + options->duration_s * SECOND_NS;
    start_all(run);
}

void bench_run_stop(struct bench_run *run)
{
    atomic_store(&run->stop, true);
}

bool bench_run_wait(struct bench_run *run, uint32_t wait_ms)
{
    int64_t end_ns = bench_now_ns() + (int64_t)wait_ms * 1000000;
    pthread_mutex_lock(&run->lock);
    while (run->running > 0 && bench_now_ns() < end_ns)
        bench_wait_until(run, &run->done, end_ns);
    bool done = run->running == 0;
    pthread_mutex_unlock(&run->lock);
    return done;
}

void bench_run_close(struct bench_run *run)
{
    bench_run_stop(run);
    /* First, since it calls the clients. */
    join_pacer(run);
    for (uint32_t i = 0; i < run->plan->options->clients; i++) {
        replikv_close(run->clients[i].connection);
        run->clients[i].connection = NULL;
    }
}

void bench_run_free(struct bench_run *run)
{
    bench_run_close(run);
    for (uint32_t i = 0; i < run->plan->options->clients; i++) {
        for (size_t kind = 0; kind < BENCH_KINDS; kind++)
            free(run->clients[i].counts.latency[kind]);
        pthread_mutex_destroy(&run->clients[i].lock);
    }
    pthread_cond_destroy(&run->idle_again);
    pthread_cond_destroy(&run->done);
    pthread_mutex_destroy(&run->lock);
    free(run->clients);
    free(run->slots);
    free(run->items);
    free(run->requests);
    free(run->pool);
    free(run);
}

static void add_counts(struct bench_counts *to, const struct bench_counts *from)
{
    to->not_found += from->not_found;
    to->loaded += from->loaded;
    to->failed += from->failed;
    if (from->siblings_max > to->siblings_max)
        to->siblings_max = from->siblings_max;
    for (size_t i = 0; i < BENCH_STATUSES; i++)
        for (size_t j = 0; j <= REPLIKV_UNKNOWN; j++)
            to->errors[i][j] += from->errors[i][j];
}

void bench_run_read(struct bench_run *run, struct bench_counts *counts,
                    struct histogram *all)
{
    *counts = (struct bench_counts){0};
    if (all != NULL)
        *all = (struct histogram){0};
    for (uint32_t i = 0; i < run->plan->options->clients; i++) {
        struct bench_client *client = &run->clients[i];
        pthread_mutex_lock(&client->lock);
        add_counts(counts, &client->counts);
        for (size_t kind = 0; all != NULL && kind < BENCH_KINDS; kind++)
            if (client->counts.latency[kind] != NULL)
                histogram_add(all, client->counts.latency[kind]);
        pthread_mutex_unlock(&client->lock);
    }
}

void bench_run_latency(struct bench_run *run, enum bench_kind kind,
                       struct histogram *sum)
{
    *sum = (struct histogram){0};
    for (uint32_t i = 0; i < run->plan->options->clients; i++) {
        struct bench_client *client = &run->clients[i];
        pthread_mutex_lock(&client->lock);
        if (client->counts.latency[kind] != NULL)
            histogram_add(sum, client->counts.latency[kind]);
        pthread_mutex_unlock(&client->lock);
    }
}

uint64_t bench_run_behind(struct bench_run *run, int64_t until_ns)
{
    uint64_t rate = run->plan->options->rate, behind = 0;
    if (until_ns > run->end_ns)
        until_ns = run->end_ns;
    if (rate == 0 || until_ns <= run->start_ns)
        return 0;
    double due = (double)(until_ns - run->start_ns) * (double)rate / 1e9;
    pthread_mutex_lock(&run->lock);
    if (due > (double)run->started)
        behind = (uint64_t)(due - (double)run->started);
    pthread_mutex_unlock(&run->lock);
    return behind;
}

const char *bench_run_refusal(struct bench_run *run)
{
    pthread_mutex_lock(&run->lock);
    bool refused = run->refusal[0] != '\0';
    pthread_mutex_unlock(&run->lock);
    return refused ? run->refusal : NULL;
}
