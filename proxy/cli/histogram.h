/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_HISTOGRAM_H
#define REPLIKV_PROXY_CLI_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

/* Latencies, in nanoseconds where nothing else is said, log-linear as in
 * HdrHistogram: 64 buckets for each power of two, so that what is read back is
 * at most 1.6 % too low. Recording is a shift and an increment. Zeroed memory
 * is an empty histogram; one thread at a time. What a node measures in itself
 * is in proxy/core/latency.h, with fewer buckets. */

enum {
    HISTOGRAM_SUB_BITS = 6,
    HISTOGRAM_SUB = 1 << HISTOGRAM_SUB_BITS,
    /* Values of 0 to 63 have a bucket each, then 64 for each further bit. */
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB,
};

struct histogram {
    uint64_t count, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Record `count` of a value, in whatever unit. */
void histogram_put(struct histogram *histogram, uint64_t value, uint64_t count);
/* Record `count` operations that took `ns` together. They are taken to be
 * equal, but for the longest: max is all of ns, the most that one can have
 * taken. */
void histogram_record(struct histogram *histogram, uint64_t ns, uint64_t count);
void histogram_add(struct histogram *to, const struct histogram *from);
/* Leave what came since to was from; max, that of all, if anything came. */
void histogram_subtract(struct histogram *to, const struct histogram *from);
/* At or below which the fraction, over 0 to 1, of all lies; 0 without any. */
uint64_t histogram_quantile(const struct histogram *histogram, double fraction);

/* The quantiles that summaries show, and what JSON calls them. */
enum { HISTOGRAM_SHOWN = 4 };
extern const struct histogram_shown {
    double fraction;
    const char *field;
} histogram_shown[HISTOGRAM_SHOWN];

/* The distribution in milliseconds, as HdrHistogram's
 * outputPercentileDistribution writes it and its plotter reads it, five lines
 * for each halving of what is above. Values are as histogram_quantile has them,
 * but for the last, which is max. */
void histogram_print(const struct histogram *histogram, FILE *file);

#endif
