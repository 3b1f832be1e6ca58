/* SPDX-License-Identifier: MIT */
#include "checks.h"

enum { NODES = 64 };

static void check_distinct(const uint32_t *owners, size_t partition,
                           size_t replicas, struct verdict *verdict)
{
    for (size_t i = 0; i < replicas; i++)
        for (size_t k = 0; k < i; k++)
            if (owners[i] == owners[k])
                verdict_unsafe(verdict, "distinct",
                               "partition %zu: node %u owns it twice",
                               partition, owners[i]);
}

/* Inside a zone only: a zone of few nodes gives each of them more. */
static void check_balanced(const size_t *owned, const uint32_t *zones,
                           size_t nodes, uint32_t zone, struct verdict *verdict)
{
    size_t least = SIZE_MAX, most = 0;
    for (size_t i = 0; i < nodes && i < NODES; i++) {
        if (zones[i] != zone)
            continue;
        least = owned[i] < least ? owned[i] : least;
        most = owned[i] > most ? owned[i] : most;
    }
    if (least < most && most - least > 1)
        verdict_unsafe(verdict, "balanced",
                       "nodes of zone %u own from %zu to %zu partitions", zone,
                       least, most);
}

void check_placement(const uint32_t *owners, size_t partitions, size_t replicas,
                     const uint32_t *zones, size_t nodes,
                     struct verdict *verdict)
{
    size_t owned[NODES] = {0};
    for (size_t i = 0; i < partitions * replicas; i++)
        owned[owners[i] % NODES]++;
    for (size_t i = 0; i < partitions; i++)
        check_distinct(owners + i * replicas, i, replicas, verdict);
    for (size_t i = 0; zones != NULL && i < nodes && i < NODES; i++)
        check_balanced(owned, zones, nodes, zones[i], verdict);
}

void check_one_decree(const char *who, uint64_t epoch, bool is_same,
                      struct verdict *verdict)
{
    if (!is_same)
        verdict_unsafe(verdict, "agreement",
                       "%s goes by another epoch %llu than a node before", who,
                       (unsigned long long)epoch);
}

void check_owns_nothing(const uint32_t *owners, size_t count, uint32_t node,
                        struct verdict *verdict)
{
    for (size_t i = 0; i < count; i++)
        if (owners[i] == node)
            verdict_unsafe(verdict, "placement",
                           "node %u has left, and is an owner", node);
}

void check_moved_little(const uint32_t *before, const uint32_t *after,
                        size_t replicas, struct verdict *verdict)
{
    size_t moved = 0;
    for (size_t i = 0; i < replicas; i++)
        moved += before[i] != after[i];
    if (moved > 1)
        verdict_unsafe(verdict, "placement",
                       "of one partition %zu owners moved at once", moved);
}
