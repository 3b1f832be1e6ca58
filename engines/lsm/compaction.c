/* SPDX-License-Identifier: MIT */
#include "engines/lsm/compaction.h"

#include <stdlib.h>

#include "engines/directory.h"
#include "engines/lsm/manifest.h"
#include "engines/lsm/merge.h"

enum {
    /* A compaction looks this often whether a memtable waits: thousands of
     * entries are milliseconds, which a stalled writer does not notice. */
    ENTRIES_BETWEEN_LOOKS = 1024,
};

enum status compaction_write_memtable(struct lsm *lsm,
                                      const struct memtable *memtable,
                                      uint64_t number, struct table **table)
{
    struct merge merge;
    struct table_writer writer = {.fd = -1};
    struct entry entry;
    *table = NULL;
    enum status status = merge_init(&merge, 1, UINT64_MAX);
    if (status == STATUS_OK)
        status = merge_add_memtable(&merge, memtable, (struct bytes){0});
    if (status == STATUS_OK)
        status = table_writer_open(&writer, lsm->directory, number);
    while (status == STATUS_OK) {
        status = merge_next(&merge, &entry);
        if (status == STATUS_OK)
            status = table_writer_add(&writer, &entry);
    }
    if (status == STATUS_NOT_FOUND)
        status = table_writer_finish(&writer);
    table_writer_fini(&writer);
    merge_fini(&merge);
    if (status == STATUS_OK)
        status = table_open(lsm->directory, number, 0, table);
    if (status != STATUS_OK)
        lsm_remove_file(lsm, LSM_FILE_TABLE, number);
    return status;
}

enum status compaction_write_manifest(struct lsm *lsm, const struct view *view,
                                      uint64_t log_number)
{
    struct manifest manifest = {.log_number = log_number};
    manifest.tables = calloc(view->table_count + 1, sizeof *manifest.tables);
    if (manifest.tables == NULL)
        return STATUS_NO_MEMORY;
    pthread_mutex_lock(&lsm->mutex);
    manifest.next_file = lsm->next_file;
    pthread_mutex_unlock(&lsm->mutex);
    manifest.table_count = view->table_count;
    for (size_t i = 0; i < view->table_count; i++) {
        const struct table *table = view->tables[i];
        manifest.tables[i] = (struct manifest_table){.number = table->number,
                                                     .tier = table->tier};
        if (table->sequence > manifest.sequence)
            manifest.sequence = table->sequence;
    }
    enum status status = manifest_write(lsm->directory, &manifest);
    manifest_fini(&manifest);
    return status;
}

static struct view *take_view(struct lsm *lsm, uint64_t *log_number)
{
    pthread_mutex_lock(&lsm->mutex);
    struct view *view = lsm->view;
    view_ref(view);
    *log_number = lsm->log_number;
    pthread_mutex_unlock(&lsm->mutex);
    return view;
}

/* Make the change of the tables durable, then show it to readers. The writer
 * may have rotated in between, so what is shown has its present memtables,
 * less the flushed one. */
static enum status install(struct lsm *lsm, const struct view *view,
                           const struct memtable *flushed, uint64_t log_number)
{
    enum status status = directory_sync(lsm->directory, NULL);
    if (status == STATUS_OK)
        status = compaction_write_manifest(lsm, view, log_number);
    if (status != STATUS_OK)
        return status;
    lsm->flushed_log = log_number;
    pthread_mutex_lock(&lsm->mutex);
    struct view *old = lsm->view;
    struct memtable *frozen = old->frozen == flushed ? NULL : old->frozen;
    struct view *next =
        view_new(old->active, frozen, view->tables, view->table_count);
    if (next != NULL) {
        lsm->view = next;
        pthread_cond_broadcast(&lsm->changed);
    }
    pthread_mutex_unlock(&lsm->mutex);
    if (next == NULL)
        return STATUS_NO_MEMORY;
    view_unref(old);
    return STATUS_OK;
}

/* Turn the frozen memtable, if there is one, into a table. */
static enum status flush(struct lsm *lsm)
{
    uint64_t log_number;
    struct view *next = NULL, *view = take_view(lsm, &log_number);
    struct table *table = NULL;
    enum status status = STATUS_OK;
    if (view->frozen != NULL) {
        uint64_t old_log = lsm->flushed_log;
        status = compaction_write_memtable(lsm, view->frozen, lsm_new_file(lsm),
                                           &table);
        if (status == STATUS_OK) {
            next = view_replace(view, NULL, NULL, 0, table);
            status = next == NULL ? STATUS_NO_MEMORY : STATUS_OK;
        }
        if (status == STATUS_OK)
            status = install(lsm, next, view->frozen, log_number);
        /* Numbers between two logs are tables'; those are not removed. */
        for (; status == STATUS_OK && old_log < log_number; old_log++)
            lsm_remove_file(lsm, LSM_FILE_LOG, old_log);
    }
    table_unref(table);
    view_unref(next);
    view_unref(view);
    return status;
}

/* The first run of tables of one tier that is long enough; 0 if none is. */
static size_t find_due(const struct view *view, size_t *first)
{
    size_t start = 0;
    for (size_t i = 0; i <= view->table_count; i++) {
        if (i < view->table_count &&
            view->tables[i]->tier == view->tables[start]->tier)
            continue;
        if (i - start >= COMPACTION_TABLES) {
            *first = start;
            return i - start;
        }
        start = i;
    }
    return 0;
}

/* Give way: CLOSED if the engine closes; flush if a memtable waits. */
static enum status look_up(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    bool stopping = lsm->stopping;
    bool waiting = lsm->view->frozen != NULL;
    pthread_mutex_unlock(&lsm->mutex);
    if (stopping)
        return STATUS_CLOSED;
    if (!waiting)
        return STATUS_OK;
    /* A failed flush is what breaks an engine, whoever called it. */
    enum status status = flush(lsm);
    if (status == STATUS_OK)
        return STATUS_OK;
    lsm_break(lsm, status);
    return STATUS_BROKEN;
}

/* Merge tables (newest first) into one file, without removals if nothing
 * older lies beneath. An empty result has *entries 0. */
static enum status merge_tables(struct lsm *lsm, struct table *const *tables,
                                size_t count, bool oldest, uint64_t number,
                                uint64_t *entries)
{
    struct merge merge;
    struct table_writer writer = {.fd = -1};
    struct entry entry;
    enum status status = merge_init(&merge, count, UINT64_MAX);
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = merge_add_table(&merge, tables[i], (struct bytes){0});
    if (status == STATUS_OK)
        status = table_writer_open(&writer, lsm->directory, number);
    for (uint64_t seen = 1; status == STATUS_OK; seen++) {
        if (seen % ENTRIES_BETWEEN_LOOKS == 0)
            status = look_up(lsm);
        if (status == STATUS_OK)
            status = merge_next(&merge, &entry);
        if (status == STATUS_OK && !(oldest && entry.removed))
            status = table_writer_add(&writer, &entry);
    }
    *entries = writer.entries;
    if (status == STATUS_NOT_FOUND)
        status = table_writer_finish(&writer);
    table_writer_fini(&writer);
    merge_fini(&merge);
    return status;
}

static enum status install_merged(struct lsm *lsm, struct table *const *removed,
                                  size_t count, struct table *added)
{
    uint64_t log_number;
    struct view *view = take_view(lsm, &log_number);
    struct view *next = view_replace(view, view->frozen, removed, count, added);
    enum status status = next == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    /* Nothing was flushed, so the logs stay what they were. */
    if (status == STATUS_OK)
        status = install(lsm, next, NULL, lsm->flushed_log);
    view_unref(next);
    view_unref(view);
    return status;
}

/* NOT_FOUND if nothing is due. */
static enum status compact(struct lsm *lsm)
{
    uint64_t log_number, entries = 0;
    size_t first = 0;
    struct view *view = take_view(lsm, &log_number);
    size_t count = find_due(view, &first);
    if (count == 0) {
        view_unref(view);
        return STATUS_NOT_FOUND;
    }
    struct table *const *inputs = view->tables + first;
    struct table *output = NULL;
    uint64_t number = lsm_new_file(lsm);
    enum status status =
        merge_tables(lsm, inputs, count, first + count == view->table_count,
                     number, &entries);
    if (status == STATUS_OK && entries > 0)
        status =
            table_open(lsm->directory, number, inputs[0]->tier + 1, &output);
    if (status == STATUS_OK) {
        status = install_merged(lsm, inputs, count, output);
        /* Either manifest may be in place, which only an open can tell. */
        if (status != STATUS_OK)
            lsm_break(lsm, status);
        for (size_t i = 0; status == STATUS_OK && i < count; i++)
            lsm_remove_file(lsm, LSM_FILE_TABLE, inputs[i]->number);
    } else {
        entries = 0;
    }
    if (entries == 0)
        lsm_remove_file(lsm, LSM_FILE_TABLE, number);
    table_unref(output);
    view_unref(view);
    return status;
}

/* Wait until there may be work. False: the engine closes or is broken. */
static bool wait_for_work(struct lsm *lsm, bool idle)
{
    pthread_mutex_lock(&lsm->mutex);
    while (idle && !lsm->stopping && !lsm->broken && lsm->view->frozen == NULL)
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
    bool go_on = !lsm->stopping && !lsm->broken;
    pthread_mutex_unlock(&lsm->mutex);
    return go_on;
}

/* Compact once. What cannot be compacted is still read and written. */
static enum status try_compact(struct lsm *lsm)
{
    enum status status = compact(lsm);
    if (status == STATUS_CLOSED || status == STATUS_NOT_FOUND)
        return status;
    pthread_mutex_lock(&lsm->mutex);
    bool broken = lsm->broken;
    lsm->compaction_rests = status != STATUS_OK;
    pthread_cond_broadcast(&lsm->changed);
    pthread_mutex_unlock(&lsm->mutex);
    if (!broken && status != STATUS_OK && status != STATUS_CORRUPT &&
        status != STATUS_NO_SPACE)
        lsm_break(lsm, status);
    return status;
}

void *compaction_thread(void *context)
{
    struct lsm *lsm = context;
    bool idle = false, damaged = false;
    while (wait_for_work(lsm, idle)) {
        enum status status = flush(lsm);
        if (status != STATUS_OK) {
            lsm_break(lsm, status);
            break;
        }
        status = damaged ? STATUS_NOT_FOUND : try_compact(lsm);
        damaged = damaged || status == STATUS_CORRUPT;
        /* After the next flush there may be space again. */
        idle = status == STATUS_NOT_FOUND || status == STATUS_NO_SPACE;
    }
    return NULL;
}
