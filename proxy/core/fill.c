/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "proxy/core/node_internal.h"

/* A replica whose disk was emptied or is older than it was says neither yes
 * nor no about a partition until it has read all of it from every other owner:
 * an acknowledged write is on at least one of them.
 *
 *   IDLE --> ASKED --> STORING --+--> next chunk, owner, partition
 *     ^        |          |      |
 *     +--------+----------+------+   a failure begins the owner again
 *
 * Which partitions are missing is stored, so that a restart does not vote. */

enum {
    RETRY_MS = 500,
    CHUNK_BYTES = 256 * 1024,
    /* The least that limits.list_bytes_max may be: below it one record decides,
     * which comes alone however large it is. */
    CHUNK_BYTES_MIN = 4 * 1024,
};

static size_t bitmap_size(const struct node *node)
{
    return bits_size(node->topology.partitions);
}

enum status fill_init(struct node *node)
{
    node->fill = (struct fill){.chunk_bytes = CHUNK_BYTES};
    node->fill.missing = calloc(1, bitmap_size(node));
    return node->fill.missing == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

void fill_fini(struct node *node)
{
    free(node->fill.missing);
    buffer_fini(&node->fill.after);
    node->fill = (struct fill){.stage = FILL_IDLE};
}

bool fill_is_missing(const struct node *node, struct partition partition)
{
    return node->fill.missing_count > 0 &&
           bit_has(node->fill.missing, partition.value);
}

/* Store what is missing, synced. False when there is no room to say so. */
bool fill_save(struct node *node, uint64_t token, struct effects *effects)
{
    return effects_meta(effects, META_MISSING, token,
                        bytes_of(node->fill.missing, bitmap_size(node)));
}

bool fill_all(struct node *node, uint64_t token, struct effects *effects)
{
    for (size_t i = 0; i < node->topology.partitions; i++) {
        struct partition partition = {(uint16_t)i};
        if (!topology_owns(&node->topology, partition, node->self) ||
            topology_owner_count(&node->topology, partition) == 1 ||
            bit_has(node->fill.missing, i))
            continue;
        bit_set(node->fill.missing, i);
        node->fill.missing_count++;
    }
    return fill_save(node, token, effects);
}

void fill_moved(struct node *node, const struct topology *next)
{
    struct fill *fill = &node->fill;
    for (size_t i = 0; i < next->partitions; i++) {
        struct partition partition = {(uint16_t)i};
        if (!topology_owns(next, partition, node->self) ||
            topology_owns(&node->topology, partition, node->self) ||
            bit_has(fill->missing, i))
            continue;
        bit_set(fill->missing, i);
        fill->missing_count++;
    }
}

void fill_restore(struct node *node, struct bytes missing)
{
    if (missing.size != bitmap_size(node))
        return;
    memcpy(node->fill.missing, missing.data, missing.size);
    node->fill.missing_count = 0;
    for (size_t i = 0; i < node->topology.partitions; i++)
        node->fill.missing_count += bit_has(node->fill.missing, i);
}

static void rest(struct node *node)
{
    node->fill.stage = FILL_IDLE;
    node->fill.next_ms = node->now_ms + RETRY_MS;
    buffer_clear(&node->fill.after);
}

void fill_begin_again(struct node *node)
{
    node->fill.serial++;
    rest(node);
    node->fill.owner = 0;
}

/* From the first chunk of this owner again, later. What holds a partition up
 * may do so for long: a reason is said once. It lives for ever. */
static void hold_up(struct node *node, const char *reason,
                    struct effects *effects)
{
    struct fill *fill = &node->fill;
    char line[160];
    rest(node);
    if (fill->told == reason)
        return;
    fill->told = reason;
    snprintf(line, sizeof line,
             "event=fill_held_up partition=%u owner=%s reason=\"%s\"",
             fill->partition.value,
             node_name_of(node, topology_owner(&node->topology, fill->partition,
                                               fill->owner)),
             reason);
    effects->log = arena_string(&effects->arena, line);
}

/* No answer is all that is heard of a chunk too large for the owner's queue.
 * Smaller ones are asked for, until this owner is read: growing on its way
 * would begin it again and again. */
static void shrink(struct fill *fill)
{
    fill->chunk_bytes /= 2;
    if (fill->chunk_bytes < CHUNK_BYTES_MIN)
        fill->chunk_bytes = CHUNK_BYTES_MIN;
}

static void grow(struct fill *fill)
{
    fill->chunk_bytes += fill->chunk_bytes / 4;
    if (fill->chunk_bytes > CHUNK_BYTES)
        fill->chunk_bytes = CHUNK_BYTES;
}

static void ask(struct node *node, struct effects *effects)
{
    struct fill *fill = &node->fill;
    struct node_id owner =
        topology_owner(&node->topology, fill->partition, fill->owner);
    Rkv__Scan *scan = message_new(&effects->arena, &rkv__scan__descriptor);
    void *after =
        arena_copy(&effects->arena, fill->after.data, fill->after.size);
    if (scan == NULL || after == NULL) {
        rest(node);
        return;
    }
    scan->partition = fill->partition.value;
    scan->after = binary_of_bytes(bytes_of(after, fill->after.size));
    scan->max_bytes = fill->chunk_bytes;
    scan->epoch = node->topology.epoch;
    fill->stage = FILL_ASKED;
    fill->next_ms = node->now_ms + LOST_MS;
    outbox_request(
        &effects->out, owner, LANE_BULK,
        request_number(OWNER_FILL, ++fill->serial),
        envelope_new(&effects->arena, RKV__ENVELOPE__BODY_SCAN, scan));
}

/* One that moves is read once nobody writes it by another topology. */
static bool may_fill(const struct node *node, size_t at)
{
    struct partition partition = {(uint16_t)at};
    return topology_owns(&node->topology, partition, node->self) &&
           (!topology_is_moving(&node->topology) ||
            node->topology.changed[at] != node->topology.epoch ||
            moves_all_confirmed(node));
}

/* Go to the next partition that is missing. False: none can be filled now. */
static bool seek(struct node *node)
{
    struct fill *fill = &node->fill;
    for (size_t i = 0; i < node->topology.partitions; i++) {
        size_t at = (fill->partition.value + i) % node->topology.partitions;
        if (!bit_has(fill->missing, at) || !may_fill(node, at))
            continue;
        if (at != fill->partition.value)
            fill->owner = 0;
        fill->partition.value = (uint16_t)at;
        return true;
    }
    return false;
}

/* What is left of the partition's owners, from the current one on, or the
 * partition is complete. */
static void go_on(struct node *node, struct effects *effects)
{
    struct fill *fill = &node->fill;
    size_t owners = topology_owner_count(&node->topology, fill->partition);
    while (fill->owner < owners &&
           node_id_equal(
               topology_owner(&node->topology, fill->partition, fill->owner),
               node->self))
        fill->owner++;
    if (fill->owner < owners) {
        ask(node, effects);
        return;
    }
    size_t at = fill->partition.value;
    bit_clear(fill->missing, at);
    fill->missing_count--;
    fill->owner = 0;
    fill->told = NULL;
    node_count(node, COUNTER_PARTITIONS_FILLED);
    /* Not on disk it is filled once more after a restart. */
    (void)fill_save(node, request_number(OWNER_META, 0), effects);
    fill->stage = FILL_IDLE;
    fill->next_ms = node->now_ms;
    if (fill->missing_count == 0)
        effects->log = "event=filled partitions=all";
}

void fill_tick(struct node *node, struct effects *effects)
{
    struct fill *fill = &node->fill;
    if (fill->missing_count == 0 || node->now_ms < fill->next_ms)
        return;
    if (fill->stage == FILL_STORING) {
        fill->serial++;
        hold_up(node, "our own disk did not answer", effects);
        return;
    }
    if (fill->stage == FILL_ASKED) {
        shrink(fill);
        hold_up(node, "no answer", effects);
        return;
    }
    if (seek(node))
        go_on(node, effects);
}

static void chunk_stored(struct node *node, struct effects *effects)
{
    struct fill *fill = &node->fill;
    if (fill->failed) {
        hold_up(node, fill->reason, effects);
        return;
    }
    if (fill->last_chunk) {
        grow(fill);
        fill->owner++;
        buffer_clear(&fill->after);
    }
    go_on(node, effects);
}

static void fill_failed(struct fill *fill, const char *reason)
{
    fill->failed = true;
    fill->reason = reason;
}

Rkv__Row *row_to_wire(const struct storage_row *row, struct arena *arena)
{
    Rkv__Row *wire = message_new(arena, &rkv__row__descriptor);
    if (wire == NULL)
        return NULL;
    wire->bucket = row->key.bucket.value;
    wire->key = binary_of_bytes(row->key.key);
    wire->record = binary_of_bytes(row->record);
    return wire;
}

/* It is stored under the kind that the record itself names: a bucket that we do
 * not declare yet is kept as well, or we would have lost it once we do. The
 * owner leaves out what is damaged, so one that does not decode was damaged on
 * its way. */
const char *row_merge(const struct node *node, const Rkv__Row *row,
                      struct partition partition, struct arena *scratch,
                      struct storage_op *op)
{
    struct record record;
    struct bucket_id bucket = {row->bucket};
    struct bytes key = bytes_of_binary(row->key);
    /* A row that belongs elsewhere would be found by nobody. */
    if (key.size == 0 || key.size > KEY_BYTES_MAX ||
        partition_of(bucket, key, node->topology.partitions).value !=
            partition.value)
        return "a row of another partition";
    if (record_decode(bytes_of_binary(row->record), scratch, &record) !=
        STATUS_OK)
        return "a record that cannot be read";
    op->kind = STORAGE_MERGE;
    op->key = (struct storage_key){.table = TABLE_DATA,
                                   .partition = partition,
                                   .bucket = bucket,
                                   .key = key};
    op->record_kind = record.kind;
    op->wall_ms = node->wall_ms;
    op->data = bytes_of_binary(row->record);
    op->mends = topology_owner_count(&node->topology, partition) == 1;
    return NULL;
}

static void store_rows(struct node *node, const Rkv__ScanReply *reply,
                       struct effects *effects)
{
    struct fill *fill = &node->fill;
    for (size_t i = 0; i < reply->n_rows; i++) {
        struct storage_op op = {.token =
                                    request_number(OWNER_FILL, fill->serial)};
        const char *mistake = row_merge(node, reply->rows[i], fill->partition,
                                        &effects->arena, &op);
        op.mends = true; /* it has no vote yet */
        if (mistake != NULL)
            fill_failed(fill, mistake);
        else if (effects_storage(effects, &op))
            fill->storing++;
        else
            fill_failed(fill, "no memory");
    }
}

static const char *why_not(const Rkv__Envelope *reply)
{
    if (reply == NULL)
        return "no answer";
    if (reply->body_case == RKV__ENVELOPE__BODY_SCAN_REPLY &&
        (reply->scan_reply->status == RKV__STATUS__CORRUPT ||
         reply->scan_reply->status == RKV__STATUS__IO))
        return "it is damaged at this owner: --replace it, too";
    return "the owner cannot read it now";
}

void fill_reply(struct node *node, uint64_t request, const Rkv__Envelope *reply,
                struct effects *effects)
{
    struct fill *fill = &node->fill;
    if (fill->stage != FILL_ASKED ||
        request != request_number(OWNER_FILL, fill->serial))
        return;
    if (reply == NULL || reply->body_case != RKV__ENVELOPE__BODY_SCAN_REPLY ||
        reply->scan_reply->status != RKV__STATUS__OK) {
        shrink(fill);
        hold_up(node, why_not(reply), effects);
        return;
    }
    const Rkv__ScanReply *chunk = reply->scan_reply;
    fill->stage = FILL_STORING;
    fill->next_ms = node->now_ms + LOST_MS;
    fill->storing = 0;
    fill->failed = false;
    fill->last_chunk = chunk->done;
    buffer_clear(&fill->after);
    if (buffer_append(&fill->after, bytes_of_binary(chunk->next)) != STATUS_OK)
        fill_failed(fill, "no memory");
    store_rows(node, chunk, effects);
    if (fill->storing == 0)
        chunk_stored(node, effects);
}

void fill_stored(struct node *node, const struct storage_result *result,
                 struct effects *effects)
{
    struct fill *fill = &node->fill;
    if (fill->stage != FILL_STORING ||
        result->op->token != request_number(OWNER_FILL, fill->serial))
        return;
    if (result->status != STATUS_OK)
        fill_failed(fill, "our own disk could not store it");
    if (result->was_damaged) {
        fill_failed(fill, "what was damaged here is read again");
        fill->owner = 0;
    }
    if (--fill->storing == 0)
        chunk_stored(node, effects);
}
