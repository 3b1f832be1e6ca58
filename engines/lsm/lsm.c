/* SPDX-License-Identifier: MIT */
#include "engines/lsm/lsm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engines/lsm/manifest.h"
#include "engines/types.h"
#include "proto/assert.h"

static const char *const compressions[] = {"none", "lz4", "zstd", NULL};

#define MIB (UINT64_C(1) << 20)

static const struct engine_setting_spec settings[] = {
    {"memtable_bytes", 4096, 4096 * MIB, 16 * MIB,
     "bytes written before they become a table; up to seven times this is held "
     "in memory while the disk is behind. More means fewer compactions and a "
     "longer start after a crash",
     NULL},
    {"cache_bytes", 0, MIB *MIB, 64 * MIB,
     "bytes of tables' blocks, indexes and filters kept in memory; more costs "
     "memory, less costs reads of the disk",
     NULL},
    {"table_bytes", 4096, 4096 * MIB, 16 * MIB,
     "bytes at which compaction begins another table. More means fewer files, "
     "less means smaller compactions",
     NULL},
    {"level1_bytes", 4096, MIB *MIB, 128 * MIB,
     "bytes of level 1; each level below holds ten times as much as the one "
     "above. More writes less in all and compacts longer at a time",
     NULL},
    {"compression", 0, 2, COMPRESSION_LZ4,
     "of tables above the last level: zstd saves more and costs more",
     compressions},
    {"compression_last", 0, 2, COMPRESSION_LZ4,
     "of tables of the last level, where most data is", compressions},
    {"compaction_bytes_per_second", 0, MIB *MIB, 0,
     "that compactions write at most; 0 is no limit. Less leaves more of the "
     "disk to reads and writes, too little makes writes wait",
     NULL},
    {NULL, 0, 0, 0, NULL, NULL},
};

uint64_t lsm_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

const char *lsm_why(enum status status)
{
    return status == STATUS_IO && errno != 0 ? strerror(errno)
                                             : status_name(status);
}

/* Which is not the disk's failure, and can be mended. */
static void report_limit(struct lsm *lsm, int number)
{
    char message[320];
    if (lsm->report == NULL)
        return;
    snprintf(message, sizeof message,
             "%.150s: a file cannot be opened: %s; every table of the store "
             "takes a descriptor, so raise that limit (ulimit -n)",
             lsm->directory, strerror(number));
    lsm->report(lsm->report_context, message);
}

void lsm_break(struct lsm *lsm, enum status why)
{
    int number = errno;
    pthread_mutex_lock(&lsm->mutex);
    bool first = !lsm->broken;
    if (first)
        lsm->untold = why;
    lsm->broken = true;
    pthread_cond_broadcast(&lsm->changed);
    pthread_mutex_unlock(&lsm->mutex);
    if (first && why == STATUS_IO && (number == EMFILE || number == ENFILE))
        report_limit(lsm, number);
}

uint64_t lsm_new_file(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    uint64_t number = lsm->next_file++;
    pthread_mutex_unlock(&lsm->mutex);
    return number;
}

void lsm_remove_table(struct lsm *lsm, uint64_t number)
{
    char name[LSM_NAME_MAX];
    int before = errno; /* which may say why it is removed: see lsm_break */
    table_name(name, number);
    (void)!lsm->disk->operations->remove(lsm->disk, name);
    errno = before;
}

void lsm_remove_log(struct lsm *lsm, uint64_t number)
{
    char name[LSM_NAME_MAX];
    log_name(name, number);
    (void)!lsm->disk->operations->remove(lsm->disk, name);
}

static void report_damage(void *context, uint64_t table, uint64_t offset,
                          const char *what)
{
    struct lsm *lsm = context;
    atomic_fetch_add(&lsm->counters.damaged, 1);
    if (lsm->report == NULL)
        return;
    char message[320], name[LSM_NAME_MAX];
    table_name(name, table);
    snprintf(message, sizeof message, "%.130s/%.31s, offset %" PRIu64 ": %s",
             lsm->directory, name, offset, what);
    lsm->report(lsm->report_context, message);
}

enum status lsm_open_table(struct lsm *lsm, uint64_t number,
                           uint64_t drops_applied, struct table **table)
{
    struct table_report report = {report_damage, lsm};
    enum status status =
        table_open(lsm->disk, lsm->cache, number, &report, table);
    if (status == STATUS_OK)
        (*table)->drops_applied = drops_applied;
    return status;
}

enum status lsm_open_written(struct lsm *lsm, uint64_t number,
                             uint64_t drops_applied, struct table **table)
{
    enum status status = lsm_open_table(lsm, number, drops_applied, table);
    return status == STATUS_NOT_FOUND ? STATUS_IO : status;
}

struct view *lsm_view(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    struct view *view = lsm->view;
    view_ref(view);
    pthread_mutex_unlock(&lsm->mutex);
    return view;
}

enum status lsm_change_view(struct lsm *lsm, struct memtable *begun,
                            size_t flushed, struct version *version)
{
    struct memtable *memtables[MEMTABLES_MAX + 1] = {begun};
    size_t begins = begun != NULL;
    pthread_mutex_lock(&lsm->mutex);
    struct view *old = lsm->view;
    ASSERT(flushed < old->memtable_count);
    size_t left = old->memtable_count - flushed;
    memcpy(memtables + begins, old->memtables, left * sizeof memtables[0]);
    struct view *next = view_new(memtables, begins + left,
                                 version != NULL ? version : old->version);
    if (next != NULL)
        lsm->view = next;
    pthread_mutex_unlock(&lsm->mutex);
    if (next == NULL)
        return STATUS_NO_MEMORY;
    view_unref(old);
    return STATUS_OK;
}

enum status lsm_install(struct lsm *lsm, const struct version_edit *edit,
                        size_t flushed)
{
    uint64_t flushed_sequence = lsm->flushed_sequence;
    uint64_t sequence = atomic_load(&lsm->sequence);
    pthread_mutex_lock(&lsm->mutex);
    struct view *view = lsm->view;
    view_ref(view);
    uint64_t next_file = lsm->next_file;
    pthread_mutex_unlock(&lsm->mutex);
    size_t left = view->memtable_count - flushed;
    const struct memtable *oldest = view->memtables[left - 1];
    if (flushed > 0)
        flushed_sequence = memtable_last_sequence(view->memtables[left]);
    /* An empty memtable was so when the sequence was read. */
    if (left == 1 && memtable_count(oldest) == 0)
        flushed_sequence = sequence;
    if (edit->drop != NULL)
        sequence = edit->drop->sequence;
    struct version *next = version_apply(view->version, edit, flushed_sequence);
    enum status status = next == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK && !version_in_order(next))
        status = STATUS_CORRUPT;
    if (status == STATUS_OK)
        status = manifest_write(lsm->disk, next, next_file,
                                memtable_log(oldest), sequence);
    if (status == STATUS_OK) {
        lsm->flushed_log = memtable_log(oldest);
        lsm->flushed_sequence = flushed_sequence;
        status = lsm_change_view(lsm, NULL, flushed, next);
    }
    if (status != STATUS_OK)
        lsm_break(lsm, status);
    bool remove = status == STATUS_OK && !edit->moved;
    for (size_t i = 0; remove && i < edit->removed_count; i++)
        lsm_remove_table(lsm, edit->removed[i]->number);
    version_unref(next);
    view_unref(view);
    lsm_update_pressure(lsm);
    return status;
}

enum status lsm_snapshot(struct lsm *lsm, struct view **view,
                         uint64_t *sequence)
{
    if (lsm->broken)
        return STATUS_BROKEN;
    /* In this order: what is published while the mutex is held, no rotation
     * being possible, is in the view. */
    pthread_mutex_lock(&lsm->mutex);
    *view = lsm->view;
    view_ref(*view);
    *sequence = atomic_load_explicit(&lsm->sequence, memory_order_acquire);
    pthread_mutex_unlock(&lsm->mutex);
    return STATUS_OK;
}

/* What a table says of a key, unless a drop hides that, in which case all that
 * is older is hidden, too, and no block is read. */
static enum status find_in(const struct version *version, struct table *table,
                           struct bytes key, uint64_t hash,
                           struct cache_block **block, struct entry *entry)
{
    entry->removed = version_hides(version, key, table->drops_applied);
    return entry->removed ? STATUS_OK
                          : table_get(table, key, hash, block, entry);
}

/* The newest version that the snapshot may see, hidden ones taken for removed;
 * a table's value is in *block. */
static enum status find(const struct view *view, struct bytes key,
                        uint64_t sequence, struct cache_block **block,
                        struct entry *entry)
{
    uint64_t hash = key_hash(key);
    const struct version *version = view->version;
    for (size_t i = 0; i < view->memtable_count; i++) {
        if (!memtable_get(view->memtables[i], key, hash, sequence, entry))
            continue;
        if (version_hides(version, key, entry->sequence))
            entry->removed = true;
        return STATUS_OK;
    }
    enum status status = STATUS_NOT_FOUND;
    const struct level *levels = version->levels;
    for (size_t i = 0; status == STATUS_NOT_FOUND && i < levels[0].count; i++)
        status = find_in(version, levels[0].tables[i], key, hash, block, entry);
    for (unsigned i = 1; status == STATUS_NOT_FOUND && i < LEVELS; i++) {
        struct table *table = version_find(&levels[i], key);
        if (table != NULL)
            status = find_in(version, table, key, hash, block, entry);
    }
    return status;
}

static enum status lsm_get(struct engine *engine, struct bytes key,
                           struct buffer *value)
{
    struct view *view;
    uint64_t sequence;
    enum status status = lsm_snapshot(lsm_of(engine), &view, &sequence);
    if (status != STATUS_OK)
        return status;
    struct cache_block *block = NULL;
    struct entry entry = {.removed = false};
    status = find(view, key, sequence, &block, &entry);
    if (status == STATUS_OK && entry.removed)
        status = STATUS_NOT_FOUND;
    if (status == STATUS_OK) {
        buffer_clear(value);
        status = buffer_append(value, entry.value);
    }
    cache_release(block);
    view_unref(view);
    return status;
}

static void count_memtables(const struct view *view, struct engine_stats *stats)
{
    for (size_t i = 0; i < view->memtable_count; i++) {
        /* What is in a memtable is in a log of about the same size. */
        size_t bytes = memtable_bytes(view->memtables[i]);
        stats->memory_bytes += bytes;
        stats->disk_bytes += bytes;
        stats->keys += memtable_count(view->memtables[i]);
    }
}

static void lsm_stats(struct engine *engine, struct engine_stats *stats)
{
    struct lsm *lsm = lsm_of(engine);
    struct lsm_counters *counters = &lsm->counters;
    struct cache_stats cached = {0};
    cache_stats(lsm->cache, &cached);
    *stats = (struct engine_stats){
        .memory_bytes = cached.bytes + chunk_pool_bytes(&lsm->chunks),
        .user_bytes = atomic_load(&counters->user_bytes),
        .stored_bytes = atomic_load(&counters->stored_bytes),
        .stall_us = atomic_load(&counters->stall_us),
        .stall_us_max = atomic_load(&counters->stall_us_max),
        .damaged = atomic_load(&counters->damaged),
    };
    struct view *view = lsm_view(lsm);
    count_memtables(view, stats);
    for (unsigned i = 0; i < LEVELS; i++) {
        const struct level *level = &view->version->levels[i];
        uint64_t user_bytes = 0;
        stats->disk_bytes += level->bytes;
        for (size_t j = 0; j < level->count; j++) {
            const struct table_facts *facts = &level->tables[j]->facts;
            stats->keys += facts->entries - facts->removals;
            user_bytes += facts->user_bytes;
        }
        /* The last level has each of its keys once, and most of all keys. */
        if (user_bytes > 0)
            stats->live_bytes = user_bytes;
    }
    view_unref(view);
}

static void free_logs(struct lsm *lsm)
{
    log_close(&lsm->log);
    log_close(&lsm->spare);
    while (lsm->retired != NULL) {
        struct retired_log *retired = lsm->retired;
        lsm->retired = retired->next;
        log_close(&retired->log);
        free(retired);
    }
}

static void release(struct lsm *lsm)
{
    free_logs(lsm);
    view_unref(lsm->view);
    chunk_pool_fini(&lsm->chunks);
    cache_free(lsm->cache);
    disk_free(lsm->disk);
    pthread_cond_destroy(&lsm->changed);
    pthread_mutex_destroy(&lsm->mutex);
    pthread_mutex_destroy(&lsm->manifest_mutex);
    pthread_mutex_destroy(&lsm->retired_mutex);
    pthread_mutex_destroy(&lsm->memtable_mutex);
    pthread_mutex_destroy(&lsm->lead_mutex);
    pthread_mutex_destroy(&lsm->drop_mutex);
    pthread_mutex_destroy(&lsm->queue.mutex);
    free(lsm->directory);
    free(lsm);
}

static void stop_threads(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    lsm->stopping = true;
    pthread_cond_broadcast(&lsm->changed);
    pthread_mutex_unlock(&lsm->mutex);
}

static enum status start_threads(struct lsm *lsm, struct error *error)
{
    if (!lsm->threads)
        return STATUS_OK;
    int failed = pthread_create(&lsm->flusher, NULL, lsm_flusher, lsm);
    if (failed == 0 &&
        pthread_create(&lsm->compactor, NULL, lsm_compactor, lsm) != 0) {
        stop_threads(lsm);
        pthread_join(lsm->flusher, NULL);
        failed = 1;
    }
    return failed == 0
               ? STATUS_OK
               : error_set(error, STATUS_NO_MEMORY,
                           "%s: no thread could be started", lsm->directory);
}

static void lsm_close(struct engine *engine)
{
    struct lsm *lsm = lsm_of(engine);
    if (lsm->threads) {
        stop_threads(lsm);
        pthread_join(lsm->flusher, NULL);
        pthread_join(lsm->compactor, NULL);
    }
    /* A courtesy to those who write without sync; it may fail. */
    if (!lsm->broken && lsm_sync_logs(lsm) == STATUS_OK)
        (void)!log_sync(&lsm->log);
    release(lsm);
}

static struct lsm *lsm_new(const struct engine_options *options,
                           struct disk *disk, bool threads)
{
    const struct engine_type *type = &lsm_engine_type;
    struct lsm *lsm = calloc(1, sizeof *lsm);
    if (lsm == NULL)
        return NULL;
    lsm->engine.type = type;
    lsm->disk = disk;
    lsm->threads = threads;
    lsm->report = options->report;
    lsm->report_context = options->report_context;
    lsm->memtable_bytes =
        (size_t)engine_setting(options, type, "memtable_bytes");
    lsm->table_bytes = engine_setting(options, type, "table_bytes");
    lsm->level1_bytes = engine_setting(options, type, "level1_bytes");
    lsm->compaction_bytes_per_second =
        engine_setting(options, type, "compaction_bytes_per_second");
    lsm->compression =
        (enum compression)engine_setting(options, type, "compression");
    lsm->compression_last =
        (enum compression)engine_setting(options, type, "compression_last");
    chunk_pool_init(&lsm->chunks, 2 * lsm->memtable_bytes);
    lsm_init_queue(&lsm->queue);
    pthread_mutex_init(&lsm->drop_mutex, NULL);
    pthread_mutex_init(&lsm->lead_mutex, NULL);
    pthread_mutex_init(&lsm->memtable_mutex, NULL);
    pthread_mutex_init(&lsm->retired_mutex, NULL);
    pthread_mutex_init(&lsm->manifest_mutex, NULL);
    pthread_mutex_init(&lsm->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lsm->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    lsm->directory = strdup(options->directory);
    lsm->cache =
        cache_new((size_t)engine_setting(options, type, "cache_bytes"));
    if (lsm->directory != NULL && lsm->cache != NULL)
        return lsm;
    lsm->disk = NULL;
    release(lsm);
    return NULL;
}

enum status lsm_open_on(const struct engine_options *options, struct disk *disk,
                        bool threads, struct engine **engine,
                        struct error *error)
{
    *engine = NULL;
    struct lsm *lsm = lsm_new(options, disk, threads);
    if (lsm == NULL) {
        disk_free(disk);
        return error_set(error, STATUS_NO_MEMORY, "out of memory");
    }
    /* What fails without a sentence of its own is memory or a sync. */
    error_set(error, STATUS_IO, "%s: cannot be opened", lsm->directory);
    enum status status = lsm_recover(lsm, error);
    if (status == STATUS_OK)
        status = start_threads(lsm, error);
    if (error != NULL)
        error->status = status;
    if (status != STATUS_OK) {
        release(lsm);
        return status;
    }
    if (error != NULL)
        error->text[0] = '\0';
    *engine = &lsm->engine;
    return STATUS_OK;
}

static enum status lsm_open(const struct engine_options *options,
                            struct engine **engine, struct error *error)
{
    struct disk *disk = NULL;
    enum status status = disk_open(options->directory, &disk, error);
    return status == STATUS_OK ? lsm_open_on(options, disk, true, engine, error)
                               : status;
}

const struct engine_type lsm_engine_type = {
    .name = "lsm",
    .capabilities = ENGINE_DURABLE | ENGINE_CHECKPOINT | ENGINE_PASSES_DAMAGE |
                    ENGINE_CONCURRENT_WRITES | ENGINE_RANGE_DELETE,
    .settings = settings,
    .open = lsm_open,
    .close = lsm_close,
    .get = lsm_get,
    .write = lsm_write,
    .iterate = lsm_iterate,
    .next = lsm_next,
    .iterator_free = lsm_iterator_free,
    .delete_range = lsm_delete_range,
    .stats = lsm_stats,
    .checkpoint = lsm_checkpoint,
};
