/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/core/node_internal.h"
#include "proxy/core/replica.h"

/* The hash trees of our own copies: every write that is stored feeds them, and
 * they are built from what the engine holds: at a start that does not follow a
 * clean stop (saved_trees.c), after it failed and once in a long while, so that
 * silent loss is seen.
 *
 *   IDLE --> SCANNING --> next chunk, partition
 *     ^          |
 *     +----------+  a failure: the next partition, and this one again later
 *
 * A partition is scanned in key order while it is written to. A scan is heard
 * of after all that it may show was STORED; so a write that is heard of
 *   before the scan of its key is asked for   is shown by it,
 *   while that scan is under way              may be: what it left counts, and
 *                                             not what is shown of the key,
 *   behind it                                 changes what was shown. */

enum {
    /* After one that could not be read, of what is damaged twice as long each
     * time. */
    RETRY_MS_MIN = 5000,
    RETRY_MS_MAX = 3600 * 1000,
    /* Some three hundred records of 100 bytes: 0.1 ms in which no request is
     * stepped. */
    CHUNK_BYTES = 64 * 1024,
    /* Keys of a partition that are written in the time of one chunk, which is
     * that of a batch at least: twice as many as one has. With more the chunk
     * is asked for again, so many times. */
    WRITES_MAX = 1024,
    OVERRUNS_MAX = 8,
    /* So long chunk follows chunk; then a tick is waited for. */
    BURST_US = 5000,
    BUSY_BURST_US = 200,
    /* A scan that was given up is not waited for longer. */
    OUT_MS = 10 * LOST_MS,
};

/* What a write left of a key while the chunk that may show it was read. */
struct build_write {
    uint64_t hash, version;
    uint16_t size;
    uint8_t key[STORAGE_KEY_BYTES_MAX]; /* as the engine has it */
};

static void want_all(struct node *node)
{
    struct trees *trees = &node->trees;
    for (size_t p = 0; p < node->topology.partitions; p++)
        if (trees->list[p] != NULL)
            bit_set(trees->due, p);
    trees->retry_at_ms = 0;
    trees->rebuild_at_ms = node->now_ms + node->config.timeouts.tree_rebuild_ms;
}

/* What is not known, as nothing was saved of it, or could not be built. */
static void want_missing(struct node *node)
{
    struct trees *trees = &node->trees;
    for (size_t p = 0; p < node->topology.partitions; p++)
        if (trees->list[p] != NULL &&
            (!bit_has(trees->known, p) || bit_has(trees->failed, p)))
            bit_set(trees->due, p);
    trees->retry_at_ms = 0;
}

enum status trees_init(struct node *node)
{
    struct trees *trees = &node->trees;
    size_t partitions = node->topology.partitions;
    trees->list = calloc(partitions, sizeof *trees->list);
    trees->known = calloc(1, bits_size(partitions));
    trees->due = calloc(1, bits_size(partitions));
    trees->failed = calloc(1, bits_size(partitions));
    if (trees->list == NULL || trees->known == NULL || trees->due == NULL ||
        trees->failed == NULL)
        return STATUS_NO_MEMORY;
    return trees_moved(node, &node->topology);
}

enum status trees_moved(struct node *node, const struct topology *next)
{
    struct trees *trees = &node->trees;
    for (size_t p = 0; p < next->partitions; p++) {
        struct partition partition = {(uint16_t)p};
        if (!topology_owns(next, partition, node->self) ||
            trees->list[p] != NULL)
            continue;
        trees->list[p] = calloc(1, sizeof *trees->list[p]);
        if (trees->list[p] == NULL)
            return STATUS_NO_MEMORY;
        if (trees->is_begun)
            bit_set(trees->due, p);
    }
    return STATUS_OK;
}

void trees_fini(struct node *node)
{
    struct trees *trees = &node->trees;
    for (size_t p = 0; trees->list != NULL && p < node->topology.partitions;
         p++)
        free(trees->list[p]);
    free(trees->list);
    free(trees->known);
    free(trees->due);
    free(trees->failed);
    buffer_fini(&trees->build.after);
    buffer_fini(&trees->build.writes);
    *trees = (struct trees){0};
}

const struct hash_tree *tree_of(const struct node *node,
                                struct partition partition)
{
    const struct trees *trees = &node->trees;
    return bit_has(trees->known, partition.value) ? trees->list[partition.value]
                                                  : NULL;
}

void tree_set(struct node *node, uint32_t partition, const uint8_t *leaves)
{
    struct trees *trees = &node->trees;
    if (partition >= node->topology.partitions ||
        trees->list[partition] == NULL)
        return;
    memcpy(trees->list[partition], leaves, sizeof *trees->list[partition]);
    bit_set(trees->known, partition);
}

bool node_tree_root(const struct node *node, struct partition partition,
                    uint64_t *root)
{
    const struct hash_tree *tree = tree_of(node, partition);
    if (tree != NULL)
        *root = hash_tree_node(tree, 0, 0);
    return tree != NULL;
}

static void rest(struct node *node, int64_t wait_ms)
{
    struct tree_build *build = &node->trees.build;
    build->serial++;
    build->stage = BUILD_IDLE;
    build->next_ms = node->now_ms + wait_ms;
}

static void forget(struct node *node)
{
    memset(node->trees.known, 0, bits_size(node->topology.partitions));
    node->trees.build.begun = false;
    rest(node, 0);
    want_all(node);
}

void trees_heard_broken(struct node *node)
{
    /* Not for each operation that is refused. */
    if (node->now_ms < node->trees.forgotten_ms + RETRY_MS_MIN)
        return;
    node->trees.forgotten_ms = node->now_ms;
    forget(node);
}

void trees_heard_reopened(struct node *node)
{
    forget(node);
}

void tree_doubt(struct node *node, struct partition partition)
{
    struct trees *trees = &node->trees;
    if (trees->list[partition.value] == NULL)
        return;
    bit_clear(trees->known, partition.value);
    bit_set(trees->due, partition.value);
    /* What is being built of it may be as wrong. */
    if (trees->build.begun && trees->build.partition.value == partition.value) {
        trees->build.begun = false;
        rest(node, 0);
    }
}

void tree_unreadable(struct node *node, struct partition partition)
{
    if (tree_of(node, partition) != NULL)
        tree_doubt(node, partition);
}

void trees_rebuild(struct node *node, const struct partition *one)
{
    if (one == NULL)
        want_all(node);
    else if (node->trees.list[one->value] != NULL)
        bit_set(node->trees.due, one->value);
}

size_t trees_due(const struct node *node)
{
    size_t due = 0;
    for (size_t p = 0; p < node->topology.partitions; p++)
        due += bit_has(node->trees.due, p);
    return due;
}

/* --- writes --- */

static struct build_write *find_write(const struct tree_build *build,
                                      uint64_t hash)
{
    struct build_write *writes = (void *)build->writes.data;
    size_t count = build->writes.size / sizeof *writes;
    for (size_t i = 0; i < count; i++)
        if (writes[i].hash == hash)
            return &writes[i];
    return NULL;
}

static void remember(struct tree_build *build, struct bytes key, uint64_t hash,
                     uint64_t version)
{
    struct build_write *last = find_write(build, hash);
    if (last != NULL) {
        last->version = version;
        return;
    }
    struct build_write write = {
        .hash = hash, .version = version, .size = (uint16_t)key.size};
    memcpy(write.key, key.data, key.size);
    build->is_overrun |=
        build->writes.size >= WRITES_MAX * sizeof write ||
        buffer_append(&build->writes, bytes_of(&write, sizeof write)) !=
            STATUS_OK;
}

static void changed_beside_build(struct tree_build *build,
                                 const struct storage_result *result,
                                 uint64_t hash, uint64_t delta)
{
    uint8_t memory[STORAGE_KEY_BYTES_MAX];
    struct buffer key = {.data = memory, .capacity = sizeof memory};
    enum status status = storage_key_encode(&result->op->key, &key);
    ASSERT(status == STATUS_OK && key.data == memory);
    if (build->after.size > 0 &&
        bytes_compare(buffer_bytes(&key), buffer_bytes(&build->after)) <= 0)
        hash_tree_add(&build->tree, hash, delta);
    else if (build->stage == BUILD_SCANNING)
        remember(build, buffer_bytes(&key), hash, result->version_after);
}

void trees_changed(struct node *node, const struct storage_result *result)
{
    struct trees *trees = &node->trees;
    const struct storage_key *key = &result->op->key;
    size_t p = key->partition.value;
    bool was_mended = result->status == STATUS_OK && result->was_damaged;
    if (trees->list[p] == NULL ||
        (result->version_before == result->version_after && !was_mended))
        return;
    /* Whether it is on disk, or what was there before it, nobody knows. */
    if (result->status != STATUS_OK || was_mended) {
        tree_doubt(node, key->partition);
        return;
    }
    uint64_t hash = key_hash(key->bucket, key->key);
    uint64_t delta = hash_tree_worth(hash, result->version_before) ^
                     hash_tree_worth(hash, result->version_after);
    hash_tree_add(trees->list[p], hash, delta);
    if (trees->build.begun && trees->build.partition.value == p)
        changed_beside_build(&trees->build, result, hash, delta);
}

/* --- building --- */

static void ask(struct node *node, struct effects *effects)
{
    struct tree_build *build = &node->trees.build;
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = request_number(OWNER_TREES, ++build->serial),
        .key = {.table = TABLE_DATA, .partition = build->partition},
        .bytes_max = node->config.limits.list_bytes_max < CHUNK_BYTES
                         ? node->config.limits.list_bytes_max
                         : CHUNK_BYTES,
        .settled = true,
        .passes_damage = true,
    };
    void *after =
        arena_copy(&effects->arena, build->after.data, build->after.size);
    op.after = bytes_of(after, build->after.size);
    buffer_clear(&build->writes);
    build->is_overrun = false;
    if (after == NULL || !effects_storage(effects, &op)) {
        rest(node, RETRY_MS_MIN);
        return;
    }
    build->stage = BUILD_SCANNING;
    build->lost_at_ms = node->now_ms + LOST_MS;
}

/* The next partition from the one before on that is due. */
static bool seek(struct node *node)
{
    struct trees *trees = &node->trees;
    size_t partitions = node->topology.partitions;
    for (size_t i = 1; i <= partitions; i++) {
        size_t p = (trees->build.partition.value + i) % partitions;
        if (!bit_has(trees->due, p))
            continue;
        trees->build.partition.value = (uint16_t)p;
        trees->build.begun = true;
        memset(&trees->build.tree, 0, sizeof trees->build.tree);
        buffer_clear(&trees->build.after);
        return true;
    }
    return false;
}

/* The other partitions go on. What it says of our copy that the engine cannot
 * read it is another thing than that it is busy or closes. */
static void give_up(struct node *node, enum status status,
                    struct effects *effects)
{
    struct trees *trees = &node->trees;
    size_t p = trees->build.partition.value;
    char line[120];
    bool is_damaged = status == STATUS_CORRUPT || status == STATUS_IO;
    if (is_damaged || status == STATUS_BROKEN)
        bit_clear(trees->known, p);
    bit_clear(trees->due, p);
    bit_set(trees->failed, p);
    /* What is damaged stays so, and each time it is met costs something. */
    trees->retry_ms *= is_damaged && trees->retry_at_ms == 0 ? 2 : 1;
    if (trees->retry_ms < RETRY_MS_MIN)
        trees->retry_ms = RETRY_MS_MIN;
    if (trees->retry_ms > RETRY_MS_MAX)
        trees->retry_ms = RETRY_MS_MAX;
    if (trees->retry_at_ms == 0)
        trees->retry_at_ms = node->now_ms + trees->retry_ms;
    trees->build.begun = false;
    trees->build.overruns = 0;
    node_count(node, COUNTER_TREES_FAILED);
    if (!is_damaged || effects->log != NULL)
        return;
    snprintf(line, sizeof line, "event=tree_not_built partition=%zu status=%s",
             p, status_name(status));
    effects->log = arena_string(&effects->arena, line);
}

void trees_tick(struct node *node, struct effects *effects)
{
    struct trees *trees = &node->trees;
    struct tree_build *build = &trees->build;
    if (!trees->is_begun) {
        trees->is_begun = true;
        if (trees->rebuild_at_ms == 0) { /* nothing was saved */
            want_all(node);
        } else {
            want_missing(node);
            trees->rebuild_at_ms += node->now_ms;
        }
    }
    if (node->now_ms >= trees->rebuild_at_ms)
        want_all(node);
    if (trees->retry_at_ms > 0 && node->now_ms >= trees->retry_at_ms)
        want_missing(node);
    if (build->stage == BUILD_SCANNING && node->now_ms >= build->lost_at_ms) {
        give_up(node, STATUS_TIMEOUT, effects);
        rest(node, 0);
        /* It may hold a reader, and another one would hold the next. */
        build->out_ms = node->now_ms + OUT_MS;
    }
    if (build->stage == BUILD_IDLE && node->now_ms >= build->next_ms &&
        node->now_ms >= build->out_ms && (build->begun || seek(node))) {
        build->burst_us = node->now_us;
        ask(node, effects);
    }
}

/* OK, or memory was short for it. */
static enum status add_rows(struct node *node,
                            const struct storage_result *result,
                            struct arena *scratch)
{
    struct tree_build *build = &node->trees.build;
    for (size_t i = 0; i < result->row_count; i++) {
        const struct storage_row *row = &result->rows[i];
        uint64_t hash = key_hash(row->key.bucket, row->key.key);
        struct record record;
        if (find_write(build, hash) != NULL)
            continue;
        enum status status = record_decode(row->record, scratch, &record);
        if (status == STATUS_NO_MEMORY)
            return status;
        if (status == STATUS_OK)
            collect_note(node, build->partition, record_ripe_ms(&record));
        /* A damaged one is as good as missing: the others have it. */
        if (status == STATUS_OK)
            hash_tree_add(&build->tree, hash,
                          hash_tree_worth(hash, record_version(row->record)));
    }
    return STATUS_OK;
}

/* Of the keys that the chunk covers, what the last write to each left. */
static void add_writes(struct tree_build *build, bool is_last)
{
    const struct build_write *writes = (void *)build->writes.data;
    size_t count = build->writes.size / sizeof *writes;
    struct bytes end = buffer_bytes(&build->after);
    for (size_t i = 0; i < count; i++)
        if (is_last ||
            bytes_compare(bytes_of(writes[i].key, writes[i].size), end) <= 0)
            hash_tree_add(&build->tree, writes[i].hash,
                          hash_tree_worth(writes[i].hash, writes[i].version));
}

static void finish(struct node *node, struct effects *effects)
{
    struct trees *trees = &node->trees;
    size_t p = trees->build.partition.value;
    struct hash_tree *tree = trees->list[p];
    if (bit_has(trees->known, p) &&
        memcmp(tree, &trees->build.tree, sizeof *tree) != 0) {
        char line[120];
        node_count(node, COUNTER_TREES_WRONG);
        snprintf(line, sizeof line,
                 "event=tree_differed partition=%zu what=\"the engine does not "
                 "hold what was written\"",
                 p);
        effects->log = arena_string(&effects->arena, line);
    }
    *tree = trees->build.tree;
    bit_set(trees->known, p);
    bit_clear(trees->due, p);
    bit_clear(trees->failed, p);
    trees->build.begun = false;
    if (trees->retry_at_ms == 0)
        trees->retry_ms = 0; /* none is left that failed */
    node_count(node, COUNTER_TREES_BUILT);
}

static void take_chunk(struct node *node, const struct storage_result *result,
                       struct effects *effects)
{
    struct tree_build *build = &node->trees.build;
    enum status status = result->status;
    buffer_clear(&build->after);
    build->overruns = 0;
    if (status == STATUS_OK)
        status = buffer_append(&build->after, result->next);
    if (status == STATUS_OK)
        status = add_rows(node, result, &effects->arena);
    if (status != STATUS_OK) {
        give_up(node, status, effects);
        return;
    }
    add_writes(build, result->done);
    if (result->done)
        finish(node, effects);
}

void trees_stored(struct node *node, const struct storage_result *result,
                  struct effects *effects)
{
    struct tree_build *build = &node->trees.build;
    build->out_ms = 0;
    if (build->stage != BUILD_SCANNING ||
        result->op->token != request_number(OWNER_TREES, build->serial))
        return;
    if (!build->is_overrun)
        take_chunk(node, result, effects);
    else if (++build->overruns == OVERRUNS_MAX)
        give_up(node, STATUS_OVERLOADED, effects);
    int64_t burst_us = node_is_busy(node) ? BUSY_BURST_US : BURST_US;
    if (node->now_us - build->burst_us < burst_us &&
        (build->begun || seek(node)))
        ask(node, effects);
    else
        rest(node, 0);
}
