/* SPDX-License-Identifier: MIT */
#include "engines/lsm/cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "engines/lsm/coding.h"

enum {
    SHARDS_MAX = 16,
    /* A shard holds some hundred blocks at least, or there are fewer. */
    SHARD_BYTES_MIN = 1 << 20,
    /* What a block costs beside its bytes: slot, header, allocator. */
    SLOT_BYTES = 64,
    SLOTS_MIN = 64,
};

/* A place of the clock. Slots that hash alike are chained by index. */
struct slot {
    uint64_t table, offset;
    struct cache_block *block; /* NULL: free */
    uint32_t next;             /* in its chain, or of the free ones; 0: none */
    bool used;                 /* since the hand came by */
};

struct shard {
    pthread_mutex_t mutex;
    struct slot *slots; /* [0] is nobody's, so that 0 is none */
    uint32_t *chains;   /* a power of two of them */
    uint32_t slot_count, chain_count, free, hand;
    size_t bytes;
    uint64_t hits, misses;
} __attribute__((aligned(64)));

struct cache {
    size_t budget;
    atomic_ptrdiff_t charged;
    unsigned shard_count;
    struct shard shards[SHARDS_MAX];
};

static uint64_t place_hash(uint64_t table, uint64_t offset)
{
    uint64_t hash = (table << 40 ^ offset) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

struct cache *cache_new(size_t bytes)
{
    struct cache *cache = aligned_alloc(64, sizeof *cache);
    if (cache == NULL)
        return NULL;
    memset(cache, 0, sizeof *cache);
    cache->budget = bytes;
    cache->shard_count = SHARDS_MAX;
    while (cache->shard_count > 1 &&
           bytes / cache->shard_count < SHARD_BYTES_MIN)
        cache->shard_count /= 2;
    for (unsigned i = 0; i < cache->shard_count; i++)
        pthread_mutex_init(&cache->shards[i].mutex, NULL);
    return cache;
}

void cache_release(struct cache_block *block)
{
    if (block != NULL && atomic_fetch_sub_explicit(&block->references, 1,
                                                   memory_order_acq_rel) == 1)
        free(block);
}

void cache_free(struct cache *cache)
{
    if (cache == NULL)
        return;
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        for (uint32_t j = 0; j < shard->slot_count; j++)
            cache_release(shard->slots[j].block);
        free(shard->slots);
        free(shard->chains);
        pthread_mutex_destroy(&shard->mutex);
    }
    free(cache);
}

struct cache_block *cache_block_new(size_t size)
{
    struct cache_block *block =
        size > UINT32_MAX ? NULL : malloc(sizeof *block + size + 8);
    if (block == NULL)
        return NULL;
    atomic_init(&block->references, 1);
    block->size = (uint32_t)size;
    return block;
}

static struct shard *shard_of(struct cache *cache, uint64_t hash)
{
    return &cache->shards[hash >> 8 & (cache->shard_count - 1)];
}

static uint32_t *chain_of(struct shard *shard, uint64_t hash)
{
    return &shard->chains[hash >> 12 & (shard->chain_count - 1)];
}

static struct slot *find(struct shard *shard, uint64_t hash, uint64_t table,
                         uint64_t offset)
{
    if (shard->chain_count == 0)
        return NULL;
    for (uint32_t at = *chain_of(shard, hash); at != 0;
         at = shard->slots[at].next) {
        struct slot *slot = &shard->slots[at];
        if (slot->offset == offset && slot->table == table)
            return slot;
    }
    return NULL;
}

struct cache_block *cache_get(struct cache *cache, uint64_t table,
                              uint64_t offset)
{
    uint64_t hash = place_hash(table, offset);
    struct shard *shard = shard_of(cache, hash);
    struct cache_block *block = NULL;
    pthread_mutex_lock(&shard->mutex);
    struct slot *slot = find(shard, hash, table, offset);
    if (slot != NULL) {
        slot->used = true;
        block = slot->block;
        atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
        shard->hits++;
    } else {
        shard->misses++;
    }
    pthread_mutex_unlock(&shard->mutex);
    return block;
}

static size_t cost(const struct cache_block *block)
{
    return block->size + SLOT_BYTES;
}

/* Take a slot out of its chain and give its block up. */
static void evict(struct shard *shard, uint32_t number)
{
    struct slot *slot = &shard->slots[number];
    uint32_t *at = chain_of(shard, place_hash(slot->table, slot->offset));
    while (*at != number)
        at = &shard->slots[*at].next;
    *at = slot->next;
    shard->bytes -= cost(slot->block);
    cache_release(slot->block);
    slot->block = NULL;
    slot->next = shard->free;
    shard->free = number;
}

/* Go round until the shard is down to `bytes`, sparing once what was used. */
static void make_room(struct shard *shard, size_t bytes)
{
    while (shard->bytes > bytes) {
        shard->hand = shard->hand + 1 < shard->slot_count ? shard->hand + 1 : 1;
        struct slot *slot = &shard->slots[shard->hand];
        if (slot->block == NULL)
            continue;
        if (slot->used)
            slot->used = false;
        else
            evict(shard, shard->hand);
    }
}

/* Twice as many slots and chains. False: no memory, and nothing changed. */
static bool grow(struct shard *shard)
{
    uint32_t count =
        shard->slot_count < SLOTS_MIN ? SLOTS_MIN : 2 * shard->slot_count;
    struct slot *slots = realloc(shard->slots, count * sizeof *slots);
    if (slots == NULL)
        return false;
    shard->slots = slots;
    uint32_t *chains = calloc(count, sizeof *chains);
    if (chains == NULL)
        return false;
    free(shard->chains);
    shard->chains = chains;
    shard->chain_count = count;
    uint32_t old = shard->slot_count;
    shard->slot_count = count;
    for (uint32_t i = 1; i < old; i++) {
        struct slot *slot = &slots[i];
        uint32_t *chain =
            chain_of(shard, place_hash(slot->table, slot->offset));
        slot->next = *chain;
        *chain = i;
    }
    if (old == 0)
        slots[0] = (struct slot){.block = NULL};
    for (uint32_t i = count - 1; i >= (old == 0 ? 1 : old); i--) {
        slots[i] = (struct slot){.next = shard->free};
        shard->free = i;
    }
    return true;
}

static size_t shard_budget(const struct cache *cache)
{
    ptrdiff_t charged =
        atomic_load_explicit(&cache->charged, memory_order_relaxed);
    size_t taken = charged > 0 ? (size_t)charged : 0;
    return taken >= cache->budget
               ? 0
               : (cache->budget - taken) / cache->shard_count;
}

void cache_put(struct cache *cache, uint64_t table, uint64_t offset,
               struct cache_block *block)
{
    uint64_t hash = place_hash(table, offset);
    struct shard *shard = shard_of(cache, hash);
    size_t budget = shard_budget(cache);
    pthread_mutex_lock(&shard->mutex);
    bool fits = cost(block) <= budget;
    if (fits && find(shard, hash, table, offset) == NULL) {
        make_room(shard, budget - cost(block));
        /* Growth needs all slots in use: the free list is empty then. */
        if (shard->free != 0 || grow(shard)) {
            uint32_t number = shard->free;
            struct slot *slot = &shard->slots[number];
            uint32_t *chain = chain_of(shard, hash);
            shard->free = slot->next;
            *slot = (struct slot){table, offset, block, *chain, false};
            *chain = number;
            shard->bytes += cost(block);
            atomic_fetch_add_explicit(&block->references, 1,
                                      memory_order_relaxed);
        }
    } else if (!fits) {
        make_room(shard, budget);
    }
    pthread_mutex_unlock(&shard->mutex);
}

void cache_charge(struct cache *cache, ptrdiff_t bytes)
{
    atomic_fetch_add_explicit(&cache->charged, bytes, memory_order_relaxed);
}

void cache_stats(struct cache *cache, struct cache_stats *stats)
{
    ptrdiff_t charged =
        atomic_load_explicit(&cache->charged, memory_order_relaxed);
    *stats = (struct cache_stats){.bytes = charged > 0 ? (size_t)charged : 0};
    for (unsigned i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->mutex);
        stats->bytes += shard->bytes;
        stats->hits += shard->hits;
        stats->misses += shard->misses;
        pthread_mutex_unlock(&shard->mutex);
    }
}
