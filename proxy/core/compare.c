/* SPDX-License-Identifier: MIT */
#include "proxy/core/compare.h"

#include "proto/assert.h"

enum {
    ROOT_BYTES = 8,
    CHILD_BYTES = 4,
    /* Of one node at levels 1 to 3. */
    CHILDREN_BYTES = TREE_FANOUT * CHILD_BYTES,
};

static size_t node_bytes(unsigned level)
{
    return level == 0 ? ROOT_BYTES : CHILDREN_BYTES;
}

static void put(uint64_t hash, size_t bytes, uint8_t *out)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(hash >> 8 * i);
}

/* What is said of one node: its root, or its children. */
static void describe(const struct hash_tree *tree, unsigned level,
                     uint32_t node, uint8_t *out)
{
    if (level == 0) {
        put(hash_tree_node(tree, 0, 0), ROOT_BYTES, out);
        return;
    }
    unsigned first = (node & (TREE_LEAVES - 1)) * TREE_FANOUT;
    for (unsigned i = 0; i < TREE_FANOUT; i++)
        put(hash_tree_node(tree, level, first + i), CHILD_BYTES,
            out + i * CHILD_BYTES);
}

const Rkv__Envelope *compare_ask(const struct node *node, unsigned level,
                                 const uint32_t *nodes, size_t count,
                                 struct arena *arena)
{
    size_t each = node_bytes(level);
    Rkv__Trees *trees = message_new(arena, &rkv__trees__descriptor);
    uint32_t *list = arena_copy(arena, nodes, count * sizeof *list);
    uint8_t *hashes = arena_alloc(arena, count * each);
    if (trees == NULL || list == NULL || hashes == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        const struct hash_tree *tree =
            tree_of(node, compare_partition(level, nodes[i]));
        ASSERT(tree != NULL);
        describe(tree, level, nodes[i], hashes + i * each);
    }
    trees->level = level;
    trees->nodes = list;
    trees->n_nodes = count;
    trees->hashes = binary_of_bytes(bytes_of(hashes, count * each));
    return envelope_new(arena, RKV__ENVELOPE__BODY_TREES, trees);
}

/* --- answering --- */

static bool is_node(const struct node *node, unsigned level, uint32_t asked)
{
    uint32_t nodes = 1; /* at the level above */
    for (unsigned i = 1; i < level; i++)
        nodes *= TREE_FANOUT;
    uint32_t partition = level == 0 ? asked : asked >> TREE_LEAF_BITS;
    uint32_t index = level == 0 ? 0 : asked & (TREE_LEAVES - 1);
    return partition < node->topology.partitions && index < nodes;
}

static bool is_well_formed(const struct node *node, const Rkv__Trees *trees)
{
    if (trees->level > TREE_LEVELS || trees->n_nodes > COMPARE_NODES_MAX ||
        trees->hashes.len != trees->n_nodes * node_bytes(trees->level))
        return false;
    for (size_t i = 0; i < trees->n_nodes; i++)
        if (!is_node(node, trees->level, trees->nodes[i]))
            return false;
    return true;
}

bool compare_is_possible(const struct node *node, struct partition partition)
{
    return tree_of(node, partition) != NULL &&
           !fill_is_missing(node, partition);
}

static uint8_t answer_one(const struct node *node, unsigned level,
                          uint32_t asked, const uint8_t *theirs)
{
    uint8_t ours[CHILDREN_BYTES];
    struct partition partition = compare_partition(level, asked);
    if (!compare_is_possible(node, partition))
        return COMPARE_UNKNOWN;
    describe(tree_of(node, partition), level, asked, ours);
    if (level == 0)
        return memcmp(ours, theirs, ROOT_BYTES) == 0 ? COMPARE_EQUAL
                                                     : COMPARE_DIFFERS;
    unsigned differ = 0;
    for (unsigned i = 0; i < TREE_FANOUT; i++)
        if (memcmp(ours + i * CHILD_BYTES, theirs + i * CHILD_BYTES,
                   CHILD_BYTES) != 0)
            differ |= 1u << i;
    return (uint8_t)differ;
}

/* Below the root nothing says of one node that it is not known. */
static enum status status_of(const struct node *node, const Rkv__Trees *trees)
{
    if (!is_well_formed(node, trees))
        return STATUS_INVALID;
    for (size_t i = 0; i < trees->n_nodes && trees->level > 0; i++)
        if (!compare_is_possible(
                node, compare_partition(trees->level, trees->nodes[i])))
            return STATUS_UNCERTAIN;
    return STATUS_OK;
}

void compare_serve(struct node *node, struct reply_token token,
                   const Rkv__Trees *trees, struct effects *effects)
{
    struct arena *arena = &effects->arena;
    Rkv__TreesReply *reply = message_new(arena, &rkv__trees_reply__descriptor);
    uint8_t *differ = arena_alloc(arena, trees->n_nodes);
    if (reply != NULL && differ != NULL) {
        enum status status = status_of(node, trees);
        size_t each = node_bytes(trees->level);
        for (size_t i = 0; i < trees->n_nodes && status == STATUS_OK; i++)
            differ[i] = answer_one(node, trees->level, trees->nodes[i],
                                   trees->hashes.data + i * each);
        reply->status = (Rkv__Status)status;
        if (status == STATUS_OK)
            reply->differ = binary_of_bytes(bytes_of(differ, trees->n_nodes));
    }
    reply_with(effects, token, RKV__ENVELOPE__BODY_TREES_REPLY, reply);
}
