/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_BENCH_OPTIONS_H
#define REPLIKV_PROXY_CLI_BENCH_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

/* The options that `replikv bench` has beside the general ones. */

enum bench_kind {
    BENCH_GET,
    BENCH_PUT,
    BENCH_INSERT, /* a put of a key that was not there */
    BENCH_DELETE,
    BENCH_RMW, /* a get, then a put over what it read */
    BENCH_KINDS,
};

enum bench_distribution {
    BENCH_UNSAID, /* the workload's; uniform for a mix */
    BENCH_UNIFORM,
    BENCH_ZIPFIAN,
    BENCH_LATEST,
};

struct bench_options {
    uint32_t clients;
    uint32_t batch;       /* operations of a request */
    uint32_t rate;        /* requests a second in all; 0: a closed loop */
    const char *workload; /* a letter, or NULL */
    const char *mix;      /* as given, or NULL */
    uint32_t share[BENCH_KINDS]; /* percent; of the workload or the mix */
    enum bench_distribution distribution;
    uint64_t keys;
    uint32_t value_bytes_min, value_bytes_max;
    uint64_t seed;
    bool load;
    uint32_t warmup_s, duration_s;
    const char *percentiles; /* a file's name, or NULL */
};

extern const struct bench_options bench_defaults;

/* For getopt_long, without an end mark. Each val is a letter of
 * BENCH_LETTERS. */
#define BENCH_LETTERS "CBRWMKDVSLUTP"
enum { BENCH_OPTION_COUNT = sizeof(BENCH_LETTERS) - 1 };
extern const struct option bench_option_table[BENCH_OPTION_COUNT];

/* NULL, or what is allowed. The argument is borrowed for as long as options
 * live. */
const char *bench_take_option(struct bench_options *options, int letter,
                              const char *argument);
/* Once all were taken: settle what follows from others. inflight: requests
 * under way for each client. NULL, or what does not go together. */
const char *bench_settle(struct bench_options *options, uint32_t inflight);

const char *bench_kind_name(enum bench_kind kind);
const char *bench_distribution_name(enum bench_distribution distribution);

#endif
