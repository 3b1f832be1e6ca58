/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_HANDOFF_H
#define REPLIKV_PROXY_CORE_HANDOFF_H

#include "proto/outbox.h"
#include "proxy/core/storage_op.h"

/* Hinted hand-off: what was kept for a node goes to it when it is back.
 *
 *   IDLE --> SCANNING --> SENT --> DROPPING --> IDLE
 *     ^         |           |                    |
 *     +---------+-----------+  nothing, failed   | half of what it took
 *     +------------------------------------------+
 *
 * One chunk is under way at a time, and the next waits half as long as the last
 * one took: a slow target gets less, a fast one more. A chunk that is refused
 * or gets no reply, which is all that is heard of one too large for a queue or
 * a frame, is halved until the row that is not wanted stands alone; that one is
 * counted and passed over, so that it does not hold up the rest. It stays, and
 * the next pass tries it again; but one that fails its checksum is dropped.
 * While deliveries to a target fail, the waits between them double.
 *
 * What is kept for a node that leaves, or has left, is kept for its heir
 * instead (gossip/placement.h), or is our own if we are that: SCANNING goes to
 * MOVING, and when all is stored to DROPPING. */

struct node;
struct effects;

/* Of records in one message: large against a round trip, small against what one
 * commit of the target holds up. */
enum { HANDOFF_CHUNK_BYTES = 256 * 1024 };

/* What is kept for one node until it can have it. */
struct hint_target {
    struct node_id node;
    uint64_t records, bytes; /* of keys and records */
    uint64_t coming;         /* bytes that are being stored, at most */
    int64_t taken_ms; /* when it last answered, or nothing was kept for it */
    /* A write of one failed, or took a damaged one's place: what the counts say
     * may be wrong until a pass over all of them finds none. */
    bool is_unsure;
    uint64_t changes;
    /* Behind which the next chunk begins, and how large it may be: kept while
     * others have their turn. */
    struct buffer after;
    uint32_t chunk_bytes;
    uint32_t unsent; /* how often in a row one row alone got no reply */
    /* Since a delivery failed: not before then, and what was waited for it;
     * twice as long after the next. */
    int64_t next_ms, wait_ms;
};

enum handoff_stage {
    HANDOFF_IDLE,
    HANDOFF_SCANNING,
    HANDOFF_SENT,
    HANDOFF_MOVING,
    HANDOFF_DROPPING
};

struct handoff {
    enum handoff_stage stage;
    struct node_id target;
    uint64_t serial;
    int64_t started_ms, next_ms;
    int64_t lost_at_ms; /* not IDLE: then what is waited for is given up */
    size_t target_next; /* round robin */
    struct buffer next; /* where the chunk ends; empty: with the last */
    uint64_t changes;   /* of the target when the scan began */
    struct buffer rows; /* keys and versions of the chunk under way */
    size_t rows_bytes;  /* of their keys and records */
    size_t dropping;    /* MOVING: or to be stored */
    bool has_failed;    /* MOVING */
};

/* Keep a courtesy hint of the record for target, or shed it. */
void hint_keep(struct node *node, struct node_id target,
               const struct storage_key *key, enum record_kind kind,
               struct bytes record, struct effects *effects);
/* Submit a MERGE or COORDINATE as the target's fallback. Its records are
 * replicas: over its bound, which is counted, it refuses to vote. NULL, or why
 * not. */
const char *fallback_store(struct node *node, struct storage_op *op,
                           struct effects *effects);
/* A fallback's COORDINATE was refused when it was prepared: nothing of it
 * comes. */
void hint_refused(struct node *node, const struct storage_result *result);
/* At the start. */
void hint_found(struct node *node, const struct storage_row *row);
struct hint_target *hint_target(struct node *node, struct node_id id);
/* NULL: nothing was ever kept for it. */
struct hint_target *hint_find(struct node *node, struct node_id id);
/* It is not kept, or no more: anti-entropy has to carry it over. */
void hint_shed(struct node *node, struct node_id target,
               struct partition partition);
/* Write to what is kept for op's target, whatever its limits. False: the step's
 * budget is spent. */
bool hint_submit(struct node *node, struct storage_op *op,
                 struct effects *effects);
void handoff_fini(struct node *node);
void hints_changed(struct node *node, const struct storage_result *result);
void handoff_tick(struct node *node, struct effects *effects);
void handoff_stored(struct node *node, const struct storage_result *result,
                    struct effects *effects);
void handoff_reply(struct node *node, uint64_t request,
                   const Rkv__Envelope *reply, struct effects *effects);
/* The target is there again. */
void handoff_wake(struct node *node, struct node_id target);
/* Some have others as their heirs. */
void handoff_moved(struct node *node);

#endif
