/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_CACHE_H
#define REPLIKV_ENGINES_LSM_CACHE_H

#include <stdatomic.h>

#include "proto/bytes.h"

/* Blocks of tables, decompressed and checked, up to a budget of bytes; what
 * was not asked for longest goes first, about, by the clock algorithm (Corbato,
 * 1968), whose hit writes one bit and moves nothing. Split into shards by
 * hash, each with its own mutex, held for a look-up and never over I/O. From
 * any thread. */
struct cache;

/* One block. Whoever holds a reference may read data; nobody changes it, nor
 * the size, which may be made smaller before the block is put. */
struct cache_block {
    void *owner; /* this and units are the cache's own */
    uint32_t units;
    uint32_t size;
    atomic_uint references;
    /* And room for 8 bytes more, so that reads may be wide. */
    _Alignas(8) uint8_t data[];
};

/* bytes: of all blocks in it, their overhead included, and of memory that it
 * keeps for blocks to come. But for 2 bytes a block, none of it is taken before
 * there are blocks. A block that would not fit into a shard, a 16th of a large
 * cache, is not kept. NULL: no memory. */
struct cache *cache_new(size_t bytes);
/* No block made for it is referenced any more. NULL is allowed. */
void cache_free(struct cache *cache);

/* With a reference, or NULL: not in it. */
struct cache_block *cache_get(struct cache *cache, uint64_t table,
                              uint64_t offset);
/* Room for a block, not yet in the cache, with the caller's reference: memory
 * of one that went, if there is. cache may be NULL: for a block that will be
 * in none. NULL: no memory, or above UINT32_MAX. */
struct cache_block *cache_block_new(struct cache *cache, size_t size);
/* Let in a block that was made for this cache, if the budget allows; if one is
 * there already, nothing changes. The caller's reference stays. */
void cache_put(struct cache *cache, uint64_t table, uint64_t offset,
               struct cache_block *block);
/* Whether a block of so many bytes that was missed is worth letting in: as long
 * as there is room, and then from the second time that this is asked of it,
 * about as many blocks later at most as the cache holds. size may be that of a
 * compressed one: below a usual block's, it is taken for one. */
bool cache_wants(struct cache *cache, uint64_t table, uint64_t offset,
                 size_t size);
void cache_release(struct cache_block *block); /* NULL is allowed */

/* Take bytes (give them back, if negative) from the budget, for what open
 * tables hold beside their blocks: indexes and filters. With all of it taken
 * the cache holds nothing, and works. */
void cache_charge(struct cache *cache, ptrdiff_t bytes);

struct cache_stats {
    uint64_t bytes; /* charged ones included */
    uint64_t hits, misses;
};
void cache_stats(struct cache *cache, struct cache_stats *stats);

#endif
