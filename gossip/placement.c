/* SPDX-License-Identifier: MIT */
#include "gossip/placement.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/assert.h"

/* What the claim knows while it fills the table. Zones are numbered in the
 * order of the nodes that name them, which is that of the ids. */
struct claim {
    const struct topology *topology;
    uint16_t zone_of[NODES_MAX];
    size_t zone_count;
    uint32_t zone_nodes[NODES_MAX];
    uint64_t zone_load[NODES_MAX];
    uint32_t node_load[NODES_MAX];
    /* Of the partition at hand. */
    uint32_t zone_used[NODES_MAX];
    bool node_used[NODES_MAX];
};

static uint64_t score(uint32_t partition, const void *data, size_t size)
{
    return XXH3_64bits_withSeed(data, size, partition);
}

static uint64_t node_score(uint32_t partition, struct node_id id)
{
    return score(partition, id.bytes, sizeof id.bytes);
}

static void claim_init(struct claim *claim, const struct topology *topology)
{
    memset(claim, 0, sizeof *claim);
    claim->topology = topology;
    const char *names[NODES_MAX];
    for (size_t i = 0; i < topology->node_count; i++) {
        const char *zone = topology->nodes[i].zone;
        size_t z = 0;
        while (z < claim->zone_count && strcmp(names[z], zone) != 0)
            z++;
        if (z == claim->zone_count)
            names[claim->zone_count++] = zone;
        claim->zone_of[i] = (uint16_t)z;
        claim->zone_nodes[z]++;
    }
}

/* Loads per node are compared by cross multiplication: no fractions. */
static int zone_compare(const struct claim *claim, size_t a, size_t b)
{
    if (claim->zone_used[a] != claim->zone_used[b])
        return claim->zone_used[a] < claim->zone_used[b] ? -1 : 1;
    uint64_t load_a = claim->zone_load[a] * claim->zone_nodes[b];
    uint64_t load_b = claim->zone_load[b] * claim->zone_nodes[a];
    return (load_a > load_b) - (load_a < load_b);
}

/* Only zones with an unused node; equal ones by hash, so that no zone is the
 * first for every partition. */
static size_t pick_zone(const struct claim *claim, uint32_t partition)
{
    size_t best = claim->zone_count;
    uint64_t best_score = 0;
    for (size_t z = 0; z < claim->zone_count; z++) {
        if (claim->zone_used[z] == claim->zone_nodes[z])
            continue;
        uint64_t own = score(partition, &(uint8_t){(uint8_t)z}, 1);
        int order =
            best == claim->zone_count ? -1 : zone_compare(claim, z, best);
        if (order < 0 || (order == 0 && own > best_score)) {
            best = z;
            best_score = own;
        }
    }
    ASSERT(best < claim->zone_count);
    return best;
}

static size_t pick_node(const struct claim *claim, uint32_t partition,
                        size_t zone)
{
    size_t count = claim->topology->node_count;
    size_t best = count;
    uint64_t best_score = 0;
    for (size_t i = 0; i < count; i++) {
        if (claim->zone_of[i] != zone || claim->node_used[i])
            continue;
        uint64_t own = node_score(partition, claim->topology->nodes[i].id);
        if (best == count || claim->node_load[i] < claim->node_load[best] ||
            (claim->node_load[i] == claim->node_load[best] &&
             own > best_score)) {
            best = i;
            best_score = own;
        }
    }
    ASSERT(best < count);
    return best;
}

static void claim_partition(struct claim *claim, uint32_t partition)
{
    const struct topology *topology = claim->topology;
    memset(claim->zone_used, 0, sizeof claim->zone_used);
    memset(claim->node_used, 0, sizeof claim->node_used);
    size_t owners = topology_replica_count(topology);
    for (size_t r = 0; r < owners; r++) {
        size_t zone = pick_zone(claim, partition);
        size_t node = pick_node(claim, partition, zone);
        claim->zone_used[zone]++;
        claim->zone_load[zone]++;
        claim->node_used[node] = true;
        claim->node_load[node]++;
        topology->owners[(size_t)partition * topology->replicas + r] =
            (uint16_t)node;
    }
}

static int by_name(const struct placement_node *a,
                   const struct placement_node *b)
{
    return strcmp(a->name, b->name);
}

static int by_id(const struct placement_node *a, const struct placement_node *b)
{
    return node_id_compare(a->id, b->id);
}

/* By insertion: at most NODES_MAX, and qsort is not among the symbols that a
 * pure module may use (it may take memory behind our back). */
static void sort_nodes(struct placement_node *nodes, size_t count,
                       int (*compare)(const struct placement_node *,
                                      const struct placement_node *))
{
    for (size_t i = 1; i < count; i++) {
        struct placement_node node = nodes[i];
        size_t to = i;
        for (; to > 0 && compare(&node, &nodes[to - 1]) < 0; to--)
            nodes[to] = nodes[to - 1];
        nodes[to] = node;
    }
}

static void hash_number(XXH3_state_t *state, uint32_t number)
{
    const uint8_t bytes[4] = {(uint8_t)number, (uint8_t)(number >> 8),
                              (uint8_t)(number >> 16), (uint8_t)(number >> 24)};
    XXH3_64bits_update(state, bytes, sizeof bytes);
}

/* Of nodes sorted by name; each string with its end, so that none run into the
 * next. */
static uint64_t cluster_id(const struct founding *founding,
                           const struct placement_node *sorted)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, founding->cluster,
                       strlen(founding->cluster) + 1);
    for (size_t i = 0; i < founding->founder_count; i++) {
        XXH3_64bits_update(&state, sorted[i].name, strlen(sorted[i].name) + 1);
        XXH3_64bits_update(&state, sorted[i].zone, strlen(sorted[i].zone) + 1);
    }
    hash_number(&state, founding->partitions);
    hash_number(&state, founding->replicas);
    return XXH3_64bits_digest(&state);
}

static enum status check_limits(const struct founding *founding,
                                struct error *error)
{
    if (founding->founder_count < 1 || founding->founder_count > NODES_MAX)
        return error_set(error, STATUS_INVALID,
                         "a cluster is founded by 1 to %d nodes, not %zu",
                         NODES_MAX, founding->founder_count);
    if (founding->partitions < 1 || founding->partitions > PARTITIONS_MAX)
        return error_set(error, STATUS_INVALID,
                         "partitions must be 1 to %d, not %u", PARTITIONS_MAX,
                         founding->partitions);
    if (founding->replicas < 1 || founding->replicas > REPLICAS_MAX)
        return error_set(error, STATUS_INVALID,
                         "replicas must be 1 to %d, not %u", REPLICAS_MAX,
                         founding->replicas);
    /* Fewer partitions than nodes would leave nodes with nothing to hold. */
    if (founding->partitions < founding->founder_count)
        return error_set(error, STATUS_INVALID,
                         "%u partitions are too few for %zu nodes",
                         founding->partitions, founding->founder_count);
    return STATUS_OK;
}

static enum status check_names(const struct placement_node *sorted,
                               size_t count, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (sorted[i].name[0] == '\0')
            return error_set(error, STATUS_INVALID, "a founder has no name");
        if (i > 0 && strcmp(sorted[i - 1].name, sorted[i].name) == 0)
            return error_set(error, STATUS_INVALID, "founder %s is named twice",
                             sorted[i].name);
    }
    return STATUS_OK;
}

/* All of them empty. */
static bool make_tables(struct topology *topology)
{
    size_t partitions = topology->partitions, nodes = topology->node_count;
    topology->nodes = calloc(nodes, sizeof *topology->nodes);
    topology->owners =
        calloc(partitions * topology->replicas, sizeof *topology->owners);
    topology->coming = calloc(partitions, sizeof *topology->coming);
    topology->changed = calloc(partitions, sizeof *topology->changed);
    topology->heirs = calloc(nodes, sizeof *topology->heirs);
    if (topology->nodes == NULL || topology->owners == NULL ||
        topology->coming == NULL || topology->changed == NULL ||
        topology->heirs == NULL)
        return false;
    for (size_t p = 0; p < partitions; p++)
        topology->coming[p] = NO_NODE;
    topology->leaver = NO_NODE;
    return true;
}

enum status topology_found(const struct founding *founding,
                           struct topology *topology, struct error *error)
{
    memset(topology, 0, sizeof *topology);
    enum status status = check_limits(founding, error);
    if (status != STATUS_OK)
        return status;
    size_t count = founding->founder_count;
    topology->partitions = founding->partitions;
    topology->replicas = founding->replicas;
    topology->node_count = count;
    topology->replica_count =
        founding->replicas < count ? founding->replicas : count;
    struct claim *claim = malloc(sizeof *claim);
    if (claim == NULL || !make_tables(topology)) {
        status = error_set(error, STATUS_NO_MEMORY,
                           "no memory for a topology of %u partitions",
                           founding->partitions);
        goto out;
    }
    memcpy(topology->nodes, founding->founders,
           count * sizeof *topology->nodes);
    sort_nodes(topology->nodes, count, by_name);
    status = check_names(topology->nodes, count, error);
    if (status != STATUS_OK)
        goto out;
    topology->epoch = 1;
    topology->cluster_id = cluster_id(founding, topology->nodes);
    for (size_t i = 0; i < count; i++)
        topology->nodes[i].id =
            node_id_of(founding->cluster, topology->nodes[i].name);
    sort_nodes(topology->nodes, count, by_id);
    claim_init(claim, topology);
    for (uint32_t p = 0; p < topology->partitions; p++)
        claim_partition(claim, p);
out:
    free(claim);
    if (status != STATUS_OK)
        topology_fini(topology);
    return status;
}

void topology_fini(struct topology *topology)
{
    for (size_t i = 0; topology->heirs != NULL && i < topology->node_count; i++)
        free(topology->heirs[i]);
    free(topology->heirs);
    free(topology->decrees);
    free(topology->nodes);
    free(topology->owners);
    free(topology->coming);
    free(topology->changed);
    memset(topology, 0, sizeof *topology);
}

static bool copy_tables(const struct topology *from, struct topology *to)
{
    size_t partitions = from->partitions;
    if (!make_tables(to))
        return false;
    memcpy(to->nodes, from->nodes, from->node_count * sizeof *to->nodes);
    memcpy(to->owners, from->owners,
           partitions * from->replicas * sizeof *to->owners);
    memcpy(to->coming, from->coming, partitions * sizeof *to->coming);
    memcpy(to->changed, from->changed, partitions * sizeof *to->changed);
    for (size_t i = 0; i < from->node_count; i++) {
        if (from->heirs[i] == NULL)
            continue;
        to->heirs[i] = malloc(partitions * sizeof **to->heirs);
        if (to->heirs[i] == NULL)
            return false;
        memcpy(to->heirs[i], from->heirs[i], partitions * sizeof **to->heirs);
    }
    size_t decrees = from->epoch - 1;
    to->decrees = calloc(decrees + 1, sizeof *to->decrees);
    if (to->decrees == NULL)
        return false;
    if (decrees > 0)
        memcpy(to->decrees, from->decrees, decrees * sizeof *to->decrees);
    return true;
}

enum status topology_copy(const struct topology *topology,
                          struct topology *copy)
{
    *copy = (struct topology){
        .epoch = topology->epoch,
        .cluster_id = topology->cluster_id,
        .partitions = topology->partitions,
        .replicas = topology->replicas,
        .replica_count = topology->replica_count,
        .node_count = topology->node_count,
    };
    if (!copy_tables(topology, copy)) {
        topology_fini(copy);
        return STATUS_NO_MEMORY;
    }
    copy->leaver = topology->leaver;
    copy->move = topology->move;
    return STATUS_OK;
}

size_t topology_replica_count(const struct topology *topology)
{
    return topology->replica_count;
}

size_t topology_owner_count(const struct topology *topology,
                            struct partition partition)
{
    ASSERT(partition.value < topology->partitions);
    return topology->replica_count +
           (topology->coming[partition.value] != NO_NODE);
}

static size_t owner_index(const struct topology *topology,
                          struct partition partition, size_t replica)
{
    ASSERT(partition.value < topology->partitions);
    if (replica < topology->replica_count)
        return topology
            ->owners[(size_t)partition.value * topology->replicas + replica];
    uint16_t coming = topology->coming[partition.value];
    ASSERT(replica == topology->replica_count && coming != NO_NODE);
    return coming;
}

struct node_id topology_owner(const struct topology *topology,
                              struct partition partition, size_t replica)
{
    return topology->nodes[owner_index(topology, partition, replica)].id;
}

bool topology_owns(const struct topology *topology, struct partition partition,
                   struct node_id node)
{
    size_t count = topology_owner_count(topology, partition);
    for (size_t r = 0; r < count; r++)
        if (node_id_equal(
                topology->nodes[owner_index(topology, partition, r)].id, node))
            return true;
    return false;
}

int topology_node(const struct topology *topology, struct node_id node)
{
    size_t low = 0, high = topology->node_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = node_id_compare(topology->nodes[middle].id, node);
        if (order == 0)
            return (int)middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

uint64_t topology_score(const struct topology *topology,
                        struct partition partition, size_t node)
{
    return node_score(partition.value, topology->nodes[node].id);
}

struct ranked {
    uint64_t score;
    uint16_t node;
};

size_t topology_fallbacks(const struct topology *topology,
                          struct partition partition, struct node_id *fallbacks,
                          size_t max)
{
    struct ranked ranked[NODES_MAX];
    bool owner[NODES_MAX] = {false};
    ASSERT(topology->node_count <= NODES_MAX);
    for (size_t r = 0; r < topology_owner_count(topology, partition); r++)
        owner[owner_index(topology, partition, r)] = true;
    size_t count = 0;
    for (uint16_t i = 0; i < topology->node_count; i++) {
        if (owner[i] || topology->heirs[i] != NULL)
            continue;
        uint64_t own = topology_score(topology, partition, i);
        size_t to = count++;
        for (; to > 0 && own > ranked[to - 1].score; to--)
            ranked[to] = ranked[to - 1];
        ranked[to] = (struct ranked){own, i};
    }
    if (count > max)
        count = max;
    for (size_t i = 0; i < count; i++)
        fallbacks[i] = topology->nodes[ranked[i].node].id;
    return count;
}
