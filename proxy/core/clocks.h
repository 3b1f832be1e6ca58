/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_CLOCKS_H
#define REPLIKV_PROXY_CORE_CLOCKS_H

#include "gossip/placement.h"
#include "proto/outbox.h"

/* Wall clocks, held against each other's. Stamps of lww writes, when values
 * expire and what is old are taken from one, and every replica has to live with
 * them: of a clock that is a day ahead one write would win for a day.
 *
 * So a node asks the other members what theirs show. While its own is further
 * than timeouts.clock_skew_max_ms from the median of all, its own among them,
 * it goes by the median. With two clocks nobody can tell which one is wrong.
 *
 * Each is noted against our monotonic clock, which nobody sets: so one of ours
 * that is set in between shows at once, and one of theirs at the next reply.
 * So does a machine that stood still, and whose clock is right: it is behind
 * until the others, which are asked at once, have answered. A reply's clock is
 * taken to be that of half the way; one that took long says too little
 * (Cristian, "Probabilistic clock synchronization", 1989). */

struct node;
struct effects;

/* How far a wall clock is ahead of our monotonic one. */
struct peer_clock {
    int64_t ahead_ms;
    int64_t heard_ms; /* 0: never */
    int64_t next_ms;  /* it is asked then */
    uint64_t serial;  /* of the request that is under way, or 0 */
    int64_t asked_us;
};

struct clocks {
    struct peer_clock peers[NODES_MAX]; /* by topology index */
    uint64_t serial;
    int64_t own_ahead_ms;
    bool is_known;           /* what the others show, of two at least */
    int64_t low_ms, high_ms; /* of the median, which may be between two */
    bool is_off, is_told;    /* ours is, by more than may be; so it was said */
};

/* What to go by, of a wall clock that shows this. */
int64_t clocks_wall(struct node *node, int64_t wall_ms);
/* How far our own is ahead of the median, if that is known; else 0. */
int64_t clocks_off_ms(const struct node *node);
void clocks_tick(struct node *node, struct effects *effects);
void clocks_serve(struct node *node, struct reply_token token,
                  struct effects *effects);
/* reply may be NULL: there is none. */
void clocks_reply(struct node *node, uint64_t request,
                  const Rkv__Envelope *reply);

#endif
