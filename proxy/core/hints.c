/* SPDX-License-Identifier: MIT */
#include "proxy/core/exchange.h"
#include "proxy/core/node_internal.h"
#include "proxy/core/replica.h"

/* What is kept for other nodes, counted and bounded; handoff.c hands it on. */

/* Of a record with one value, beside that and what its client had seen. */
enum { WRITTEN_BYTES = 128 };

struct hint_target *hint_find(struct node *node, struct node_id id)
{
    for (size_t i = 0; i < node->hint_count; i++)
        if (node_id_equal(node->hints[i].node, id))
            return &node->hints[i];
    return NULL;
}

struct hint_target *hint_target(struct node *node, struct node_id id)
{
    struct hint_target *target = hint_find(node, id);
    if (target != NULL || node->hint_count == NODES_MAX)
        return target;
    target = &node->hints[node->hint_count++];
    *target = (struct hint_target){.node = id,
                                   .chunk_bytes = HANDOFF_CHUNK_BYTES,
                                   .taken_ms = node->now_ms};
    return target;
}

static size_t key_bytes(const struct storage_key *key)
{
    return STORAGE_KEY_BYTES_MAX - KEY_BYTES_MAX + key->key.size;
}

static void add(uint64_t *sum, int64_t delta)
{
    bool below = delta < 0 && *sum < (uint64_t)-delta;
    *sum = below ? 0 : *sum + (uint64_t)delta;
}

void hint_shed(struct node *node, struct node_id target,
               struct partition partition)
{
    node_count(node, COUNTER_HINTS_SHED);
    exchange_missed(node, target, partition);
}

/* The storage refused it, or it waited for too long. */
static bool was_not_run(enum status status)
{
    return status == STATUS_BROKEN || status == STATUS_OVERLOADED ||
           status == STATUS_TIMEOUT || status == STATUS_INVALID;
}

void hints_changed(struct node *node, const struct storage_result *result)
{
    struct hint_target *target = hint_target(node, result->op->key.target);
    if (target == NULL)
        return;
    target->changes++;
    add(&target->coming, -(int64_t)result->op->hint_bytes);
    if (was_not_run(result->status)) {
        if (request_owner_of(result->op->token) == OWNER_HINT &&
            result->op->kind == STORAGE_MERGE)
            hint_shed(node, target->node, result->op->key.partition);
        return;
    }
    if (result->status != STATUS_OK) {
        target->is_unsure = true;
        target->bytes += result->op->hint_bytes; /* it may be there */
        exchange_missed(node, target->node, result->op->key.partition);
        return;
    }
    /* Whether what it took the place of was counted depends on what is damaged,
     * the row or the block that it was in, and since when. */
    if (result->was_damaged) {
        target->is_unsure = true;
        hint_shed(node, target->node, result->op->key.partition);
    }
    add(&target->records, result->records_delta);
    add(&target->bytes,
        result->bytes_delta +
            result->records_delta * (int64_t)key_bytes(&result->op->key));
    if (result->records_delta > 0)
        node_count(node, COUNTER_HINTS_STORED);
}

void hint_refused(struct node *node, const struct storage_result *result)
{
    struct hint_target *target = hint_target(node, result->op->key.target);
    if (target != NULL)
        add(&target->coming, -(int64_t)result->op->hint_bytes);
}

void hint_found(struct node *node, const struct storage_row *row)
{
    struct hint_target *target = hint_target(node, row->key.target);
    if (target == NULL)
        return;
    target->records++;
    target->bytes += key_bytes(&row->key) + row->record.size;
}

/* A record grows by no more than it is merged with; a write becomes one. */
static uint64_t growth_of(const struct storage_op *op)
{
    uint64_t bytes = key_bytes(&op->key) + op->data.size;
    if (op->kind == STORAGE_COORDINATE)
        bytes += op->context.size + WRITTEN_BYTES;
    return bytes;
}

bool hint_submit(struct node *node, struct storage_op *op,
                 struct effects *effects)
{
    struct hint_target *target = hint_target(node, op->key.target);
    op->hint_bytes = growth_of(op);
    if (target == NULL || !effects_storage(effects, op))
        return false;
    target->coming += op->hint_bytes;
    return true;
}

const char *fallback_store(struct node *node, struct storage_op *op,
                           struct effects *effects)
{
    uint64_t bytes = growth_of(op);
    for (size_t i = 0; i < node->hint_count; i++)
        bytes += node->hints[i].bytes + node->hints[i].coming;
    if (bytes > node->config.limits.fallback_bytes_max) {
        node_count(node, COUNTER_FALLBACKS_REFUSED);
        return "limits.fallback_bytes_max is reached";
    }
    return hint_submit(node, op, effects)
               ? NULL
               : "effects: the budget of one step is spent";
}

static bool has_room(struct node *node, const struct storage_op *op)
{
    struct hint_target *target = hint_target(node, op->key.target);
    if (target == NULL)
        return false;
    if (target->records == 0 && target->coming == 0)
        target->taken_ms = node->now_ms;
    return target->bytes + target->coming + growth_of(op) <=
               node->config.limits.hint_bytes_max &&
           node->now_ms - target->taken_ms <=
               node->config.timeouts.hint_window_ms;
}

void hint_keep(struct node *node, struct node_id target,
               const struct storage_key *key, enum record_kind kind,
               struct bytes record, struct effects *effects)
{
    void *name = arena_copy(&effects->arena, key->key.data, key->key.size);
    void *copy = arena_copy(&effects->arena, record.data, record.size);
    struct storage_op op = {
        .kind = STORAGE_MERGE,
        .token = request_number(OWNER_HINT, 0),
        .key = *key,
        .record_kind = kind,
        .wall_ms = node->wall_ms,
        .data = bytes_of(copy, record.size),
    };
    target = topology_heir(&node->topology, key->partition, target);
    op.key.key = bytes_of(name, key->key.size);
    bool is_kept = name != NULL && copy != NULL;
    if (node_id_equal(target, node->self)) {
        /* It may have been coordinated here for another, as a fallback. */
        is_kept = is_kept && effects_storage(effects, &op);
    } else {
        op.key.table = TABLE_HINTS;
        op.key.target = target;
        is_kept =
            is_kept && has_room(node, &op) && hint_submit(node, &op, effects);
    }
    if (!is_kept)
        hint_shed(node, target, key->partition);
}
