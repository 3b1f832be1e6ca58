/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_RANDOM_H
#define REPLIKV_TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/* The seed's randomness: SplitMix64. Each part of the simulator draws from a
 * stream of its own, so that a change to one leaves the others' draws alone. */
struct randomness {
    uint64_t state;
};

static inline uint64_t random_next(struct randomness *r)
{
    uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline struct randomness random_fork(struct randomness *r)
{
    return (struct randomness){random_next(r)};
}

/* 0 to below - 1; below is not 0. */
static inline uint64_t random_below(struct randomness *r, uint64_t below)
{
    return random_next(r) % below;
}

/* least to most, both included. */
static inline int64_t random_range(struct randomness *r, int64_t least,
                                   int64_t most)
{
    return least + (int64_t)random_below(r, (uint64_t)(most - least) + 1);
}

static inline bool random_chance(struct randomness *r, uint32_t permille)
{
    return random_below(r, 1000) < permille;
}

#endif
