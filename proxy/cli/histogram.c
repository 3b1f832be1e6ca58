/* SPDX-License-Identifier: MIT */
#include "proxy/cli/histogram.h"

#include <inttypes.h>
#include <math.h>

#include "proxy/core/log_linear.h"

const struct histogram_shown histogram_shown[HISTOGRAM_SHOWN] = {
    {0.5, "p50_us"}, {0.9, "p90_us"}, {0.99, "p99_us"}, {0.999, "p999_us"}};

static uint64_t lowest_in(size_t bucket)
{
    return log_linear_lowest(bucket, HISTOGRAM_SUB_BITS);
}

void histogram_put(struct histogram *histogram, uint64_t value, uint64_t count)
{
    histogram->buckets[log_linear_bucket(value, HISTOGRAM_SUB_BITS)] += count;
    histogram->count += count;
    if (value > histogram->max)
        histogram->max = value;
}

void histogram_record(struct histogram *histogram, uint64_t ns, uint64_t count)
{
    histogram_put(histogram, ns / count, count);
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

void histogram_subtract(struct histogram *to, const struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] -= from->buckets[i];
    to->count -= from->count;
    if (to->count == 0)
        to->max = 0;
}

/* The bucket in which the fraction is reached, and how many are up to it;
 * HISTOGRAM_BUCKETS without any. */
static size_t reach(const struct histogram *histogram, double fraction,
                    uint64_t *seen)
{
    double wanted = (double)histogram->count * fraction;
    *seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        *seen += histogram->buckets[i];
        if (*seen > 0 && (double)*seen >= wanted)
            return i;
    }
    return HISTOGRAM_BUCKETS;
}

uint64_t histogram_quantile(const struct histogram *histogram, double fraction)
{
    uint64_t seen;
    size_t bucket = reach(histogram, fraction, &seen);
    return bucket < HISTOGRAM_BUCKETS ? lowest_in(bucket) : histogram->max;
}

static double ms(double ns)
{
    return ns / 1e6;
}

static void print_moments(const struct histogram *histogram, FILE *file)
{
    double sum = 0, squares = 0;
    double count = histogram->count > 0 ? (double)histogram->count : 1;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        double value = ms((double)lowest_in(i));
        sum += value * (double)histogram->buckets[i];
        squares += value * value * (double)histogram->buckets[i];
    }
    double mean = sum / count, variance = squares / count - mean * mean;
    fprintf(file, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean,
            sqrt(variance > 0 ? variance : 0));
}

void histogram_print(const struct histogram *histogram, FILE *file)
{
    enum { STEPS = 5 };
    uint64_t seen = 0;
    double above = 1; /* of all, at the last halving */
    fprintf(file, "%12s %14s %10s %14s\n\n", "Value", "Percentile",
            "TotalCount", "1/(1-Percentile)");
    while (seen < histogram->count) {
        for (int step = 0; step < STEPS && seen < histogram->count; step++) {
            double fraction = 1 - above + above / 2 * step / STEPS;
            size_t bucket = reach(histogram, fraction, &seen);
            fprintf(file, "%12.3f %14.12f %10" PRIu64 " %14.2f\n",
                    ms((double)lowest_in(bucket)), fraction, seen,
                    1 / (1 - fraction));
        }
        above /= 2;
    }
    fprintf(file, "%12.3f %14.12f %10" PRIu64 "\n", ms((double)histogram->max),
            1.0, histogram->count);
    print_moments(histogram, file);
    fprintf(file, "#[Max     = %12.3f, Total count    = %12" PRIu64 "]\n",
            ms((double)histogram->max), histogram->count);
    fprintf(file, "#[Buckets = %12d, SubBuckets     = %12d]\n",
            HISTOGRAM_BUCKETS / HISTOGRAM_SUB, HISTOGRAM_SUB);
}
