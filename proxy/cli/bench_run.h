/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_BENCH_RUN_H
#define REPLIKV_PROXY_CLI_BENCH_RUN_H

#include "proxy/cli/bench_draw.h"
#include "proxy/cli/cli.h"
#include "proxy/cli/histogram.h"

/* The clients of `replikv bench`, each a connection with --inflight slots, and
 * what came of their requests.
 *
 *    draw a request ---> start --> result, recorded ---+
 *       ^      | not due yet (open loop), or a rest    |
 *       |      +--> idle, until the pacer wakes it     |
 *       +----------------------------------------------+
 *
 * A slot has one request under way, of --batch operations; who gets its result
 * starts the next one in it, after a rest if it could not even be sent. An
 * operation's latency is that of its request. In an open loop request
 * number n is due n / rate seconds after the start, and that is where its
 * latency begins, whenever it is started: when no slot is idle it waits for
 * one, and the wait counts.
 *
 * Threads: each client has a lock, of its stream and what it counts; the run
 * has one, of the idle slots and the schedule. Neither is held across a call
 * of the library, and neither is taken inside the other. */

enum { BENCH_STATUSES = REPLIKV_STALE + 2 }; /* the last: any other */

/* Of operations that began in the measured time. */
struct bench_counts {
    /* Of those that were answered, NULL of kinds with no share. */
    struct histogram *latency[BENCH_KINDS];
    uint64_t not_found;      /* among them */
    uint64_t siblings_max;   /* in one get */
    uint64_t loaded, failed; /* failed: the sum of errors */
    uint64_t errors[BENCH_STATUSES][REPLIKV_UNKNOWN + 1];
};

struct bench_run;

/* Open the clients. Exits when that cannot be. */
struct bench_run *bench_run_new(const struct cli *cli,
                                const struct bench_plan *plan);
void bench_run_free(struct bench_run *run);

/* Start to write every key once, over what is there. */
void bench_run_load(struct bench_run *run);
/* Start the operations, once nothing of the load is under way. From start_ns
 * on, by bench_now_ns, come the warm-up and the measured time. */
void bench_run_start(struct bench_run *run, int64_t start_ns);
/* Start no more of either. */
void bench_run_stop(struct bench_run *run);
/* Until nothing is under way, or wait_ms have passed. True when it was the
 * former. */
bool bench_run_wait(struct bench_run *run, uint32_t wait_ms);
/* End what is still under way, uncounted; the clients are of no use then. */
void bench_run_close(struct bench_run *run);

/* What was counted since bench_run_load or bench_run_start. Into counts go all
 * but the latencies, into all, which may be NULL, the latencies of every kind
 * added up. */
void bench_run_read(struct bench_run *run, struct bench_counts *counts,
                    struct histogram *all);
/* The latencies of a kind, added up into *sum. */
void bench_run_latency(struct bench_run *run, enum bench_kind kind,
                       struct histogram *sum);
/* In an open loop, how many were due by then and not started. */
uint64_t bench_run_behind(struct bench_run *run, int64_t until_ns);
/* NULL, or what a node said to a request that can never succeed: it stopped
 * the run. */
const char *bench_run_refusal(struct bench_run *run);

int64_t bench_now_ns(void);

#endif
