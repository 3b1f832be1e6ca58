/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_FILTER_H
#define REPLIKV_ENGINES_LSM_FILTER_H

#include "proto/bytes.h"

/* A Bloom filter in blocks of one cache line (Putze, Sanders, Singler, 2007):
 * a key's bits are all in one line, so asking costs one cache miss, whatever
 * the size, for about a tenth more bits at the same error. */

enum {
    FILTER_LINE_BYTES = 64,
    /* 10 bits and 6 probes a key: about 1 % of absent keys pass. */
    FILTER_BITS_PER_KEY = 10,
    FILTER_PROBES = 6,
};

/* Of a filter for so many keys: whole lines, at least one. */
static inline size_t filter_bytes(uint64_t keys)
{
    uint64_t line_bits = FILTER_LINE_BYTES * 8;
    uint64_t lines = (keys * FILTER_BITS_PER_KEY + line_bits - 1) / line_bits;
    return (size_t)(lines > 0 ? lines : 1) * FILTER_LINE_BYTES;
}

/* Where in a filter of `size` bytes a hash's line begins. */
static inline size_t filter_line(size_t size, uint64_t hash)
{
    uint64_t lines = size / FILTER_LINE_BYTES;
    /* Multiply instead of divide; the upper half of the hash picks. */
    return (size_t)((hash >> 32) * lines >> 32) * FILTER_LINE_BYTES;
}

/* data: filter_bytes of them, zeroed at first. */
static inline void filter_add(uint8_t *data, size_t size, uint64_t hash)
{
    uint8_t *line = data + filter_line(size, hash);
    uint32_t bits = (uint32_t)hash;
    for (int i = 0; i < FILTER_PROBES; i++, bits *= 0x9e3779b9u)
        line[bits >> 26] |= (uint8_t)(1u << (bits >> 23 & 7));
}

static inline bool filter_may_contain(const uint8_t *data, size_t size,
                                      uint64_t hash)
{
    const uint8_t *line = data + filter_line(size, hash);
    uint32_t bits = (uint32_t)hash;
    for (int i = 0; i < FILTER_PROBES; i++, bits *= 0x9e3779b9u) {
        if ((line[bits >> 26] >> (bits >> 23 & 7) & 1) == 0)
            return false;
    }
    return true;
}

#endif
