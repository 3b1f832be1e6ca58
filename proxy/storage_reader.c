/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proxy/storage_internal.h"

#include <stdlib.h>
#include <unistd.h>

/* A read that waits for a reader thread, with what its operation points to. */
struct read_job {
    struct read_job *next;
    struct storage_op op;
    uint8_t bytes[];
};

void storage_note(struct storage *storage, enum status status)
{
    if (status != STATUS_BROKEN || atomic_exchange(&storage->suspect, true))
        return;
    pthread_mutex_lock(&storage->lock);
    pthread_mutex_unlock(&storage->lock);
    pthread_cond_signal(&storage->wake);
}

static void get(struct storage *storage, const struct storage_op *op,
                struct buffer *value, struct storage_result *result)
{
    uint8_t memory[ENGINE_KEY_BYTES_MAX];
    struct buffer key = {.data = memory, .capacity = sizeof memory};
    enum status status = storage_key_encode(&op->key, &key);
    ASSERT(status == STATUS_OK && key.data == memory);
    status = STATUS_BROKEN;
    buffer_clear(value);
    pthread_rwlock_rdlock(&storage->engine_lock);
    if (storage->engine != NULL) {
        status = engine_get(storage->engine, buffer_bytes(&key), value);
        storage_note(storage, status);
    }
    pthread_rwlock_unlock(&storage->engine_lock);
    result->status = status;
    if (status == STATUS_OK)
        result->record = buffer_bytes(value);
}

/* --- scans --- */

static bool add_row(struct reader *reader, const struct storage_row *row,
                    size_t count)
{
    if (count == reader->row_capacity) {
        size_t capacity = count == 0 ? 64 : count * 2;
        struct storage_row *rows =
            realloc(reader->rows, capacity * sizeof *rows);
        if (rows == NULL)
            return false;
        reader->rows = rows;
        reader->row_capacity = capacity;
    }
    reader->rows[count] = *row;
    return true;
}

/* Copy what the iterator shows, and add it as a row unless its key is none of
 * ours; either way the scan goes on behind it. */
static enum status take(struct reader *reader, struct bytes key,
                        struct bytes value, struct storage_result *result)
{
    struct storage_row row;
    key.data = arena_copy(&reader->arena, key.data, key.size);
    if (key.data == NULL)
        return STATUS_NO_MEMORY;
    result->next = key;
    if (storage_key_decode(key, &row.key) != STATUS_OK) {
        reader->foreign_keys++;
        return STATUS_OK;
    }
    row.record = value;
    row.record.data = arena_copy(&reader->arena, value.data, value.size);
    if (row.record.data == NULL || !add_row(reader, &row, result->row_count))
        return STATUS_NO_MEMORY;
    result->row_count++;
    return STATUS_OK;
}

/* Whether the scan goes on behind what cannot be read: that counts as missing.
 */
static bool passes(const struct engine_iterator *iterator,
                   const struct storage_op *op, enum status status)
{
    return op->passes_damage &&
           (iterator->type->capabilities & ENGINE_PASSES_DAMAGE) != 0 &&
           status == STATUS_CORRUPT;
}

static enum status walk(struct reader *reader, const struct storage_op *op,
                        struct engine_iterator *iterator,
                        struct storage_result *result)
{
    struct bytes key, value;
    size_t bytes = 0;
    enum status status;
    for (;;) {
        status = engine_next(iterator, &key, &value);
        if (passes(iterator, op, status)) {
            result->passed_damage = true;
            continue;
        }
        if (status != STATUS_OK)
            break;
        bytes += key.size + value.size;
        if (bytes > op->bytes_max && result->row_count > 0)
            return STATUS_OK;
        status = take(reader, key, value, result);
        if (status != STATUS_OK)
            return status;
    }
    result->done = status == STATUS_NOT_FOUND;
    return result->done ? STATUS_OK : status;
}

static enum status iterate(struct reader *reader, const struct storage_op *op,
                           struct storage_result *result)
{
    struct engine *engine = reader->storage->engine;
    struct engine_iterator *iterator;
    if (engine == NULL)
        return STATUS_BROKEN;
    enum status status =
        engine_iterate(engine, buffer_bytes(&reader->from),
                       buffer_bytes(&reader->to), ENGINE_FORWARD, &iterator);
    if (status != STATUS_OK)
        return status;
    status = walk(reader, op, iterator, result);
    engine_iterator_free(iterator);
    return status;
}

/* What it has shown may be of a batch that is not told yet. */
static void settle(struct storage *storage)
{
    pthread_mutex_lock(&storage->lock);
    uint64_t begun = storage->begun;
    while (storage->told < begun)
        pthread_cond_wait(&storage->told_wake, &storage->lock);
    pthread_mutex_unlock(&storage->lock);
}

static void scan(struct reader *reader, const struct storage_op *op,
                 struct storage_result *result)
{
    struct storage *storage = reader->storage;
    reader->foreign_keys = 0;
    arena_reset(&reader->arena);
    enum status status = storage_scan_range(op, &reader->from, &reader->to);
    if (status == STATUS_OK) {
        pthread_rwlock_rdlock(&storage->engine_lock);
        status = iterate(reader, op, result);
        if (storage->engine != NULL)
            storage_note(storage, status);
        pthread_rwlock_unlock(&storage->engine_lock);
    }
    if (op->settled)
        settle(storage);
    if (reader->foreign_keys > 0)
        storage_log(storage, "event=foreign_keys_skipped count=%zu",
                    reader->foreign_keys);
    result->status = status;
    result->rows = reader->rows;
    if (status != STATUS_OK) {
        /* Half a chunk is none: what failed may lie anywhere in it. */
        result->row_count = 0;
        result->next = (struct bytes){0};
        result->done = false;
    }
}

/* --- the threads --- */

static void run(struct reader *reader, const struct storage_op *op)
{
    struct storage *storage = reader->storage;
    struct storage_done done = {.kind = EVENT_STORED, .result = {.op = op}};
    if (op->deadline_ms != 0 && op->deadline_ms < clock_now_ms()) {
        done.result.status = STATUS_TIMEOUT;
        done.result.message = "the deadline passed while the read waited";
    } else if (op->kind == STORAGE_SCAN) {
        scan(reader, op, &done.result);
    } else {
        get(storage, op, &reader->value, &done.result);
    }
    storage->handlers->done(storage->user, &done, 1);
}

/* Under read_lock. */
static struct read_job *pop(struct storage *storage)
{
    struct read_job *job = storage->read_first;
    if (job == NULL)
        return NULL;
    storage->read_first = job->next;
    if (job->next == NULL)
        storage->read_last = &storage->read_first;
    storage->read_count--;
    storage->read_bytes -= storage_op_bytes(&job->op);
    return job;
}

/* Engines look at their directories for this. */
static void measure(struct storage *storage)
{
    struct engine_stats stats = {0};
    pthread_rwlock_rdlock(&storage->engine_lock);
    if (storage->engine != NULL)
        engine_stats(storage->engine, &stats);
    pthread_rwlock_unlock(&storage->engine_lock);
    pthread_mutex_lock(&storage->read_lock);
    storage->stats = stats;
    storage->stats_ms = clock_now_ms();
    pthread_mutex_unlock(&storage->read_lock);
}

void readers_stats(struct storage *storage, struct engine_stats *stats)
{
    pthread_mutex_lock(&storage->read_lock);
    *stats = storage->stats;
    bool old = clock_now_ms() - storage->stats_ms >= STATS_MS;
    bool ask = old && !storage->stats_wanted;
    storage->stats_wanted |= ask;
    pthread_mutex_unlock(&storage->read_lock);
    if (ask)
        pthread_cond_signal(&storage->read_wake);
}

static void *reader_main(void *argument)
{
    struct reader *reader = argument;
    struct storage *storage = reader->storage;
    pthread_mutex_lock(&storage->read_lock);
    for (;;) {
        struct read_job *job = pop(storage);
        if (job == NULL && storage->read_stop)
            break;
        if (job == NULL && storage->stats_wanted) {
            pthread_mutex_unlock(&storage->read_lock);
            measure(storage);
            pthread_mutex_lock(&storage->read_lock);
            storage->stats_wanted = false;
            continue;
        }
        if (job == NULL) {
            pthread_cond_wait(&storage->read_wake, &storage->read_lock);
            continue;
        }
        pthread_mutex_unlock(&storage->read_lock);
        run(reader, &job->op);
        free(job);
        pthread_mutex_lock(&storage->read_lock);
    }
    pthread_mutex_unlock(&storage->read_lock);
    return NULL;
}

enum status readers_start(struct storage *storage)
{
    /* Of two loops a core: no more than half of them wait for a disk. */
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    measure(storage);
    atomic_store(&storage->permits, cores > 1 ? (int)cores : 1);
    for (size_t i = 0; i < READERS; i++) {
        struct reader *reader = &storage->readers[i];
        reader->storage = storage;
        arena_init(&reader->arena, SIZE_MAX);
        reader->started =
            pthread_create(&reader->thread, NULL, reader_main, reader) == 0;
        if (!reader->started)
            return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

void readers_stop(struct storage *storage)
{
    pthread_mutex_lock(&storage->read_lock);
    storage->read_stop = true;
    pthread_mutex_unlock(&storage->read_lock);
    pthread_cond_broadcast(&storage->read_wake);
    for (size_t i = 0; i < READERS; i++)
        if (storage->readers[i].started)
            pthread_join(storage->readers[i].thread, NULL);
}

void readers_fini(struct storage *storage)
{
    for (size_t i = 0; i < READERS; i++) {
        struct reader *reader = &storage->readers[i];
        buffer_fini(&reader->value);
        buffer_fini(&reader->from);
        buffer_fini(&reader->to);
        free(reader->rows);
        arena_fini(&reader->arena);
    }
}

/* --- who asks --- */

/* OK, or why it is not queued. */
static enum status hand_over(struct storage *storage,
                             const struct storage_op *op)
{
    size_t bytes = storage_op_bytes(op);
    struct read_job *job = malloc(sizeof *job + bytes);
    if (job == NULL)
        return STATUS_NO_MEMORY;
    job->next = NULL;
    job->op = *op;
    storage_op_move(&job->op, job->bytes);
    enum status status = STATUS_OK;
    pthread_mutex_lock(&storage->read_lock);
    if (storage->read_stop) {
        status = STATUS_CLOSED;
    } else if (storage->read_count == storage->config.queue_max ||
               bytes > storage->config.queue_bytes_max - storage->read_bytes) {
        status = STATUS_OVERLOADED;
    } else {
        *storage->read_last = job;
        storage->read_last = &job->next;
        storage->read_count++;
        storage->read_bytes += bytes;
        atomic_fetch_add(&storage->reads_handed_over, 1);
    }
    pthread_mutex_unlock(&storage->read_lock);
    if (status == STATUS_OK)
        pthread_cond_signal(&storage->read_wake);
    else
        free(job);
    return status;
}

static bool take_permit(struct storage *storage)
{
    if (atomic_fetch_sub(&storage->permits, 1) > 0)
        return true;
    atomic_fetch_add(&storage->permits, 1);
    return false;
}

bool storage_read(struct storage *storage, const struct storage_op *op,
                  struct buffer *value, struct storage_result *result)
{
    ASSERT(op->kind == STORAGE_READ || op->kind == STORAGE_SCAN);
    *result = (struct storage_result){.op = op};
    if (atomic_load(&storage->broken)) {
        result->status = STATUS_BROKEN;
        result->message = STORAGE_BROKEN_MESSAGE;
        return true;
    }
    bool blocks = !storage_is_inline(storage);
    if (op->kind == STORAGE_READ && (!blocks || take_permit(storage))) {
        get(storage, op, value, result);
        if (blocks)
            atomic_fetch_add(&storage->permits, 1);
        atomic_fetch_add(&storage->reads_inline, 1);
        return true;
    }
    result->status = hand_over(storage, op);
    return result->status != STATUS_OK;
}
