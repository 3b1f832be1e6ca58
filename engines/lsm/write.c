/* SPDX-License-Identifier: MIT */
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engines/lsm/lsm.h"
#include "proto/assert.h"

/* Group commit. Arrivals join the group that forms; if nobody leads, they lead
 * at once. The leader takes the group, writes and syncs the log, offers the
 * lead to one of the next group, adds to the memtable, and lets all of its
 * group go by one futex wake: waking them one by one costs more than the sync
 * they shared.
 *
 * A group sleeps on the word of its number's parity: the last group done of
 * that parity, twice, plus 1 while the lead is on offer. */

void lsm_init_queue(struct commit_queue *queue)
{
    pthread_mutex_init(&queue->mutex, NULL);
    queue->end = &queue->first;
    queue->forming = 1;
    atomic_init(&queue->words[0], 0);
    atomic_init(&queue->words[1], 0);
}

static void futex(atomic_uint *word, int operation, unsigned value)
{
    syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL,
            0);
}

/* True: the caller leads. False: a leader has done its write. */
static bool join(struct commit_queue *queue, struct writer *writer)
{
    pthread_mutex_lock(&queue->mutex);
    *queue->end = writer;
    queue->end = &writer->next;
    uint32_t group = queue->forming;
    bool leads = !queue->led;
    queue->led = true;
    pthread_mutex_unlock(&queue->mutex);
    atomic_uint *word = &queue->words[group & 1];
    while (!leads) {
        unsigned value = atomic_load_explicit(word, memory_order_acquire);
        /* That group, or one after it; numbers wrap. */
        if ((int32_t)((value & ~1u) - (group << 1)) >= 0)
            return false;
        if ((value & 1) != 0)
            leads = atomic_compare_exchange_strong(word, &value, value - 1);
        else
            futex(word, FUTEX_WAIT, value);
    }
    return true;
}

/* Close the group that forms and take its writers. */
static struct writer *take_group(struct commit_queue *queue, uint32_t *group)
{
    pthread_mutex_lock(&queue->mutex);
    struct writer *writers = queue->first;
    queue->first = NULL;
    queue->end = &queue->first;
    *group = queue->forming++;
    pthread_mutex_unlock(&queue->mutex);
    return writers;
}

static void offer_lead(struct commit_queue *queue)
{
    atomic_uint *word = NULL;
    pthread_mutex_lock(&queue->mutex);
    if (queue->first == NULL) {
        queue->led = false;
    } else {
        word = &queue->words[queue->forming & 1];
        atomic_fetch_or(word, 1);
    }
    pthread_mutex_unlock(&queue->mutex);
    if (word != NULL)
        futex(word, FUTEX_WAKE, 1);
}

/* Wait until one more memtable may be frozen. */
static void wait_for_room(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    while (lsm->view->memtable_count > FROZEN_MAX && !lsm->broken) {
        ASSERT(lsm->threads); /* without, each write flushes what it froze */
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
    }
    pthread_mutex_unlock(&lsm->mutex);
}

/* The log to go on with: the one that was made ahead of time, if it was. */
static enum status next_log(struct lsm *lsm, struct log *log)
{
    pthread_mutex_lock(&lsm->mutex);
    /* One that is being made has a lower number than any that is made now, and
     * logs are read in the order of their numbers. */
    while (lsm->spare_begun)
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
    *log = lsm->spare;
    lsm->spare = (struct log){0};
    lsm->spare_wanted = true;
    uint64_t number = log->file == NULL ? lsm->next_file++ : 0;
    pthread_mutex_unlock(&lsm->mutex);
    return number == 0 ? STATUS_OK : log_create(log, lsm->disk, number, 0);
}

/* End the log and begin another. */
static enum status change_log(struct lsm *lsm)
{
    struct log log = {0};
    struct retired_log *retired = calloc(1, sizeof *retired);
    enum status status = retired == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK)
        status = next_log(lsm, &log);
    if (status == STATUS_OK)
        status = log_end(&lsm->log, log.number);
    if (status != STATUS_OK) {
        log_close(&log);
        free(retired);
        return status;
    }
    pthread_mutex_lock(&lsm->retired_mutex);
    retired->log = lsm->log;
    retired->next = lsm->retired;
    lsm->retired = retired;
    pthread_mutex_unlock(&lsm->retired_mutex);
    lsm->log = log;
    return STATUS_OK;
}

/* Freeze the active memtable and begin another, with another log. The caller
 * holds lead_mutex. */
static enum status rotate(struct lsm *lsm)
{
    wait_for_room(lsm);
    pthread_mutex_lock(&lsm->memtable_mutex);
    struct memtable *memtable = NULL;
    enum status status = lsm->broken ? STATUS_BROKEN : change_log(lsm);
    if (status == STATUS_OK) {
        memtable = memtable_new(lsm->memtable_bytes, lsm->log.number,
                                lsm->active, &lsm->chunks);
        status = memtable == NULL ? STATUS_NO_MEMORY
                                  : lsm_change_view(lsm, memtable, 0, NULL);
    }
    if (status == STATUS_OK) {
        lsm->active = memtable; /* which the view keeps alive */
        lsm->drops = 0;
    }
    memtable_unref(memtable);
    pthread_mutex_unlock(&lsm->memtable_mutex);
    lsm_update_pressure(lsm);
    return status;
}

enum status lsm_sync_logs(struct lsm *lsm)
{
    enum status status = STATUS_OK;
    if (!lsm->log.predecessors_synced) {
        pthread_mutex_lock(&lsm->retired_mutex);
        /* The oldest first matters to nobody: none is read without all. */
        for (struct retired_log *at = lsm->retired;
             at != NULL && status == STATUS_OK; at = at->next) {
            if (at->log.file != NULL)
                status = log_sync(&at->log);
        }
        pthread_mutex_unlock(&lsm->retired_mutex);
        lsm->log.predecessors_synced = status == STATUS_OK;
    }
    return status;
}

static size_t batch_bytes(const struct batch *batch)
{
    size_t bytes = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const struct batch_operation *operation = &batch->operations[i];
        bytes += operation->key.size;
        bytes += operation->remove ? 0 : operation->value.size;
    }
    return bytes;
}

/* A group may be larger than a record should be: each batch is in one, but not
 * all need to be in the same. */
enum { RECORD_BYTES_MANY = 64 << 20 };

static enum status append_group(struct lsm *lsm, const struct writer *writers,
                                bool sync)
{
    enum status status = STATUS_OK;
    bool begun = false; /* a record without operations would end the log */
    for (const struct writer *at = writers; at != NULL; at = at->next) {
        if (at->batch->count == 0)
            continue;
        if (begun &&
            lsm->log.record.size + batch_bytes(at->batch) > RECORD_BYTES_MANY) {
            status = log_append(&lsm->log, sync);
            begun = false;
        }
        if (status == STATUS_OK && !begun)
            status = log_begin(&lsm->log, lsm->log_sequence + 1);
        begun = true;
        for (size_t i = 0; status == STATUS_OK && i < at->batch->count; i++)
            status = log_put(&lsm->log, &at->batch->operations[i]);
        if (status != STATUS_OK)
            return status;
        lsm->log_sequence += at->batch->count;
    }
    return log_append(&lsm->log, sync);
}

/* Log the group, and sync that if one of them wants it. */
static enum status log_group(struct lsm *lsm, const struct writer *writers,
                             size_t operations, bool sync)
{
    uint64_t before = lsm->log.size;
    enum status status = STATUS_OK;
    if (sync)
        status = lsm_sync_logs(lsm);
    if (status == STATUS_OK && operations > 0)
        status = append_group(lsm, writers, sync);
    if (status == STATUS_OK && sync)
        status = log_sync(&lsm->log);
    atomic_fetch_add_explicit(&lsm->counters.stored_bytes,
                              lsm->log.size - before, memory_order_relaxed);
    return status;
}

/* Every so many operations of a batch, for those to come. */
static void fetch(const struct lsm *lsm, const struct batch *batch, size_t from)
{
    struct bytes keys[MEMTABLE_FETCH_MAX];
    size_t count = 0;
    if (from % MEMTABLE_FETCH_MAX != 0)
        return;
    for (; count < MEMTABLE_FETCH_MAX && from + count < batch->count; count++)
        keys[count] = batch->operations[from + count].key;
    memtable_fetch(lsm->active, keys, count);
}

/* Add the group to the memtable and let readers see it. The caller holds
 * memtable_mutex. */
static enum status add_group(struct lsm *lsm, const struct writer *writers)
{
    enum status status = STATUS_OK;
    uint64_t sequence =
        atomic_load_explicit(&lsm->sequence, memory_order_relaxed);
    for (const struct writer *at = writers; at != NULL; at = at->next) {
        for (size_t i = 0; status == STATUS_OK && i < at->batch->count; i++) {
            const struct batch_operation *operation = &at->batch->operations[i];
            struct entry entry = {
                .key = operation->key,
                .value =
                    operation->remove ? (struct bytes){0} : operation->value,
                .sequence = ++sequence,
                .removed = operation->remove,
            };
            fetch(lsm, at->batch, i);
            status = memtable_add(lsm->active, &entry);
        }
    }
    if (status == STATUS_OK)
        atomic_store_explicit(&lsm->sequence, sequence, memory_order_release);
    return status;
}

/* What a write that failed answers. */
static enum status fail(struct lsm *lsm, enum status status)
{
    lsm_break(lsm, status);
    pthread_mutex_lock(&lsm->mutex);
    if (status == STATUS_BROKEN && lsm->untold != STATUS_OK)
        status = lsm->untold;
    lsm->untold = STATUS_OK;
    pthread_mutex_unlock(&lsm->mutex);
    return status;
}

/* Tell the group, of which nothing must be touched afterwards. The caller
 * holds memtable_mutex, so groups of one parity are done in their order and
 * no offer is overwritten. */
static void finish_group(struct lsm *lsm, struct writer *writers,
                         uint32_t group, enum status status)
{
    struct writer *next;
    for (struct writer *at = writers; at != NULL; at = next) {
        next = at->next;
        at->status = status;
    }
    atomic_store_explicit(&lsm->queue.words[group & 1], group << 1,
                          memory_order_release);
}

/* Before a group is logged: another memtable, if the active one is full. */
static enum status make_room(struct lsm *lsm, uint64_t *stalled_us)
{
    if (memtable_bytes(lsm->active) < lsm->memtable_bytes)
        return STATUS_OK;
    uint64_t begun = lsm_now_us();
    enum status status = rotate(lsm);
    *stalled_us += lsm_now_us() - begun;
    return status;
}

static void count_stall(struct lsm *lsm, uint64_t us)
{
    struct lsm_counters *counters = &lsm->counters;
    atomic_fetch_add(&counters->stall_us, us);
    if (us > atomic_load(&counters->stall_us_max))
        atomic_store(&counters->stall_us_max, us);
}

/* Only drops and what freezes memtables may have it, for long. */
static void lock_log(struct lsm *lsm, uint64_t *stalled_us)
{
    if (pthread_mutex_trylock(&lsm->lead_mutex) == 0)
        return;
    uint64_t begun = lsm_now_us();
    pthread_mutex_lock(&lsm->lead_mutex);
    *stalled_us += lsm_now_us() - begun;
}

/* Commit the group that forms. The caller leads. */
static void lead(struct lsm *lsm)
{
    uint64_t stalled_us = lsm_pay(lsm);
    lock_log(lsm, &stalled_us);
    uint32_t group;
    struct writer *writers = take_group(&lsm->queue, &group);
    bool sync = false, alone = writers->next == NULL;
    size_t operations = 0, bytes = 0;
    for (const struct writer *at = writers; at != NULL; at = at->next) {
        sync = sync || at->sync;
        operations += at->batch->count;
        bytes += batch_bytes(at->batch);
    }
    lsm_owe(lsm, bytes);
    enum status status = lsm->broken ? STATUS_BROKEN : STATUS_OK;
    if (status == STATUS_OK && operations > 0)
        status = make_room(lsm, &stalled_us);
    if (stalled_us > 0)
        count_stall(lsm, stalled_us);
    if (status == STATUS_OK)
        status = log_group(lsm, writers, operations, sync);
    pthread_mutex_lock(&lsm->memtable_mutex);
    pthread_mutex_unlock(&lsm->lead_mutex);
    if (status != STATUS_OK)
        status = fail(lsm, status);
    offer_lead(&lsm->queue);
    if (status == STATUS_OK) {
        atomic_fetch_add_explicit(&lsm->counters.user_bytes, bytes,
                                  memory_order_relaxed);
        status = add_group(lsm, writers);
        if (status != STATUS_OK)
            status = fail(lsm, status);
    }
    finish_group(lsm, writers, group, status);
    pthread_mutex_unlock(&lsm->memtable_mutex);
    if (!alone)
        futex(&lsm->queue.words[group & 1], FUTEX_WAKE, INT32_MAX);
}

/* Without threads: what a write made due. The next one tells a failure. */
static void work_inline(struct lsm *lsm)
{
    if (lsm->threads || lsm->broken || lsm->view->memtable_count == 1)
        return;
    lsm_make_spare(lsm);
    (void)!lsm_work(lsm, false);
}

enum status lsm_write(struct engine *engine, const struct batch *batch,
                      bool sync)
{
    struct lsm *lsm = lsm_of(engine);
    struct writer writer = {.batch = batch, .sync = sync};
    if (join(&lsm->queue, &writer))
        lead(lsm);
    work_inline(lsm);
    return writer.status;
}

/* The caller holds lead_mutex. */
static enum status freeze(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->memtable_mutex);
    bool empty = memtable_count(lsm->active) == 0;
    pthread_mutex_unlock(&lsm->memtable_mutex);
    return empty ? STATUS_OK : rotate(lsm);
}

enum status lsm_freeze(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->lead_mutex);
    enum status status = lsm->broken ? STATUS_BROKEN : freeze(lsm);
    if (status != STATUS_OK)
        status = fail(lsm, status);
    pthread_mutex_unlock(&lsm->lead_mutex);
    return status;
}

/* Drops are forgotten when what was written before them is in tables. Where
 * little is written that takes long, and each costs every read and every
 * manifest something: so many make a table due, however small. */
enum { DROPS_PER_MEMTABLE = 64 };

/* A drop has a sequence of its own. It is durable by the manifest, so what was
 * written before it is made durable first. */
static enum status drop(struct lsm *lsm, struct bytes from, struct bytes to)
{
    struct dropped_range range = {.from = from, .to = to};
    enum status status = lsm->broken ? STATUS_BROKEN : lsm_sync_logs(lsm);
    if (status == STATUS_OK)
        status = log_sync(&lsm->log);
    pthread_mutex_lock(&lsm->memtable_mutex);
    if (status == STATUS_OK) {
        range.sequence = ++lsm->log_sequence;
        pthread_mutex_lock(&lsm->manifest_mutex);
        struct version_edit edit = {.drop = &range};
        status = lsm_install(lsm, &edit, 0);
        /* Under the mutex, lest the next manifest say a sequence below that
         * of a drop it has. */
        if (status == STATUS_OK)
            atomic_store_explicit(&lsm->sequence, range.sequence,
                                  memory_order_release);
        pthread_mutex_unlock(&lsm->manifest_mutex);
    }
    pthread_mutex_unlock(&lsm->memtable_mutex);
    if (status == STATUS_OK && ++lsm->drops >= DROPS_PER_MEMTABLE)
        status = freeze(lsm);
    return status;
}

enum status lsm_delete_range(struct engine *engine, struct bytes from,
                             struct bytes to)
{
    struct lsm *lsm = lsm_of(engine);
    pthread_mutex_lock(&lsm->drop_mutex);
    pthread_mutex_lock(&lsm->lead_mutex);
    enum status status = drop(lsm, from, to);
    if (status != STATUS_OK)
        status = fail(lsm, status);
    pthread_mutex_unlock(&lsm->lead_mutex);
    pthread_mutex_unlock(&lsm->drop_mutex);
    work_inline(lsm);
    return status;
}
