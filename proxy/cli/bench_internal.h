/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_BENCH_INTERNAL_H
#define REPLIKV_PROXY_CLI_BENCH_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "proxy/cli/bench_run.h"

/* The inside of bench_run.h. bench_run.c: the clients, and what they counted.
 * bench_slots.c: one request after the other, and the pacer. */

enum {
    BENCH_KEY_BYTES = 24, /* "bench" and at least 12 digits, and some */
    BENCH_POOL_BYTES = 1 << 20,
};

struct bench_client {
    struct bench_run *run;
    struct replikv *connection;
    pthread_mutex_t lock; /* of what follows */
    struct bench_stream stream;
    struct bench_counts counts;
};

/* One operation of a request. */
struct bench_item {
    struct bench_operation operation;
    bool reads; /* what is asked now is the get before its write */
    bool ended;
    struct replikv_bytes context; /* of that get, until the write has left */
    char key[BENCH_KEY_BYTES];
    size_t key_bytes;
};

struct bench_slot {
    struct bench_client *client;
    struct bench_slot *next; /* among the idle */
    /* 1 once replikv_start has returned or the request has ended, whichever
     * came first; who comes second goes on. A result may come within
     * replikv_start, and would else go on deeper and deeper. */
    atomic_int turn;
    int64_t from_ns;          /* where the latency begins; or, the rest */
    bool unsent;              /* the last one did not even leave */
    struct bench_item *items; /* --batch of them */
    size_t item_count;
    struct replikv_request *requests; /* scratch, as many */
};

struct bench_run {
    const struct cli *cli;
    const struct bench_plan *plan;
    struct bench_client *clients;
    struct bench_slot *slots;
    size_t slot_count;
    struct bench_item *items; /* of all slots */
    struct replikv_request *requests;
    char *pool; /* of random bytes; a value is a slice of it */
    bool loading;
    int64_t start_ns, measure_ns, end_ns;
    pthread_t pacer;
    bool paced; /* the pacer was started, and not joined */
    atomic_bool stop;

    pthread_mutex_t lock;      /* of what follows */
    pthread_cond_t done;       /* running is 0 */
    pthread_cond_t idle_again; /* the pacer has a slot where it had none */
    size_t running;            /* slots that have not had their last request */
    uint64_t started;          /* of the schedule */
    struct bench_slot *idle, **idle_end; /* the one longest idle first */
    bool told[BENCH_STATUSES];
    char refusal[512];
};

/* Start requests in the slot, one after the other, until one is under way,
 * or none is due yet, or it has had its last. */
void bench_go_on(struct bench_slot *slot);
/* A thread of each phase: let the slot that is idle longest go on when
 * something is due, or it has rested. */
void *bench_pacer_main(void *run);
/* With the run's lock: until what is signalled, or until_ns. */
void bench_wait_until(struct bench_run *run, pthread_cond_t *what,
                      int64_t until_ns);

#endif
