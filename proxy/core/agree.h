/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_AGREE_H
#define REPLIKV_PROXY_CORE_AGREE_H

#include "gossip/placement.h"
#include "proto/outbox.h"
#include "proxy/core/storage_op.h"

/* The members agree on what makes the next epoch: single-decree Paxos (Lamport
 * 2001) among those of this one, each of whom is proposer and acceptor.
 *
 *   IDLE --> PREPARING --> ACCEPTING --> IDLE: decided, which moves.h spreads
 *    ^           |             |
 *    +-----------+-------------+   refused by one, or too late: later, with a
 *                                  higher ballot
 *
 * What an acceptor promises or accepts is on its disk before it says so.
 *
 * A disk that lost something may have promised, or accepted. Set in place by an
 * operator it takes no part before it has RECOVERED: of so many others as every
 * majority has one of, itself aside, it has the promise not to go below a
 * ballot, and what they had accepted. That is what it has accepted then: of
 * what it may have had a part in they tell, or it can be decided no more. Where
 * they had accepted something it may have voted in what came next, too, and
 * recovers once more then. */

struct node;
struct effects;

struct acceptor {
    uint64_t epoch;              /* that is to come of it */
    uint64_t promised, accepted; /* ballots; 0: none */
    struct decree decree;        /* accepted */
};

enum agree_stage {
    AGREE_IDLE,
    AGREE_PREPARING,
    AGREE_ACCEPTING,
    AGREE_RECOVERING
};

struct agree {
    struct acceptor acceptor;
    /* On its way to the disk: what it will be, and whom that answers; of our
     * own proposal nobody. */
    struct acceptor storing;
    bool is_storing, is_own;
    struct reply_token storing_for;
    uint64_t storing_serial;
    /* It takes no part, but in what is to make this epoch. */
    bool abstains, is_recovering;
    bool has_jumped; /* over what it may have forgotten, in this epoch */
    uint64_t recovered_epoch;

    enum agree_stage stage;
    uint64_t serial; /* of the stage */
    uint64_t ballot, ballot_seen;
    struct decree wanted, chosen;
    uint64_t chosen_ballot; /* under which some acceptor had accepted it */
    bool heard[NODES_MAX];  /* by topology index: said yes */
    size_t yes;
    int64_t lost_at_ms, next_ms;
    int64_t left_over_ms;     /* then what was accepted here is proposed */
    struct reply_token token; /* the client's, or none */
};

/* Try to have this decreed. The client of the token, if there is one, is told
 * what became of it. False: something is being tried already. */
bool agree_propose(struct node *node, const struct decree *decree,
                   struct reply_token token, struct effects *effects);
bool agree_is_busy(const struct node *node);
void agree_tick(struct node *node, struct effects *effects);
/* There are others than the epoch before. */
void agree_moved(struct node *node, uint64_t before, struct effects *effects);
/* The disk of this start may have lost what it promised: to be stored under
 * the token. False: there was no room. */
bool agree_abstain(struct node *node, uint64_t token,
                   struct effects *effects) MUST_CHECK;
void agree_serve(struct node *node, struct reply_token token,
                 const Rkv__Agree *asked, struct effects *effects);
void agree_reply(struct node *node, uint64_t request, struct node_id from,
                 const Rkv__Envelope *reply, struct effects *effects);
void agree_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects);
/* At the start: a META entry. */
void agree_found(struct node *node, struct bytes name, struct bytes stored);

#endif
