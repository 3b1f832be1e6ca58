/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_BITS_H
#define REPLIKV_PROXY_CORE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sets of small numbers, a bit each, the lowest first. */

static inline size_t bits_size(size_t count)
{
    return (count + 7) / 8;
}

static inline bool bit_has(const uint8_t *bits, size_t at)
{
    return bits[at / 8] >> at % 8 & 1;
}

static inline void bit_set(uint8_t *bits, size_t at)
{
    bits[at / 8] |= (uint8_t)(1u << at % 8);
}

static inline void bit_clear(uint8_t *bits, size_t at)
{
    bits[at / 8] &= (uint8_t) ~(1u << at % 8);
}

#endif
