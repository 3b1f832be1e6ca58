/* SPDX-License-Identifier: MIT */
#include "proxy/cli/bench_options.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    CLIENTS_MAX = 1024, /* each has a connection and two threads */
    SLOTS_MAX = 65536,
    BATCH_MAX = 1000,         /* what a node takes in one */
    OPERATIONS_MAX = 1 << 18, /* at once, some 300 bytes each */
    RATE_MAX = 10000000,
    KEYS_MAX = 1000000000,
    VALUE_BYTES_MAX = 64 << 20, /* what one connection may have under way */
    WARMUP_MAX_S = 3600,
    DURATION_MAX_S = 7 * 86400,
};

const struct bench_options bench_defaults = {
    .clients = 16,
    .batch = 1,
    .keys = 10000,
    .value_bytes_min = 100,
    .value_bytes_max = 100,
    .seed = 1,
    .warmup_s = 2,
    .duration_s = 10,
};

const struct option bench_option_table[BENCH_OPTION_COUNT] = {
    {"clients", required_argument, NULL, 'C'},
    {"batch", required_argument, NULL, 'B'},
    {"rate", required_argument, NULL, 'R'},
    {"workload", required_argument, NULL, 'W'},
    {"mix", required_argument, NULL, 'M'},
    {"keys", required_argument, NULL, 'K'},
    {"distribution", required_argument, NULL, 'D'},
    {"value-size", required_argument, NULL, 'V'},
    {"seed", required_argument, NULL, 'S'},
    {"load", no_argument, NULL, 'L'},
    {"warmup", required_argument, NULL, 'U'},
    {"duration", required_argument, NULL, 'T'},
    {"percentiles", required_argument, NULL, 'P'},
};

static const char *const kind_names[BENCH_KINDS] = {
    [BENCH_GET] = "get",       [BENCH_PUT] = "put", [BENCH_INSERT] = "insert",
    [BENCH_DELETE] = "delete", [BENCH_RMW] = "rmw",
};

static const char *const distribution_names[] = {
    [BENCH_UNSAID] = "",
    [BENCH_UNIFORM] = "uniform",
    [BENCH_ZIPFIAN] = "zipfian",
    [BENCH_LATEST] = "latest",
};

/* YCSB's core workloads (Cooper et al., SoCC 2010). */
static const struct workload {
    char name;
    uint32_t share[BENCH_KINDS];
    enum bench_distribution distribution;
} workloads[] = {
    {'a', {[BENCH_GET] = 50, [BENCH_PUT] = 50}, BENCH_ZIPFIAN},
    {'b', {[BENCH_GET] = 95, [BENCH_PUT] = 5}, BENCH_ZIPFIAN},
    {'c', {[BENCH_GET] = 100}, BENCH_ZIPFIAN},
    {'d', {[BENCH_GET] = 95, [BENCH_INSERT] = 5}, BENCH_LATEST},
    {'f', {[BENCH_GET] = 50, [BENCH_RMW] = 50}, BENCH_ZIPFIAN},
};

const char *bench_kind_name(enum bench_kind kind)
{
    return kind_names[kind];
}

const char *bench_distribution_name(enum bench_distribution distribution)
{
    return distribution_names[distribution];
}

/* Digits up to the end, or up to *end where that is asked for. */
static bool take_number(const char *text, uint64_t min, uint64_t max,
                        uint64_t *number, const char **end)
{
    char *behind;
    errno = 0;
    *number = strtoull(text, &behind, 10);
    if (end != NULL)
        *end = behind;
    return text[0] >= '0' && text[0] <= '9' && errno == 0 && *number >= min &&
           *number <= max && (end != NULL || *behind == '\0');
}

static bool take_u32(const char *text, uint32_t min, uint32_t max,
                     uint32_t *number)
{
    uint64_t wide;
    bool good = take_number(text, min, max, &wide, NULL);
    *number = (uint32_t)wide;
    return good;
}

static bool take_sizes(struct bench_options *options, const char *text)
{
    uint64_t min, max;
    const char *end;
    if (!take_number(text, 0, VALUE_BYTES_MAX, &min, &end))
        return false;
    max = min;
    if (*end == '-' && !take_number(end + 1, min, VALUE_BYTES_MAX, &max, &end))
        return false;
    options->value_bytes_min = (uint32_t)min;
    options->value_bytes_max = (uint32_t)max;
    return *end == '\0';
}

static const char *take_workload(struct bench_options *options,
                                 const char *text)
{
    options->workload = text;
    if (text[0] != '\0' && text[1] == '\0')
        for (size_t i = 0; i < sizeof(workloads) / sizeof(*workloads); i++)
            if ((text[0] | 0x20) == workloads[i].name)
                return NULL;
    if (strcmp(text, "e") == 0 || strcmp(text, "E") == 0)
        return "--workload: a, b, c, d or f; e is scans, which are not "
               "offered";
    return "--workload: a, b, c, d or f";
}

/* "get=50,put=50": each kind once at most. */
static const char *take_mix(struct bench_options *options, const char *text)
{
    bool given[BENCH_KINDS] = {false};
    uint64_t sum = 0, share;
    options->mix = text;
    memset(options->share, 0, sizeof(options->share));
    for (;; text++) {
        size_t kind = 0, size = strcspn(text, "=");
        while (kind < BENCH_KINDS && (strlen(kind_names[kind]) != size ||
                                      strncmp(text, kind_names[kind], size)))
            kind++;
        if (kind == BENCH_KINDS || given[kind] || text[size] != '=' ||
            !take_number(text + size + 1, 0, 100, &share, &text) ||
            (*text != '\0' && *text != ','))
            return "--mix: percents of get, put, insert, delete and rmw, each "
                   "once at most, as get=50,put=40,delete=5,rmw=5";
        given[kind] = true;
        options->share[kind] = (uint32_t)share;
        sum += share;
        if (*text == '\0')
            return sum == 100 ? NULL : "--mix: percents that sum to 100";
    }
}

static const char *take_distribution(struct bench_options *options,
                                     const char *text)
{
    static const enum bench_distribution all[] = {BENCH_UNIFORM, BENCH_ZIPFIAN,
                                                  BENCH_LATEST};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (strcmp(text, distribution_names[all[i]]) == 0) {
            options->distribution = all[i];
            return NULL;
        }
    return "--distribution: uniform, zipfian or latest";
}

const char *bench_take_option(struct bench_options *options, int letter,
                              const char *argument)
{
    switch (letter) {
    case 'C':
        return take_u32(argument, 1, CLIENTS_MAX, &options->clients)
                   ? NULL
                   : "--clients: 1 to 1024";
    case 'B':
        return take_u32(argument, 1, BATCH_MAX, &options->batch)
                   ? NULL
                   : "--batch: 1 to 1000 operations";
    case 'R':
        return take_u32(argument, 1, RATE_MAX, &options->rate)
                   ? NULL
                   : "--rate: 1 to 10000000 requests/s";
    case 'W':
        return take_workload(options, argument);
    case 'M':
        return take_mix(options, argument);
    case 'K':
        return take_number(argument, 1, KEYS_MAX, &options->keys, NULL)
                   ? NULL
                   : "--keys: 1 to 1000000000";
    case 'D':
        return take_distribution(options, argument);
    case 'V':
        return take_sizes(options, argument)
                   ? NULL
                   : "--value-size: BYTES or LEAST-MOST, 0 to 67108864";
    case 'S':
        return take_number(argument, 0, UINT64_MAX, &options->seed, NULL)
                   ? NULL
                   : "--seed: 0 to 18446744073709551615";
    case 'L':
        options->load = true;
        return NULL;
    case 'U':
        return take_u32(argument, 0, WARMUP_MAX_S, &options->warmup_s)
                   ? NULL
                   : "--warmup: 0 to 3600 s";
    case 'T':
        return take_u32(argument, 1, DURATION_MAX_S, &options->duration_s)
                   ? NULL
                   : "--duration: 1 to 604800 s";
    case 'P':
        options->percentiles = argument;
        return NULL;
    default:
        return "";
    }
}

const char *bench_settle(struct bench_options *options, uint32_t inflight)
{
    if (options->workload != NULL && options->mix != NULL)
        return "--workload and --mix: one of them";
    if ((uint64_t)options->clients * inflight > SLOTS_MAX)
        return "--clients times --inflight: at most 65536";
    if ((uint64_t)options->clients * inflight * options->batch > OPERATIONS_MAX)
        return "--clients times --inflight times --batch: at most 262144";
    enum bench_distribution distribution = BENCH_UNIFORM;
    if (options->mix == NULL) {
        if (options->workload == NULL)
            options->workload = "a";
        const struct workload *workload = workloads;
        while (workload->name != (options->workload[0] | 0x20))
            workload++;
        memcpy(options->share, workload->share, sizeof(options->share));
        distribution = workload->distribution;
    }
    if (options->distribution == BENCH_UNSAID)
        options->distribution = distribution;
    return NULL;
}
