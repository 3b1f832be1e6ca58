/* SPDX-License-Identifier: MIT */
#include "engines/lsm/lsm.h"

#include <stdlib.h>
#include <unistd.h>

#include "engines/directory.h"
#include "engines/lsm/compaction.h"
#include "engines/lsm/merge.h"
#include "engines/types.h"
#include "proto/assert.h"

/* An engine is the first member of an lsm, and so at the same address. */
static struct lsm *lsm_of(struct engine *engine)
{
    return (struct lsm *)(void *)engine;
}

static const struct engine_setting_spec settings[] = {
    {"memtable_bytes", 4096, UINT64_C(1) << 32, UINT64_C(16) << 20,
     "bytes written before they become a table; twice this is held in memory "
     "at most. More means fewer compactions and a longer start after a "
     "crash"},
    {NULL, 0, 0, 0, NULL},
};

void lsm_break(struct lsm *lsm, enum status why)
{
    pthread_mutex_lock(&lsm->mutex);
    if (!lsm->broken)
        lsm->untold = why;
    lsm->broken = true;
    pthread_cond_broadcast(&lsm->changed);
    pthread_mutex_unlock(&lsm->mutex);
}

uint64_t lsm_new_file(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    uint64_t number = lsm->next_file++;
    pthread_mutex_unlock(&lsm->mutex);
    return number;
}

void lsm_remove_file(struct lsm *lsm, enum lsm_file_kind kind, uint64_t number)
{
    char path[LSM_PATH_MAX];
    if (file_path(path, lsm->directory, kind, number))
        (void)unlink(path);
}

static void release(struct lsm *lsm)
{
    log_close(&lsm->log);
    view_unref(lsm->view);
    if (lsm->lock_fd >= 0)
        close(lsm->lock_fd);
    pthread_cond_destroy(&lsm->changed);
    pthread_mutex_destroy(&lsm->mutex);
    free(lsm->directory);
    free(lsm);
}

static enum status lsm_open(const struct engine_options *options,
                            struct engine **engine, struct error *error)
{
    *engine = NULL;
    struct lsm *lsm = calloc(1, sizeof *lsm);
    if (lsm == NULL)
        return error_set(error, STATUS_NO_MEMORY, "out of memory");
    lsm->engine.type = &lsm_engine_type;
    lsm->lock_fd = -1;
    lsm->log.fd = -1;
    lsm->memtable_bytes =
        (size_t)engine_setting(options, &lsm_engine_type, "memtable_bytes");
    pthread_mutex_init(&lsm->mutex, NULL);
    pthread_cond_init(&lsm->changed, NULL);
    lsm->directory = strdup(options->directory);
    /* What fails without a sentence of its own is memory or a sync. */
    error_set(error, STATUS_IO, "%s: cannot be opened", options->directory);
    enum status status = lsm->directory == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK)
        status = directory_lock(lsm->directory, &lsm->lock_fd, error);
    if (status == STATUS_OK)
        status = lsm_recover(lsm, error);
    if (status == STATUS_OK &&
        pthread_create(&lsm->thread, NULL, compaction_thread, lsm) != 0)
        status = error_set(error, STATUS_NO_MEMORY,
                           "%s: no thread could be started", lsm->directory);
    if (status != STATUS_OK) {
        if (error != NULL)
            error->status = status;
        release(lsm);
        return status;
    }
    if (error != NULL)
        *error = (struct error){.status = STATUS_OK};
    *engine = &lsm->engine;
    return STATUS_OK;
}

static void lsm_close(struct engine *engine)
{
    struct lsm *lsm = lsm_of(engine);
    pthread_mutex_lock(&lsm->mutex);
    lsm->stopping = true;
    pthread_cond_broadcast(&lsm->changed);
    pthread_mutex_unlock(&lsm->mutex);
    pthread_join(lsm->thread, NULL);
    /* A courtesy to those who write without sync; it may fail. */
    if (!lsm->broken)
        (void)!log_sync(&lsm->log);
    release(lsm);
}

/* A snapshot: the view, referenced, and the sequence up to which it counts. */
static enum status take_snapshot(struct lsm *lsm, struct view **view,
                                 uint64_t *sequence)
{
    pthread_mutex_lock(&lsm->mutex);
    bool broken = lsm->broken;
    *view = lsm->view;
    *sequence = lsm->sequence;
    view_ref(*view);
    pthread_mutex_unlock(&lsm->mutex);
    if (!broken)
        return STATUS_OK;
    view_unref(*view);
    return STATUS_BROKEN;
}

static bool get_from_memtable(const struct memtable *memtable, struct bytes key,
                              uint64_t sequence, struct entry *entry)
{
    if (memtable == NULL)
        return false;
    const struct memtable_node *node = memtable_seek(memtable, key, sequence);
    if (node == NULL)
        return false;
    *entry = memtable_entry(node);
    return bytes_equal(entry->key, key);
}

/* The newest version that the snapshot may see; block holds a table's. */
static enum status find(const struct view *view, struct bytes key,
                        uint64_t sequence, struct buffer *block,
                        struct entry *entry)
{
    if (get_from_memtable(view->active, key, sequence, entry) ||
        get_from_memtable(view->frozen, key, sequence, entry))
        return STATUS_OK;
    uint64_t hash = table_key_hash(key);
    for (size_t i = 0; i < view->table_count; i++) {
        enum status status =
            table_get(view->tables[i], key, hash, block, entry);
        if (status != STATUS_NOT_FOUND)
            return status;
    }
    return STATUS_NOT_FOUND;
}

static enum status lsm_get(struct engine *engine, struct bytes key,
                           struct buffer *value)
{
    struct view *view;
    uint64_t sequence;
    enum status status = take_snapshot(lsm_of(engine), &view, &sequence);
    if (status != STATUS_OK)
        return status;
    struct buffer block = {0};
    struct entry entry;
    status = find(view, key, sequence, &block, &entry);
    if (status == STATUS_OK && entry.removed)
        status = STATUS_NOT_FOUND;
    if (status == STATUS_OK) {
        buffer_clear(value);
        status = buffer_append(value, entry.value);
    }
    buffer_fini(&block);
    view_unref(view);
    return status;
}

/* Freeze the full memtable and begin a new log and memtable. The old log is
 * synced first: only the last of all logs may ever be torn. */
static enum status rotate(struct lsm *lsm)
{
    struct log log = {.fd = -1};
    struct memtable *memtable = NULL;
    struct view *next = NULL;
    enum status status = log_sync(&lsm->log);
    if (status == STATUS_OK)
        status = log_create(&log, lsm->directory, lsm_new_file(lsm));
    if (status == STATUS_OK) {
        memtable = memtable_new();
        status = memtable == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    if (status != STATUS_OK) {
        log_close(&log);
        return status;
    }
    pthread_mutex_lock(&lsm->mutex);
    struct view *old = lsm->view;
    while ((old->frozen != NULL || (old->table_count >= COMPACTION_TABLES_MAX &&
                                    !lsm->compaction_rests)) &&
           !lsm->broken) {
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
        old = lsm->view;
    }
    if (!lsm->broken)
        next = view_new(memtable, old->active, old->tables, old->table_count);
    if (next != NULL) {
        lsm->view = next;
        lsm->log_number = log.number;
        pthread_cond_broadcast(&lsm->changed);
    }
    pthread_mutex_unlock(&lsm->mutex);
    memtable_unref(memtable);
    if (next == NULL) {
        log_close(&log);
        return STATUS_BROKEN;
    }
    view_unref(old);
    log_close(&lsm->log);
    lsm->log = log;
    return STATUS_OK;
}

/* Entry i of the batch. */
static struct entry batch_entry(const struct batch *batch, size_t i,
                                uint64_t before)
{
    const struct batch_operation *operation = &batch->operations[i];
    return (struct entry){
        .key = operation->key,
        .value = operation->remove ? (struct bytes){0} : operation->value,
        .sequence = before + 1 + i,
        .removed = operation->remove,
    };
}

static enum status log_batch(struct lsm *lsm, const struct batch *batch,
                             uint64_t before)
{
    enum status status = log_begin(&lsm->log);
    for (size_t i = 0; status == STATUS_OK && i < batch->count; i++) {
        struct entry entry = batch_entry(batch, i, before);
        status = log_put(&lsm->log, &entry);
    }
    return status == STATUS_OK ? log_append(&lsm->log) : status;
}

/* The writer alone changes view->active and sequence, so it may read both
 * without the mutex once it has seen that the engine is not broken. */
static enum status apply(struct lsm *lsm, struct memtable *active,
                         uint64_t before, const struct batch *batch, bool sync)
{
    enum status status = STATUS_OK;
    if (batch->count > 0)
        status = log_batch(lsm, batch, before);
    if (status == STATUS_OK && sync)
        status = log_sync(&lsm->log);
    for (size_t i = 0; status == STATUS_OK && i < batch->count; i++) {
        struct entry entry = batch_entry(batch, i, before);
        status = memtable_add(active, &entry);
    }
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

static enum status lsm_write(struct engine *engine, const struct batch *batch,
                             bool sync)
{
    struct lsm *lsm = lsm_of(engine);
    struct view *view;
    uint64_t before;
    for (size_t i = 0; i < batch->count; i++)
        ASSERT(batch->operations[i].key.size <= ENGINE_KEY_BYTES_MAX);
    enum status status = take_snapshot(lsm, &view, &before);
    if (status != STATUS_OK)
        return fail(lsm, status);
    if (batch->count > 0 &&
        memtable_bytes(view->active) >= lsm->memtable_bytes) {
        view_unref(view);
        status = rotate(lsm);
        if (status == STATUS_OK)
            status = take_snapshot(lsm, &view, &before);
        if (status != STATUS_OK)
            return fail(lsm, status);
    }
    status = apply(lsm, view->active, before, batch, sync);
    view_unref(view);
    if (status != STATUS_OK)
        return fail(lsm, status);
    pthread_mutex_lock(&lsm->mutex);
    lsm->sequence = before + batch->count;
    pthread_mutex_unlock(&lsm->mutex);
    return STATUS_OK;
}

struct lsm_iterator {
    struct engine_iterator iterator; /* first: what callers hold */
    struct lsm *lsm;
    struct view *view;
    struct merge merge;
    struct buffer to; /* empty: no bound */
};

static struct lsm_iterator *iterator_of(struct engine_iterator *iterator)
{
    return (struct lsm_iterator *)(void *)iterator;
}

static void lsm_iterator_free(struct engine_iterator *base)
{
    struct lsm_iterator *iterator = iterator_of(base);
    merge_fini(&iterator->merge);
    buffer_fini(&iterator->to);
    view_unref(iterator->view);
    free(iterator);
}

static enum status add_sources(struct merge *merge, const struct view *view,
                               uint64_t sequence, struct bytes from)
{
    enum status status = merge_init(merge, view->table_count + 2, sequence);
    if (status == STATUS_OK)
        status = merge_add_memtable(merge, view->active, from);
    if (status == STATUS_OK && view->frozen != NULL)
        status = merge_add_memtable(merge, view->frozen, from);
    for (size_t i = 0; status == STATUS_OK && i < view->table_count; i++)
        status = merge_add_table(merge, view->tables[i], from);
    return status;
}

static enum status lsm_iterate(struct engine *engine, struct bytes from,
                               struct bytes to, struct engine_iterator **result)
{
    *result = NULL;
    struct lsm_iterator *iterator = calloc(1, sizeof *iterator);
    if (iterator == NULL)
        return STATUS_NO_MEMORY;
    iterator->iterator.type = &lsm_engine_type;
    iterator->lsm = lsm_of(engine);
    uint64_t sequence;
    enum status status =
        take_snapshot(iterator->lsm, &iterator->view, &sequence);
    if (status != STATUS_OK) {
        free(iterator);
        return status;
    }
    status = buffer_append(&iterator->to, to);
    if (status == STATUS_OK)
        status = add_sources(&iterator->merge, iterator->view, sequence, from);
    if (status != STATUS_OK) {
        lsm_iterator_free(&iterator->iterator);
        return status;
    }
    *result = &iterator->iterator;
    return STATUS_OK;
}

static enum status lsm_next(struct engine_iterator *base, struct bytes *key,
                            struct bytes *value)
{
    struct lsm_iterator *iterator = iterator_of(base);
    struct lsm *lsm = iterator->lsm;
    pthread_mutex_lock(&lsm->mutex);
    bool broken = lsm->broken;
    pthread_mutex_unlock(&lsm->mutex);
    if (broken)
        return STATUS_BROKEN;
    struct entry entry;
    do {
        enum status status = merge_next(&iterator->merge, &entry);
        if (status != STATUS_OK)
            return status;
    } while (entry.removed);
    if (iterator->to.size > 0 &&
        bytes_compare(entry.key, buffer_bytes(&iterator->to)) >= 0)
        return STATUS_NOT_FOUND;
    *key = entry.key;
    *value = entry.value;
    return STATUS_OK;
}

static void lsm_stats(struct engine *engine, struct engine_stats *stats)
{
    struct lsm *lsm = lsm_of(engine);
    *stats = (struct engine_stats){0};
    pthread_mutex_lock(&lsm->mutex);
    struct view *view = lsm->view;
    view_ref(view);
    pthread_mutex_unlock(&lsm->mutex);
    struct memtable *memtables[] = {view->active, view->frozen};
    for (size_t i = 0; i < 2 && memtables[i] != NULL; i++) {
        /* What is in a memtable is in a log of about the same size. */
        stats->memory_bytes += memtable_bytes(memtables[i]);
        stats->disk_bytes += memtable_bytes(memtables[i]);
        stats->keys += memtable_count(memtables[i]);
    }
    for (size_t i = 0; i < view->table_count; i++) {
        const struct table *table = view->tables[i];
        stats->disk_bytes += table->bytes;
        stats->memory_bytes += table->index.capacity + table->filter.capacity;
        stats->memory_bytes += table->block_count * sizeof *table->blocks;
        stats->keys += table->entries;
    }
    view_unref(view);
}

const struct engine_type lsm_engine_type = {
    .name = "lsm",
    .capabilities = ENGINE_DURABLE,
    .settings = settings,
    .open = lsm_open,
    .close = lsm_close,
    .get = lsm_get,
    .write = lsm_write,
    .iterate = lsm_iterate,
    .next = lsm_next,
    .iterator_free = lsm_iterator_free,
    .stats = lsm_stats,
};
