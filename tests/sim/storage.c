/* SPDX-License-Identifier: MIT */
#include "storage.h"

#include <stdlib.h>

#include "proto/assert.h"
#include "sim.h"

/* --- operations that wait --- */

static void op_free(struct storage_job *op)
{
    buffer_fini(&op->key);
    buffer_fini(&op->next);
    free(op->bytes);
    free(op);
}

static void ops_add(struct storage_jobs *ops, struct storage_job *op)
{
    if (ops->count == ops->capacity) {
        ops->capacity = ops->capacity * 2 + 16;
        ops->list = realloc(ops->list, ops->capacity * sizeof(void *));
        ASSERT(ops->list != NULL);
    }
    ops->list[ops->count++] = op;
}

static void ops_clear(struct storage_jobs *ops)
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

static struct storage_job *op_copy(struct storage *storage,
                                   const struct storage_op *op)
{
    struct storage_job *copy = calloc(1, sizeof *copy);
    ASSERT(copy != NULL);
    copy->number = ++storage->number;
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

void storage_init(struct storage *storage, bool with_tree, uint64_t seed)
{
    *storage = (struct storage){0};
    if (with_tree)
        storage->store.tree = tree_new(seed);
}

static void forget_all(struct storage *storage)
{
    ops_clear(&storage->waiting);
    ops_clear(&storage->forming);
    ops_clear(&storage->batch);
    ops_clear(&storage->answers);
    storage->batch_scheduled = storage->writing = storage->broken =
        storage->suspect = false;
}

void storage_fini(struct storage *storage)
{
    forget_all(storage);
    store_fini(&storage->store);
    free(storage->waiting.list);
    free(storage->forming.list);
    free(storage->batch.list);
    free(storage->answers.list);
    *storage = (struct storage){0};
}

void storage_wipe(struct storage *storage)
{
    store_wipe(&storage->store);
}

void storage_close(struct storage *storage)
{
    if (storage->store.tree != NULL)
        tree_close(storage->store.tree);
}

bool storage_is_idle(const struct storage *storage)
{
    return store_is_calm(&storage->store) && !storage->writing &&
           !storage->broken && !storage->suspect &&
           storage->waiting.count == 0 && storage->forming.count == 0 &&
           storage->answers.count == 0;
}

void storage_heal(struct storage *storage)
{
    if (storage->store.tree != NULL)
        tree_heal(storage->store.tree);
}

void storage_open(struct sim *sim, struct host *host)
{
    forget_all(&host->storage);
    bool opened = store_open(sim, host);
    ASSERT(opened || sim->verdict.invariant != NULL);
}

void storage_set(struct sim *sim, struct host *host, struct bytes key,
                 struct bytes value)
{
    struct disk_changes changes = {0};
    if (sim->verdict.invariant != NULL)
        return;
    disk_changes_add(&changes, key, value, false);
    enum status status = store_write(sim, host, &changes, false);
    ASSERT(status == STATUS_OK || sim->verdict.invariant != NULL);
    disk_changes_fini(&changes);
}

/* --- carrying out --- */

static void answer_later(struct sim *sim, struct host *host,
                         struct storage_job *op, enum status refused)
{
    op->refused = refused;
    ops_add(&host->storage.answers, op);
    sim_in(sim, random_range(&sim->disk_random, 20, 400), MOMENT_DISK_ANSWER,
           host->index, host->life, op->number);
}

static void schedule_batch(struct sim *sim, struct host *host)
{
    struct storage *storage = &host->storage;
    if (storage->batch_scheduled || storage->waiting.count == 0)
        return;
    storage->batch_scheduled = true;
    sim_in(sim, random_range(&sim->disk_random, 10, 100), MOMENT_DISK_BATCH,
           host->index, host->life, 0);
}

void storage_submit(struct sim *sim, struct host *host,
                    const struct storage_op *op)
{
    struct storage *storage = &host->storage;
    struct storage_job *copy = op_copy(storage, op);
    watch_clock(sim, host, op);
    bool reads = op->kind == STORAGE_READ || op->kind == STORAGE_SCAN;
    if (reads) {
        answer_later(sim, host, copy, STATUS_OK);
    } else if (storage->broken) {
        answer_later(sim, host, copy, STATUS_BROKEN);
    } else {
        ops_add(&storage->waiting, copy);
        schedule_batch(sim, host);
    }
}

static void tell_node(struct sim *sim, struct host *host, enum event_kind kind,
                      const struct storage_result *result)
{
    struct event event = {.kind = kind, .storage = result};
    host_step(sim, host, &event);
}

/* It needs no write. */
static void refuse(struct sim *sim, struct host *host, struct storage_job *op)
{
    struct storage_result result = {
        .op = &op->op,
        .status = op->change.status,
        .message = op->change.message,
        .was_damaged = op->change.was_damaged,
    };
    tell_node(sim, host,
              op->op.kind == STORAGE_COORDINATE ? EVENT_PREPARED : EVENT_STORED,
              &result);
    op_free(op);
}

static void tell_stored(struct sim *sim, struct host *host,
                        const struct storage_job *op, enum status status)
{
    bool ok = status == STATUS_OK;
    struct storage_result result = {
        .op = &op->op,
        .status = status,
        .duplicate = op->change.duplicate,
        .prepared_us = op->prepared_us,
        .records_delta = ok ? op->change.records_delta : 0,
        .bytes_delta = ok ? op->change.bytes_delta : 0,
        .version_before = op->change.version_before,
        .version_after = op->change.version_after,
        .was_damaged = op->change.was_damaged,
        .ripe_ms = op->change.ripe_ms,
    };
    tell_node(sim, host, EVENT_STORED, &result);
}

static bool look_up(const struct storage_jobs *batch, struct bytes key,
                    struct bytes *value)
{
    for (size_t i = batch->count; i-- > 0;) {
        const struct storage_job *op = batch->list[i];
        if (!op->change.changed || !bytes_equal(buffer_bytes(&op->key), key))
            continue;
        *value =
            op->change.removed ? (struct bytes){0} : buffer_bytes(&op->next);
        return true;
    }
    return false;
}

/* The value with both batches laid over what is synced. */
static enum status current_of(struct sim *sim, struct host *host,
                              struct bytes key, struct bytes *value)
{
    struct storage *storage = &host->storage;
    if (look_up(&storage->forming, key, value) ||
        look_up(&storage->batch, key, value))
        return STATUS_OK;
    enum status status = store_get(sim, host, key, value);
    storage->suspect |= status == STATUS_BROKEN;
    return status;
}

static void prepare(struct sim *sim, struct host *host, struct storage_job *op)
{
    struct storage *storage = &host->storage;
    if (op->op.deadline_ms != 0 &&
        host_mono_ms(sim, host) > op->op.deadline_ms) {
        answer_later(sim, host, op, STATUS_TIMEOUT);
        return;
    }
    struct bytes current;
    enum status status =
        storage->suspect
            ? STATUS_BROKEN
            : current_of(sim, host, buffer_bytes(&op->key), &current);
    if (status != STATUS_OK && status != STATUS_CORRUPT) {
        answer_later(sim, host, op, status);
        return;
    }
    struct arena scratch;
    arena_init(&scratch, 16u << 20);
    struct replica_copy copy = {.record = current,
                                .is_unreadable = status == STATUS_CORRUPT};
    replica_apply(&host->replica, &op->op, copy, &scratch, &op->next,
                  &op->change);
    arena_fini(&scratch);
    if (op->change.status != STATUS_OK) {
        refuse(sim, host, op);
        return;
    }
    op->prepared_us = host_mono_us(sim, host);
    ops_add(&storage->forming, op);
    if (op->op.kind != STORAGE_COORDINATE)
        return;
    observe_prepared(sim, buffer_bytes(&op->next));
    struct storage_result result = {
        .op = &op->op,
        .record = buffer_bytes(&op->next),
        .duplicate = op->change.duplicate,
    };
    tell_node(sim, host, EVENT_PREPARED, &result);
}

/* For a while, or now and then. */
static bool is_slow(struct sim *sim, const struct host *host)
{
    return sim->now_us < host->slow_until_us ||
           random_chance(&sim->disk_random, sim->plan.slow_write_permille);
}

/* What forms is written, if nothing is. */
static void write_batch(struct sim *sim, struct host *host)
{
    struct storage *storage = &host->storage;
    if (storage->writing || storage->forming.count == 0)
        return;
    struct storage_jobs empty = storage->batch;
    storage->batch = storage->forming;
    storage->forming = empty;
    storage->writing = true;
    int64_t sync_us = sim->plan.sync_us;
    if (is_slow(sim, host)) {
        sync_us *= 20;
        sim->tally->faults[FAULT_SLOW_WRITE]++;
    }
    sim_in(sim, random_range(&sim->disk_random, sync_us, 10 * sync_us),
           MOMENT_DISK_SYNC, host->index, host->life, 0);
}

static void add_changes(const struct storage_jobs *batch,
                        struct disk_changes *changes)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct storage_job *op = batch->list[i];
        if (op->change.changed)
            disk_changes_add(changes, buffer_bytes(&op->key),
                             buffer_bytes(&op->next), op->change.removed);
    }
}

/* The store failed: what was prepared is lost, and of what was written nobody
 * knows until it is opened again. */
static void break_down(struct sim *sim, struct host *host)
{
    struct storage *storage = &host->storage;
    storage->broken = true;
    sim_in(sim, random_range(&sim->disk_random, 2000, 200000),
           MOMENT_DISK_REOPEN, host->index, host->life, 0);
    struct storage_jobs lost[] = {storage->batch, storage->forming};
    struct storage_jobs waiting = storage->waiting;
    storage->batch = storage->forming = storage->waiting =
        (struct storage_jobs){0};
    for (size_t b = 0; b < 2; b++) {
        for (size_t i = 0; i < lost[b].count; i++)
            tell_stored(sim, host, lost[b].list[i],
                        b == 0 ? STATUS_IO : STATUS_BROKEN);
        ops_clear(&lost[b]);
        free(lost[b].list);
    }
    for (size_t i = 0; i < waiting.count; i++)
        answer_later(sim, host, waiting.list[i], STATUS_BROKEN);
    free(waiting.list);
}

/* A read heard that the store is broken. What is being written will fail. */
static void heed_suspicion(struct sim *sim, struct host *host)
{
    const struct storage *storage = &host->storage;
    if (storage->suspect && !storage->broken && !storage->writing)
        break_down(sim, host);
}

void storage_run_batch(struct sim *sim, struct host *host)
{
    struct storage *storage = &host->storage;
    storage->batch_scheduled = false;
    struct storage_jobs taken = storage->waiting;
    storage->waiting = (struct storage_jobs){0};
    for (size_t i = 0; i < taken.count; i++)
        prepare(sim, host, taken.list[i]);
    free(taken.list);
    heed_suspicion(sim, host);
    write_batch(sim, host);
}

void storage_synced(struct sim *sim, struct host *host)
{
    struct storage *storage = &host->storage;
    struct disk_changes changes = {0};
    storage->writing = false;
    add_changes(&storage->batch, &changes);
    bool fails =
        random_chance(&sim->disk_random, sim->plan.failed_write_permille) ||
        host_is_full(sim, host);
    fails &= sim->stage == SIM_FAULTS;
    enum status status = store_write(sim, host, &changes, fails);
    disk_changes_fini(&changes);
    if (status != STATUS_OK) {
        break_down(sim, host);
        return;
    }
    struct storage_jobs batch = storage->batch;
    storage->batch = (struct storage_jobs){0};
    for (size_t i = 0; i < batch.count; i++)
        tell_stored(sim, host, batch.list[i], STATUS_OK);
    ops_clear(&batch);
    free(batch.list);
    write_batch(sim, host);
}

void storage_crash(struct sim *sim, struct host *host)
{
    struct storage *storage = &host->storage;
    struct disk_changes changes = {0};
    bool writing = storage->writing && storage->batch.count > 0;
    add_changes(&storage->batch, &changes);
    store_crash(sim, host, writing ? &changes : NULL);
    disk_changes_fini(&changes);
    forget_all(storage);
}

void storage_reopen(struct sim *sim, struct host *host)
{
    if (host_is_full(sim, host) || !store_open(sim, host)) {
        sim_in(sim, 100000, MOMENT_DISK_REOPEN, host->index, host->life, 0);
        return;
    }
    host->storage.broken = host->storage.suspect = false;
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

static void scan(struct sim *sim, struct host *host,
                 const struct storage_op *op, struct rows *rows,
                 struct storage_result *result)
{
    const struct disk_table *table = &host->storage.store.table;
    struct buffer from = {0}, to = {0};
    result->status = storage_scan_range(op, &from, &to);
    ASSERT(result->status == STATUS_OK);
    bool found;
    size_t first = disk_table_place(table, buffer_bytes(&from), &found);
    struct bytes end = buffer_bytes(&to);
    result->done = true;
    for (size_t at = first; at < table->count; at++) {
        const struct disk_entry *entry = &table->entries[at];
        if (bytes_compare(buffer_bytes(&entry->key), buffer_bytes(&to)) >= 0)
            break;
        if (rows->count > 0 && rows->bytes >= op->bytes_max) {
            result->done = false;
            end = buffer_bytes(&entry->key);
            break;
        }
        if (entry->damage == UNREADABLE && !op->passes_damage) {
            result->status = STATUS_CORRUPT;
            break;
        }
        result->passed_damage |= entry->damage == UNREADABLE;
        if (entry->damage != UNREADABLE)
            rows_add(rows, entry);
        result->next = buffer_bytes(&entry->key);
    }
    result->rows = rows->list;
    result->row_count = rows->count;
    /* Beyond its range, an empty one is no bound. */
    if (end.size > 0 && result->status == STATUS_OK)
        result->status =
            store_see(sim, host, buffer_bytes(&from), end, first, rows->count);
    buffer_fini(&from);
    buffer_fini(&to);
}

static void read_one(struct sim *sim, struct host *host,
                     const struct storage_job *op,
                     struct storage_result *result)
{
    result->status =
        store_get(sim, host, buffer_bytes(&op->key), &result->record);
    if (result->status == STATUS_OK && result->record.size == 0)
        result->status = STATUS_NOT_FOUND;
}

static struct storage_job *take_answer(struct storage *storage, uint64_t number)
{
    for (size_t i = 0; i < storage->answers.count; i++) {
        struct storage_job *op = storage->answers.list[i];
        if (op->number != number)
            continue;
        storage->answers.list[i] =
            storage->answers.list[--storage->answers.count];
        return op;
    }
    ASSERT(!"an answer was lost");
    return NULL;
}

void storage_answer(struct sim *sim, struct host *host, uint64_t number)
{
    struct storage *storage = &host->storage;
    struct storage_job *op = take_answer(storage, number);
    struct storage_result result = {.op = &op->op, .status = op->refused};
    struct rows rows = {0};
    bool reads = op->op.kind == STORAGE_READ || op->op.kind == STORAGE_SCAN;
    if (reads && storage->broken)
        result.status = STATUS_BROKEN;
    else if (op->op.kind == STORAGE_SCAN)
        scan(sim, host, &op->op, &rows, &result);
    else if (op->op.kind == STORAGE_READ)
        read_one(sim, host, op, &result);
    storage->suspect |= reads && result.status == STATUS_BROKEN;
    if (result.status == STATUS_BROKEN)
        result =
            (struct storage_result){.op = &op->op, .status = result.status};
    tell_node(sim, host, EVENT_STORED, &result);
    heed_suspicion(sim, host);
    free(rows.list);
    op_free(op);
}
