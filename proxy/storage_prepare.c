/* SPDX-License-Identifier: MIT */
#include "proxy/storage_internal.h"

/* From the queue into the forming batch, by whoever brought the operations:
 * the hand-off to the writer comes after the record is on its way to the other
 * replicas, not before. A thread that finds another one preparing leaves its
 * operations to that one. */

/* Under lock. */
bool storage_is_queued(const struct storage *storage)
{
    return storage->taken_done < storage->taken.count ||
           storage->waiting.count > 0;
}

/* Under lock: what is queued becomes ours. */
static void take(struct storage *storage)
{
    if (storage->taken_done < storage->taken.count)
        return;
    struct op_queue empty = storage->taken;
    empty.count = 0;
    arena_reset(&empty.arena);
    storage->taken = storage->waiting;
    storage->waiting = empty;
    storage->taken_done = 0;
}

static void prepare_taken(struct storage *storage)
{
    struct storage_batch *batch = storage->forming;
    storage->taken_done +=
        batch_run(storage, storage->taken.ops + storage->taken_done,
                  storage->taken.count - storage->taken_done);
    if (batch->early_count > 0)
        storage->handlers->done(storage->user, batch->early,
                                batch->early_count);
    batch->early_count = 0;
    if (batch->stored_count == 0)
        batch_reset(batch); /* nothing in it will be written */
}

void storage_prepare(struct storage *storage)
{
    if (storage->is_preparing)
        return;
    bool worked = false;
    storage->is_preparing = true;
    while (!atomic_load(&storage->broken) && !atomic_load(&storage->suspect) &&
           storage_is_queued(storage) && !batch_is_full(storage->forming)) {
        take(storage);
        pthread_mutex_unlock(&storage->lock);
        prepare_taken(storage);
        pthread_mutex_lock(&storage->lock);
        worked = true;
        if (storage->writer_waits && storage->forming->stored_count > 0)
            break;
    }
    storage->is_preparing = false;
    if (!worked || !storage->writer_waits)
        return;
    storage->writer_waits = false;
    /* Not under the lock: the writer may have this processor at once, and then
     * everybody would wait until this thread has it again. */
    pthread_mutex_unlock(&storage->lock);
    pthread_cond_signal(&storage->wake);
    pthread_mutex_lock(&storage->lock);
}

void storage_refuse_queued(struct storage *storage)
{
    while (storage_is_queued(storage)) {
        take(storage);
        for (; storage->taken_done < storage->taken.count;
             storage->taken_done++)
            storage_refuse(storage, &storage->taken.ops[storage->taken_done],
                           STATUS_BROKEN);
    }
}
