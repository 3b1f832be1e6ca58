/* SPDX-License-Identifier: MIT */
#include "proxy/core/hash_tree.h"

#include <endian.h>

#include "proto/assert.h"
#include "proto/ids.h"

_Static_assert(TREE_LEAVES == 1 << TREE_LEAF_BITS, "a leaf fits its bits");

uint64_t hash_tree_worth(uint64_t key, uint64_t version)
{
    const uint64_t pair[2] = {htole64(key), htole64(version)};
    if (version == 0)
        return 0;
    return key_hash((struct bucket_id){0}, bytes_of(pair, sizeof pair));
}

uint64_t hash_tree_node(const struct hash_tree *tree, unsigned level,
                        unsigned index)
{
    unsigned leaves = TREE_LEAVES;
    for (unsigned i = 0; i < level; i++)
        leaves /= TREE_FANOUT;
    ASSERT(level <= TREE_LEVELS && index < TREE_LEAVES / leaves);
    uint64_t hash = 0;
    for (unsigned i = 0; i < leaves; i++)
        hash ^= tree->leaves[index * leaves + i];
    return hash;
}

int compare_hashes(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}
