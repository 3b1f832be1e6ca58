/* SPDX-License-Identifier: MIT */
#include "proxy/storage_internal.h"

#include <stdlib.h>

enum {
    /* Twice the operations, so that a probe is short: a power of two. */
    SLOTS = 2 * BATCH_OPS_MAX,
    /* Of one operation: the arrays of the largest record a few times over. */
    SCRATCH_BYTES_MAX = 64 << 20,
};

enum status batch_init(struct storage_batch *batch)
{
    arena_init(&batch->arena, SIZE_MAX);
    arena_init(&batch->scratch, SCRATCH_BYTES_MAX);
    batch->operations = malloc(BATCH_OPS_MAX * sizeof *batch->operations);
    batch->slots = calloc(SLOTS, sizeof *batch->slots);
    batch->early = malloc(BATCH_OPS_MAX * sizeof *batch->early);
    batch->stored = malloc(BATCH_OPS_MAX * sizeof *batch->stored);
    bool ok = batch->operations != NULL && batch->slots != NULL &&
              batch->early != NULL && batch->stored != NULL;
    return ok ? STATUS_OK : STATUS_NO_MEMORY;
}

void batch_fini(struct storage_batch *batch)
{
    arena_fini(&batch->arena);
    arena_fini(&batch->scratch);
    buffer_fini(&batch->key);
    buffer_fini(&batch->current);
    buffer_fini(&batch->next);
    free(batch->operations);
    free(batch->slots);
    free(batch->early);
    free(batch->stored);
}

bool batch_is_full(const struct storage_batch *batch)
{
    return batch->stored_count == BATCH_OPS_MAX ||
           batch->early_count == BATCH_OPS_MAX ||
           batch->arena.used >= BATCH_BYTES_MAX;
}

void batch_reset(struct storage_batch *batch)
{
    arena_reset(&batch->arena);
    memset(batch->slots, 0, SLOTS * sizeof *batch->slots);
    batch->operation_count = 0;
    batch->early_count = 0;
    batch->stored_count = 0;
    batch->sync = false;
}

/* --- the overlay --- */

/* Where the key is, or would be. */
static uint16_t *find_slot(struct storage_batch *batch, struct bytes key)
{
    size_t at = key_hash((struct bucket_id){0}, key) & (SLOTS - 1);
    while (batch->slots[at] != 0 &&
           !bytes_equal(batch->operations[batch->slots[at] - 1].key, key))
        at = (at + 1) & (SLOTS - 1);
    return &batch->slots[at];
}

/* What the batch does to the key: its earlier operation, or a new one. */
static bool lay_over(struct storage_batch *batch, uint16_t *slot,
                     struct bytes value, bool remove)
{
    if (*slot == 0) {
        struct bytes key = buffer_bytes(&batch->key);
        key.data = arena_copy(&batch->arena, key.data, key.size);
        if (key.data == NULL)
            return false;
        batch->operations[batch->operation_count++].key = key;
        *slot = (uint16_t)batch->operation_count;
    }
    struct batch_operation *operation = &batch->operations[*slot - 1];
    operation->value = value;
    operation->remove = remove;
    return true;
}

/* --- one operation --- */

static void tell_early(struct storage_batch *batch, enum event_kind kind,
                       const struct storage_result *result)
{
    batch->early[batch->early_count++] =
        (struct storage_done){.kind = kind, .result = *result};
}

/* What needs no write is told with what is PREPARED. op is queued until
 * then. */
static void refuse(struct storage_batch *batch, const struct storage_op *op,
                   const struct replica_change *change)
{
    struct storage_result result = {.op = op,
                                    .status = change->status,
                                    .message = change->message,
                                    .was_damaged = change->was_damaged};
    tell_early(batch,
               op->kind == STORAGE_COORDINATE ? EVENT_PREPARED : EVENT_STORED,
               &result);
}

static void fail(struct storage_batch *batch, const struct storage_op *op,
                 enum status status, const char *message)
{
    struct replica_change change = {.status = status, .message = message};
    refuse(batch, op, &change);
}

/* What the batch leaves of the key, if it has it. */
static bool look_up(struct storage_batch *batch, struct bytes key,
                    struct bytes *current)
{
    uint16_t slot = *find_slot(batch, key);
    if (slot == 0)
        return false;
    const struct batch_operation *last = &batch->operations[slot - 1];
    *current = last->remove ? (struct bytes){0} : last->value;
    return true;
}

static enum status read_engine(struct storage *storage, struct bytes key,
                               struct buffer *value)
{
    enum status status = STATUS_BROKEN;
    pthread_rwlock_rdlock(&storage->engine_lock);
    if (storage->engine != NULL) {
        status = engine_get(storage->engine, key, value);
        storage_note(storage, status);
    }
    pthread_rwlock_unlock(&storage->engine_lock);
    return status;
}

/* The key's value before op, empty if there is none. */
static enum status read_current(struct storage *storage, enum storage_kind kind,
                                struct bytes *current)
{
    struct storage_batch *batch = storage->forming;
    struct bytes key = buffer_bytes(&batch->key);
    *current = (struct bytes){0};
    if (kind == STORAGE_SET || look_up(batch, key, current) ||
        look_up(storage->writing, key, current))
        return STATUS_OK;
    enum status status = read_engine(storage, key, &batch->current);
    if (status == STATUS_OK)
        *current = buffer_bytes(&batch->current);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static bool needs_sync(const struct storage *storage, enum storage_kind kind)
{
    if (!storage_is_durable(storage))
        return false;
    /* A hint that comes back after its drop is delivered twice: harmless. */
    return kind == STORAGE_SET ||
           (storage->config.sync == STORAGE_SYNC_BATCH && kind != STORAGE_DROP);
}

static bool keep(struct storage_batch *batch, uint16_t *slot,
                 const struct storage_op *op,
                 const struct replica_change *change, struct bytes *value)
{
    *value = (struct bytes){0};
    if (!change->removed &&
        (change->changed || op->kind == STORAGE_COORDINATE)) {
        *value = buffer_bytes(&batch->next);
        value->data = arena_copy(&batch->arena, value->data, value->size);
        if (value->data == NULL)
            return false;
    }
    return !change->changed || lay_over(batch, slot, *value, change->removed);
}

static void apply(struct storage *storage, const struct storage_op *op)
{
    struct storage_batch *batch = storage->forming;
    struct bytes current, value;
    enum status status = read_current(storage, op->kind, &current);
    if (status != STATUS_OK && status != STATUS_CORRUPT) {
        fail(batch, op, status, "the engine cannot read our own copy");
        return;
    }
    if (atomic_exchange(&storage->renew, false))
        replica_renew(&storage->replica);
    struct replica_change change;
    arena_reset(&batch->scratch);
    struct replica_copy copy = {.record = current,
                                .is_unreadable = status == STATUS_CORRUPT};
    replica_apply(&storage->replica, op, copy, &batch->scratch, &batch->next,
                  &change);
    if (change.status != STATUS_OK) {
        refuse(batch, op, &change);
        return;
    }
    /* What is told after the write outlives the queue that op is in. */
    const struct storage_op *head = storage_op_copy_head(&batch->arena, op);
    uint16_t *slot = find_slot(batch, buffer_bytes(&batch->key));
    if (head == NULL || !keep(batch, slot, op, &change, &value)) {
        fail(batch, op, STATUS_NO_MEMORY, "no memory for the record");
        return;
    }
    struct storage_result result = {
        .op = head,
        .status = STATUS_OK,
        .duplicate = change.duplicate,
        .record = value,
    };
    if (op->kind == STORAGE_COORDINATE)
        tell_early(batch, EVENT_PREPARED, &result);
    result.record = (struct bytes){0};
    result.records_delta = change.records_delta;
    result.bytes_delta = change.bytes_delta;
    result.version_before = change.version_before;
    result.version_after = change.version_after;
    result.was_damaged = change.was_damaged;
    result.ripe_ms = change.ripe_ms;
    batch->stored[batch->stored_count++] =
        (struct storage_done){.kind = EVENT_STORED, .result = result};
    batch->sync |= needs_sync(storage, op->kind);
}

static void run(struct storage *storage, const struct storage_op *op,
                int64_t now_ms)
{
    struct storage_batch *batch = storage->forming;
    if (op->deadline_ms != 0 && op->deadline_ms < now_ms) {
        /* STORED without PREPARED: it was never run. */
        struct storage_result late = {
            .op = op,
            .status = STATUS_TIMEOUT,
            .message = "the deadline passed while the write waited",
        };
        tell_early(batch, EVENT_STORED, &late);
        return;
    }
    buffer_clear(&batch->key);
    if (storage_key_encode(&op->key, &batch->key) == STATUS_OK)
        apply(storage, op);
    else
        fail(batch, op, STATUS_NO_MEMORY, "no memory for the key");
}

size_t batch_run(struct storage *storage, const struct storage_op *ops,
                 size_t count)
{
    struct storage_batch *batch = storage->forming;
    int64_t now_ms = clock_now_ms();
    size_t ran = 0, first = batch->stored_count;
    while (ran < count && !batch_is_full(batch) &&
           !atomic_load(&storage->broken) && !atomic_load(&storage->suspect))
        run(storage, &ops[ran++], now_ms);
    int64_t prepared_us = clock_now_us();
    for (size_t i = first; i < batch->stored_count; i++)
        batch->stored[i].result.prepared_us = prepared_us;
    return ran;
}
