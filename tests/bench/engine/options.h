/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_BENCH_ENGINE_OPTIONS_H
#define REPLIKV_TESTS_BENCH_ENGINE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum workload {
    WORKLOAD_FILLSEQ,
    WORKLOAD_FILLRANDOM,
    WORKLOAD_FILLSYNC,
    WORKLOAD_OVERWRITE,
    WORKLOAD_READRANDOM,
    WORKLOAD_READMISSING,
    WORKLOAD_READSEQ,
    WORKLOAD_READREVERSE,
    WORKLOAD_SEEKRANDOM,
    WORKLOAD_READWHILEWRITING,
    WORKLOAD_DELETERANDOM,
    WORKLOAD_RECOVERY,
    WORKLOAD_COUNT
};

/* Sizes are in bytes. */
struct bench_options {
    const char *engine;
    enum workload workload;
    uint64_t keys;
    uint64_t operations; /* 0: what the workload takes for that many keys */
    size_t value_bytes;
    bool sync;
    unsigned threads;
    uint64_t cache_bytes, memtable_bytes;
    bool compress;
    const char *parent; /* directory in which the run makes its own */
    const char *store;  /* a filled store that reads share, or NULL */
    uint64_t settle_ms;
    bool json;
};

/* From the command line. On a mistake, say which and exit with 2; with --help,
 * print it and exit with 0. */
void options_parse(struct bench_options *options, int argc, char **argv);

const char *workload_name(enum workload workload);
/* Whether it begins with a store that has all keys. */
bool workload_needs_store(enum workload workload);
/* Whether it does nothing but write. */
bool workload_writes(enum workload workload);

#endif
