/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/bench/engine/bench.h"

enum {
    /* Operations for one reading of the clock, which takes 25 ns: where an
     * operation takes less than a microsecond that would be seen. */
    READ_BATCH = 4,
    SCAN_BATCH = 64,
    NEXTS = 10,
    SAMPLE_MS = 20,
};

/* --- one operation --- */

static void write_one(struct bench *bench, uint64_t number, bool remove,
                      bool sync)
{
    struct key key;
    key_present(&key, number);
    struct batch_operation operation = {
        .key = key_bytes(&key),
        .value = keys_value(&bench->keys, number),
        .remove = remove,
    };
    struct batch batch = {.operations = &operation, .count = 1};
    if (bench->serial)
        pthread_mutex_lock(&bench->write_lock);
    enum status status = engine_write(bench->engine, &batch, sync);
    if (bench->serial)
        pthread_mutex_unlock(&bench->write_lock);
    if (status != STATUS_OK)
        bench_fail("write: %s", status_name(status));
}

static void read_one(struct bench *bench, uint64_t number,
                     struct buffer *buffer)
{
    struct key key;
    key_present(&key, number);
    enum status status = engine_get(bench->engine, key_bytes(&key), buffer);
    if (status != STATUS_OK)
        bench_fail("get of %.16s: %s", key.digits, status_name(status));
    if (!keys_value_is(&bench->keys, number, buffer_bytes(buffer)))
        bench_fail("get of %.16s: the value is another", key.digits);
}

static void miss_one(struct bench *bench, uint64_t number,
                     struct buffer *buffer)
{
    struct key key;
    key_absent(&key, number);
    enum status status = engine_get(bench->engine, key_bytes(&key), buffer);
    if (status != STATUS_NOT_FOUND)
        bench_fail("get of %.16s, which is absent: %s", key.digits,
                   status_name(status));
}

static struct engine_iterator *iterate(struct bench *bench, struct bytes from,
                                       enum engine_order order)
{
    struct engine_iterator *iterator = NULL;
    enum status status = engine_iterate(bench->engine, from, (struct bytes){0},
                                        order, &iterator);
    if (status != STATUS_OK)
        bench_fail("iterate: %s", status_name(status));
    return iterator;
}

static void seek_one(struct bench *bench, uint64_t number)
{
    struct key from;
    struct bytes key, value;
    key_present(&from, number);
    struct engine_iterator *iterator =
        iterate(bench, key_bytes(&from), ENGINE_FORWARD);
    for (uint64_t i = 0; i < NEXTS && number + i < bench->keys.count; i++) {
        enum status status = engine_next(iterator, &key, &value);
        if (status != STATUS_OK)
            bench_fail("next: %s", status_name(status));
        if (i == 0 && !bytes_equal(key, key_bytes(&from)))
            bench_fail("the iterator began at %.16s, not %.16s", key.data,
                       from.digits);
    }
    engine_iterator_free(iterator);
}

/* --- what a thread does --- */

/* Record what was done since *since, and begin anew. */
static void lap(struct worker *worker, uint64_t *since, uint64_t operations)
{
    uint64_t now = bench_now_ns();
    histogram_record(&worker->latency, now - *since, operations);
    *since = now;
    worker->done += operations;
}

static uint64_t any(struct worker *worker)
{
    return keys_random(&worker->random, worker->bench->keys.count);
}

static void fill_in_order(struct worker *worker)
{
    struct bench *bench = worker->bench;
    uint64_t since = bench_now_ns();
    for (uint64_t i = 0; i < worker->count; i++) {
        write_one(bench, (worker->first + i) % bench->keys.count, false,
                  bench->options->sync);
        lap(worker, &since, 1);
    }
}

static void each_shuffled(struct worker *worker, bool remove)
{
    struct bench *bench = worker->bench;
    uint64_t since = bench_now_ns();
    for (uint64_t i = 0; i < worker->count; i++) {
        uint64_t place = (worker->first + i) % bench->keys.count;
        write_one(bench, keys_shuffled(&bench->keys, place), remove,
                  bench->options->sync);
        lap(worker, &since, 1);
    }
}

static void fill_shuffled(struct worker *worker)
{
    each_shuffled(worker, false);
}

static void delete_shuffled(struct worker *worker)
{
    each_shuffled(worker, true);
}

static void overwrite(struct worker *worker)
{
    uint64_t since = bench_now_ns();
    for (uint64_t i = 0; i < worker->count; i++) {
        write_one(worker->bench, any(worker), false,
                  worker->bench->options->sync);
        lap(worker, &since, 1);
    }
}

/* At least once: short readings may be over before a processor was free. */
static void overwrite_until_stop(struct worker *worker)
{
    uint64_t since = bench_now_ns();
    do {
        write_one(worker->bench, any(worker), false,
                  worker->bench->options->sync);
        lap(worker, &since, 1);
    } while (!atomic_load_explicit(&worker->bench->stop, memory_order_relaxed));
}

static void read_random(struct worker *worker)
{
    struct buffer buffer = {0};
    uint64_t since = bench_now_ns();
    for (uint64_t i = 0; i < worker->count; i++) {
        read_one(worker->bench, any(worker), &buffer);
        lap(worker, &since, 1);
    }
    buffer_fini(&buffer);
}

static void read_missing(struct worker *worker)
{
    struct buffer buffer = {0};
    uint64_t since = bench_now_ns();
    for (uint64_t left = worker->count; left > 0;) {
        uint64_t batch = left < READ_BATCH ? left : READ_BATCH;
        for (uint64_t i = 0; i < batch; i++)
            miss_one(worker->bench, any(worker), &buffer);
        lap(worker, &since, batch);
        left -= batch;
    }
    buffer_fini(&buffer);
}

static void seek_random(struct worker *worker)
{
    uint64_t since = bench_now_ns();
    for (uint64_t i = 0; i < worker->count; i++) {
        seek_one(worker->bench, any(worker));
        lap(worker, &since, 1);
    }
}

/* All keys, and again from the start until there were enough. */
static void scan(struct worker *worker, enum engine_order order)
{
    struct bench *bench = worker->bench;
    struct bytes key, value;
    struct engine_iterator *iterator = NULL;
    uint64_t since = bench_now_ns();
    while (worker->done < worker->count) {
        uint64_t place = worker->done % bench->keys.count, batch = 0;
        if (place == 0) {
            engine_iterator_free(iterator);
            iterator = iterate(bench, (struct bytes){0}, order);
        }
        while (batch < SCAN_BATCH && place + batch < bench->keys.count) {
            enum status status = engine_next(iterator, &key, &value);
            if (status != STATUS_OK || value.size != bench->keys.value_bytes)
                bench_fail("next: %s", status_name(status));
            batch++;
        }
        lap(worker, &since, batch);
    }
    engine_iterator_free(iterator);
}

static void scan_forward(struct worker *worker)
{
    scan(worker, ENGINE_FORWARD);
}

static void scan_backward(struct worker *worker)
{
    scan(worker, ENGINE_BACKWARD);
}

static void (*const runs[WORKLOAD_COUNT])(struct worker *) = {
    [WORKLOAD_FILLSEQ] = fill_in_order,
    [WORKLOAD_FILLRANDOM] = fill_shuffled,
    [WORKLOAD_FILLSYNC] = fill_shuffled,
    [WORKLOAD_OVERWRITE] = overwrite,
    [WORKLOAD_READRANDOM] = read_random,
    [WORKLOAD_READMISSING] = read_missing,
    [WORKLOAD_READSEQ] = scan_forward,
    [WORKLOAD_READREVERSE] = scan_backward,
    [WORKLOAD_SEEKRANDOM] = seek_random,
    [WORKLOAD_READWHILEWRITING] = read_random,
    [WORKLOAD_DELETERANDOM] = delete_shuffled,
};

/* --- preparing --- */

void workload_fill(struct bench *bench)
{
    for (uint64_t i = 0; i < bench->keys.count; i++)
        write_one(bench, keys_shuffled(&bench->keys, i), false, false);
}

void workload_read_all(struct bench *bench)
{
    struct buffer buffer = {0};
    for (uint64_t i = 0; i < bench->keys.count; i++)
        read_one(bench, i, &buffer);
    buffer_fini(&buffer);
}

uint64_t workload_operations(const struct bench_options *options)
{
    uint64_t part = 1;
    if (options->operations != 0)
        return options->operations;
    /* A few seconds at what a disk's flush, a seek, a read beside writes take,
     * to a microsecond's write. */
    if (options->workload == WORKLOAD_FILLSYNC)
        part = options->threads == 1 ? 40 : 10;
    else if (options->workload == WORKLOAD_SEEKRANDOM ||
             options->workload == WORKLOAD_READWHILEWRITING)
        part = 2;
    return (options->keys + part - 1) / part;
}

/* --- measuring --- */

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    pthread_barrier_wait(&worker->bench->start);
    uint64_t begin = bench_now_ns();
    worker->run(worker);
    worker->seconds_ns = bench_now_ns() - begin;
    return NULL;
}

static void *sampler_main(void *argument)
{
    const struct timespec pause = {.tv_nsec = SAMPLE_MS * 1000000};
    const atomic_bool *stop = argument;
    while (!atomic_load(stop)) {
        device_memory_sample();
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    if (pthread_create(thread, NULL, run, argument) != 0)
        bench_fail("cannot start a thread");
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void gather(struct outcome *outcome, struct worker *workers,
                   size_t count)
{
    for (size_t i = 0; i < count; i++) {
        outcome->operations += workers[i].done;
        histogram_add(&outcome->latency, &workers[i].latency);
        if (workers[i].seconds_ns > outcome->seconds_ns)
            outcome->seconds_ns = workers[i].seconds_ns;
    }
}

/* One more than options->threads for readwhilewriting's writer, the last. */
static struct worker *workers_new(struct bench *bench)
{
    size_t threads = bench->options->threads;
    uint64_t operations = workload_operations(bench->options);
    struct worker *workers = bench_allocate((threads + 1) * sizeof *workers);
    for (size_t i = 0; i <= threads; i++) {
        struct worker *worker = &workers[i];
        worker->bench = bench;
        worker->run = runs[bench->options->workload];
        worker->random = i + 1;
        worker->first = operations * i / threads;
        worker->count = operations * (i + 1) / threads - worker->first;
    }
    workers[threads].run = overwrite_until_stop;
    return workers;
}

void workload_run(struct bench *bench, struct outcome *outcome)
{
    size_t threads = bench->options->threads;
    bool beside = bench->options->workload == WORKLOAD_READWHILEWRITING;
    struct worker *workers = workers_new(bench), *writer = workers + threads;
    atomic_bool stop_sampler = false;
    pthread_t sampler;
    pthread_barrier_init(&bench->start, NULL, (unsigned)(threads + beside));
    start(&sampler, sampler_main, &stop_sampler);
    device_reset();
    double cpu = cpu_seconds();
    for (size_t i = 0; i < threads + beside; i++)
        start(&workers[i].thread, worker_main, &workers[i]);
    for (size_t i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    atomic_store(&bench->stop, true);
    if (beside)
        pthread_join(writer->thread, NULL);
    outcome->cpu_seconds = cpu_seconds() - cpu;
    outcome->calls = device_calls();
    outcome->memory = device_memory();
    atomic_store(&stop_sampler, true);
    pthread_join(sampler, NULL);
    gather(outcome, workers, threads);
    outcome->writes = writer->done;
    outcome->writes_ns = writer->seconds_ns;
    histogram_add(&outcome->write_latency, &writer->latency);
    pthread_barrier_destroy(&bench->start);
    free(workers);
}
