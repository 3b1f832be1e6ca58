/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "proto/assert.h"
#include "sim.h"

/* Who owns what, by the latest topology that any node goes by. */

static uint32_t host_of(const struct sim *sim, struct node_id id)
{
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        if (node_id_equal(sim->hosts[i].id, id))
            return i;
    ASSERT(!"an owner that is no host");
    return 0;
}

/* Of the latest topology; while a node leaves with who takes its place. */
static void read_owners(struct sim *sim, const struct topology *topology)
{
    for (uint32_t p = 0; p < sim->plan.partitions; p++) {
        struct partition partition = {(uint16_t)p};
        size_t count = topology_owner_count(topology, partition);
        for (size_t i = 0; i < count; i++)
            sim->owners[p][i] =
                host_of(sim, topology_owner(topology, partition, i));
        for (uint32_t k = 0; k < sim->plan.keys; k++) {
            struct sim_key *key = &sim->keys[k];
            if (key->partition.value != p)
                continue;
            key->owner_count = (uint32_t)count;
            memcpy(key->owners, sim->owners[p], count * sizeof *key->owners);
        }
    }
}

static void judge_placement(struct sim *sim, bool is_founding)
{
    uint32_t owners[SIM_PARTITIONS_MAX * SIM_REPLICAS_MAX], zones[HOSTS_MAX];
    for (uint32_t p = 0; p < sim->plan.partitions; p++)
        memcpy(owners + p * sim->plan.replicas, sim->owners[p],
               sim->plan.replicas * sizeof *owners);
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        zones[i] = i % SIM_ZONES;
    check_placement(owners, sim->plan.partitions, sim->plan.replicas,
                    is_founding ? zones : NULL, sim->plan.hosts, &sim->verdict);
    for (uint32_t i = 0; i < sim->plan.hosts; i++)
        if (sim->hosts[i].has_left)
            check_owns_nothing(owners,
                               sim->plan.partitions * sim->plan.replicas, i,
                               &sim->verdict);
}

/* Of two nodes that go by the same epoch. */
static void judge_decrees(struct sim *sim, const struct host *host,
                          const struct topology *topology)
{
    ASSERT(topology->epoch < EPOCHS_MAX);
    for (uint64_t epoch = 2; epoch <= topology->epoch; epoch++) {
        const struct decree *decree = &topology->decrees[epoch - 2];
        struct decree *known = &sim->decrees[epoch];
        if (known->kind == 0)
            *known = *decree;
        check_one_decree(host->name, epoch,
                         known->kind == decree->kind &&
                             known->lost == decree->lost &&
                             node_id_equal(known->node, decree->node),
                         &sim->verdict);
    }
}

void owners_changed(struct sim *sim, const struct host *seen)
{
    uint32_t before[SIM_PARTITIONS_MAX][SIM_OWNERS_MAX];
    const struct topology *topology = node_topology(seen->node);
    judge_decrees(sim, seen, topology);
    if (topology->epoch <= sim->epoch)
        return;
    memcpy(before, sim->owners, sizeof before);
    sim->epoch = topology->epoch;
    sim->is_moving = topology_is_moving(topology);
    sim->is_lost = topology->move.lost;
    if (sim->is_moving)
        sim->mover = host_of(sim, topology->nodes[topology->leaver].id);
    read_owners(sim, topology);
    for (size_t i = 0; i < topology->node_count; i++) {
        uint32_t host = host_of(sim, topology->nodes[i].id);
        bool is_out = topology_leaves(topology, topology->nodes[i].id) &&
                      topology->leaver != i;
        if (is_out && !sim->hosts[host].has_left) {
            sim->tally->faults[FAULT_LEFT]++;
            sim->hosts[host].has_left = true;
            if (sim->hosts[host].node == NULL)
                leaving_settled(sim, &sim->hosts[host]);
        }
    }
    judge_placement(sim, false);
    for (uint32_t p = 0; p < sim->plan.partitions; p++)
        check_moved_little(before[p], sim->owners[p], sim->plan.replicas,
                           &sim->verdict);
}

void owners_start(struct sim *sim, const struct topology *topology)
{
    sim->epoch = topology->epoch;
    read_owners(sim, topology);
    judge_placement(sim, true);
}
