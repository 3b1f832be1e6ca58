/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engines/lsm/lsm.h"
#include "engines/lsm/merge.h"

static enum status write_table(struct lsm *lsm, uint64_t number,
                               lsm_add_entries *add, const void *context,
                               const struct version *version)
{
    struct table_writer *writer = NULL;
    struct table_facts facts = {0};
    struct table_options options = {.compression = lsm->compression};
    enum status status = table_writer_new(lsm->disk, number, &options, &writer);
    if (status == STATUS_OK)
        status = add(context, version, writer);
    if (status == STATUS_OK)
        status = table_writer_finish(writer, &facts);
    table_writer_free(writer);
    atomic_fetch_add(&lsm->counters.stored_bytes, facts.bytes);
    return status;
}

enum status lsm_store(struct lsm *lsm, lsm_add_entries *add,
                      const void *context, const struct version *version,
                      struct table **table)
{
    uint64_t number = lsm_new_file(lsm);
    enum status status = write_table(lsm, number, add, context, version);
    if (status == STATUS_OK)
        status = lsm->disk->operations->sync_directory(lsm->disk);
    if (status == STATUS_OK)
        status =
            lsm_open_written(lsm, number, version_last_drop(version), table);
    if (status != STATUS_OK)
        lsm_remove_table(lsm, number);
    return status;
}

/* Add what is frozen in a view, for lsm_store. */
static enum status add_frozen(const void *context,
                              const struct version *version,
                              struct table_writer *writer)
{
    const struct view *view = context;
    struct merge merge = {0};
    enum status status =
        merge_init(&merge, view->memtable_count - 1, UINT64_MAX, ENGINE_FORWARD,
                   TABLE_STREAM, version);
    if (status == STATUS_OK) {
        for (size_t i = 1; i < view->memtable_count; i++)
            merge_add_memtable(&merge, view->memtables[i]);
        status = merge_seek(&merge, (struct bytes){0});
    }
    struct entry entry;
    while (status == STATUS_OK) {
        status = merge_next(&merge, &entry);
        if (status == STATUS_OK)
            status = table_writer_add(writer, &entry);
    }
    merge_fini(&merge);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* Take the logs that are in tables now from the retired ones, newest last. */
static struct retired_log *take_retired(struct lsm *lsm)
{
    struct retired_log *taken = NULL;
    pthread_mutex_lock(&lsm->retired_mutex);
    struct retired_log **at = &lsm->retired;
    while (*at != NULL) {
        struct retired_log *retired = *at;
        if (retired->log.number >= lsm->flushed_log) {
            at = &retired->next;
            continue;
        }
        *at = retired->next;
        retired->next = taken;
        taken = retired;
    }
    pthread_mutex_unlock(&lsm->retired_mutex);
    return taken;
}

/* One that a huge batch has made long would stay so for ever. */
static bool is_recyclable(const struct lsm *lsm, const struct log *log)
{
    return lsm->recyclable == 0 && log->size <= 2 * lsm->memtable_bytes;
}

/* Keep one file to use again, remove the others. The caller holds
 * manifest_mutex. */
static void recycle_logs(struct lsm *lsm)
{
    struct retired_log *next;
    for (struct retired_log *at = take_retired(lsm); at != NULL; at = next) {
        next = at->next;
        log_close(&at->log);
        if (is_recyclable(lsm, &at->log))
            lsm->recyclable = at->log.number;
        else
            lsm_remove_log(lsm, at->log.number);
        free(at);
    }
}

static enum status install(struct lsm *lsm, struct table *table, size_t flushed)
{
    struct version_edit edit = {.added = &table, .added_count = 1};
    pthread_mutex_lock(&lsm->manifest_mutex);
    enum status status = lsm_install(lsm, &edit, flushed);
    if (status == STATUS_OK)
        recycle_logs(lsm);
    pthread_mutex_unlock(&lsm->manifest_mutex);
    return status;
}

/* What is frozen at one moment becomes one table: if the disk has fallen
 * behind, level 0 grows by bytes and not by tables. */
enum status lsm_flush(struct lsm *lsm)
{
    struct view *view = lsm_view(lsm);
    size_t count = view->memtable_count - 1;
    struct table *table = NULL;
    enum status status = STATUS_OK;
    if (count > 0)
        status = lsm_store(lsm, add_frozen, view, view->version, &table);
    if (count > 0 && status == STATUS_OK)
        status = install(lsm, table, count);
    table_unref(table);
    view_unref(view);
    if (count == 0)
        return STATUS_OK;
    lsm_set_rest(lsm, false);
    return status;
}

/* If it fails, so may the directory's sync have, which then says nothing any
 * more of names that were changed before. */
void lsm_make_spare(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    bool wanted = lsm->spare_wanted;
    pthread_mutex_unlock(&lsm->mutex);
    if (!wanted)
        return;
    pthread_mutex_lock(&lsm->manifest_mutex);
    uint64_t recycled = lsm->recyclable;
    lsm->recyclable = 0;
    pthread_mutex_unlock(&lsm->manifest_mutex);
    pthread_mutex_lock(&lsm->mutex);
    uint64_t number = lsm->next_file++;
    lsm->spare_begun = true;
    pthread_mutex_unlock(&lsm->mutex);
    struct log log = {0};
    enum status status = log_create(&log, lsm->disk, number, recycled);
    if (status != STATUS_OK)
        lsm_break(lsm, status);
    pthread_mutex_lock(&lsm->mutex);
    lsm->spare = log;
    lsm->spare_begun = lsm->spare_wanted = false;
    pthread_cond_broadcast(&lsm->changed);
    pthread_mutex_unlock(&lsm->mutex);
}

enum status lsm_flush_or_break(struct lsm *lsm)
{
    enum status status = lsm_flush(lsm);
    if (status != STATUS_OK)
        lsm_break(lsm, status);
    return status;
}

enum status lsm_work(struct lsm *lsm, bool quiet)
{
    enum status status = lsm_flush_or_break(lsm);
    while (!lsm->broken && (status == STATUS_OK || status == STATUS_CORRUPT))
        status = lsm_compact(lsm, quiet);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* Wait until there is work. False: the engine closes or is broken. */
static bool wait_for_work(struct lsm *lsm)
{
    pthread_mutex_lock(&lsm->mutex);
    while (!lsm->stopping && !lsm->broken && !lsm->spare_wanted &&
           lsm->view->memtable_count == 1)
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
    bool go_on = !lsm->stopping && !lsm->broken;
    pthread_mutex_unlock(&lsm->mutex);
    return go_on;
}

void *lsm_flusher(void *context)
{
    struct lsm *lsm = context;
    while (wait_for_work(lsm)) {
        lsm_make_spare(lsm);
        (void)!lsm_flush_or_break(lsm);
    }
    return NULL;
}
