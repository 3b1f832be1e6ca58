/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_LOG_LINEAR_H
#define REPLIKV_PROXY_CORE_LOG_LINEAR_H

#include <stddef.h>
#include <stdint.h>

/* Which bucket of a log-linear histogram a value belongs to, as in
 * HdrHistogram: the values below 2^bits have a bucket each, and so has each
 * 2^bits-th part of every further power of two. So no value is more than
 * 1/2^bits above the lowest of its bucket. Values below 2^n, n > bits, take
 * (n - bits + 1) << bits buckets. */

static inline size_t log_linear_bucket(uint64_t value, unsigned bits)
{
    if (value >> bits == 0)
        return (size_t)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - bits;
    return ((size_t)shift << bits) + (size_t)(value >> shift);
}

static inline uint64_t log_linear_lowest(size_t bucket, unsigned bits)
{
    if (bucket >> bits == 0)
        return bucket;
    unsigned shift = (unsigned)(bucket >> bits) - 1;
    return (uint64_t)(bucket - ((size_t)shift << bits)) << shift;
}

#endif
