/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_BENCH_ENGINE_BENCH_H
#define REPLIKV_TESTS_BENCH_ENGINE_BENCH_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engines/engine.h"
#include "proxy/cli/histogram.h"
#include "tests/bench/engine/device.h"
#include "tests/bench/engine/keys.h"
#include "tests/bench/engine/options.h"

/* One run of one workload on one engine, in a directory of its own.
 *
 *   fill in a child --> open --> settle --> read all, settle --> MEASURE
 *   (if the workload needs a filled store;    (if it reads)        |
 *    a child, so that what it took of                              v
 *    memory is not counted)                  settle --> open again --> settle
 *                                                 (if it writes)
 *
 * Settled is a store when this process has given nothing to write(2) for
 * settle_ms: the same rule for all engines, and it asks none of them. Nothing
 * here survives a failure: it says what failed and exits. */

struct bench {
    const struct bench_options *options;
    const struct engine_type *type;
    struct keys keys;
    char directory[PATH_MAX];
    struct engine *engine;
    /* Around write, where the engine takes one writer at a time. */
    bool serial;
    pthread_mutex_t write_lock;
    pthread_barrier_t start;
    atomic_bool stop; /* the readers of readwhilewriting are done */
};

/* A thread's part of a workload. */
struct worker {
    pthread_t thread;
    struct bench *bench;
    void (*run)(struct worker *);
    uint64_t first, count; /* operations, of all of the workload's */
    uint64_t random;       /* state of keys_random */
    uint64_t done;
    uint64_t seconds_ns; /* that it ran */
    struct histogram latency;
};

/* What came of the measured phase and what follows it. */
struct outcome {
    uint64_t operations, seconds_ns;
    struct histogram latency;
    /* Of the writer beside readers; else zero. */
    uint64_t writes, writes_ns;
    struct histogram write_latency;

    double cpu_seconds; /* of the measured phase, all threads */
    struct device_calls calls;
    struct device_memory memory;
    uint64_t resident_before; /* before the engine was opened first */

    uint64_t user_bytes;           /* keys and values written */
    struct device_written written; /* for them, to the settled store */
    uint64_t settle_ns; /* what that took, with the waits that find it out */
    struct engine_stats stats; /* since the open, when settled */
    uint64_t disk_bytes, live_bytes;

    uint64_t log_bytes; /* of recovery: what there was to replay */
};

/* --- workload.c --- */

/* How many operations the workload does unless it is told. */
uint64_t workload_operations(const struct bench_options *options);
/* Store every key once in random order, without sync. */
void workload_fill(struct bench *bench);
void workload_read_all(struct bench *bench);
/* The measured phase. */
void workload_run(struct bench *bench, struct outcome *outcome);

/* --- store.c --- */

/* The type of that name, also those of the bench alone, or fail. */
const struct engine_type *bench_type(const char *name);
/* Of all engines that this program has, with a space between. */
const char *bench_type_names(void);
void bench_open(struct bench *bench);
void bench_close(struct bench *bench);
/* Wait until the store is settled. */
void bench_settle(const struct bench *bench);
/* Run a function in a child, and wait for it. */
void bench_in_child(struct bench *bench, void (*run)(struct bench *));

/* --- recovery.c --- */

/* A child writes log_bytes and dies; the open after that is the outcome. */
void recovery_run(struct bench *bench, struct outcome *outcome);

/* --- report.c --- */

void report_print(const struct bench *bench, const struct outcome *outcome);

/* --- main.c --- */

uint64_t bench_now_ns(void);
void *bench_allocate(size_t size); /* zeroed */
_Noreturn void bench_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

#endif
