/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "proxy/core/node_internal.h"

/* Hash trees over a clean stop, so that a start need not read all that is
 * stored. They are saved behind the last write, with the run that they are of,
 * and at last the run by itself, which says that they are true. A start takes
 * that back, synced, before it writes anything; so nothing was written behind
 * the trees that it restores. */

enum { TREES_A_CHUNK = 64 };

/* Of this machine's byte order, as the run is. Behind it the leaves of those
 * that are known, and a checksum over all of it. */
struct saved_head {
    uint64_t run;
    uint64_t known;     /* a bit a partition, from the first on */
    int64_t rebuild_ms; /* after so long they are to be built anew */
    uint32_t first, partitions;
};

static uint64_t checksum(struct bytes bytes)
{
    return key_hash((struct bucket_id){0}, bytes);
}

static size_t chunks_of(const struct node *node)
{
    return (node->topology.partitions + TREES_A_CHUNK - 1) / TREES_A_CHUNK;
}

size_t node_saved_count(const struct node *node)
{
    return chunks_of(node) + 1;
}

/* However often a node is stopped and started, its engine is read in time; at
 * once when it was being read. Of a monotonic clock that may begin anywhere. */
static int64_t rebuild_ms(const struct node *node)
{
    int64_t left_ms = node->trees.rebuild_at_ms - node->now_ms;
    return trees_due(node) > 0 || left_ms < 1 ? 1 : left_ms;
}

static enum status save_chunk(const struct node *node, size_t chunk,
                              struct buffer *out)
{
    struct saved_head head = {
        .run = node->config.self.run,
        .rebuild_ms = rebuild_ms(node),
        .first = (uint32_t)(chunk * TREES_A_CHUNK),
        .partitions = node->topology.partitions,
    };
    enum status status = buffer_append(out, bytes_of(&head, sizeof head));
    for (uint32_t i = 0; i < TREES_A_CHUNK && status == STATUS_OK &&
                         head.first + i < head.partitions;
         i++) {
        struct partition partition = {(uint16_t)(head.first + i)};
        const struct hash_tree *tree = tree_of(node, partition);
        if (tree == NULL)
            continue;
        head.known |= UINT64_C(1) << i;
        status = buffer_append(out, bytes_of(tree, sizeof *tree));
    }
    if (status != STATUS_OK)
        return status;
    memcpy(out->data, &head, sizeof head);
    uint64_t sum = checksum(buffer_bytes(out));
    return buffer_append(out, bytes_of(&sum, sizeof sum));
}

enum status node_save(const struct node *node, size_t number, enum table *table,
                      char name[SAVED_NAME_MAX], struct buffer *out)
{
    buffer_clear(out);
    if (number < chunks_of(node)) {
        *table = TABLE_TREES;
        snprintf(name, SAVED_NAME_MAX, "%zu", number);
        return save_chunk(node, number, out);
    }
    uint64_t run = node->config.self.run;
    *table = TABLE_META;
    snprintf(name, SAVED_NAME_MAX, "%s", META_TREES_OF_RUN);
    return buffer_append(out, bytes_of(&run, sizeof run));
}

static size_t count_of(uint64_t bits)
{
    size_t count = 0;
    for (; bits != 0; bits &= bits - 1)
        count++;
    return count;
}

void node_restore(struct node *node, struct bytes saved)
{
    struct saved_head head;
    uint64_t sum;
    if (saved.size < sizeof head + sizeof sum)
        return;
    struct bytes summed = bytes_of(saved.data, saved.size - sizeof sum);
    memcpy(&head, saved.data, sizeof head);
    memcpy(&sum, saved.data + summed.size, sizeof sum);
    if (sum != checksum(summed) || head.run != node->config.trees_of_run ||
        head.run == 0 || head.partitions != node->topology.partitions ||
        summed.size !=
            sizeof head + count_of(head.known) * sizeof(struct hash_tree))
        return;
    const uint8_t *at = saved.data + sizeof head;
    for (uint32_t i = 0; i < TREES_A_CHUNK; i++) {
        if (!(head.known >> i & 1))
            continue;
        tree_set(node, head.first + i, at);
        at += sizeof(struct hash_tree);
    }
    node->trees.rebuild_at_ms = head.rebuild_ms;
}
