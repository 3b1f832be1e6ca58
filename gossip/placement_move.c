/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "gossip/placement.h"
#include "proto/assert.h"

/* Who takes the place of a node that leaves: see placement.h. */

/* --- who is there --- */

/* Its LEAVE was decreed. */
static bool is_leaving(const struct topology *topology, size_t node)
{
    return topology->heirs[node] != NULL;
}

bool topology_is_member(const struct topology *topology, size_t node)
{
    return !is_leaving(topology, node) ||
           (topology->leaver == node && !topology->move.lost);
}

size_t topology_member_count(const struct topology *topology)
{
    size_t count = 0;
    for (size_t i = 0; i < topology->node_count; i++)
        count += topology_is_member(topology, i);
    return count;
}

bool topology_is_moving(const struct topology *topology)
{
    return topology->leaver != NO_NODE;
}

bool topology_moves(const struct topology *topology, struct partition partition,
                    struct node_id *leaving, struct node_id *coming)
{
    uint16_t heir = topology->coming[partition.value];
    if (heir == NO_NODE)
        return false;
    *leaving = topology->nodes[topology->leaver].id;
    *coming = topology->nodes[heir].id;
    return true;
}

bool topology_leaves(const struct topology *topology, struct node_id node)
{
    if (topology->epoch == 1)
        return false;
    int at = topology_node(topology, node);
    return at >= 0 && is_leaving(topology, (size_t)at);
}

struct node_id topology_heir(const struct topology *topology,
                             struct partition partition, struct node_id node)
{
    int at = topology_node(topology, node);
    uint16_t heir = at < 0 ? NO_NODE : (uint16_t)at;
    while (heir != NO_NODE && is_leaving(topology, heir))
        heir = topology->heirs[heir][partition.value];
    if (heir != NO_NODE)
        return topology->nodes[heir].id;
    /* One that never owned it had nothing of it to be kept: any that stays. */
    size_t owner = 0;
    while (
        topology_leaves(topology, topology_owner(topology, partition, owner)))
        owner++;
    return topology_owner(topology, partition, owner);
}

/* --- the heirs --- */

static size_t owned_in_zone(const struct topology *topology, uint32_t partition,
                            uint16_t but, const char *zone)
{
    const uint16_t *owners =
        topology->owners + (size_t)partition * topology->replicas;
    size_t count = 0;
    for (size_t r = 0; r < topology_replica_count(topology); r++)
        count += owners[r] != but &&
                 strcmp(topology->nodes[owners[r]].zone, zone) == 0;
    return count;
}

/* As in the founding: another zone first, then who owns the least, then by
 * score. */
static uint16_t pick_heir(const struct topology *topology, uint32_t p,
                          uint16_t leaver, const uint32_t *owned)
{
    struct partition partition = {(uint16_t)p};
    uint16_t best = NO_NODE;
    size_t best_zone = 0;
    for (uint16_t i = 0; i < topology->node_count; i++) {
        if (i == leaver || is_leaving(topology, i) ||
            topology_owns(topology, partition, topology->nodes[i].id))
            continue;
        size_t zone =
            owned_in_zone(topology, p, leaver, topology->nodes[i].zone);
        bool is_better = best == NO_NODE || zone < best_zone ||
                         (zone == best_zone &&
                          (owned[i] < owned[best] ||
                           (owned[i] == owned[best] &&
                            topology_score(topology, partition, i) >
                                topology_score(topology, partition, best))));
        if (!is_better)
            continue;
        best = i;
        best_zone = zone;
    }
    ASSERT(best != NO_NODE);
    return best;
}

/* Where the node is among the partition's owners, or NULL. */
static uint16_t *place_of(const struct topology *topology, size_t partition,
                          uint16_t node)
{
    uint16_t *owners = topology->owners + partition * topology->replicas;
    for (size_t r = 0; r < topology_replica_count(topology); r++)
        if (owners[r] == node)
            return &owners[r];
    return NULL;
}

static void claim_heirs(const struct topology *topology, uint16_t leaver,
                        uint16_t *heirs)
{
    uint32_t owned[NODES_MAX] = {0};
    size_t replicas = topology_replica_count(topology);
    for (size_t p = 0; p < topology->partitions; p++)
        for (size_t r = 0; r < replicas; r++)
            owned[topology->owners[p * topology->replicas + r]]++;
    for (uint32_t p = 0; p < topology->partitions; p++) {
        heirs[p] = NO_NODE;
        if (place_of(topology, p, leaver) == NULL)
            continue;
        heirs[p] = pick_heir(topology, p, leaver, owned);
        owned[heirs[p]]++;
    }
}

/* --- decrees --- */

/* One that leaves may be lost on its way. */
static bool is_lost_now(const struct topology *topology,
                        const struct decree *decree, size_t at)
{
    return decree->lost && topology->leaver == at && !topology->move.lost;
}

static enum status allows_leave(const struct topology *topology, size_t at,
                                struct error *error)
{
    const char *name = topology->nodes[at].name;
    size_t left = topology_member_count(topology) - 1;
    if (topology_is_moving(topology))
        return error_set(error, STATUS_INVALID,
                         "node: %s leaves, and is not settled yet: one after "
                         "the other",
                         topology->nodes[topology->leaver].name);
    if (is_leaving(topology, at))
        return error_set(error, STATUS_INVALID, "node: %s has left", name);
    if (left < topology_replica_count(topology))
        return error_set(error, STATUS_INVALID,
                         "node: without %s there are %zu nodes, and each "
                         "record has %zu replicas",
                         name, left, topology_replica_count(topology));
    return STATUS_OK;
}

enum status topology_allows(const struct topology *topology,
                            const struct decree *decree, struct error *error)
{
    int at = topology_node(topology, decree->node);
    if (at < 0)
        return error_set(error, STATUS_INVALID,
                         "node: no node of the cluster has this id");
    if (decree->kind == DECREE_LEAVE &&
        is_lost_now(topology, decree, (size_t)at))
        return STATUS_OK;
    if (decree->kind == DECREE_LEAVE)
        return allows_leave(topology, (size_t)at, error);
    enum decree_kind after = DECREE_LEAVE;
    if (decree->kind == DECREE_SETTLE && !topology->move.lost)
        after = DECREE_TURN;
    if (topology->leaver != at || topology->move.kind != after ||
        topology->move.lost != decree->lost ||
        (decree->kind == DECREE_TURN && decree->lost))
        return error_set(error, STATUS_INVALID, "decree: %d does not follow %d",
                         decree->kind, topology->move.kind);
    return STATUS_OK;
}

static void take_step(struct topology *topology, const struct decree *decree)
{
    const uint16_t *heirs = topology->heirs[topology->leaver];
    bool replaces = decree->kind == DECREE_SETTLE ||
                    (decree->kind == DECREE_LEAVE && decree->lost);
    for (size_t p = 0; p < topology->partitions; p++) {
        uint16_t *place = place_of(topology, p, topology->leaver);
        if (place == NULL)
            continue;
        topology->changed[p] = topology->epoch;
        topology->coming[p] = replaces ? NO_NODE : heirs[p];
        if (replaces)
            *place = heirs[p];
    }
}

enum status topology_decree(struct topology *topology,
                            const struct decree *decree, struct error *error)
{
    enum status status = topology_allows(topology, decree, error);
    if (status != STATUS_OK)
        return status;
    struct decree *decrees =
        realloc(topology->decrees, topology->epoch * sizeof *decrees);
    uint16_t node = (uint16_t)topology_node(topology, decree->node);
    uint16_t *heirs = topology->heirs[node];
    bool is_first = heirs == NULL;
    if (is_first)
        heirs = malloc(topology->partitions * sizeof *heirs);
    if (decrees != NULL)
        topology->decrees = decrees;
    if (decrees == NULL || heirs == NULL) {
        free(is_first ? heirs : NULL);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a topology");
    }
    if (is_first)
        claim_heirs(topology, node, heirs);
    topology->heirs[node] = heirs;
    decrees[topology->epoch - 1] = *decree;
    topology->epoch++;
    topology->leaver = node;
    topology->move = *decree;
    take_step(topology, decree);
    if (decree->kind == DECREE_SETTLE)
        topology->leaver = NO_NODE;
    return STATUS_OK;
}
