/* SPDX-License-Identifier: MIT */
#include "proto/bytes.h"

#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

/* In a file of its own: the dispatching XXH3 and the inlined one of coding.h
 * do not go together. */
uint64_t checksum_long(struct bytes bytes, uint64_t seed);

uint64_t checksum_long(struct bytes bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size, seed);
}
