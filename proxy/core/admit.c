/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "proxy/core/node_internal.h"

/* What is answered besides `overloaded`: long enough for a queue to drain. */
enum { RETRY_AFTER_MS = 100 };

static enum status level_of(const struct node *node, int level, int normal,
                            const char *field, uint32_t *count,
                            struct error *error)
{
    int owners = (int)topology_replica_count(&node->topology);
    if (level == LEVEL_DEFAULT)
        level = normal;
    if (level == LEVEL_QUORUM)
        level = owners / 2 + 1;
    if (level == LEVEL_ALL)
        level = owners;
    if (level < 1 || level > owners)
        return error_set(error, STATUS_INVALID,
                         "%s: level %d; the bucket has %d replicas, allowed "
                         "are 1 to %d, quorum and all",
                         field, level, owners, owners);
    *count = (uint32_t)level;
    return STATUS_OK;
}

enum status admit(const struct node *node, const char *bucket, struct bytes key,
                  int level, bool is_write, uint32_t timeout_ms,
                  struct admitted *admitted, struct error *error)
{
    if (node->stage != NODE_READY)
        return error_set(error, STATUS_UNAVAILABLE,
                         "the node is not ready: it has not met its cluster");
    if (bucket == NULL || *bucket == '\0')
        bucket = "default";
    admitted->bucket = node_bucket(node, bucket_id_of(bucket));
    if (admitted->bucket == NULL)
        return error_set(error, STATUS_INVALID,
                         "bucket: \"%.64s\" is not declared in the "
                         "configuration of %s",
                         bucket, node->config.self.name);
    if (key.size == 0 || key.size > KEY_BYTES_MAX)
        return error_set(
            error, key.size == 0 ? STATUS_INVALID : STATUS_TOO_LARGE,
            "key: %zu bytes, allowed are 1 to %d", key.size, KEY_BYTES_MAX);
    admitted->key = key;
    admitted->partition =
        partition_of(admitted->bucket->id, key, node->topology.partitions);
    if (timeout_ms == 0)
        timeout_ms = node->config.timeouts.request_ms;
    admitted->deadline_ms = node->now_ms + timeout_ms;
    return level_of(node, level,
                    is_write ? admitted->bucket->w : admitted->bucket->r,
                    is_write ? "w" : "r", &admitted->level, error);
}

enum status admit_value(const struct node *node, const Rkv__Write *write,
                        struct error *error)
{
    size_t value = write->remove ? 0 : write->value.len;
    if (value > node->config.limits.value_bytes_max)
        return error_set(error, STATUS_TOO_LARGE,
                         "value: %zu bytes, allowed are %u", value,
                         node->config.limits.value_bytes_max);
    if (write->request_id.len != 0 && write->request_id.len != REQUEST_ID_SIZE)
        return error_set(error, STATUS_INVALID,
                         "request_id: %zu bytes, allowed are %d or none",
                         write->request_id.len, REQUEST_ID_SIZE);
    if (write->ttl_ms < TTL_NEVER || write->ttl_ms > TTL_MS_MAX)
        return error_set(error, STATUS_INVALID,
                         "ttl_ms: %lld, allowed are 1 to %lld, 0 for the "
                         "bucket's, -1 for none",
                         (long long)write->ttl_ms, (long long)TTL_MS_MAX);
    static const uint8_t none[REQUEST_ID_SIZE];
    if (write->request_id.len == REQUEST_ID_SIZE &&
        memcmp(write->request_id.data, none, sizeof none) == 0)
        return error_set(error, STATUS_INVALID,
                         "request_id: all zeros, which names no request");
    return STATUS_OK;
}

Rkv__Result *result_new(struct node *node, struct arena *arena,
                        enum status status, Rkv__Outcome outcome,
                        const char *message)
{
    Rkv__Result *result = message_new(arena, &rkv__result__descriptor);
    if (result == NULL)
        return NULL;
    result->status = (Rkv__Status)status;
    result->outcome = outcome;
    result->epoch = node->topology.epoch;
    if (status == STATUS_OVERLOADED)
        result->retry_after_ms = RETRY_AFTER_MS;
    if (message != NULL) {
        char *copy = arena_string(arena, message);
        if (copy != NULL)
            result->message = copy;
    }
    return result;
}

void reply_with(struct effects *effects, struct reply_token token,
                Rkv__Envelope__BodyCase body_case, const void *body)
{
    const Rkv__Envelope *envelope = NULL;
    if (body != NULL && effects->arena.refused == effects->refused_before)
        envelope = envelope_new(&effects->arena, body_case, body);
    outbox_reply(&effects->out, token, envelope);
}

void reply_result(struct node *node, struct effects *effects,
                  struct reply_token token, enum status status,
                  Rkv__Outcome outcome, const char *message)
{
    if (status == STATUS_OVERLOADED)
        node_count(node, COUNTER_REFUSED_OVERLOADED);
    if (status == STATUS_INVALID || status == STATUS_TOO_LARGE)
        node_count(node, COUNTER_REFUSED_INVALID);
    const Rkv__Result *result =
        result_new(node, &effects->arena, status, outcome, message);
    reply_with(effects, token, RKV__ENVELOPE__BODY_RESULT, result);
}

/* What the node owed when the turn began: what is asked in one turn goes to one
 * replica, in one message, and comes back in one. */
static uint32_t debt_of(struct node *node, int index)
{
    struct read_peer *peer = &node->read_peers[index];
    if (peer->turn_us != node->now_us) {
        peer->turn_us = node->now_us;
        peer->turn_debt = peer->debt;
    }
    return peer->turn_debt;
}

/* With `ours` our index, for a partition that we own, or -1. */
static uint32_t rank(struct node *node, struct node_id id, int ours)
{
    if (node_id_equal(id, node->self))
        return 0;
    if (!membership_is_reachable(node->membership, id))
        return UINT32_MAX;
    int index = topology_node(&node->topology, id);
    /* Of equals the nearest before us: every owner prefers another. */
    int before = ours < 0 ? 0 : ours - index;
    if (before < 0)
        before += (int)node->topology.node_count;
    return 1 + debt_of(node, index) * NODES_MAX + (uint32_t)before;
}

size_t preference_list(struct node *node, struct partition partition,
                       struct node_id *list)
{
    uint32_t ranks[OWNERS_MAX];
    size_t count = topology_owner_count(&node->topology, partition);
    int ours = topology_owns(&node->topology, partition, node->self)
                   ? topology_node(&node->topology, node->self)
                   : -1;
    for (size_t i = 0; i < count; i++) {
        struct node_id id = topology_owner(&node->topology, partition, i);
        uint32_t its = rank(node, id, ours);
        size_t at = i;
        for (; at > 0 && ranks[at - 1] > its; at--) {
            ranks[at] = ranks[at - 1];
            list[at] = list[at - 1];
        }
        ranks[at] = its;
        list[at] = id;
    }
    return count;
}
