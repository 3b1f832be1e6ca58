/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_GET_H
#define REPLIKV_PROXY_CORE_GET_H

#include "gossip/placement.h"
#include "proto/arena.h"
#include "proto/bytes.h"
#include "proto/ids.h"
#include "proto/record.h"

/* One read of a key from its replicas.
 *
 *          R answered           enough hold what was merged
 * ASKING -----------> SETTLING -------------------> ANSWERED ----> DONE
 *    |                    |                                         ^
 *    +--------------------+------ out of reach, or deadline --------+
 *
 * R replicas are asked, then, when one fails or is slow, the next; and all,
 * when what R have is older than what the client has seen: if that is in none
 * of them, the read is STALE; but an actor whom no replica at all knows was
 * collected since (collect.h). Their records are merged. A monotonic read
 * answers only once so many replicas are known to hold the merge that every
 * later read of a majority meets one of them, also when this one asked more;
 * where they do not hold it, it is written back first. Any other read answers
 * at once and writes back behind the answer. One write-back at a time goes to a
 * replica, so that its answer can only mean that one.
 *
 * While a partition moves (gossip/placement.h) one of its owners is silent: it
 * is not asked. It and the one that it is one replica with hold the merge when
 * both do, so it may be written to.
 *
 * A replica that may lack the key says UNCERTAIN; that is no answer. Nor is a
 * record that fails its checksum: once all others have answered its owner is
 * sent the merge, which takes it for the news that its copy is damaged, unless
 * it is the very one that reads to mend it (reads.c).
 *
 * It reads no clock and does no I/O. It owns two buffers, the merged record and
 * what the client has seen. */

enum get_action_kind {
    GET_ASK,        /* fetch from node */
    GET_WRITE_BACK, /* store the merged record on node */
    GET_REPLY,      /* tell the client: the merged record, or a failure */
};

struct get_action {
    enum get_action_kind kind;
    struct node_id node;
    enum status status; /* REPLY: OK, UNAVAILABLE, TIMEOUT, STALE */
};

/* Each owner is asked once and written to twice at most. */
enum { GET_ACTIONS_MAX = 3 * OWNERS_MAX + 1 };

struct get_actions {
    struct get_action list[GET_ACTIONS_MAX];
    size_t count;
};

struct get_config {
    const struct node_id *replicas; /* primaries, best first; copied */
    size_t replica_count;           /* N */
    /* Zero: there is none. Else the last of replicas is one with it. */
    struct node_id silent;
    size_t r; /* 1 to N */
    bool monotonic;
    bool sloppy;         /* fallbacks may hold what no replica does */
    struct context seen; /* by the client before; copied */
    int64_t deadline_ms; /* monotonic clock */
    uint32_t hedge_ms;
    int64_t wall_ms; /* for the dedup window, as below */
    int64_t dedup_window_ms;
};

enum get_replica_state {
    REPLICA_IDLE, /* not asked, nor, a silent one, written to */
    REPLICA_ASKED,
    REPLICA_ANSWERED, /* with version; 0: it has no record */
    REPLICA_WRITTEN,  /* a write-back of written_version is under way */
    REPLICA_DAMAGED,  /* has a record that cannot be read: it is told */
    REPLICA_FAILED,
};

struct get_replica {
    struct node_id node;
    enum get_replica_state state;
    uint64_t version;
    uint64_t written_version;
};

enum get_state { GET_ASKING, GET_SETTLING, GET_ANSWERED, GET_DONE };

struct get {
    enum get_state state;
    struct get_replica replicas[REPLICAS_MAX];
    size_t replica_count, r;
    struct get_replica silent; /* has_silent */
    bool has_silent;
    size_t answers;  /* also of those that failed when they were written to */
    bool has_damage; /* some replica's */
    bool monotonic, sloppy;
    int64_t deadline_ms, hedge_at_ms;
    int64_t stale_at_ms; /* 0: it does not wait for more than R */
    uint32_t hedge_ms;
    int64_t wall_ms, dedup_window_ms;
    struct buffer merged; /* empty: no replica that answered has a record */
    uint64_t merged_version;
    struct buffer seen; /* of struct dot */
    bool is_behind;     /* the merged record lacks some of it, */
    bool is_lower;      /* of an actor whom it knows */
};

/* Begin. actions is overwritten, as by every call below. NO_MEMORY: it did not
 * begin. */
enum status get_start(struct get *get, const struct get_config *config,
                      int64_t now_ms, struct get_actions *actions) MUST_CHECK;
/* A replica answered our fetch: OK with its encoded record, NOT_FOUND, or any
 * other status, which does not count; so does a record that does not decode.
 * scratch is the caller's to reset. */
void get_hear(struct get *get, struct node_id node, enum status status,
              struct bytes record, struct arena *scratch,
              struct get_actions *actions);
/* A replica answered our write-back. */
void get_hear_written(struct get *get, struct node_id node, enum status status,
                      struct get_actions *actions);
void get_tick(struct get *get, int64_t now_ms, struct get_actions *actions);
void get_fini(struct get *get);

/* Replicas that answered: the `got` of a reply. */
size_t get_answers(const struct get *get);

#endif
