/* SPDX-License-Identifier: MIT */
#include "engines/lsm/cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "proto/assert.h"

enum {
    /* Threads that read at once seldom meet in one of 16. */
    SHARDS_MAX = 16,
    /* A shard must hold more than a few blocks, also those of a large value
     * each; a block larger than its shard is never kept. */
    SHARD_BYTES_MIN = 512 * 1024,
    SLOTS_MIN = 64,
    /* How many asked-for blocks the hand passes to find one to evict. It
     * bounds what a put costs when all of them were asked for. */
    LOOKS_MAX = 32,
    SLOTS_PER_LINE = 2, /* of a processor's cache */
    CALLERS_MIN = 64,
    USUAL_BYTES = 4096, /* of a block */

    /* What blocks' memory is a multiple of, so that most fit where another
     * was: 3 % of a usual block stay unused on average. */
    UNIT_BYTES = 256,
    POOL_UNITS_MAX = 64 * 1024 / UNIT_BYTES,
    /* This part of the budget. Half of it let memory be allocated anew a few
     * times as often. */
    POOL_SHARE = 16,
};

/* The memory of blocks that went, by size, for those that come: with a full
 * cache, every miss frees one and takes another. Left to malloc, whose threads
 * have a heap each, 64 MiB of blocks came to 214 MB as four threads took turns
 * to allocate what others freed; with this, to 68 MB. */
struct pool {
    pthread_mutex_t mutex;
    size_t bytes, bytes_max;
    struct cache_block *lists[POOL_UNITS_MAX + 1]; /* linked by owner */
};

/* Open addressing with linear probing, at most three quarters full. The
 * clock's hand goes round the same array: blocks come in anywhere on its way,
 * not behind it, and not as asked for, so that a scan pushes out less. A
 * look-up touches one slot and the block. */
struct slot {
    struct cache_block *block; /* NULL: free */
    uint64_t table, offset;
    bool asked; /* for, since the hand passed */
};

struct shard {
    _Alignas(64) pthread_mutex_t mutex;
    struct slot *slots;
    size_t slot_count; /* a power of two; 0 before the first put */
    size_t block_count;
    size_t hand;
    size_t bytes;
    uint64_t hits, misses;
};

struct cache {
    size_t block_budget; /* what the pool leaves */
    size_t pool_budget;
    atomic_size_t charged;
    struct pool pool;
    /* What was missed last, of those that share a place: a part of its hash.
     * As many as usual blocks fit, rounded up to a power of two. */
    _Atomic uint16_t *callers;
    size_t caller_count;
    size_t shard_count; /* a power of two */
    struct shard shards[];
};

/* What each shard may hold now. */
static size_t shard_bytes_max(struct cache *cache)
{
    size_t charged = atomic_load(&cache->charged);
    return charged >= cache->block_budget
               ? 0
               : (cache->block_budget - charged) / cache->shard_count;
}

/* --- memory --- */

/* Of a block of so many bytes, with its header, the slack that is promised and
 * malloc's own 8 bytes. */
static size_t units_of(size_t size)
{
    size_t bytes = sizeof(struct cache_block) + size + 8 + 8;
    return (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
}

static struct cache_block *pool_take(struct pool *pool, size_t units)
{
    pthread_mutex_lock(&pool->mutex);
    struct cache_block *block = pool->lists[units];
    if (block != NULL) {
        pool->lists[units] = block->owner;
        pool->bytes -= units * UNIT_BYTES;
    }
    pthread_mutex_unlock(&pool->mutex);
    return block;
}

/* False if it has no room, and the block stays the caller's. */
static bool pool_give(struct pool *pool, struct cache_block *block)
{
    size_t units = block->units;
    if (units > POOL_UNITS_MAX)
        return false;
    pthread_mutex_lock(&pool->mutex);
    bool fits = pool->bytes + units * UNIT_BYTES <= pool->bytes_max;
    if (fits) {
        block->owner = pool->lists[units];
        pool->lists[units] = block;
        pool->bytes += units * UNIT_BYTES;
    }
    pthread_mutex_unlock(&pool->mutex);
    return fits;
}

/* Set what the pool may hold: nothing if the blocks may not either, so that the
 * budget holds. What is more is freed, the largest first. */
static void pool_limit(struct cache *cache)
{
    struct pool *pool = &cache->pool;
    pthread_mutex_lock(&pool->mutex);
    pool->bytes_max = shard_bytes_max(cache) > 0 ? cache->pool_budget : 0;
    for (size_t units = POOL_UNITS_MAX; pool->bytes > pool->bytes_max;) {
        struct cache_block *block = pool->lists[units];
        if (block == NULL) {
            units--;
            continue;
        }
        pool->lists[units] = block->owner;
        pool->bytes -= units * UNIT_BYTES;
        free(block);
    }
    pthread_mutex_unlock(&pool->mutex);
}

struct cache_block *cache_block_new(struct cache *cache, size_t size)
{
    if (size > UINT32_MAX)
        return NULL;
    size_t units = units_of(size);
    struct cache_block *block = NULL;
    if (cache != NULL && units <= POOL_UNITS_MAX)
        block = pool_take(&cache->pool, units);
    if (block == NULL)
        block = malloc(units * UNIT_BYTES - 8);
    if (block == NULL)
        return NULL;
    block->owner = cache;
    block->units = (uint32_t)units;
    atomic_init(&block->references, 1);
    block->size = (uint32_t)size;
    return block;
}

void cache_release(struct cache_block *block)
{
    if (block == NULL || atomic_fetch_sub(&block->references, 1) != 1)
        return;
    struct cache *cache = block->owner;
    if (cache == NULL || !pool_give(&cache->pool, block))
        free(block);
}

struct cache *cache_new(size_t bytes)
{
    size_t shards = 1;
    while (shards < SHARDS_MAX && bytes / shards >= 2 * SHARD_BYTES_MIN)
        shards *= 2;
    size_t size = sizeof(struct cache) + shards * sizeof(struct shard);
    struct cache *cache = aligned_alloc(_Alignof(struct cache), size);
    if (cache == NULL)
        return NULL;
    memset(cache, 0, size);
    cache->caller_count = CALLERS_MIN;
    while (cache->caller_count < bytes / USUAL_BYTES)
        cache->caller_count *= 2;
    cache->callers = calloc(cache->caller_count, sizeof *cache->callers);
    if (cache->callers == NULL) {
        free(cache);
        return NULL;
    }
    cache->pool_budget = bytes / POOL_SHARE;
    cache->block_budget = bytes - cache->pool_budget;
    cache->shard_count = shards;
    pthread_mutex_init(&cache->pool.mutex, NULL);
    pool_limit(cache);
    for (size_t i = 0; i < shards; i++)
        pthread_mutex_init(&cache->shards[i].mutex, NULL);
    return cache;
}

void cache_free(struct cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        for (size_t j = 0; j < shard->slot_count; j++)
            cache_release(shard->slots[j].block);
        free(shard->slots);
        pthread_mutex_destroy(&shard->mutex);
    }
    cache->pool_budget = 0;
    pool_limit(cache);
    pthread_mutex_destroy(&cache->pool.mutex);
    free(cache->callers);
    free(cache);
}

/* --- a shard, under its mutex --- */

/* What a block counts, with its slot and another that is free. */
static size_t block_bytes(size_t units)
{
    return units * UNIT_BYTES + 2 * sizeof(struct slot);
}

static uint64_t hash_of(uint64_t table, uint64_t offset)
{
    uint64_t hash = table * UINT64_C(0x9e3779b97f4a7c15) + offset;
    hash *= UINT64_C(0xd6e8feb86659fd93);
    hash ^= hash >> 32;
    return hash * UINT64_C(0xd6e8feb86659fd93);
}

/* The highest bits pick the shard, some of those below it the slot. */
static struct shard *shard_of(struct cache *cache, uint64_t hash)
{
    return &cache->shards[(hash >> 32) * cache->shard_count >> 32];
}

static size_t home_of(const struct shard *shard, uint64_t hash)
{
    return (size_t)(hash >> 16) & (shard->slot_count - 1);
}

/* The slot of a block, or the free one where it would be; NULL if there are no
 * slots yet. */
static struct slot *find_slot(const struct shard *shard, uint64_t hash,
                              uint64_t table, uint64_t offset)
{
    if (shard->slot_count == 0)
        return NULL;
    size_t at = home_of(shard, hash);
    for (;; at = (at + 1) & (shard->slot_count - 1)) {
        struct slot *slot = &shard->slots[at];
        if (slot->block == NULL ||
            (slot->offset == offset && slot->table == table))
            return slot;
    }
}

static struct cache_block *find_block(const struct shard *shard, uint64_t hash,
                                      uint64_t table, uint64_t offset)
{
    struct slot *slot = find_slot(shard, hash, table, offset);
    if (slot == NULL || slot->block == NULL)
        return NULL;
    slot->asked = true;
    return slot->block;
}

/* Empty a slot and move back what had to go past it (Knuth, 6.4, algorithm R),
 * so that look-ups end at the first free slot. */
static void empty_slot(struct shard *shard, size_t hole)
{
    struct slot *slots = shard->slots;
    size_t mask = shard->slot_count - 1;
    for (size_t at = (hole + 1) & mask; slots[at].block != NULL;
         at = (at + 1) & mask) {
        size_t home =
            home_of(shard, hash_of(slots[at].table, slots[at].offset));
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            slots[hole] = slots[at];
            hole = at;
        }
    }
    slots[hole].block = NULL;
}

/* A block that is wanted is read and put: meanwhile, let the one that will have
 * to go come from memory. */
static void fetch_victim(const struct shard *shard)
{
    size_t mask = shard->slot_count - 1;
    for (size_t i = 0; i < SLOTS_PER_LINE && i < shard->slot_count; i++) {
        const struct slot *slot = &shard->slots[(shard->hand + i) & mask];
        if (slot->block != NULL && !slot->asked) {
            __builtin_prefetch(slot->block, 1);
            return;
        }
    }
}

static void evict(struct shard *shard, size_t bytes_max)
{
    unsigned looks = 0;
    while (shard->bytes > bytes_max) {
        shard->hand &= shard->slot_count - 1;
        struct slot *slot = &shard->slots[shard->hand];
        if (slot->block == NULL) {
            shard->hand++;
        } else if (slot->asked && looks < LOOKS_MAX) {
            slot->asked = false;
            shard->hand++;
            looks++;
        } else {
            shard->bytes -= block_bytes(slot->block->units);
            shard->block_count--;
            cache_release(slot->block);
            empty_slot(shard, shard->hand);
            looks = 0;
        }
    }
}

/* Room for one more slot; false: no memory. */
static bool reserve_slot(struct shard *shard)
{
    if (4 * (shard->block_count + 1) <= 3 * shard->slot_count)
        return true;
    struct shard old = *shard;
    size_t count = old.slot_count == 0 ? SLOTS_MIN : 2 * old.slot_count;
    struct slot *slots = calloc(count, sizeof *slots);
    if (slots == NULL)
        return false;
    shard->slots = slots;
    shard->slot_count = count;
    for (size_t i = 0; i < old.slot_count; i++) {
        const struct slot *slot = &old.slots[i];
        uint64_t hash = hash_of(slot->table, slot->offset);
        if (slot->block != NULL)
            *find_slot(shard, hash, slot->table, slot->offset) = *slot;
    }
    free(old.slots);
    return true;
}

/* --- the whole --- */

struct cache_block *cache_get(struct cache *cache, uint64_t table,
                              uint64_t offset)
{
    uint64_t hash = hash_of(table, offset);
    struct shard *shard = shard_of(cache, hash);
    pthread_mutex_lock(&shard->mutex);
    struct cache_block *block = find_block(shard, hash, table, offset);
    if (block != NULL) {
        atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
        shard->hits++;
    } else {
        shard->misses++;
    }
    pthread_mutex_unlock(&shard->mutex);
    return block;
}

/* The doorkeeper of TinyLFU (Einziger, Friedman, Manes, 2017), which forgets
 * what others call in the place of. */
bool cache_wants(struct cache *cache, uint64_t table, uint64_t offset,
                 size_t size)
{
    uint64_t hash = hash_of(table, offset);
    struct shard *shard = shard_of(cache, hash);
    size_t bytes_max = shard_bytes_max(cache);
    /* It may have been compressed. */
    size_t bytes =
        block_bytes(units_of(size < USUAL_BYTES ? USUAL_BYTES : size));
    if (bytes > bytes_max)
        return false;
    _Atomic uint16_t *caller =
        &cache->callers[hash & (cache->caller_count - 1)];
    uint16_t mark = (uint16_t)(hash >> 48) | 1; /* 0: nobody called */
    bool called =
        atomic_exchange_explicit(caller, mark, memory_order_relaxed) == mark;
    pthread_mutex_lock(&shard->mutex);
    bool room = shard->bytes + bytes <= bytes_max;
    if (called && !room)
        fetch_victim(shard);
    pthread_mutex_unlock(&shard->mutex);
    return called || room;
}

void cache_put(struct cache *cache, uint64_t table, uint64_t offset,
               struct cache_block *block)
{
    ASSERT(block->owner == cache);
    uint64_t hash = hash_of(table, offset);
    struct shard *shard = shard_of(cache, hash);
    size_t bytes = block_bytes(block->units);
    pthread_mutex_lock(&shard->mutex);
    size_t bytes_max = shard_bytes_max(cache);
    if (bytes <= bytes_max && find_block(shard, hash, table, offset) == NULL &&
        reserve_slot(shard)) {
        evict(shard, bytes_max - bytes);
        *find_slot(shard, hash, table, offset) =
            (struct slot){.block = block, .table = table, .offset = offset};
        atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
        shard->block_count++;
        shard->bytes += bytes;
    }
    pthread_mutex_unlock(&shard->mutex);
}

void cache_charge(struct cache *cache, ptrdiff_t bytes)
{
    atomic_fetch_add(&cache->charged, (size_t)bytes);
    for (size_t i = 0; bytes > 0 && i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->mutex);
        evict(shard, shard_bytes_max(cache));
        pthread_mutex_unlock(&shard->mutex);
    }
    pool_limit(cache);
}

void cache_stats(struct cache *cache, struct cache_stats *stats)
{
    *stats = (struct cache_stats){.bytes = atomic_load(&cache->charged)};
    pthread_mutex_lock(&cache->pool.mutex);
    stats->bytes += cache->pool.bytes;
    pthread_mutex_unlock(&cache->pool.mutex);
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->mutex);
        stats->bytes += shard->bytes;
        stats->hits += shard->hits;
        stats->misses += shard->misses;
        pthread_mutex_unlock(&shard->mutex);
    }
}
