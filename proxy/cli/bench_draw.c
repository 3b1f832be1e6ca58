/* SPDX-License-Identifier: MIT */
#include "proxy/cli/bench_draw.h"

#include <math.h>

/* YCSB's constant, and the number of items that its scrambled generator draws
 * from whatever the number of keys: the ranks are then hashed to keys. So the
 * most popular key gets 1/26.5 of all, and popular keys lie anywhere. (B.
 * Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010;
 * core/generator/ScrambledZipfianGenerator.java of YCSB 0.17.) */
#define ZIPF_CONSTANT 0.99
#define SCRAMBLED_ITEMS UINT64_C(10000000000)

/* Vigna's splitmix64. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t draw(struct bench_stream *stream)
{
    stream->random += UINT64_C(0x9e3779b97f4a7c15);
    return mix(stream->random);
}

static uint64_t draw_below(struct bench_stream *stream, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)draw(stream) * bound) >> 64);
}

/* Beyond the first terms, Euler and Maclaurin's formula: what it leaves out is
 * less than 1e-10, and a billion keys take no longer than a thousand. */
double zipf_zeta(uint64_t count)
{
    enum { TERMS = 1000 };
    double sum = 0, n = (double)count, m = TERMS;
    for (uint64_t i = 1; i <= count && i <= TERMS; i++)
        sum += pow((double)i, -ZIPF_CONSTANT);
    if (count <= TERMS)
        return sum;
    sum += (pow(n, 1 - ZIPF_CONSTANT) - pow(m, 1 - ZIPF_CONSTANT)) /
           (1 - ZIPF_CONSTANT);
    sum += (pow(n, -ZIPF_CONSTANT) - pow(m, -ZIPF_CONSTANT)) / 2;
    sum -= ZIPF_CONSTANT *
           (pow(n, -ZIPF_CONSTANT - 1) - pow(m, -ZIPF_CONSTANT - 1)) / 12;
    return sum;
}

/* J. Gray et al., "Quickly Generating Billion-Record Synthetic Databases",
 * SIGMOD 1994, page 246: the first two ranks are exact, the rest is an
 * integral turned round. */
void zipf_init(struct zipf *zipf, uint64_t count)
{
    double zeta = zipf_zeta(count);
    *zipf = (struct zipf){
        .count = count,
        .zeta = zeta,
        .eta = (1 - pow(2.0 / (double)count, 1 - ZIPF_CONSTANT)) /
               (1 - zipf_zeta(2) / zeta),
    };
}

uint64_t zipf_rank(const struct zipf *zipf, double u)
{
    double scaled = u * zipf->zeta;
    if (scaled < 1)
        return 0;
    if (scaled < 1 + pow(0.5, ZIPF_CONSTANT))
        return 1;
    double rank = (double)zipf->count *
                  pow(zipf->eta * u - zipf->eta + 1, 1 / (1 - ZIPF_CONSTANT));
    /* Not a number where there are but two. */
    return rank < (double)zipf->count ? (uint64_t)rank : zipf->count - 1;
}

void bench_plan_init(struct bench_plan *plan,
                     const struct bench_options *options)
{
    plan->options = options;
    zipf_init(&plan->zipf, options->distribution == BENCH_ZIPFIAN
                               ? SCRAMBLED_ITEMS
                               : options->keys);
}

void bench_stream_init(struct bench_stream *stream,
                       const struct bench_plan *plan, uint32_t client)
{
    *stream = (struct bench_stream){
        .plan = plan,
        .client = client,
        .random = mix(mix(plan->options->seed) + client + 1),
    };
}

/* Inserted keys are dealt out in turn as well, so that no client has to know
 * how far others are. */
static uint64_t inserted_key(const struct bench_stream *stream, uint64_t n)
{
    const struct bench_options *options = stream->plan->options;
    return options->keys + n * options->clients + stream->client;
}

/* The newest are those that this client inserted, then those that were there
 * first, the last of them before the others. */
static uint64_t latest_key(const struct bench_stream *stream, uint64_t rank)
{
    if (rank < stream->inserted)
        return inserted_key(stream, stream->inserted - 1 - rank);
    return stream->plan->options->keys - 1 - (rank - stream->inserted);
}

static uint64_t draw_key(struct bench_stream *stream)
{
    const struct bench_plan *plan = stream->plan;
    uint64_t keys = plan->options->keys;
    if (plan->options->distribution == BENCH_UNIFORM)
        return draw_below(stream, keys);
    /* 53 bits are what a double holds. */
    uint64_t rank =
        zipf_rank(&plan->zipf, (double)(draw(stream) >> 11) * 0x1p-53);
    if (plan->options->distribution == BENCH_LATEST)
        return latest_key(stream, rank);
    return mix(rank + 1) % keys;
}

static void draw_value(struct bench_stream *stream,
                       struct bench_operation *operation)
{
    const struct bench_options *options = stream->plan->options;
    operation->value_bytes =
        options->value_bytes_min +
        (uint32_t)draw_below(stream, (uint64_t)options->value_bytes_max -
                                         options->value_bytes_min + 1);
    operation->random = (uint32_t)draw(stream);
}

void bench_stream_next(struct bench_stream *stream,
                       struct bench_operation *operation)
{
    const uint32_t *share = stream->plan->options->share;
    uint64_t percent = draw_below(stream, 100);
    unsigned kind = 0;
    while (percent >= share[kind])
        percent -= share[kind++];
    operation->kind = (enum bench_kind)kind;
    if (kind == BENCH_INSERT)
        operation->key = inserted_key(stream, stream->inserted++);
    else
        operation->key = draw_key(stream);
    draw_value(stream, operation);
}

bool bench_stream_load(struct bench_stream *stream,
                       struct bench_operation *operation)
{
    const struct bench_options *options = stream->plan->options;
    operation->kind = BENCH_PUT;
    operation->key = stream->loaded++ * options->clients + stream->client;
    draw_value(stream, operation);
    return operation->key < options->keys;
}
