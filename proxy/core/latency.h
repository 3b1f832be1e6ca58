/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_LATENCY_H
#define REPLIKV_PROXY_CORE_LATENCY_H

#include "proxy/core/log_linear.h"

/* Where the time of requests goes in this node, since its start.
 *
 *   put      queue     from its arrival until its record is made
 *            disk      from then until our own store has it
 *            replicas  from then until W have it, our own store may be one
 *            answer    from its arrival to the reply, whatever that says
 *   forward  answer    of a put that another node coordinates for us
 *   get      read      of our own copy, if we are a replica
 *            replicas  from its arrival until R have answered
 *            answer    behind the write-backs, if it needs any
 *   store    queue, disk and answer, of another coordinator's put
 *   fetch    answer, of another coordinator's get
 *
 * So of a put that was applied, queue and replicas are the answer. A delete is
 * a put. But for answers only what went well counts: a disk that fails at once
 * is not fast. What was refused on arrival does not count at all.
 *
 * A time is that of an event, which the edge takes once for all that it brings
 * together (proxy/turn.c). So a stage ends when the node hears of it, with its
 * lock; what it then does for those that came together with it, some
 * microseconds each, is part of the next stage. How long a request waits before
 * the node hears of it, in the socket and for the lock, is not seen, nor is the
 * way of its reply.
 *
 * Recording takes constant time, a few nanoseconds, and no memory. */

enum latency_stage {
    LATENCY_PUT_QUEUE,
    LATENCY_PUT_DISK,
    LATENCY_PUT_REPLICAS,
    LATENCY_PUT_ANSWER,
    LATENCY_FORWARD_ANSWER,
    LATENCY_GET_READ,
    LATENCY_GET_REPLICAS,
    LATENCY_GET_ANSWER,
    LATENCY_STORE_QUEUE,
    LATENCY_STORE_DISK,
    LATENCY_STORE_ANSWER,
    LATENCY_FETCH_ANSWER,
    LATENCY_COUNT
};

enum {
    /* 16 buckets for each power of two: read back, a latency is at most 6 %
     * too low. */
    LATENCY_SUB_BITS = 4,
    /* 2^26 us are 67 s, more than any deadline in use; what takes longer is in
     * the last bucket. */
    LATENCY_BITS = 26,
    LATENCY_BUCKETS = (LATENCY_BITS - LATENCY_SUB_BITS + 1) << LATENCY_SUB_BITS,
};

/* 3 KiB. Zeroed memory is empty. */
struct latency {
    uint64_t max_us; /* exact */
    uint64_t buckets[LATENCY_BUCKETS];
};

/* us below 0 counts as 0. */
void latency_record(struct latency *latency, int64_t us);
/* The least that what is in the bucket took. */
static inline uint64_t latency_lowest_us(size_t bucket)
{
    return log_linear_lowest(bucket, LATENCY_SUB_BITS);
}

/* "put" and "queue": static strings. */
const char *latency_kind_name(enum latency_stage stage);
const char *latency_stage_name(enum latency_stage stage);

#endif
