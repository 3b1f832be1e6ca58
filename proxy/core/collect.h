/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_COLLECT_H
#define REPLIKV_PROXY_CORE_COLLECT_H

#include "proto/outbox.h"
#include "proxy/core/storage_op.h"

/* Tombstones, expired values and context entries that nothing needs any more
 * are forgotten by a round, never because a timer ran out: one that came late,
 * with an older record of the key, would bring back what was deleted. (Riak's
 * "doomstone", Cassandra's gc_grace: see record_collect.)
 *
 *   IDLE --> SCANNING --> PUSHING --> DRAINING --> CHECKING --> DROPPING
 *    ^ ^        |            |            |            |           | |
 *    | +--------+------------+------------+------------+-----------+ |
 *    |           failed: again, later                                v
 *    +------------------------------------------------------- next chunk
 *
 * The first owner of a partition looks for such records among its own, on its
 * disk; gives them to all other owners, so that each holds them, or newer ones,
 * on disk (PUSHING); has every member drain (drain.c), and then, as what was on
 * its way to a fallback has become a hint there, say that it keeps none
 * (CHECKING). Behind that no older record of these keys is anywhere, nor can
 * one arrive. So each owner
 * drops what still has that very version. What was written meanwhile has
 * another, and stays. A member that is not there, holds hints or fills an
 * emptied disk holds the round up. Nothing of it survives a restart, or has
 * to. */

struct node;
struct effects;

enum collect_stage {
    COLLECT_IDLE,
    COLLECT_SCANNING,
    COLLECT_PUSHING,
    COLLECT_DRAINING,
    COLLECT_CHECKING,
    COLLECT_DROPPING,
};

struct collect {
    enum collect_stage stage;
    uint64_t serial;
    int64_t next_ms, lost_at_ms, started_ms;
    /* By partition: from then on there may be something to collect; 0: there
     * is nothing. */
    int64_t *due_ms;
    bool is_begun, is_on; /* with partition */
    struct partition partition;
    struct buffer after; /* so far it was looked at */
    bool is_last;        /* this is the last chunk */
    int64_t left_ms;     /* the least record_ripe_ms of what is; -1: nothing */
    bool is_to_retry;    /* something could not be collected now */
    int64_t before_ms;   /* of the round: what is older goes */
    struct buffer rows;  /* struct collect_row, of the chunk */
    size_t awaited;      /* answers */
    bool has_failed;
    bool has_told; /* why, since one was carried through */
};

enum status collect_init(struct node *node) MUST_CHECK;
void collect_fini(struct node *node);
void collect_tick(struct node *node, struct effects *effects);
/* Our copy of the partition has a record with this record_ripe_ms. */
void collect_note(struct node *node, struct partition partition,
                  int64_t ripe_ms);
/* What was asked of the engine is not known to be so: begin again, later. */
void collect_heard_broken(struct node *node);
/* The topology was that before. */
void collect_moved(struct node *node, const struct topology *before);
void collect_reply(struct node *node, uint64_t request, struct node_id from,
                   const Rkv__Envelope *reply, struct effects *effects);
void collect_stored(struct node *node, const struct storage_result *result,
                    struct effects *effects);
/* Our own drain has ended; serial is what it was begun with. */
void collect_drained(struct node *node, uint64_t serial, enum status status,
                     struct effects *effects);

/* drain.c. A member drains a partition: what was under way here of it when it
 * was asked ends, and each other member has taken in all that we sent it, on
 * both lanes. Asked for hints, our disk takes in what came of that all, and
 * keeps none for an owner.
 *
 *   WAITING --> BARRIERS --> (free)        STORING --> LOOKING --> (free)
 *
 * What begins meanwhile is newer than what is to be collected. */
enum { DRAINS_MAX = 16, DRAIN_LANES = 2 };

enum drain_stage {
    DRAIN_FREE,
    DRAIN_WAITING,
    DRAIN_BARRIERS,
    DRAIN_STORING,
    DRAIN_LOOKING
};

struct drain {
    enum drain_stage stage;
    uint64_t serial;
    struct reply_token token; /* 0: it is our own */
    uint64_t collect_serial;
    struct partition partition;
    uint64_t last_write, last_read; /* that had begun */
    int64_t lost_at_ms;
    size_t awaited;     /* barriers */
    uint64_t epoch;     /* of the topology when it began */
    size_t target_next; /* LOOKING: whose hints come next */
};

void drain_request(struct node *node, struct reply_token token,
                   const Rkv__Drain *drain, struct effects *effects);
/* For collect_drained. */
void drain_begin(struct node *node, struct partition partition, bool of_hints,
                 uint64_t collect_serial, struct effects *effects);
void drain_tick(struct node *node, struct effects *effects);
void drain_reply(struct node *node, uint64_t request,
                 const Rkv__Envelope *reply, struct effects *effects);
void drain_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);

#endif
