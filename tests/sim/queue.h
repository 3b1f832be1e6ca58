/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_QUEUE_H
#define REPLIKV_TESTS_SIM_QUEUE_H

#include <stddef.h>
#include <stdint.h>

/* What will happen, in the order of time; at one time, in the order in which
 * it was scheduled. Entries own nothing: they name things by index and
 * generation, and one whose generation is gone is passed over. */

enum moment_kind {
    MOMENT_TICK,        /* host, life */
    MOMENT_START,       /* host, life */
    MOMENT_STOP,        /* host, life: it halted */
    MOMENT_FRAME,       /* session, generation; c: direction */
    MOMENT_NO_REPLY,    /* host, life; c: entry of the network's list */
    MOMENT_DISK_BATCH,  /* host, life */
    MOMENT_DISK_SYNC,   /* host, life */
    MOMENT_DISK_ANSWER, /* host, life; c: the operation */
    MOMENT_DISK_REOPEN, /* host, life */
    MOMENT_REQUEST,     /* attempt, generation: it reaches its node */
    MOMENT_REPLY,       /* attempt, generation: its reply reaches the client */
    MOMENT_CLIENT,      /* client, generation: timeout, or time to go on */
    MOMENT_FAULT,       /* the next one is drawn */
    MOMENT_FAULT_ENDS,  /* a: which; b: host, c: host */
    MOMENT_OPERATOR,    /* a: which; asks once more that it leaves */
};

struct moment {
    int64_t at_us;
    uint64_t order;
    enum moment_kind kind;
    uint32_t a, b;
    uint64_t c;
};

struct queue {
    struct moment *heap;
    size_t count, capacity;
    uint64_t order;
};

void queue_fini(struct queue *queue);
void queue_push(struct queue *queue, struct moment moment);
/* The earliest; the queue is not empty. */
struct moment queue_pop(struct queue *queue);

#endif
