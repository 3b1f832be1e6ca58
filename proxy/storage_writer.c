/* SPDX-License-Identifier: MIT */
#include "proxy/storage_internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* The writer: a thread, or whoever is in storage_run.
 *
 *          write failed            closed, a while later opened
 *   OPEN ---------------> BROKEN ---------------------------------> OPEN
 *
 * Whatever is queued while it is broken is refused. */

static void tell(struct storage *storage, const struct storage_done *list,
                 size_t count)
{
    if (count > 0)
        storage->handlers->done(storage->user, list, count);
}

static void break_down(struct storage *storage, enum status status)
{
    replica_renew(&storage->replica);
    pthread_mutex_lock(&storage->lock);
    atomic_store(&storage->broken, true);
    pthread_mutex_unlock(&storage->lock);
    storage_log(storage, "event=engine_failed engine=%s status=%s reopen=%s",
                storage->config.type->name, status_name(status),
                storage_is_inline(storage) ? "never" : "yes");
}

static enum status write(struct storage *storage,
                         const struct batch_operation *operations, size_t count,
                         bool sync)
{
    struct batch batch = {.operations = operations, .count = count};
    if (count == 0 && !(sync && storage->unsynced))
        return STATUS_OK;
    enum status status = engine_write(storage->engine, &batch, sync);
    if (status != STATUS_OK)
        return status;
    if (sync)
        atomic_fetch_add(&storage->syncs, 1);
    else if (!storage->unsynced)
        storage->unsynced_ms = storage_now_ms();
    storage->unsynced = !sync;
    if (count > 0)
        storage->reopen_delay_ms = 0;
    return STATUS_OK;
}

/* One batch of what begins at ops; how many operations that were. */
static size_t commit(struct storage *storage, const struct storage_op *ops,
                     size_t count)
{
    struct storage_batch *batch = &storage->batch;
    size_t ran = batch_run(storage, ops, count);
    tell(storage, batch->early, batch->early_count);
    enum status status = STATUS_BROKEN;
    if (!batch->broken)
        status = write(storage, batch->operations, batch->operation_count,
                       batch->sync);
    if (status != STATUS_OK) {
        break_down(storage, status);
        for (size_t i = 0; i < batch->stored_count; i++) {
            batch->stored[i].result.status = status;
            batch->stored[i].result.message =
                "the engine failed to write; the outcome is unknown";
        }
    }
    atomic_fetch_add(&storage->batches, batch->stored_count > 0);
    atomic_fetch_add(&storage->operations, batch->stored_count);
    tell(storage, batch->stored, batch->stored_count);
    return ran;
}

void writer_pass(struct storage *storage)
{
    struct op_queue *taken = &storage->taken;
    pthread_mutex_lock(&storage->lock);
    struct op_queue waiting = storage->waiting;
    storage->waiting = *taken;
    *taken = waiting;
    pthread_mutex_unlock(&storage->lock);
    size_t done = 0;
    while (done < taken->count && !atomic_load(&storage->broken))
        done += commit(storage, taken->ops + done, taken->count - done);
    pthread_mutex_lock(&storage->lock);
    for (; done < taken->count; done++)
        storage_refuse(storage, &taken->ops[done], STATUS_BROKEN);
    pthread_mutex_unlock(&storage->lock);
    taken->count = 0;
    arena_reset(&taken->arena);
}

/* --- what no operation asks for --- */

static void wait_longer(struct storage *storage)
{
    int64_t delay = storage->reopen_delay_ms * 2;
    if (delay < REOPEN_MS_MIN)
        delay = REOPEN_MS_MIN;
    if (delay > REOPEN_MS_MAX)
        delay = REOPEN_MS_MAX;
    storage->reopen_delay_ms = delay;
    storage->reopen_ms = storage_now_ms() + delay;
}

static void close_engine(struct storage *storage)
{
    pthread_rwlock_wrlock(&storage->engine_lock);
    struct engine *engine = storage->engine;
    storage->engine = NULL;
    atomic_store(&storage->suspect, false);
    pthread_rwlock_unlock(&storage->engine_lock);
    engine_close(engine);
    wait_longer(storage);
}

static void reopen(struct storage *storage)
{
    struct engine *engine;
    struct error error = {0};
    enum status status = engine_open(storage->config.type,
                                     &storage->config.options, &engine, &error);
    if (status != STATUS_OK) {
        wait_longer(storage);
        storage_log(storage,
                    "event=engine_reopen_failed status=%s retry_ms=%" PRId64
                    " error=\"%s\"",
                    status_name(status), storage->reopen_delay_ms, error.text);
        return;
    }
    pthread_rwlock_wrlock(&storage->engine_lock);
    storage->engine = engine;
    pthread_rwlock_unlock(&storage->engine_lock);
    /* What a failed sync left behind may be there and yet not on disk. */
    storage->unsynced = true;
    storage->unsynced_ms = storage_now_ms();
    pthread_mutex_lock(&storage->lock);
    atomic_store(&storage->broken, false);
    pthread_mutex_unlock(&storage->lock);
    atomic_fetch_add(&storage->reopens, 1);
    storage_log(storage, "event=engine_reopened engine=%s",
                storage->config.type->name);
    storage->handlers->reopened(storage->user);
}

static void sync_now(struct storage *storage)
{
    enum status status = write(storage, NULL, 0, true);
    if (status != STATUS_OK)
        break_down(storage, status);
}

/* When upkeep has something to do. */
static int64_t next_due(const struct storage *storage)
{
    bool broken = atomic_load(&storage->broken);
    if (broken)
        return storage->engine != NULL ? 0 : storage->reopen_ms;
    if (atomic_load(&storage->suspect))
        return 0;
    if (storage->config.sync == STORAGE_SYNC_INTERVAL && storage->unsynced)
        return storage->unsynced_ms + storage->config.interval_ms;
    return INT64_MAX;
}

static void upkeep(struct storage *storage)
{
    if (atomic_load(&storage->broken)) {
        if (storage->engine != NULL)
            close_engine(storage);
        else
            reopen(storage);
    } else if (atomic_load(&storage->suspect)) {
        break_down(storage, STATUS_BROKEN);
    } else {
        sync_now(storage);
    }
}

/* --- the thread --- */

/* Under lock. */
static void wait(struct storage *storage, int64_t due_ms)
{
    storage->writer_waits = true;
    if (due_ms == INT64_MAX) {
        pthread_cond_wait(&storage->wake, &storage->lock);
    } else {
        struct timespec due = {.tv_sec = due_ms / 1000,
                               .tv_nsec = due_ms % 1000 * 1000000};
        pthread_cond_timedwait(&storage->wake, &storage->lock, &due);
    }
    storage->writer_waits = false;
}

static void *writer_main(void *argument)
{
    struct storage *storage = argument;
    pthread_mutex_lock(&storage->lock);
    for (;;) {
        storage_tell_refusals(storage);
        int64_t due_ms = next_due(storage);
        bool queued = storage->waiting.count > 0;
        if (!queued && storage->stop)
            break;
        if (!queued && due_ms > storage_now_ms()) {
            wait(storage, due_ms);
            continue;
        }
        pthread_mutex_unlock(&storage->lock);
        if (queued)
            writer_pass(storage);
        else
            upkeep(storage);
        pthread_mutex_lock(&storage->lock);
    }
    pthread_mutex_unlock(&storage->lock);
    /* A clean stop loses nothing, whatever `sync` says. */
    if (!atomic_load(&storage->broken))
        sync_now(storage);
    return NULL;
}

enum status writer_start(struct storage *storage)
{
    const struct storage_config *config = &storage->config;
    replica_init(&storage->replica, config->seed, config->dedup_window_ms);
    storage->replica.value_bytes_max = config->value_bytes_max;
    /* What was read back at the start may not be on disk yet, and a merge that
     * changes nothing would acknowledge it. */
    storage->unsynced =
        storage_is_durable(storage) && config->sync == STORAGE_SYNC_BATCH;
    enum status status = batch_init(&storage->batch);
    if (status != STATUS_OK || storage_is_inline(storage))
        return status;
    storage->writer_started =
        pthread_create(&storage->writer, NULL, writer_main, storage) == 0;
    return storage->writer_started ? STATUS_OK : STATUS_NO_MEMORY;
}

void writer_stop(struct storage *storage)
{
    if (!storage->writer_started)
        return;
    pthread_mutex_lock(&storage->lock);
    storage->stop = true;
    pthread_mutex_unlock(&storage->lock);
    pthread_cond_signal(&storage->wake);
    pthread_join(storage->writer, NULL);
}
