/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_GOSSIP_PLACEMENT_H
#define REPLIKV_GOSSIP_PLACEMENT_H

#include "proto/ids.h"
#include "proto/status.h"

/* Which nodes hold which partition: an explicit, epoch-numbered table. Pure
 * functions of their arguments; liveness never changes it.
 *
 * Epoch 1 follows from the founders alone, so nothing has to be agreed and two
 * groups cannot form by accident. */

enum {
    NODES_MAX = 256,
    REPLICAS_MAX = 16,
    PARTITIONS_MAX = 16384,
    ZONE_NAME_MAX = 32,
};

struct placement_node {
    struct node_id id;
    char name[NODE_NAME_MAX + 1];
    char zone[ZONE_NAME_MAX + 1];
};

struct topology {
    uint64_t epoch;
    uint64_t cluster_id;
    uint32_t partitions; /* Q */
    uint32_t replicas;   /* N; fewer owners only if there are fewer nodes */
    struct placement_node *nodes; /* sorted by id */
    size_t node_count;
    uint16_t *owners; /* partitions * replicas indexes into nodes */
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

/* The owners of a partition: `replicas_of` of them, each once. */
size_t topology_owner_count(const struct topology *topology);
struct node_id topology_owner(const struct topology *topology,
                              struct partition partition, size_t replica);
bool topology_owns(const struct topology *topology, struct partition partition,
                   struct node_id node);
/* The index in nodes, or -1. */
int topology_node(const struct topology *topology, struct node_id node);

/* The other members in the order in which they stand in for an owner:
 * rendezvous hash of (partition, node). Fills at most max, returns how many. */
size_t topology_fallbacks(const struct topology *topology,
                          struct partition partition, struct node_id *fallbacks,
                          size_t max);

#endif
