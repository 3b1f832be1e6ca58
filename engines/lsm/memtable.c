/* SPDX-License-Identifier: MIT */
#include "engines/lsm/memtable.h"

#include "engines/lsm/digest.h"
#include "engines/lsm/key_filter.h"
#include "proto/assert.h"

#include <stdlib.h>

enum {
    /* Every second node is on the next level, too: 2^20 nodes keep
     * logarithmic, and more are only somewhat slower. A node's links are side
     * by side, so what a search costs is the nodes it moves to, and those are
     * fewer the more levels there are: a branching of 4 saves 11 bytes an
     * entry and was a third slower. */
    HEIGHT_MAX = 20,

    /* An idle store's memtable stays at one page, a large one comes to chunks
     * of CHUNK_BYTES_MAX in three steps. */
    CHUNK_BYTES_MIN = 4 * 1024,
    CHUNK_GROWTH = 8,

    /* Enough keys to see what they share, with what the memtable before saw.
     * Of those behind, one in so many is looked at for the next one. */
    LEARN_FROM_KEYS = 64,
    SEE_EVERY = 8,

    /* One bit of the filter for so many of the memtable, or about 20 bits for
     * a key with 100 bytes and 10 for the smallest. */
    FILTER_BYTES_PER_BIT = 8,
};

/* With a digest of the next node's key beside the pointer, most steps of a
 * search that do not move there need not touch that node, which is a cache
 * miss; that made adding a third faster.
 *
 * Both change when a node is linked in between, the pointer first. What a link
 * points to only ever moves towards the node it is in. So a reader that loads
 * the digest first, then the pointer, has a node that is not behind the one
 * with that digest: if the digest is smaller than what it looks for, so is the
 * node. And if the digest is larger, then nothing that the reader may see was
 * between when it loaded it. */
struct link {
    _Atomic(struct memtable_node *) next;
    _Atomic uint64_t digest; /* of next's key; all ones if there is none */
};

struct memtable_node {
    uint64_t sequence;
    uint32_t value_size;
    uint16_t key_size;
    uint8_t height;
    bool removed;
    struct link links[]; /* height of them, then the key, then the value */
};

struct memtable {
    atomic_uint references;
    uint64_t log_number;
    struct memtable_node *head; /* no key, HEIGHT_MAX links */
    atomic_int height;
    /* Before, digests say nothing. */
    atomic_bool is_learned;
    struct shape shape;
    /* Read without an order: who looks for what is not newer than its sequence
     * took that after bits and node were there. */
    struct key_filter filter;

    atomic_size_t bytes;
    _Atomic uint64_t count, last_sequence;

    struct chunk_pool *pool;
    /* The writer's. */
    struct chunk *chunks; /* [0] has room */
    size_t chunk_bytes_max;
    uint64_t random; /* heights only, so any fixed seed will do */
    /* On every level the last node that is not behind the one added last. */
    struct memtable_node *finger[HEIGHT_MAX];
    struct shape_learner learner, earlier;
};

/* --- memory --- */

/* With room for size bytes. What would waste much of a chunk gets one of its
 * own, behind the first, which stays in use. */
static struct chunk *add_chunk(struct memtable *memtable, size_t size)
{
    struct chunk *first = memtable->chunks;
    size_t room = first == NULL ? CHUNK_BYTES_MIN : first->size * CHUNK_GROWTH;
    if (room > memtable->chunk_bytes_max)
        room = memtable->chunk_bytes_max;
    size += sizeof *first;
    bool own = first != NULL && size > room / 4;
    struct chunk *chunk = chunk_new(memtable->pool, own ? size : room);
    if (chunk == NULL)
        return NULL;
    chunk->previous = own ? first->previous : first;
    *(own ? &first->previous : &memtable->chunks) = chunk;
    return chunk;
}

static void *allocate(struct memtable *memtable, size_t size)
{
    struct chunk *chunk = memtable->chunks;
    size = (size + 7) / 8 * 8;
    if (chunk == NULL || chunk->size - chunk->used < size)
        chunk = add_chunk(memtable, size);
    if (chunk == NULL)
        return NULL;
    void *memory = (uint8_t *)chunk + chunk->used;
    chunk->used += size;
    return memory;
}

static struct memtable_node *allocate_node(struct memtable *memtable,
                                           int height, size_t data_size)
{
    size_t size = sizeof(struct memtable_node) +
                  (size_t)height * sizeof(struct link) + data_size;
    struct memtable_node *node = allocate(memtable, size);
    if (node == NULL)
        return NULL;
    *node = (struct memtable_node){.height = (uint8_t)height};
    size += atomic_load_explicit(&memtable->bytes, memory_order_relaxed);
    atomic_store_explicit(&memtable->bytes, size, memory_order_relaxed);
    return node;
}

struct memtable *memtable_new(size_t bytes_expected, uint64_t log_number,
                              const struct memtable *before,
                              struct chunk_pool *pool)
{
    struct memtable *memtable = calloc(1, sizeof *memtable);
    if (memtable == NULL)
        return NULL;
    atomic_init(&memtable->references, 1);
    atomic_init(&memtable->height, 1);
    atomic_init(&memtable->is_learned, false);
    memtable->log_number = log_number;
    memtable->pool = pool;
    if (before != NULL)
        memtable->earlier = before->learner;
    memtable->random = 0x9e3779b97f4a7c15u;
    /* So that at most an eighth of it is room that was not used. */
    memtable->chunk_bytes_max = bytes_expected / 8;
    if (memtable->chunk_bytes_max < CHUNK_BYTES_MIN)
        memtable->chunk_bytes_max = CHUNK_BYTES_MIN;
    if (memtable->chunk_bytes_max > CHUNK_BYTES_MAX)
        memtable->chunk_bytes_max = CHUNK_BYTES_MAX;
    bool has_filter = key_filter_init(&memtable->filter,
                                      bytes_expected / FILTER_BYTES_PER_BIT);
    memtable->head = allocate_node(memtable, HEIGHT_MAX, 0);
    if (!has_filter || memtable->head == NULL) {
        memtable_unref(memtable);
        return NULL;
    }
    for (int i = 0; i < HEIGHT_MAX; i++) {
        atomic_init(&memtable->head->links[i].next, NULL);
        atomic_init(&memtable->head->links[i].digest, UINT64_MAX);
        memtable->finger[i] = memtable->head;
    }
    return memtable;
}

void memtable_ref(struct memtable *memtable)
{
    atomic_fetch_add_explicit(&memtable->references, 1, memory_order_relaxed);
}

void memtable_unref(struct memtable *memtable)
{
    if (memtable == NULL || atomic_fetch_sub(&memtable->references, 1) != 1)
        return;
    while (memtable->chunks != NULL) {
        struct chunk *chunk = memtable->chunks;
        memtable->chunks = chunk->previous;
        chunk_free(memtable->pool, chunk);
    }
    key_filter_fini(&memtable->filter);
    free(memtable);
}

/* --- order --- */

static const uint8_t *node_data(const struct memtable_node *node)
{
    return (const uint8_t *)&node->links[node->height];
}

static struct bytes node_key(const struct memtable_node *node)
{
    return bytes_of(node_data(node), node->key_size);
}

static struct memtable_node *load_next(const struct memtable_node *node)
{
    return atomic_load_explicit(&node->links[0].next, memory_order_acquire);
}

/* Where (key, sequence) is or would be. */
struct place {
    struct bytes key;
    uint64_t sequence;
    uint64_t digest;
    uint64_t mask; /* of digests: 0 while they say nothing */
};

static struct place place_of(const struct memtable *memtable, struct bytes key,
                             uint64_t sequence)
{
    struct place place = {.key = key, .sequence = sequence};
    if (atomic_load_explicit(&memtable->is_learned, memory_order_acquire)) {
        place.digest = digest_of(&memtable->shape, key);
        place.mask = UINT64_MAX;
    }
    return place;
}

static bool node_before(const struct memtable_node *node,
                        const struct place *place)
{
    int order = bytes_compare(node_key(node), place->key);
    return order < 0 || (order == 0 && node->sequence > place->sequence);
}

/* The last node of a level before the place, from `at` on. */
static inline struct memtable_node *walk(struct memtable_node *at, int level,
                                         const struct place *place)
{
    for (;;) {
        const struct link *link = &at->links[level];
        uint64_t digest =
            atomic_load_explicit(&link->digest, memory_order_acquire) &
            place->mask;
        if (digest > place->digest)
            return at;
        struct memtable_node *next =
            atomic_load_explicit(&link->next, memory_order_acquire);
        if (digest == place->digest &&
            (next == NULL || !node_before(next, place)))
            return at;
        at = next;
    }
}

static int load_height(const struct memtable *memtable)
{
    return atomic_load_explicit(&memtable->height, memory_order_relaxed);
}

/* The last node before the place, or the head. */
static struct memtable_node *find_before(const struct memtable *memtable,
                                         const struct place *place)
{
    struct memtable_node *at = memtable->head;
    for (int level = load_height(memtable) - 1; level >= 0; level--)
        at = walk(at, level, place);
    return at;
}

/* The first node at or behind the place. What was added since the search may
 * be before it. */
static const struct memtable_node *find(const struct memtable *memtable,
                                        const struct place *place)
{
    const struct memtable_node *at = load_next(find_before(memtable, place));
    while (at != NULL && node_before(at, place))
        at = load_next(at);
    return at;
}

/* The last node, or the head. */
static struct memtable_node *find_last(const struct memtable *memtable)
{
    struct memtable_node *at = memtable->head, *next;
    for (int level = load_height(memtable) - 1; level >= 0; level--) {
        while ((next = atomic_load_explicit(&at->links[level].next,
                                            memory_order_acquire)) != NULL)
            at = next;
    }
    return at;
}

/* --- searches side by side --- */

/* A search that looks at digests alone. */
struct walker {
    const struct memtable_node *at;
    int level;
    uint64_t digest;
};

/* On to the next node, which comes from memory meanwhile; false at the end. */
static bool step(struct walker *walker)
{
    for (; walker->level >= 0; walker->level--) {
        const struct link *link = &walker->at->links[walker->level];
        if (atomic_load_explicit(&link->digest, memory_order_acquire) <
            walker->digest) {
            walker->at =
                atomic_load_explicit(&link->next, memory_order_acquire);
            __builtin_prefetch(&walker->at->links[walker->level]);
            return true;
        }
    }
    return false;
}

void memtable_fetch(const struct memtable *memtable, const struct bytes *keys,
                    size_t count)
{
    struct walker walkers[MEMTABLE_FETCH_MAX];
    ASSERT(count <= MEMTABLE_FETCH_MAX);
    if (count < 2)
        return;
    if (!atomic_load_explicit(&memtable->is_learned, memory_order_acquire))
        return;
    for (size_t i = 0; i < count; i++)
        walkers[i] =
            (struct walker){.at = memtable->head,
                            .level = load_height(memtable) - 1,
                            .digest = digest_of(&memtable->shape, keys[i])};
    for (bool any = true; any;) {
        any = false;
        for (size_t i = 0; i < count; i++)
            any |= step(&walkers[i]);
    }
}

/* --- adding --- */

static int random_height(struct memtable *memtable)
{
    memtable->random ^= memtable->random << 13;
    memtable->random ^= memtable->random >> 7;
    memtable->random ^= memtable->random << 17;
    return 1 +
           __builtin_ctzll(memtable->random | UINT64_C(1) << (HEIGHT_MAX - 1));
}

/* See what the keys share, and fill in all digests. Readers that began before
 * do not look at them. */
static void learn(struct memtable *memtable)
{
    struct memtable_node *at = load_next(memtable->head);
    for (int i = 0; i < LEARN_FROM_KEYS / 2; i++)
        at = load_next(at);
    /* The middle first, which is like most. */
    shape_see(&memtable->learner, node_key(at));
    for (at = load_next(memtable->head); at != NULL; at = load_next(at))
        shape_see(&memtable->learner, node_key(at));
    struct shape_learner learner = memtable->learner;
    shape_add(&learner, &memtable->earlier);
    memtable->shape = shape_learn(&learner);
    for (at = memtable->head; at != NULL; at = load_next(at)) {
        for (int i = 0; i < at->height; i++) {
            const struct memtable_node *next =
                atomic_load_explicit(&at->links[i].next, memory_order_relaxed);
            uint64_t digest = next == NULL
                                  ? UINT64_MAX
                                  : digest_of(&memtable->shape, node_key(next));
            atomic_store_explicit(&at->links[i].digest, digest,
                                  memory_order_relaxed);
        }
    }
    atomic_store_explicit(&memtable->is_learned, true, memory_order_release);
}

/* Point the finger at the place: it is there already if the entry follows the
 * one added last, as ascending ones do. */
static void point(struct memtable *memtable, const struct place *place)
{
    struct memtable_node **finger = memtable->finger;
    const struct memtable_node *next = load_next(finger[0]);
    uint64_t next_digest =
        atomic_load_explicit(&finger[0]->links[0].digest, memory_order_relaxed);
    /* The next node is a cache miss that its digest mostly spares. */
    bool follows =
        next == NULL || place->mask == 0 || next_digest >= place->digest;
    if (follows && (next == NULL || !node_before(next, place)) &&
        (finger[0] == memtable->head || node_before(finger[0], place)))
        return;
    struct memtable_node *at = memtable->head;
    for (int level = load_height(memtable) - 1; level >= 0; level--)
        finger[level] = at = walk(at, level, place);
}

/* Link the node in behind the finger, from the lowest level up. */
static void link_node(struct memtable *memtable, struct memtable_node *node,
                      uint64_t digest)
{
    for (int i = 0; i < node->height; i++) {
        struct link *link = &memtable->finger[i]->links[i];
        atomic_init(&node->links[i].next,
                    atomic_load_explicit(&link->next, memory_order_relaxed));
        atomic_init(&node->links[i].digest,
                    atomic_load_explicit(&link->digest, memory_order_relaxed));
        atomic_store_explicit(&link->next, node, memory_order_release);
        atomic_store_explicit(&link->digest, digest, memory_order_release);
        memtable->finger[i] = node;
    }
}

static struct memtable_node *new_node(struct memtable *memtable,
                                      const struct entry *entry)
{
    size_t value_size = entry->removed ? 0 : entry->value.size;
    struct memtable_node *node = allocate_node(
        memtable, random_height(memtable), entry->key.size + value_size);
    if (node == NULL)
        return NULL;
    node->sequence = entry->sequence;
    node->value_size = (uint32_t)value_size;
    node->key_size = (uint16_t)entry->key.size;
    node->removed = entry->removed;
    uint8_t *data = (uint8_t *)&node->links[node->height];
    if (entry->key.size > 0)
        memcpy(data, entry->key.data, entry->key.size);
    if (value_size > 0)
        memcpy(data + entry->key.size, entry->value.data, value_size);
    return node;
}

enum status memtable_add(struct memtable *memtable, const struct entry *entry)
{
    if (entry->key.size > UINT16_MAX || entry->value.size > UINT32_MAX)
        return STATUS_TOO_LARGE;
    struct memtable_node *node = new_node(memtable, entry);
    if (node == NULL)
        return STATUS_NO_MEMORY;
    key_filter_add(&memtable->filter, key_hash(entry->key));
    if (node->height > load_height(memtable))
        atomic_store_explicit(&memtable->height, node->height,
                              memory_order_relaxed);
    struct place place = place_of(memtable, entry->key, entry->sequence);
    point(memtable, &place);
    link_node(memtable, node, place.digest);

    uint64_t count = memtable_count(memtable) + 1;
    atomic_store_explicit(&memtable->count, count, memory_order_relaxed);
    atomic_store_explicit(&memtable->last_sequence, entry->sequence,
                          memory_order_relaxed);
    if (count == LEARN_FROM_KEYS)
        learn(memtable);
    else if (count > LEARN_FROM_KEYS && count % SEE_EVERY == 0)
        shape_see(&memtable->learner, entry->key);
    return STATUS_OK;
}

/* --- reading --- */

bool memtable_get(const struct memtable *memtable, struct bytes key,
                  uint64_t hash, uint64_t sequence, struct entry *entry)
{
    if (!key_filter_has(&memtable->filter, hash))
        return false;
    struct place place = place_of(memtable, key, sequence);
    const struct memtable_node *node = find(memtable, &place);
    if (node == NULL || !bytes_equal(node_key(node), key))
        return false;
    *entry = memtable_entry(node);
    return true;
}

const struct memtable_node *memtable_seek(const struct memtable *memtable,
                                          struct bytes key, uint64_t sequence)
{
    struct place place = place_of(memtable, key, sequence);
    const struct memtable_node *node = find(memtable, &place);
    while (node != NULL && node->sequence > sequence)
        node = load_next(node);
    return node;
}

const struct memtable_node *memtable_next(const struct memtable_node *node,
                                          uint64_t sequence)
{
    struct bytes key = node_key(node);
    do
        node = load_next(node);
    while (node != NULL &&
           (node->sequence > sequence || bytes_equal(node_key(node), key)));
    /* Walks are bound by cache misses; this hides those of a node with a short
     * value behind what the caller does with the entry. */
    const uint8_t *following =
        node == NULL ? NULL : (const uint8_t *)load_next(node);
    if (following != NULL) {
        __builtin_prefetch(following);
        __builtin_prefetch(following + 64);
        __builtin_prefetch(following + 128);
    }
    return node;
}

const struct memtable_node *
memtable_seek_before(const struct memtable *memtable, struct bytes key,
                     uint64_t sequence)
{
    /* All versions of a key are behind this place. */
    struct place place = place_of(memtable, key, UINT64_MAX);
    const struct memtable_node *node =
        key.size == 0 ? find_last(memtable) : find_before(memtable, &place);
    while (node != memtable->head) {
        /* The oldest version of its key. */
        key = node_key(node);
        if (node->sequence <= sequence) {
            place = place_of(memtable, key, sequence);
            return find(memtable, &place);
        }
        place = place_of(memtable, key, UINT64_MAX);
        node = find_before(memtable, &place);
    }
    return NULL;
}

struct entry memtable_entry(const struct memtable_node *node)
{
    const uint8_t *data = node_data(node);
    return (struct entry){
        .key = bytes_of(data, node->key_size),
        .value = bytes_of(data + node->key_size, node->value_size),
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
    return atomic_load_explicit(&memtable->last_sequence, memory_order_relaxed);
}
