/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_COMPARE_H
#define REPLIKV_PROXY_CORE_COMPARE_H

#include "proxy/core/node_internal.h"

/* Comparing hash trees over the wire: one level of as many partitions as there
 * are in one message, so that a whole key space takes four round trips however
 * many differ. What is asked about is a list of nodes (replikv.proto, Trees).
 *
 * Below the root four bytes of a hash are compared: should they be equal by
 * chance, the root still says that something differs, next time too. */

/* In one message, 36 bytes each. */
enum { COMPARE_NODES_MAX = 1024 };

enum compare_result { COMPARE_EQUAL, COMPARE_DIFFERS, COMPARE_UNKNOWN };

static inline uint32_t compare_node(struct partition partition, unsigned index)
{
    return (uint32_t)partition.value << TREE_LEAF_BITS | index;
}

static inline struct partition compare_partition(unsigned level, uint32_t node)
{
    uint32_t value = level == 0 ? node : node >> TREE_LEAF_BITS;
    return (struct partition){(uint16_t)value};
}

/* Whether we can say what we hold of a partition. Not while it is being filled:
 * what it lacks is on its way, and it has no say in what others have. */
bool compare_is_possible(const struct node *node, struct partition partition);
/* The question about these nodes, which are ours and known. NULL: the arena is
 * spent. */
const Rkv__Envelope *compare_ask(const struct node *node, unsigned level,
                                 const uint32_t *nodes, size_t count,
                                 struct arena *arena);
/* The answer to it, of ours. */
void compare_serve(struct node *node, struct reply_token token,
                   const Rkv__Trees *trees, struct effects *effects);

#endif
