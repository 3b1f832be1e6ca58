/* SPDX-License-Identifier: MIT */
#include "engines/lsm/memtable.h"

#include <stdlib.h>

#include "engines/lsm/filter.h"

enum {
    /* With a branching of 4, 4^12 = 16 million nodes keep logarithmic. */
    HEIGHT_MAX = 12,
    /* A chunk holds hundreds of typical records; larger ones get their own. */
    CHUNK_BYTES = 64 * 1024,
};

struct memtable_node {
    uint64_t sequence;
    uint32_t key_size, value_size;
    const uint8_t *data; /* key, then value */
    bool removed;
    _Atomic(struct memtable_node *) next[];
};

struct chunk {
    struct chunk *previous;
    size_t used, size;
    _Alignas(max_align_t) uint8_t data[];
};

struct memtable {
    atomic_uint references;
    atomic_size_t bytes;
    _Atomic uint64_t count;
    uint64_t log_number, last_sequence;
    uint8_t *filter;
    size_t filter_size;
    uint64_t random; /* heights only, so any fixed seed will do */
    struct chunk *chunks;
    struct memtable_node *head;
};

static void *allocate(struct memtable *memtable, size_t size)
{
    size_t align = _Alignof(max_align_t);
    size = (size + align - 1) / align * align;
    struct chunk *chunk = memtable->chunks;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        chunk = malloc(sizeof *chunk + room);
        if (chunk == NULL)
            return NULL;
        *chunk = (struct chunk){.previous = memtable->chunks, .size = room};
        memtable->chunks = chunk;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += size;
    atomic_fetch_add_explicit(&memtable->bytes, size, memory_order_relaxed);
    return memory;
}

/* A node with room for its bytes behind its links; *data is that room. */
static struct memtable_node *new_node(struct memtable *memtable, int height,
                                      size_t data_size, uint8_t **data)
{
    struct memtable_node *node = NULL;
    size_t size = sizeof *node + (size_t)height * sizeof node->next[0];
    node = allocate(memtable, size + data_size);
    if (node == NULL)
        return NULL;
    for (int i = 0; i < height; i++)
        atomic_init(&node->next[i], NULL);
    *data = (uint8_t *)node + size;
    node->data = *data;
    return node;
}

struct memtable *memtable_new(size_t bytes_expected, uint64_t log_number)
{
    struct memtable *memtable = calloc(1, sizeof *memtable);
    if (memtable == NULL)
        return NULL;
    atomic_init(&memtable->references, 1);
    memtable->log_number = log_number;
    memtable->filter_size = (bytes_expected / 64 + FILTER_LINE_BYTES) /
                            FILTER_LINE_BYTES * FILTER_LINE_BYTES;
    memtable->filter = calloc(1, memtable->filter_size);
    memtable->random = 0x9e3779b97f4a7c15u;
    uint8_t *data;
    memtable->head = new_node(memtable, HEIGHT_MAX, 0, &data);
    if (memtable->head == NULL || memtable->filter == NULL) {
        memtable_unref(memtable);
        return NULL;
    }
    return memtable;
}

void memtable_ref(struct memtable *memtable)
{
    atomic_fetch_add(&memtable->references, 1);
}

void memtable_unref(struct memtable *memtable)
{
    if (memtable == NULL || atomic_fetch_sub(&memtable->references, 1) != 1)
        return;
    while (memtable->chunks != NULL) {
        struct chunk *chunk = memtable->chunks;
        memtable->chunks = chunk->previous;
        free(chunk);
    }
    free(memtable->filter);
    free(memtable);
}

static bool node_before(const struct memtable_node *node, struct bytes key,
                        uint64_t sequence)
{
    int order = bytes_compare(bytes_of(node->data, node->key_size), key);
    return order < 0 || (order == 0 && node->sequence > sequence);
}

/* The first node not before (key, sequence); its predecessors on every level
 * if wanted. */
static struct memtable_node *find(const struct memtable *memtable,
                                  struct bytes key, uint64_t sequence,
                                  struct memtable_node **before)
{
    struct memtable_node *at = memtable->head, *next = NULL;
    for (int level = HEIGHT_MAX - 1; level >= 0; level--) {
        for (;;) {
            next = atomic_load_explicit(&at->next[level], memory_order_acquire);
            if (next == NULL || !node_before(next, key, sequence))
                break;
            at = next;
        }
        if (before != NULL)
            before[level] = at;
    }
    return next;
}

static int random_height(struct memtable *memtable)
{
    int height = 1;
    memtable->random ^= memtable->random << 13;
    memtable->random ^= memtable->random >> 7;
    memtable->random ^= memtable->random << 17;
    for (uint64_t bits = memtable->random; height < HEIGHT_MAX; bits >>= 2) {
        if ((bits & 3) != 0)
            break;
        height++;
    }
    return height;
}

enum status memtable_add(struct memtable *memtable, const struct entry *entry)
{
    size_t key_size = entry->key.size;
    size_t value_size = entry->removed ? 0 : entry->value.size;
    if (key_size > UINT32_MAX || value_size > UINT32_MAX)
        return STATUS_TOO_LARGE;
    int height = random_height(memtable);
    uint8_t *data;
    struct memtable_node *node =
        new_node(memtable, height, key_size + value_size, &data);
    if (node == NULL)
        return STATUS_NO_MEMORY;
    if (key_size > 0)
        memcpy(data, entry->key.data, key_size);
    if (value_size > 0)
        memcpy(data + key_size, entry->value.data, value_size);
    node->sequence = entry->sequence;
    node->removed = entry->removed;
    node->key_size = (uint32_t)key_size;
    node->value_size = (uint32_t)value_size;

    filter_add(memtable->filter, memtable->filter_size, key_hash(entry->key));
    memtable->last_sequence = entry->sequence;
    struct memtable_node *before[HEIGHT_MAX];
    find(memtable, entry->key, entry->sequence, before);
    for (int i = 0; i < height; i++) {
        struct memtable_node *next =
            atomic_load_explicit(&before[i]->next[i], memory_order_relaxed);
        atomic_store_explicit(&node->next[i], next, memory_order_relaxed);
        atomic_store_explicit(&before[i]->next[i], node, memory_order_release);
    }
    atomic_fetch_add_explicit(&memtable->count, 1, memory_order_relaxed);
    return STATUS_OK;
}

static const struct memtable_node *visible(const struct memtable_node *node,
                                           uint64_t sequence)
{
    while (node != NULL && node->sequence > sequence)
        node = atomic_load_explicit(&node->next[0], memory_order_acquire);
    return node;
}

bool memtable_get(const struct memtable *memtable, struct bytes key,
                  uint64_t hash, uint64_t sequence, struct entry *entry)
{
    if (!filter_may_contain(memtable->filter, memtable->filter_size, hash))
        return false;
    const struct memtable_node *node = find(memtable, key, sequence, NULL);
    if (node == NULL)
        return false;
    *entry = memtable_entry(node);
    return bytes_equal(entry->key, key);
}

const struct memtable_node *memtable_seek(const struct memtable *memtable,
                                          struct bytes key, uint64_t sequence)
{
    return visible(find(memtable, key, sequence, NULL), sequence);
}

const struct memtable_node *memtable_next(const struct memtable_node *node,
                                          uint64_t sequence)
{
    struct bytes key = bytes_of(node->data, node->key_size);
    const struct memtable_node *next = node;
    do {
        next =
            visible(atomic_load_explicit(&next->next[0], memory_order_acquire),
                    sequence);
    } while (next != NULL &&
             bytes_equal(bytes_of(next->data, next->key_size), key));
    return next;
}

static const struct memtable_node *last_before(const struct memtable *memtable,
                                               struct bytes key)
{
    const struct memtable_node *at = memtable->head;
    for (int level = HEIGHT_MAX - 1; level >= 0; level--) {
        for (;;) {
            const struct memtable_node *next =
                atomic_load_explicit(&at->next[level], memory_order_acquire);
            if (next == NULL ||
                (key.size > 0 && !node_before(next, key, UINT64_MAX)))
                break;
            at = next;
        }
    }
    return at == memtable->head ? NULL : at;
}

const struct memtable_node *
memtable_seek_before(const struct memtable *memtable, struct bytes key,
                     uint64_t sequence)
{
    for (;;) {
        const struct memtable_node *node = last_before(memtable, key);
        if (node == NULL)
            return NULL;
        key = bytes_of(node->data, node->key_size);
        node = find(memtable, key, sequence, NULL);
        if (node != NULL &&
            bytes_equal(bytes_of(node->data, node->key_size), key))
            return node;
    }
}

struct entry memtable_entry(const struct memtable_node *node)
{
    return (struct entry){
        .key = bytes_of(node->data, node->key_size),
        .value = bytes_of(node->data + node->key_size, node->value_size),
        .sequence = node->sequence,
        .removed = node->removed,
    };
}

size_t memtable_bytes(const struct memtable *memtable)
{
    return atomic_load_explicit(&memtable->bytes, memory_order_relaxed);
}

uint64_t memtable_count(const struct memtable *memtable)
{
    return atomic_load_explicit(&memtable->count, memory_order_relaxed);
}

uint64_t memtable_log(const struct memtable *memtable)
{
    return memtable->log_number;
}

uint64_t memtable_last_sequence(const struct memtable *memtable)
{
    return memtable->last_sequence;
}
