/* SPDX-License-Identifier: MIT */
#include "proxy/core/latency.h"

static const struct {
    const char *kind, *stage;
} names[LATENCY_COUNT] = {
    [LATENCY_PUT_QUEUE] = {"put", "queue"},
    [LATENCY_PUT_DISK] = {"put", "disk"},
    [LATENCY_PUT_REPLICAS] = {"put", "replicas"},
    [LATENCY_PUT_ANSWER] = {"put", "answer"},
    [LATENCY_FORWARD_ANSWER] = {"forward", "answer"},
    [LATENCY_GET_READ] = {"get", "read"},
    [LATENCY_GET_REPLICAS] = {"get", "replicas"},
    [LATENCY_GET_ANSWER] = {"get", "answer"},
    [LATENCY_STORE_QUEUE] = {"store", "queue"},
    [LATENCY_STORE_DISK] = {"store", "disk"},
    [LATENCY_STORE_ANSWER] = {"store", "answer"},
    [LATENCY_FETCH_ANSWER] = {"fetch", "answer"},
};

void latency_record(struct latency *latency, int64_t us)
{
    uint64_t value = us > 0 ? (uint64_t)us : 0;
    size_t bucket = log_linear_bucket(value, LATENCY_SUB_BITS);
    if (bucket >= LATENCY_BUCKETS)
        bucket = LATENCY_BUCKETS - 1;
    latency->buckets[bucket]++;
    if (value > latency->max_us)
        latency->max_us = value;
}

const char *latency_kind_name(enum latency_stage stage)
{
    return names[stage].kind;
}

const char *latency_stage_name(enum latency_stage stage)
{
    return names[stage].stage;
}
