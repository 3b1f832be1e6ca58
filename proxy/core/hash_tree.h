/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_HASH_TREE_H
#define REPLIKV_PROXY_CORE_HASH_TREE_H

#include "proxy/core/bits.h"

/* A hash tree over one replica's copy of one partition, by which two replicas
 * find what differs without looking at what does not (Merkle 1987; Dynamo,
 * DeCandia et al. 2007, section 4.7).
 *
 * A leaf is the XOR of what its records are worth, and a node above it the XOR
 * of its children. So a write costs one XOR whatever came before it, writes
 * may come in any order, and only the leaves are kept. That finds what chance
 * makes differ, 64 bits of it; it does not withstand somebody who chooses
 * records so that their XOR is nothing.
 *
 * Levels: 0 is the root, TREE_LEVELS the leaves; a node of level L has an
 * index below TREE_FANOUT to the power of L. Which leaf a key falls into is
 * said by the top bits of its hash; which partition, by the remainder, so that
 * the keys of a partition fall into all of its leaves. */

enum {
    TREE_FANOUT = 8,
    TREE_LEVELS = 3,
    /* A million keys in 256 partitions: eight keys a leaf, a byte a key. */
    TREE_LEAVES = TREE_FANOUT * TREE_FANOUT * TREE_FANOUT,
    TREE_LEAF_BITS = 9,
};

struct hash_tree {
    uint64_t leaves[TREE_LEAVES];
};

/* What a record is worth. version 0, of no record: nothing. */
uint64_t hash_tree_worth(uint64_t key_hash, uint64_t version);

static inline unsigned hash_tree_leaf(uint64_t key_hash)
{
    return (unsigned)(key_hash >> (64 - TREE_LEAF_BITS));
}

static inline void hash_tree_add(struct hash_tree *tree, uint64_t key_hash,
                                 uint64_t worth)
{
    tree->leaves[hash_tree_leaf(key_hash)] ^= worth;
}

/* Of the node, over its leaves: a microsecond at the root. */
uint64_t hash_tree_node(const struct hash_tree *tree, unsigned level,
                        unsigned index);

/* For qsort and bsearch, of what begins with a hash. */
int compare_hashes(const void *a, const void *b);

/* A set of leaves. */
struct leaf_set {
    uint8_t bits[TREE_LEAVES / 8];
};

static inline void leaf_set_add(struct leaf_set *set, unsigned leaf)
{
    bit_set(set->bits, leaf);
}

static inline bool leaf_set_has(const struct leaf_set *set, unsigned leaf)
{
    return bit_has(set->bits, leaf);
}

#endif
