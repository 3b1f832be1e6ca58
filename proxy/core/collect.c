/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/core/node_internal.h"

enum {
    RETRY_MS = 1000,
    /* Of one round: many against what its messages cost all members, few
     * enough for one message. */
    ROWS_MAX = 1024,
};

/* What every owner is to drop. */
struct collect_row {
    uint64_t version;
    uint32_t bucket;
    uint16_t key_size;
    uint8_t key[KEY_BYTES_MAX];
};

enum status collect_init(struct node *node)
{
    node->collect.due_ms =
        calloc(node->topology.partitions, sizeof *node->collect.due_ms);
    return node->collect.due_ms == NULL ||
                   slots_init(&node->drain_slots, DRAINS_MAX) != STATUS_OK
               ? STATUS_NO_MEMORY
               : STATUS_OK;
}

void collect_fini(struct node *node)
{
    slots_fini(&node->drain_slots);
    buffer_fini(&node->collect.after);
    buffer_fini(&node->collect.rows);
    free(node->collect.due_ms);
    node->collect.due_ms = NULL;
}

/* Once it is as old as that by our clock. */
static void set_due(struct node *node, struct partition partition,
                    int64_t ripe_ms)
{
    int64_t *due_ms = &node->collect.due_ms[partition.value];
    int64_t wait_ms = ripe_ms > node->wall_ms ? ripe_ms - node->wall_ms : 0;
    int64_t then_ms =
        node->now_ms + node->config.timeouts.dedup_window_ms + wait_ms;
    if (*due_ms == 0 || then_ms < *due_ms)
        *due_ms = then_ms;
}

void collect_note(struct node *node, struct partition partition,
                  int64_t ripe_ms)
{
    /* Of several owners one does it. */
    if (ripe_ms >= 0 &&
        node_id_equal(topology_owner(&node->topology, partition, 0),
                      node->self))
        set_due(node, partition, ripe_ms);
}

void collect_moved(struct node *node, const struct topology *before)
{
    for (size_t p = 0; p < before->partitions; p++)
        if (before->changed[p] != node->topology.changed[p])
            collect_note(node, (struct partition){(uint16_t)p}, 0);
}

/* --- stages --- */

static uint64_t number(const struct node *node)
{
    return request_number(OWNER_COLLECT, node->collect.serial);
}

static void rest(struct node *node, int64_t wait_ms)
{
    node->collect.serial++;
    node->collect.stage = COLLECT_IDLE;
    node->collect.next_ms = node->now_ms + wait_ms;
}

static void go_to(struct node *node, enum collect_stage stage)
{
    node->collect.stage = stage;
    node->collect.lost_at_ms = node->now_ms + LOST_MS;
    node->collect.awaited = 0;
    node->collect.has_failed = false;
}

/* No more of this partition for now. */
static void partition_over(struct node *node)
{
    struct collect *collect = &node->collect;
    int64_t interval_ms = node->config.timeouts.collect_interval_ms;
    collect->is_on = false;
    if (collect->is_to_retry)
        collect->due_ms[collect->partition.value] = node->now_ms + interval_ms;
    else if (collect->left_ms >= 0)
        set_due(node, collect->partition, collect->left_ms);
    rest(node, interval_ms);
}

static void chunk_over(struct node *node)
{
    if (node->collect.is_last)
        partition_over(node);
    else
        rest(node, node_pause_ms(node, node->collect.started_ms));
}

static void collected(struct node *node)
{
    node->collect.has_told = false;
    chunk_over(node);
}

/* The chunk stays, for a later pass. */
static void fail(struct node *node)
{
    struct collect *collect = &node->collect;
    node_count(node, COUNTER_COLLECTIONS_FAILED);
    collect->is_to_retry = true;
    if (collect->is_last)
        partition_over(node);
    else
        rest(node, RETRY_MS);
}

void collect_heard_broken(struct node *node)
{
    if (node->collect.stage != COLLECT_IDLE)
        fail(node);
}

/* One answer more. True: it was the last, and all were good. */
static bool all_answered(struct node *node, bool is_good)
{
    struct collect *collect = &node->collect;
    collect->has_failed |= !is_good;
    ASSERT(collect->awaited > 0);
    if (--collect->awaited > 0)
        return false;
    if (!collect->has_failed)
        return true;
    fail(node);
    return false;
}

/* --- looking for some --- */

static void scan(struct node *node, struct effects *effects)
{
    struct collect *collect = &node->collect;
    collect->started_ms = node->now_ms;
    struct storage_op op = {
        .kind = STORAGE_SCAN,
        .token = number(node),
        .key = {.table = TABLE_DATA, .partition = collect->partition},
        .bytes_max = node->config.limits.list_bytes_max,
        .settled = true,
        .passes_damage = true,
    };
    void *after =
        arena_copy(&effects->arena, collect->after.data, collect->after.size);
    op.after = bytes_of(after, collect->after.size);
    go_to(node, COLLECT_SCANNING);
    if (after == NULL || !effects_storage(effects, &op))
        rest(node, RETRY_MS);
}

/* Whether the record goes, in this round. */
static bool is_ripe(struct node *node, const struct storage_row *row,
                    struct arena *scratch)
{
    struct record record, left;
    if (record_decode(row->record, scratch, &record) != STATUS_OK)
        return false;
    if (record_collect(&record, node->collect.before_ms, scratch, &left))
        return true;
    int64_t ripe_ms = record_ripe_ms(&record),
            *left_ms = &node->collect.left_ms;
    if (ripe_ms >= 0 && (*left_ms < 0 || ripe_ms < *left_ms))
        *left_ms = ripe_ms;
    return false;
}

static bool add_row(struct node *node, const struct storage_row *row,
                    Rkv__Handoff *push, struct arena *arena)
{
    struct collect_row ripe = {
        .version = record_version(row->record),
        .bucket = row->key.bucket.value,
        .key_size = (uint16_t)row->key.key.size,
    };
    memcpy(ripe.key, row->key.key.data, row->key.key.size);
    Rkv__Row *wire = row_to_wire(row, arena);
    if (wire == NULL ||
        buffer_append(&node->collect.rows, bytes_of(&ripe, sizeof ripe)) !=
            STATUS_OK)
        return false;
    push->rows[push->n_rows++] = wire;
    return true;
}

/* NULL: memory was short. A chunk with more than fit is cut short. */
static Rkv__Handoff *pick(struct node *node,
                          const struct storage_result *result,
                          struct arena *arena)
{
    struct collect *collect = &node->collect;
    Rkv__Handoff *push = message_new(arena, &rkv__handoff__descriptor);
    Rkv__Row **rows = arena_alloc(arena, ROWS_MAX * sizeof *rows);
    if (push == NULL || rows == NULL)
        return NULL;
    push->rows = rows;
    push->epoch = node->topology.epoch;
    buffer_clear(&collect->rows);
    for (size_t i = 0; i < result->row_count; i++) {
        if (!is_ripe(node, &result->rows[i], arena))
            continue;
        if (push->n_rows == ROWS_MAX) {
            collect->is_to_retry = true;
            break;
        }
        if (!add_row(node, &result->rows[i], push, arena))
            return NULL;
    }
    return push;
}

/* To all other owners, or all other members. */
static void ask_others(struct node *node, bool owners,
                       const Rkv__Envelope *message, struct effects *effects)
{
    const struct topology *topology = &node->topology;
    size_t count = owners
                       ? topology_owner_count(topology, node->collect.partition)
                       : topology->node_count;
    for (size_t i = 0; i < count; i++) {
        struct node_id other =
            owners ? topology_owner(topology, node->collect.partition, i)
                   : topology->nodes[i].id;
        if (node_id_equal(other, node->self) ||
            (!owners && !topology_is_member(topology, i)))
            continue;
        node->collect.awaited++;
        outbox_request(&effects->out, other, LANE_BULK, number(node), message);
    }
}

static void drain_all(struct node *node, enum collect_stage stage,
                      struct effects *effects);

static void scanned(struct node *node, const struct storage_result *result,
                    struct effects *effects)
{
    struct collect *collect = &node->collect;
    struct arena *arena = &effects->arena;
    collect->is_last = result->done;
    buffer_clear(&collect->after);
    if (result->status != STATUS_OK ||
        buffer_append(&collect->after, result->next) != STATUS_OK) {
        collect->is_last = true;
        fail(node);
        return;
    }
    Rkv__Handoff *push = pick(node, result, arena);
    if (push == NULL) {
        fail(node);
    } else if (push->n_rows == 0) {
        chunk_over(node);
    } else {
        node_count(node, COUNTER_COLLECTIONS);
        go_to(node, COLLECT_PUSHING);
        ask_others(node, true,
                   envelope_new(arena, RKV__ENVELOPE__BODY_HANDOFF, push),
                   effects);
        if (collect->awaited == 0)
            drain_all(node, COLLECT_DRAINING, effects);
    }
}

/* --- the round --- */

/* DRAINING, or CHECKING. */
static void drain_all(struct node *node, enum collect_stage stage,
                      struct effects *effects)
{
    struct arena *arena = &effects->arena;
    Rkv__Drain *drain = message_new(arena, &rkv__drain__descriptor);
    bool of_hints = stage == COLLECT_CHECKING;
    if (drain != NULL) {
        drain->partition = node->collect.partition.value;
        drain->epoch = node->topology.epoch;
        drain->of_hints = of_hints;
        drain->before_ms = node->collect.before_ms;
    }
    go_to(node, stage);
    ask_others(node, false,
               drain == NULL
                   ? NULL
                   : envelope_new(arena, RKV__ENVELOPE__BODY_DRAIN, drain),
               effects);
    node->collect.awaited++;
    drain_begin(node, node->collect.partition, of_hints, node->collect.serial,
                effects);
}

static const Rkv__Envelope *collect_message(const struct node *node,
                                            struct arena *arena)
{
    const struct collect *collect = &node->collect;
    size_t count = collect->rows.size / sizeof(struct collect_row);
    const struct collect_row *rows =
        arena_copy(arena, collect->rows.data, collect->rows.size);
    Rkv__Collect *message = message_new(arena, &rkv__collect__descriptor);
    Rkv__Row **wires = arena_alloc(arena, count * sizeof *wires);
    uint64_t *versions = arena_alloc(arena, count * sizeof *versions);
    if (rows == NULL || message == NULL || wires == NULL || versions == NULL)
        return NULL;
    message->epoch = node->topology.epoch;
    message->before_ms = collect->before_ms;
    message->rows = wires;
    message->versions = versions;
    for (size_t i = 0; i < count; i++) {
        Rkv__Row *wire = message_new(arena, &rkv__row__descriptor);
        if (wire == NULL)
            return NULL;
        wire->bucket = rows[i].bucket;
        wire->key = binary_of_bytes(bytes_of(rows[i].key, rows[i].key_size));
        versions[message->n_versions++] = rows[i].version;
        wires[message->n_rows++] = wire;
    }
    return envelope_new(arena, RKV__ENVELOPE__BODY_COLLECT, message);
}

/* Here. What does not fit is left, and comes back from here. */
static void drop_own(struct node *node, struct effects *effects)
{
    struct collect *collect = &node->collect;
    size_t count = collect->rows.size / sizeof(struct collect_row);
    const struct collect_row *rows =
        arena_copy(&effects->arena, collect->rows.data, collect->rows.size);
    for (size_t i = 0; i < count; i++) {
        struct storage_op op = {
            .kind = STORAGE_COLLECT,
            .token = number(node),
            .key = {.table = TABLE_DATA, .partition = collect->partition},
            .wall_ms = collect->before_ms,
        };
        if (rows != NULL) {
            op.key.bucket.value = rows[i].bucket;
            op.key.key = bytes_of(rows[i].key, rows[i].key_size);
            op.version = rows[i].version;
        }
        if (rows == NULL || !effects_storage(effects, &op))
            collect->is_to_retry = true;
        else
            collect->awaited++;
    }
}

static void drop_all(struct node *node, struct effects *effects)
{
    go_to(node, COLLECT_DROPPING);
    ask_others(node, true, collect_message(node, &effects->arena), effects);
    drop_own(node, effects);
    if (node->collect.awaited == 0)
        fail(node);
}

static bool is_of_drain(enum collect_stage stage)
{
    return stage == COLLECT_DRAINING || stage == COLLECT_CHECKING;
}

static void behind_drain(struct node *node, enum collect_stage stage,
                         struct effects *effects)
{
    if (stage == COLLECT_DRAINING)
        drain_all(node, COLLECT_CHECKING, effects);
    else
        drop_all(node, effects);
}

void collect_drained(struct node *node, uint64_t serial, enum status status,
                     struct effects *effects)
{
    enum collect_stage stage = node->collect.stage;
    if (serial == node->collect.serial && is_of_drain(stage) &&
        all_answered(node, status == STATUS_OK))
        behind_drain(node, stage, effects);
}

/* Once, so that who wonders why nothing goes finds it: clocks, or windows, that
 * differ by much hold it up for good. */
static void tell_why(struct node *node, struct node_id from,
                     const Rkv__Result *result, struct effects *effects)
{
    char line[200];
    if (node->collect.has_told || effects->log != NULL)
        return;
    snprintf(line, sizeof line,
             "event=collection_refused partition=%u by=%s why=\"%.100s\"",
             node->collect.partition.value, node_name_of(node, from),
             result->message);
    effects->log = arena_string(&effects->arena, line);
    node->collect.has_told = effects->log != NULL;
}

void collect_reply(struct node *node, uint64_t request, struct node_id from,
                   const Rkv__Envelope *reply, struct effects *effects)
{
    enum collect_stage stage = node->collect.stage;
    if (request != number(node) || node->collect.awaited == 0)
        return;
    Rkv__Envelope__BodyCase body =
        reply == NULL ? RKV__ENVELOPE__BODY__NOT_SET : reply->body_case;
    bool is_good = is_of_drain(stage)
                       ? body == RKV__ENVELOPE__BODY_RESULT &&
                             reply->result->status == RKV__STATUS__OK
                       : body == RKV__ENVELOPE__BODY_HANDOFF_REPLY &&
                             reply->handoff_reply->status == RKV__STATUS__OK;
    if (!is_good && body == RKV__ENVELOPE__BODY_RESULT)
        tell_why(node, from, reply->result, effects);
    if (!all_answered(node, is_good))
        return;
    if (stage == COLLECT_PUSHING)
        drain_all(node, COLLECT_DRAINING, effects);
    else if (is_of_drain(stage))
        behind_drain(node, stage, effects);
    else
        collected(node);
}

void collect_stored(struct node *node, const struct storage_result *result,
                    struct effects *effects)
{
    if (result->op->token != number(node))
        return;
    if (node->collect.stage == COLLECT_SCANNING)
        scanned(node, result, effects);
    else if (node->collect.stage == COLLECT_DROPPING &&
             all_answered(node, result->status == STATUS_OK))
        collected(node);
}

/* --- whose turn it is --- */

static bool all_are_there(const struct node *node)
{
    for (size_t i = 0; i < node->topology.node_count; i++) {
        struct node_id id = node->topology.nodes[i].id;
        if (!node_id_equal(id, node->self) &&
            topology_is_member(&node->topology, i) &&
            !membership_is_reachable(node->membership, id))
            return false;
    }
    return true;
}

/* The next partition that is due. */
static bool begin(struct node *node)
{
    struct collect *collect = &node->collect;
    size_t count = node->topology.partitions;
    for (size_t i = 1; i <= count; i++) {
        struct partition partition = {
            (uint16_t)((collect->partition.value + i) % count)};
        int64_t due_ms = collect->due_ms[partition.value];
        if (due_ms == 0 || node->now_ms < due_ms ||
            fill_is_missing(node, partition))
            continue;
        collect->due_ms[partition.value] = 0;
        collect->partition = partition;
        collect->is_on = true;
        collect->left_ms = -1;
        collect->is_to_retry = false;
        buffer_clear(&collect->after);
        return true;
    }
    return false;
}

void collect_tick(struct node *node, struct effects *effects)
{
    struct collect *collect = &node->collect;
    drain_tick(node, effects);
    if (node->stage != NODE_READY)
        return;
    /* What there is from before this start is not known. */
    for (size_t p = 0; !collect->is_begun && p < node->topology.partitions; p++)
        collect_note(node, (struct partition){(uint16_t)p}, 0);
    collect->is_begun = true;
    if (collect->stage != COLLECT_IDLE) {
        if (node->now_ms >= collect->lost_at_ms)
            fail(node);
        return;
    }
    if (node->now_ms < collect->next_ms)
        return;
    /* One that is away holds it up, and one that leaves. */
    if (!all_are_there(node) || topology_is_moving(&node->topology) ||
        (!collect->is_on && !begin(node))) {
        rest(node, node->config.timeouts.collect_interval_ms);
        return;
    }
    collect->before_ms = node->wall_ms - node->config.timeouts.dedup_window_ms;
    scan(node, effects);
}
