/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_BENCH_DRAW_H
#define REPLIKV_PROXY_CLI_BENCH_DRAW_H

#include "proxy/cli/bench_options.h"

/* What a client of `replikv bench` asks for, one operation after the other: a
 * pure function of the options and the client's number, so that a seed gives
 * each client the same operations again, whatever the others and the cluster
 * do. An operation costs the same however many keys there are. */

/* Ranks of 0 to count - 1, of which rank i comes up in proportion to
 * 1 / (i + 1)^0.99, as in YCSB: the first two exactly, the third a fifth too
 * often, and the further the less. */
struct zipf {
    uint64_t count;
    double zeta, eta;
};
void zipf_init(struct zipf *zipf, uint64_t count);
/* The rank of a u from 0 to less than 1. */
uint64_t zipf_rank(const struct zipf *zipf, double u);
/* The sum of 1 / i^0.99 over i of 1 to count. */
double zipf_zeta(uint64_t count);

/* Shared by all streams, and left as it is. */
struct bench_plan {
    const struct bench_options *options; /* settled */
    struct zipf zipf;
};
void bench_plan_init(struct bench_plan *plan,
                     const struct bench_options *options);

struct bench_operation {
    enum bench_kind kind;
    uint64_t key; /* its number: below options.keys, or an inserted one */
    uint32_t value_bytes; /* of writes */
    uint32_t random;      /* to choose the value by */
};

struct bench_stream {
    const struct bench_plan *plan;
    uint32_t client;
    uint64_t random;
    uint64_t loaded, inserted;
};
void bench_stream_init(struct bench_stream *stream,
                       const struct bench_plan *plan, uint32_t client);
void bench_stream_next(struct bench_stream *stream,
                       struct bench_operation *operation);
/* The next of the keys that this client is to write first: they are dealt out
 * in turn. False when it has had all of its own. */
bool bench_stream_load(struct bench_stream *stream,
                       struct bench_operation *operation);

#endif
