/* SPDX-License-Identifier: MIT */
#include "proxy/core/exchange.h"
#include "proxy/core/node_internal.h"

/* When a partition was last found equal. */

int64_t *exchange_equal_ms(const struct node *node, struct partition partition,
                           struct node_id owner)
{
    size_t first = (size_t)partition.value * OWNERS_MAX;
    size_t count = topology_owner_count(&node->topology, partition);
    for (size_t i = 0; i < count; i++)
        if (node_id_equal(topology_owner(&node->topology, partition, i), owner))
            return &node->exchange.equal_ms[first + i];
    return NULL;
}

void exchange_found_equal(struct node *node, struct partition partition)
{
    int64_t *when_ms = exchange_equal_ms(node, partition, node->exchange.peer);
    if (when_ms != NULL)
        *when_ms = node->now_ms;
}

void exchange_missed(struct node *node, struct node_id owner,
                     struct partition partition)
{
    int64_t *when_ms = exchange_equal_ms(node, partition, owner);
    if (when_ms != NULL)
        *when_ms = 0;
}

int64_t exchange_equal_ago_ms(const struct node *node,
                              struct partition partition)
{
    size_t first = (size_t)partition.value * OWNERS_MAX;
    size_t count = topology_owner_count(&node->topology, partition);
    int64_t longest = 0;
    if (!topology_owns(&node->topology, partition, node->self))
        return -2;
    for (size_t i = 0; i < count; i++) {
        int64_t when = node->exchange.equal_ms[first + i];
        if (node_id_equal(topology_owner(&node->topology, partition, i),
                          node->self))
            continue;
        if (when == 0)
            return -1;
        if (node->now_ms - when > longest)
            longest = node->now_ms - when;
    }
    return longest;
}
