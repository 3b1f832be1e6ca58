/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_CACHE_H
#define REPLIKV_ENGINES_LSM_CACHE_H

#include <stdatomic.h>

#include "proto/bytes.h"

/* Blocks of tables, decompressed and checked, up to a budget of bytes; what
 * was not asked for longest goes first, by the clock algorithm (Corbato,
 * 1968), whose hit writes one bit and moves nothing. Split into shards by
 * hash, each with its own mutex, held for a look-up and never over I/O. From
 * any thread. */
struct cache;

/* One block. Whoever holds a reference may read data; nobody changes it. */
struct cache_block {
    atomic_uint references;
    uint32_t size;
    uint8_t data[]; /* and room for 8 bytes more, so that reads may be wide */
};

/* bytes: of all blocks in it, their overhead included. NULL: no memory. */
struct cache *cache_new(size_t bytes);
/* No block of it is referenced any more. NULL is allowed. */
void cache_free(struct cache *cache);

/* With a reference, or NULL: not in it. */
struct cache_block *cache_get(struct cache *cache, uint64_t table,
                              uint64_t offset);
/* Room for a block, not yet in any cache, with the caller's reference. */
struct cache_block *cache_block_new(size_t size);
/* Let it in, if the budget allows; if it is there already, nothing changes.
 * The caller's reference stays. */
void cache_put(struct cache *cache, uint64_t table, uint64_t offset,
               struct cache_block *block);
void cache_release(struct cache_block *block); /* NULL is allowed */

/* Take bytes (give them back, if negative) from the budget, for what open
 * tables hold beside their blocks: indexes and filters. */
void cache_charge(struct cache *cache, ptrdiff_t bytes);

struct cache_stats {
    uint64_t bytes; /* charged ones included */
    uint64_t hits, misses;
};
void cache_stats(struct cache *cache, struct cache_stats *stats);

#endif
