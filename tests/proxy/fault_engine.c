/* SPDX-License-Identifier: MIT */
#include "tests/proxy/fault_engine.h"

#include "engines/types.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct gate {
    bool closed;
    unsigned waiting;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct engine *disk; /* the memory engine */
    bool fail_write, fail_opens, broken;
    enum status fail_reads;
    struct gate writes, reads;
    struct fault_counts counts;
    void (*report)(void *context, const char *message);
    void *report_context;
} faults = {.lock = PTHREAD_MUTEX_INITIALIZER,
            .changed = PTHREAD_COND_INITIALIZER};

static void set(bool *flag, bool value)
{
    pthread_mutex_lock(&faults.lock);
    *flag = value;
    pthread_cond_broadcast(&faults.changed);
    pthread_mutex_unlock(&faults.lock);
}

void fault_fail_write(void)
{
    set(&faults.fail_write, true);
}

void fault_fail_opens(bool fail)
{
    set(&faults.fail_opens, fail);
}

void fault_break(void)
{
    set(&faults.broken, true);
}

void fault_fail_reads(enum status status)
{
    pthread_mutex_lock(&faults.lock);
    faults.fail_reads = status;
    pthread_mutex_unlock(&faults.lock);
}

void fault_block_writes(bool block)
{
    set(&faults.writes.closed, block);
}

void fault_block_reads(bool block)
{
    set(&faults.reads.closed, block);
}

void fault_report(const char *message)
{
    faults.report(faults.report_context, message);
}

/* Under the lock. */
static void pass(struct gate *gate)
{
    gate->waiting++;
    pthread_cond_broadcast(&faults.changed);
    while (gate->closed)
        pthread_cond_wait(&faults.changed, &faults.lock);
    gate->waiting--;
}

static bool wait_until(const unsigned *number, unsigned count)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 10;
    int failed = 0;
    pthread_mutex_lock(&faults.lock);
    while (*number < count && failed == 0)
        failed =
            pthread_cond_timedwait(&faults.changed, &faults.lock, &deadline);
    pthread_mutex_unlock(&faults.lock);
    return failed == 0;
}

bool fault_wait_blocked_writes(unsigned count)
{
    return wait_until(&faults.writes.waiting, count);
}

bool fault_wait_blocked_reads(unsigned count)
{
    return wait_until(&faults.reads.waiting, count);
}

bool fault_wait_open_attempts(unsigned count)
{
    return wait_until(&faults.counts.open_attempts, count);
}

bool fault_wait_syncs(unsigned count)
{
    return wait_until(&faults.counts.syncs, count);
}

struct fault_counts fault_counts(void)
{
    pthread_mutex_lock(&faults.lock);
    struct fault_counts counts = faults.counts;
    pthread_mutex_unlock(&faults.lock);
    return counts;
}

void fault_reset(void)
{
    pthread_mutex_lock(&faults.lock);
    engine_close(faults.disk);
    faults.disk = NULL;
    faults.fail_write = faults.fail_opens = false;
    faults.broken = false;
    faults.fail_reads = STATUS_OK;
    faults.writes = faults.reads = (struct gate){0};
    faults.counts = (struct fault_counts){0};
    pthread_mutex_unlock(&faults.lock);
}

/* Under the lock. */
static enum status insert_disk(struct error *error)
{
    struct engine_options options = {0};
    if (faults.disk != NULL)
        return STATUS_OK;
    return engine_open(&memory_engine_type, &options, &faults.disk, error);
}

enum status fault_put(struct bytes key, struct bytes value)
{
    struct batch_operation operation = {.key = key, .value = value};
    struct batch batch = {.operations = &operation, .count = 1};
    pthread_mutex_lock(&faults.lock);
    enum status status = insert_disk(NULL);
    pthread_mutex_unlock(&faults.lock);
    return status == STATUS_OK ? engine_write(faults.disk, &batch, true)
                               : status;
}

/* --- the engine --- */

static enum status open_as(const struct engine_type *type,
                           const struct engine_options *options,
                           struct engine **engine, struct error *error)
{
    pthread_mutex_lock(&faults.lock);
    faults.report = options->report;
    faults.report_context = options->report_context;
    faults.counts.open_attempts++;
    enum status status =
        faults.fail_opens
            ? error_set(error, STATUS_IO, "the disk does not answer")
            : insert_disk(error);
    *engine = status == STATUS_OK ? malloc(sizeof **engine) : NULL;
    if (*engine != NULL) {
        (*engine)->type = type;
        faults.broken = false;
        faults.counts.opens++;
    } else if (status == STATUS_OK) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory");
    }
    pthread_cond_broadcast(&faults.changed);
    pthread_mutex_unlock(&faults.lock);
    return status;
}

static enum status fault_open(const struct engine_options *options,
                              struct engine **engine, struct error *error)
{
    return open_as(&fault_engine_type, options, engine, error);
}

static enum status fault_inline_open(const struct engine_options *options,
                                     struct engine **engine,
                                     struct error *error)
{
    return open_as(&fault_inline_engine_type, options, engine, error);
}

static void fault_close(struct engine *engine)
{
    free(engine);
}

static enum status fault_get(struct engine *engine, struct bytes key,
                             struct buffer *value)
{
    (void)engine;
    pthread_mutex_lock(&faults.lock);
    pass(&faults.reads);
    bool broken = faults.broken;
    enum status failure = faults.fail_reads;
    pthread_mutex_unlock(&faults.lock);
    if (broken)
        return STATUS_BROKEN;
    enum status status = engine_get(faults.disk, key, value);
    return status == STATUS_OK ? failure : status;
}

static enum status fault_write(struct engine *engine, const struct batch *batch,
                               bool sync)
{
    (void)engine;
    pthread_mutex_lock(&faults.lock);
    pass(&faults.writes);
    enum status status = faults.broken ? STATUS_BROKEN : STATUS_OK;
    if (faults.fail_write)
        status = STATUS_IO;
    faults.broken |= faults.fail_write;
    faults.fail_write = false;
    pthread_mutex_unlock(&faults.lock);
    if (status == STATUS_OK)
        status = engine_write(faults.disk, batch, sync);
    pthread_mutex_lock(&faults.lock);
    faults.counts.writes++;
    faults.counts.syncs += sync;
    faults.counts.last_batch = batch->count;
    pthread_cond_broadcast(&faults.changed);
    pthread_mutex_unlock(&faults.lock);
    return status;
}

/* The iterator is the memory engine's own, and so are its slots from here. */
static enum status fault_iterate(struct engine *engine, struct bytes from,
                                 struct bytes to, enum engine_order order,
                                 struct engine_iterator **iterator)
{
    (void)engine;
    pthread_mutex_lock(&faults.lock);
    enum status status = faults.broken ? STATUS_BROKEN : faults.fail_reads;
    pthread_mutex_unlock(&faults.lock);
    return status == STATUS_OK
               ? engine_iterate(faults.disk, from, to, order, iterator)
               : status;
}

static void fault_stats(struct engine *engine, struct engine_stats *stats)
{
    (void)engine;
    engine_stats(faults.disk, stats);
}

const struct engine_type fault_engine_type = {
    .name = "fault",
    .capabilities = ENGINE_DURABLE,
    .open = fault_open,
    .close = fault_close,
    .get = fault_get,
    .write = fault_write,
    .iterate = fault_iterate,
    .stats = fault_stats,
};

const struct engine_type fault_inline_engine_type = {
    .name = "fault_inline",
    .capabilities = ENGINE_NEVER_BLOCKS,
    .open = fault_inline_open,
    .close = fault_close,
    .get = fault_get,
    .write = fault_write,
    .iterate = fault_iterate,
    .stats = fault_stats,
};
