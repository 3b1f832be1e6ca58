/* SPDX-License-Identifier: MIT */
#include "proxy/cli/histogram.h"

#include <stddef.h>

static size_t bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_SUB)
        return (size_t)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - HISTOGRAM_SUB_BITS;
    return (size_t)shift * HISTOGRAM_SUB + (size_t)(ns >> shift);
}

static uint64_t lowest_in(size_t bucket)
{
    if (bucket < HISTOGRAM_SUB)
        return bucket;
    unsigned shift = (unsigned)(bucket / HISTOGRAM_SUB) - 1;
    return (uint64_t)(bucket % HISTOGRAM_SUB + HISTOGRAM_SUB) << shift;
}

void histogram_record(struct histogram *histogram, uint64_t ns, uint64_t count)
{
    histogram->buckets[bucket_of(ns / count)] += count;
    histogram->count += count;
    if (ns > histogram->max)
        histogram->max = ns;
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
    to->count += from->count;
    if (from->max > to->max)
        to->max = from->max;
}

uint64_t histogram_quantile(const struct histogram *histogram, double fraction)
{
    double wanted = (double)histogram->count * fraction;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted)
            return lowest_in(i);
    }
    return histogram->max;
}
