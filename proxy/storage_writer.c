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

/* Whatever was prepared and is not on disk is lost, and with it what our own
 * copies said of our dots. */
static void fail_batch(struct storage *storage, struct storage_batch *batch,
                       enum status status)
{
    for (size_t i = 0; i < batch->stored_count; i++) {
        batch->stored[i].result.status = status;
        batch->stored[i].result.message =
            "the engine failed to write; the outcome is unknown";
    }
    tell(storage, batch->stored, batch->stored_count);
    batch_reset(batch);
}

/* What broke in the background is found by whoever comes first; a read hears
 * no more than BROKEN, but a write is told why. */
static enum status why_broken(struct storage *storage)
{
    enum status status =
        engine_write(storage->engine, &(struct batch){.count = 0}, false);
    return status == STATUS_OK ? STATUS_BROKEN : status;
}

/* One that keeps nothing would come back empty, and say so. */
static bool is_reopened(const struct storage *storage)
{
    return storage_is_durable(storage);
}

/* Under lock, which is let go of and taken again. */
static void break_down(struct storage *storage, enum status status)
{
    atomic_store(&storage->broken, true);
    /* No dot is issued from here on: who prepares stops, and who wants to
     * finds it broken. */
    while (storage->is_preparing)
        wait(storage, INT64_MAX);
    replica_renew(&storage->replica);
    storage_refuse_queued(storage);
    pthread_mutex_unlock(&storage->lock);
    if (status == STATUS_BROKEN)
        status = why_broken(storage);
    storage_log(storage, "event=engine_failed engine=%s status=%s reopen=%s",
                storage->config.type->name, status_name(status),
                is_reopened(storage) ? "yes" : "never");
    fail_batch(storage, storage->writing, status);
    fail_batch(storage, storage->forming, STATUS_BROKEN);
    pthread_mutex_lock(&storage->lock);
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
        storage->unsynced_ms = clock_now_ms();
    storage->unsynced = !sync;
    if (count > 0)
        storage->reopen_delay_ms = 0;
    return STATUS_OK;
}

/* Write the forming batch. Under lock, while nobody prepares; it is let go of
 * and taken again. */
static void commit(struct storage *storage)
{
    struct storage_batch *batch = storage->forming;
    storage->forming = storage->writing;
    storage->writing = batch;
    batch_reset(storage->forming);
    storage->begun++;
    /* What found the batch full. */
    storage_prepare(storage);
    pthread_mutex_unlock(&storage->lock);
    enum status status =
        write(storage, batch->operations, batch->operation_count, batch->sync);
    if (status == STATUS_OK) {
        atomic_fetch_add(&storage->batches, 1);
        atomic_fetch_add(&storage->operations, batch->stored_count);
        tell(storage, batch->stored, batch->stored_count);
        /* Its keys stay laid over the engine, which holds the same. */
        batch->stored_count = 0;
    }
    pthread_mutex_lock(&storage->lock);
    if (status != STATUS_OK)
        break_down(storage, status);
    storage->told = storage->begun;
    pthread_cond_broadcast(&storage->told_wake);
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
    storage->reopen_ms = clock_now_ms() + delay;
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

/* What a failed sync left behind is read again from here on, and where what
 * is acknowledged is on disk, so is what is read. */
static enum status sync_left_behind(struct storage *storage,
                                    struct engine *engine, struct error *error)
{
    if (storage->config.sync != STORAGE_SYNC_BATCH)
        return STATUS_OK;
    enum status status =
        engine_write(engine, &(struct batch){.count = 0}, true);
    if (status != STATUS_OK)
        return error_set(error, status, "what was there cannot be synced");
    atomic_fetch_add(&storage->syncs, 1);
    return STATUS_OK;
}

static void reopen(struct storage *storage)
{
    struct engine *engine;
    struct error error = {0};
    enum status status = engine_open(storage->config.type,
                                     &storage->config.options, &engine, &error);
    if (status == STATUS_OK) {
        status = sync_left_behind(storage, engine, &error);
        if (status != STATUS_OK)
            engine_close(engine);
    }
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
    storage->unsynced = storage->config.sync != STORAGE_SYNC_BATCH;
    storage->unsynced_ms = clock_now_ms();
    pthread_mutex_lock(&storage->lock);
    atomic_store(&storage->broken, false);
    pthread_mutex_unlock(&storage->lock);
    atomic_fetch_add(&storage->reopens, 1);
    storage_log(storage, "event=engine_reopened engine=%s",
                storage->config.type->name);
    storage->handlers->reopened(storage->user);
}

/* Under lock, which is let go of and taken again, as by what follows. */
static void sync_now(struct storage *storage)
{
    pthread_mutex_unlock(&storage->lock);
    enum status status = write(storage, NULL, 0, true);
    pthread_mutex_lock(&storage->lock);
    if (status != STATUS_OK)
        break_down(storage, status);
}

/* When upkeep has something to do. */
static int64_t next_due(const struct storage *storage)
{
    bool broken = atomic_load(&storage->broken);
    if (broken && !is_reopened(storage))
        return INT64_MAX;
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
    if (!atomic_load(&storage->broken)) {
        if (atomic_load(&storage->suspect))
            break_down(storage, STATUS_BROKEN);
        else
            sync_now(storage);
        return;
    }
    pthread_mutex_unlock(&storage->lock);
    if (storage->engine != NULL)
        close_engine(storage);
    else
        reopen(storage);
    pthread_mutex_lock(&storage->lock);
}

/* --- engines that never block --- */

void writer_run_inline(struct storage *storage)
{
    if (storage->is_writing)
        return;
    storage->is_writing = true;
    while (!atomic_load(&storage->broken) &&
           (storage_is_queued(storage) || storage->forming->stored_count > 0)) {
        storage_prepare(storage);
        if (atomic_load(&storage->suspect))
            break_down(storage, STATUS_BROKEN);
        else if (storage->forming->stored_count > 0)
            commit(storage);
    }
    storage->is_writing = false;
}

/* --- the thread --- */

static void *writer_main(void *argument)
{
    struct storage *storage = argument;
    pthread_mutex_lock(&storage->lock);
    for (;;) {
        storage_tell_refusals(storage);
        storage_prepare(storage);
        int64_t due_ms = next_due(storage);
        if (storage->is_preparing)
            wait(storage, INT64_MAX);
        else if (due_ms <= clock_now_ms())
            upkeep(storage);
        else if (storage->forming->stored_count > 0)
            commit(storage);
        else if (storage->stop)
            break;
        else
            wait(storage, due_ms);
    }
    /* A clean stop loses nothing, whatever `sync` says. */
    if (!atomic_load(&storage->broken))
        sync_now(storage);
    pthread_mutex_unlock(&storage->lock);
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
    storage->forming = &storage->batches_of[0];
    storage->writing = &storage->batches_of[1];
    enum status status = batch_init(storage->forming);
    if (status == STATUS_OK)
        status = batch_init(storage->writing);
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
