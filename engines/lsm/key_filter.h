/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_KEY_FILTER_H
#define REPLIKV_ENGINES_LSM_KEY_FILTER_H

#include <stdatomic.h>
#include <stdlib.h>

#include "engines/lsm/coding.h"

/* A Bloom filter in blocks of one word (Putze, Sanders, Singler, 2007), to
 * which one thread adds while any number look. Nothing here orders the bits
 * before what they are of: that is for its owner to do. */
struct key_filter {
    _Atomic uint64_t *words;
    uint64_t count;
};

/* False: no memory. */
static inline bool key_filter_init(struct key_filter *filter, size_t bits)
{
    filter->count = bits / 64 + 1;
    filter->words = calloc(filter->count, sizeof *filter->words);
    return filter->words != NULL;
}

static inline void key_filter_fini(struct key_filter *filter)
{
    free(filter->words);
}

static inline _Atomic uint64_t *key_filter_word(const struct key_filter *filter,
                                                uint64_t hash)
{
    return &filter->words[(hash >> 32) * filter->count >> 32];
}

static inline uint64_t key_filter_bits(uint64_t hash)
{
    return UINT64_C(1) << (hash & 63) | UINT64_C(1) << (hash >> 6 & 63) |
           UINT64_C(1) << (hash >> 12 & 63) | UINT64_C(1) << (hash >> 18 & 63);
}

static inline void key_filter_add(struct key_filter *filter, uint64_t hash)
{
    _Atomic uint64_t *word = key_filter_word(filter, hash);
    uint64_t bits = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, bits | key_filter_bits(hash),
                          memory_order_relaxed);
}

static inline bool key_filter_has(const struct key_filter *filter,
                                  uint64_t hash)
{
    uint64_t bits = atomic_load_explicit(key_filter_word(filter, hash),
                                         memory_order_relaxed);
    return (~bits & key_filter_bits(hash)) == 0;
}

#endif
