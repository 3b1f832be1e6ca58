/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_PUT_H
#define REPLIKV_PROXY_CORE_PUT_H

#include "gossip/placement.h"
#include "proto/ids.h"
#include "proto/status.h"

/* One replicated write, from its record being made to the last answer. A
 * delete is a put of a tombstone.
 *
 *          W slots hold it          all N heard, or grace
 * WAITING ----------------> ANSWERED ---------------------> DONE
 *    |                         ^
 *    +-------------------------+ W out of reach, or deadline
 *
 * A slot is one primary's place. It holds the record once the primary has
 * acknowledged it, or, in a sloppy put, once a fallback that stands in for the
 * primary has. Levels count slots, so a primary and its own stand-in are one.
 * The slots of a primary that leaves and of its heir are one, which holds the
 * record when both do.
 *
 * Once the client has its answer the others have a short grace; a hint is kept
 * for who is later, so that one replica that stands still does not hold on to
 * what the write takes here. Only our own disk is waited for to the deadline:
 * what it still has to store is held here, too.
 *
 * The coordinator's own store is a slot like any other: its acknowledgement is
 * the engine's. What is told to do comes out as a list of actions; the put
 * reads no clock, does no I/O and allocates nothing, so equal calls give equal
 * actions. */

enum put_action_kind {
    PUT_SEND,  /* the record to node; with target set, as a hint for it */
    PUT_REPLY, /* tell the client: applied, or not known */
    PUT_HINT,  /* keep a courtesy hint for target: it has not got the record */
};

struct put_action {
    enum put_action_kind kind;
    struct node_id node;   /* SEND */
    struct node_id target; /* SEND as a fallback, HINT */
    bool applied;          /* REPLY */
};

/* At most: a send and a hint for each slot, and the reply. */
enum { PUT_ACTIONS_MAX = 2 * OWNERS_MAX + 1 };

struct put_actions {
    struct put_action list[PUT_ACTIONS_MAX];
    size_t count;
};

struct put_config {
    const struct node_id *primaries; /* copied */
    /* Beside each of them: known to be gone. It is not sent to, its slot has
     * failed from the start. NULL: none is. */
    const bool *gone;
    size_t primary_count;
    /* Two of them that are one replica (gossip/placement.h); zero: none are. */
    struct node_id leaving, coming;
    /* Empty: strict. Else who stands in, in order; copied, at most
     * REPLICAS_MAX of them are used. */
    const struct node_id *fallbacks;
    size_t fallback_count;
    size_t w;             /* 1 to the replicas */
    int64_t deadline_ms;  /* monotonic */
    uint32_t fallback_ms; /* a primary slower than this gets a stand-in */
    uint32_t grace_ms;    /* from the answer on, for those who are late */
    /* The coordinator, which has the record in hand: when it is itself a
     * fallback, the slot it takes is that of primaries[0]. */
    struct node_id self;
    /* The client has its answer: only the record is still to go round. */
    bool answered;
};

enum slot_state { SLOT_ASKED, SLOT_HELD, SLOT_FAILED };

struct put_slot {
    struct node_id primary;
    enum slot_state state; /* of the primary's own answer */
    /* The stand-in, zero if there is none, and its answer. */
    struct node_id stand_in;
    enum slot_state stand_in_state;
};

enum put_state { PUT_WAITING, PUT_ANSWERED, PUT_DONE };

struct put {
    enum put_state state;
    struct put_slot slots[OWNERS_MAX];
    size_t slot_count;
    bool moves;     /* then there are two of one replica: */
    size_t pair[2]; /* these slots */
    struct node_id fallbacks[REPLICAS_MAX];
    size_t fallback_count, fallback_next;
    size_t w;
    int64_t deadline_ms, fallback_at_ms;
    int64_t grace_end_ms; /* ANSWERED */
    uint32_t grace_ms;
    struct node_id self;
};

/* Begin: the record goes at once to every primary that is not gone. actions is
 * overwritten, as by every call below. */
void put_start(struct put *put, const struct put_config *config, int64_t now_ms,
               struct put_actions *actions);
/* A node answered; STATUS_OK means that the record is durable there. Any other
 * status, a lost connection too, is an answer that does not count. Answers of
 * strangers and repeated ones change nothing. */
void put_hear(struct put *put, struct node_id node, enum status status,
              int64_t now_ms, struct put_actions *actions);
void put_tick(struct put *put, int64_t now_ms, struct put_actions *actions);

/* Replicas that hold the record: the `got` of a reply. */
size_t put_held(const struct put *put);

#endif
