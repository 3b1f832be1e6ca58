/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <stdlib.h>

#include "proto/assert.h"
#include "sim.h"

/* --- operations that wait --- */

static void op_free(struct disk_op *op)
{
    buffer_fini(&op->key);
    buffer_fini(&op->next);
    free(op->bytes);
    free(op);
}

static void ops_add(struct disk_ops *ops, struct disk_op *op)
{
    if (ops->count == ops->capacity) {
        ops->capacity = ops->capacity * 2 + 16;
        ops->list = realloc(ops->list, ops->capacity * sizeof(void *));
        ASSERT(ops->list != NULL);
    }
    ops->list[ops->count++] = op;
}

static void ops_clear(struct disk_ops *ops)
{
    for (size_t i = 0; i < ops->count; i++)
        op_free(ops->list[i]);
    ops->count = 0;
}

static struct bytes keep(uint8_t **at, struct bytes bytes)
{
    if (bytes.size == 0)
        return (struct bytes){0};
    memcpy(*at, bytes.data, bytes.size);
    struct bytes kept = bytes_of(*at, bytes.size);
    *at += bytes.size;
    return kept;
}

static struct disk_op *op_copy(struct disk *disk, const struct storage_op *op)
{
    struct disk_op *copy = calloc(1, sizeof *copy);
    ASSERT(copy != NULL);
    copy->number = ++disk->number;
    copy->op = *op;
    copy->bytes = malloc(op->key.key.size + op->data.size + op->context.size +
                         op->after.size + 1);
    ASSERT(copy->bytes != NULL);
    uint8_t *at = copy->bytes;
    copy->op.key.key = keep(&at, op->key.key);
    copy->op.data = keep(&at, op->data);
    copy->op.context = keep(&at, op->context);
    copy->op.after = keep(&at, op->after);
    if (op->kind != STORAGE_SCAN) {
        enum status status = storage_key_encode(&copy->op.key, &copy->key);
        ASSERT(status == STATUS_OK);
    }
    return copy;
}

void disk_fini(struct disk *disk)
{
    disk_table_fini(&disk->table);
    ops_clear(&disk->waiting);
    ops_clear(&disk->forming);
    ops_clear(&disk->batch);
    ops_clear(&disk->answers);
    free(disk->waiting.list);
    free(disk->forming.list);
    free(disk->batch.list);
    free(disk->answers.list);
    *disk = (struct disk){0};
}

void disk_wipe(struct disk *disk)
{
    disk_table_clear(&disk->table);
}

void disk_open(struct disk *disk)
{
    ops_clear(&disk->waiting);
    ops_clear(&disk->forming);
    ops_clear(&disk->batch);
    ops_clear(&disk->answers);
    disk->batch_scheduled = disk->writing = disk->broken = false;
}

/* --- carrying out --- */

static void answer_later(struct sim *sim, struct host *host, struct disk_op *op,
                         enum status refused)
{
    op->refused = refused;
    ops_add(&host->disk.answers, op);
    sim_in(sim, random_range(&sim->disk_random, 20, 400), MOMENT_DISK_ANSWER,
           host->index, host->life, op->number);
}

static void schedule_batch(struct sim *sim, struct host *host)
{
    struct disk *disk = &host->disk;
    if (disk->batch_scheduled || disk->waiting.count == 0)
        return;
    disk->batch_scheduled = true;
    sim_in(sim, random_range(&sim->disk_random, 10, 100), MOMENT_DISK_BATCH,
           host->index, host->life, 0);
}

void disk_submit(struct sim *sim, struct host *host,
                 const struct storage_op *op)
{
    struct disk *disk = &host->disk;
    struct disk_op *copy = op_copy(disk, op);
    bool reads = op->kind == STORAGE_READ || op->kind == STORAGE_SCAN;
    if (reads) {
        answer_later(sim, host, copy, STATUS_OK);
    } else if (disk->broken) {
        answer_later(sim, host, copy, STATUS_BROKEN);
    } else {
        ops_add(&disk->waiting, copy);
        schedule_batch(sim, host);
    }
}

static void tell_node(struct sim *sim, struct host *host, enum event_kind kind,
                      const struct storage_result *result)
{
    struct event event = {.kind = kind, .storage = result};
    host_step(sim, host, &event);
}

static void tell_stored(struct sim *sim, struct host *host,
                        const struct disk_op *op, enum status status)
{
    bool ok = status == STATUS_OK;
    struct storage_result result = {
        .op = &op->op,
        .status = status,
        .message = op->change.message,
        .duplicate = op->change.duplicate,
        .records_delta = ok ? op->change.records_delta : 0,
        .bytes_delta = ok ? op->change.bytes_delta : 0,
    };
    tell_node(sim, host, EVENT_STORED, &result);
}

static bool look_up(const struct disk_ops *batch, struct bytes key,
                    struct bytes *value)
{
    for (size_t i = batch->count; i-- > 0;) {
        const struct disk_op *op = batch->list[i];
        if (!op->change.changed || !bytes_equal(buffer_bytes(&op->key), key))
            continue;
        *value =
            op->change.removed ? (struct bytes){0} : buffer_bytes(&op->next);
        return true;
    }
    return false;
}

/* The value with both batches laid over what is synced. */
static struct bytes current_of(const struct disk *disk, struct bytes key)
{
    struct bytes value;
    if (look_up(&disk->forming, key, &value) ||
        look_up(&disk->batch, key, &value))
        return value;
    return disk_get(disk, key);
}

static void prepare(struct sim *sim, struct host *host, struct disk_op *op)
{
    struct disk *disk = &host->disk;
    if (op->op.deadline_ms != 0 &&
        host_mono_ms(sim, host) > op->op.deadline_ms) {
        answer_later(sim, host, op, STATUS_TIMEOUT);
        return;
    }
    struct arena scratch;
    arena_init(&scratch, 16u << 20);
    replica_apply(&host->replica, &op->op,
                  current_of(disk, buffer_bytes(&op->key)), &scratch, &op->next,
                  &op->change);
    arena_fini(&scratch);
    ops_add(&disk->forming, op);
    if (op->op.kind != STORAGE_COORDINATE)
        return;
    struct storage_result result = {
        .op = &op->op,
        .status = op->change.status,
        .message = op->change.message,
        .record = buffer_bytes(&op->next),
        .duplicate = op->change.duplicate,
    };
    tell_node(sim, host, EVENT_PREPARED, &result);
}

/* What forms is written, if nothing is. */
static void write_batch(struct sim *sim, struct host *host)
{
    struct disk *disk = &host->disk;
    if (disk->writing || disk->forming.count == 0)
        return;
    struct disk_ops empty = disk->batch;
    disk->batch = disk->forming;
    disk->forming = empty;
    disk->writing = true;
    int64_t sync_us = sim->plan.sync_us;
    /* Now and then a disk takes its time. */
    if (random_chance(&sim->disk_random, 20))
        sync_us *= 20;
    sim_in(sim, random_range(&sim->disk_random, sync_us, 10 * sync_us),
           MOMENT_DISK_SYNC, host->index, host->life, 0);
}

void disk_run_batch(struct sim *sim, struct host *host)
{
    struct disk *disk = &host->disk;
    disk->batch_scheduled = false;
    struct disk_ops taken = disk->waiting;
    disk->waiting = (struct disk_ops){0};
    for (size_t i = 0; i < taken.count; i++)
        prepare(sim, host, taken.list[i]);
    free(taken.list);
    write_batch(sim, host);
}

void disk_set(struct disk *disk, struct bytes key, struct bytes value)
{
    struct disk_changes changes = {0};
    disk_changes_add(&changes, key, value, false);
    disk_table_apply(&disk->table, &changes.list[0]);
    disk_changes_fini(&changes);
}

static void add_changes(const struct disk_ops *batch,
                        struct disk_changes *changes)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct disk_op *op = batch->list[i];
        if (op->change.changed)
            disk_changes_add(changes, buffer_bytes(&op->key),
                             buffer_bytes(&op->next), op->change.removed);
    }
}

static void commit(struct sim *sim, struct host *host,
                   const struct disk_changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        const struct disk_change *change = &changes->list[i];
        disk_table_apply(&host->disk.table, change);
        if (!change->removed)
            observe_stored(sim, host, buffer_bytes(&change->key),
                           buffer_bytes(&change->value));
    }
}

static void commit_batch(struct sim *sim, struct host *host)
{
    struct disk_changes changes = {0};
    add_changes(&host->disk.batch, &changes);
    commit(sim, host, &changes);
    disk_changes_fini(&changes);
}

/* Whether it was written is not known until it is opened again. */
static void fail(struct sim *sim, struct host *host)
{
    struct disk *disk = &host->disk;
    bool kept = random_chance(&sim->disk_random, 500);
    sim->tally->faults[FAULT_FAILED_WRITE]++;
    sim_tell(sim, host->name, "a batch of %zu fails (%s)", disk->batch.count,
             kept ? "and is on disk" : "and is lost");
    if (kept)
        commit_batch(sim, host);
    disk->broken = true;
    sim_in(sim, random_range(&sim->disk_random, 2000, 200000),
           MOMENT_DISK_REOPEN, host->index, host->life, 0);
    struct disk_ops lost[] = {disk->batch, disk->forming};
    struct disk_ops waiting = disk->waiting;
    disk->batch = disk->forming = disk->waiting = (struct disk_ops){0};
    for (size_t b = 0; b < 2; b++) {
        for (size_t i = 0; i < lost[b].count; i++)
            tell_stored(sim, host, lost[b].list[i], STATUS_IO);
        ops_clear(&lost[b]);
        free(lost[b].list);
    }
    for (size_t i = 0; i < waiting.count; i++)
        answer_later(sim, host, waiting.list[i], STATUS_BROKEN);
    free(waiting.list);
}

void disk_synced(struct sim *sim, struct host *host)
{
    struct disk *disk = &host->disk;
    disk->writing = false;
    if (sim->stage == SIM_FAULTS &&
        random_chance(&sim->disk_random, sim->plan.failed_write_permille)) {
        fail(sim, host);
        return;
    }
    commit_batch(sim, host);
    struct disk_ops batch = disk->batch;
    disk->batch = (struct disk_ops){0};
    for (size_t i = 0; i < batch.count; i++)
        tell_stored(sim, host, batch.list[i], batch.list[i]->change.status);
    ops_clear(&batch);
    free(batch.list);
    write_batch(sim, host);
}

void disk_crash(struct sim *sim, struct host *host)
{
    struct disk *disk = &host->disk;
    if (disk->writing && disk->batch.count > 0) {
        bool kept = random_chance(&sim->disk_random, 400);
        sim->tally->faults[kept ? FAULT_BATCH_KEPT : FAULT_BATCH_LOST]++;
        sim_tell(sim, host->name, "a batch of %zu is %s", disk->batch.count,
                 kept ? "on disk just in time" : "lost");
        if (kept)
            commit_batch(sim, host);
    }
    disk_open(disk);
}

void disk_reopen(struct sim *sim, struct host *host)
{
    host->disk.broken = false;
    replica_renew(&host->replica);
    sim_tell(sim, host->name, "its disk is open again");
    struct event event = {.kind = EVENT_REOPENED};
    host_step(sim, host, &event);
}

/* --- reads --- */

struct rows {
    struct storage_row *list;
    size_t count, capacity, bytes;
};

static void rows_add(struct rows *rows, const struct disk_entry *entry)
{
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity * 2 + 16;
        rows->list = realloc(rows->list, rows->capacity * sizeof *rows->list);
        ASSERT(rows->list != NULL);
    }
    struct storage_row *row = &rows->list[rows->count++];
    enum status status =
        storage_key_decode(buffer_bytes(&entry->key), &row->key);
    ASSERT(status == STATUS_OK);
    row->record = buffer_bytes(&entry->value);
    rows->bytes += entry->key.size + entry->value.size;
}

static void scan(const struct disk_table *table, const struct storage_op *op,
                 struct rows *rows, struct storage_result *result)
{
    struct buffer from = {0}, to = {0};
    result->status = storage_scan_range(op, &from, &to);
    ASSERT(result->status == STATUS_OK);
    bool found;
    size_t at = disk_table_place(table, buffer_bytes(&from), &found);
    result->done = true;
    for (; at < table->count; at++) {
        const struct disk_entry *entry = &table->entries[at];
        if (bytes_compare(buffer_bytes(&entry->key), buffer_bytes(&to)) >= 0)
            break;
        if (rows->count > 0 && rows->bytes >= op->bytes_max) {
            result->done = false;
            break;
        }
        rows_add(rows, entry);
        result->next = buffer_bytes(&entry->key);
    }
    result->rows = rows->list;
    result->row_count = rows->count;
    buffer_fini(&from);
    buffer_fini(&to);
}

static struct disk_op *take_answer(struct disk *disk, uint64_t number)
{
    for (size_t i = 0; i < disk->answers.count; i++) {
        struct disk_op *op = disk->answers.list[i];
        if (op->number != number)
            continue;
        disk->answers.list[i] = disk->answers.list[--disk->answers.count];
        return op;
    }
    ASSERT(!"an answer was lost");
    return NULL;
}

void disk_answer(struct sim *sim, struct host *host, uint64_t number)
{
    struct disk *disk = &host->disk;
    struct disk_op *op = take_answer(disk, number);
    struct storage_result result = {.op = &op->op, .status = op->refused};
    struct rows rows = {0};
    bool reads = op->op.kind == STORAGE_READ || op->op.kind == STORAGE_SCAN;
    if (reads && disk->broken) {
        result.status = STATUS_BROKEN;
    } else if (op->op.kind == STORAGE_SCAN) {
        scan(&disk->table, &op->op, &rows, &result);
    } else if (op->op.kind == STORAGE_READ) {
        result.record = disk_get(disk, buffer_bytes(&op->key));
        if (result.record.size == 0)
            result.status = STATUS_NOT_FOUND;
    }
    tell_node(sim, host, EVENT_STORED, &result);
    free(rows.list);
    op_free(op);
}
