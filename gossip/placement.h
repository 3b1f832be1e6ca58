/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_GOSSIP_PLACEMENT_H
#define REPLIKV_GOSSIP_PLACEMENT_H

#include "proto/ids.h"
#include "proto/status.h"

/* Which nodes hold which partition: an explicit, epoch-numbered table. Pure
 * functions of their arguments; liveness never changes it.
 *
 * Epoch 1 follows from the founders alone, so nothing has to be agreed and two
 * groups cannot form by accident. Each later one is that before it and one
 * decree, which the members agree on (proxy/core/agree.h).
 *
 *          LEAVE              TURN                SETTLE
 * settled ------> old and new ----> old and new, -------> settled
 *                 hold it,          the new are read
 *                 the old are read
 *
 * While a node leaves, each partition that it owns has one owner more, its
 * heir. The two count as one replica, which holds a write when both do; reads
 * ask the old one until the heir has all that was there, and then the heir. One
 * step is taken once all members have the last on their disks: so writes meet
 * the reads of those who are one step behind them. Raft's joint consensus
 * (Ongaro, Ousterhout 2014) does so with two steps, as its log is read by one
 * node; who reads from R replicas takes three.
 *
 * A node that is lost is read no more: with its LEAVE, which may follow a LEAVE
 * or TURN of it, the heirs are the owners, as if they had been given an empty
 * disk, and SETTLE follows. */

enum {
    NODES_MAX = 256,
    REPLICAS_MAX = 16,
    OWNERS_MAX = REPLICAS_MAX + 1, /* of one partition, while a node leaves */
    PARTITIONS_MAX = 16384,
    ZONE_NAME_MAX = 32,
};

struct placement_node {
    struct node_id id;
    char name[NODE_NAME_MAX + 1];
    char zone[ZONE_NAME_MAX + 1];
};

enum decree_kind { DECREE_LEAVE = 1, DECREE_TURN, DECREE_SETTLE };

struct decree {
    enum decree_kind kind;
    bool lost; /* LEAVE: the node, and its disk */
    struct node_id node;
};

enum { NO_NODE = UINT16_MAX };

struct topology {
    uint64_t epoch;
    uint64_t cluster_id;
    uint32_t partitions;          /* Q */
    uint32_t replicas;            /* N, */
    size_t replica_count;         /* or as many as there were nodes */
    struct placement_node *nodes; /* sorted by id; the founders */
    size_t node_count;
    uint16_t *owners; /* partitions * replicas indexes into nodes */
    /* By partition: who will own it in place of the one that leaves, or
     * NO_NODE; the epoch since which its owners are these, 0 from the start. */
    uint16_t *coming;
    uint64_t *changed;
    /* By node: whom its partitions went, or go, to, by partition; NULL while it
     * does not leave. */
    uint16_t **heirs;
    struct decree *decrees; /* epoch - 1 of them */
    /* The LEAVE or TURN that is not settled yet, of the node; else NO_NODE. */
    uint16_t leaver;
    struct decree move;
};

/* What founds a cluster. Every founder's zone must be known to all, so the
 * configuration lists them with the names. */
struct founding {
    const char *cluster;
    const struct placement_node *founders; /* ids are ignored */
    size_t founder_count;
    uint32_t partitions;
    uint32_t replicas;
};

/* Epoch 1. Order of founders does not matter. Allocates the tables;
 * topology_fini frees them. INVALID with a sentence for duplicate names, too
 * many, too few partitions. The claim: distinct nodes first, then distinct
 * zones, then balance: within one partition a node inside a zone. */
enum status topology_found(const struct founding *founding,
                           struct topology *topology,
                           struct error *error) MUST_CHECK;
void topology_fini(struct topology *topology);

/* A copy of its own, from one that has room for it. */
enum status topology_copy(const struct topology *topology,
                          struct topology *copy) MUST_CHECK;

/* The next epoch. INVALID with a sentence for what cannot follow; then, and on
 * NO_MEMORY, it is unchanged. */
enum status topology_decree(struct topology *topology,
                            const struct decree *decree,
                            struct error *error) MUST_CHECK;
/* Whether that would be INVALID. */
enum status topology_allows(const struct topology *topology,
                            const struct decree *decree,
                            struct error *error) MUST_CHECK;

/* Who is to agree on the next decree and to be asked before anything is
 * forgotten: all but those that are lost, or have left and are settled. */
bool topology_is_member(const struct topology *topology, size_t node);
size_t topology_member_count(const struct topology *topology);
/* Whether a node leaves and is not settled. */
bool topology_is_moving(const struct topology *topology);
/* Of this partition, between which two of its owners. */
bool topology_moves(const struct topology *topology, struct partition partition,
                    struct node_id *leaving, struct node_id *coming);
/* Nothing more is to be kept for, or by, a node that leaves or has left. */
bool topology_leaves(const struct topology *topology, struct node_id node);
/* Who is to have what was kept for the node. */
struct node_id topology_heir(const struct topology *topology,
                             struct partition partition, struct node_id node);

/* N: as many replicas a partition has. */
size_t topology_replica_count(const struct topology *topology);
/* The owners of a partition, each once: N, or one more while it moves. */
size_t topology_owner_count(const struct topology *topology,
                            struct partition partition);
struct node_id topology_owner(const struct topology *topology,
                              struct partition partition, size_t replica);
bool topology_owns(const struct topology *topology, struct partition partition,
                   struct node_id node);
/* The index in nodes, or -1. */
int topology_node(const struct topology *topology, struct node_id node);

/* A rendezvous hash (Thaler, Ravishankar 1998). */
uint64_t topology_score(const struct topology *topology,
                        struct partition partition, size_t node);
/* The other members that do not leave, in the order in which they stand in for
 * an owner: by their scores. Fills at most max, returns how many. */
size_t topology_fallbacks(const struct topology *topology,
                          struct partition partition, struct node_id *fallbacks,
                          size_t max);

#endif
