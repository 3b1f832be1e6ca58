/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_GOSSIP_NETWORK_H
#define REPLIKV_TESTS_GOSSIP_NETWORK_H

#include "gossip/membership.h"

/* A few membership machines in one thread, over a network that delays every
 * message by 1 to 10 ms and loses what it is told to lose. It plays the edge:
 * packs, unpacks, greets before the first message of a pair, and reports a
 * request that stays unanswered. Equal seeds give equal runs. */

enum { NETWORK_NODES_MAX = 16, TRACE_BYTES_MAX = 1 << 16 };

struct network_node {
    struct membership *membership; /* NULL: the process is not running */
    struct member self;
    struct disk_claim claim;
    bool met[NETWORK_NODES_MAX];
};

struct network {
    int64_t now_ms;
    uint64_t random, sequence;
    struct membership_config config;
    struct network_node nodes[NETWORK_NODES_MAX];
    /* Whether messages from one to the other are lost. */
    bool cut[NETWORK_NODES_MAX][NETWORK_NODES_MAX];
    struct event *events; /* by time, then in the order they were made */
    struct arena arena, unpacked;
    size_t refused; /* greetings that were not accepted */
    /* Every change of state that any node reports. */
    char trace[TRACE_BYTES_MAX];
    size_t trace_length;
};

void network_init(struct network *network, uint64_t seed);
void network_fini(struct network *network);
/* What node index is when it first starts: boot 1, a store of its own. */
struct member network_member(size_t index);
/* Start the process with this self; node 0 is everybody's seed. */
void network_start(struct network *network, size_t index,
                   const struct member *self);
/* Stop it without a word. */
void network_kill(struct network *network, size_t index);
void network_leave(struct network *network, size_t index);
void network_run(struct network *network, int64_t for_ms);
/* Lose everything to and from it, or nothing. */
void network_isolate(struct network *network, size_t index, bool isolated);
/* What one believes of the other; -1 if it has never heard of it. */
int network_view(const struct network *network, size_t of, size_t about);
/* Run until all that run hold all others that run to be in the state, or
 * until the time is up. */
bool network_agrees(struct network *network, size_t about,
                    enum member_state state, int64_t within_ms);

#endif
