/* SPDX-License-Identifier: MIT */
#include "engines/lsm/lsm.h"
#include "engines/lsm/manifest.h"

static bool is_settled(const struct lsm *lsm)
{
    return lsm->view->memtable_count == 1 &&
           lsm->compactor_seen == lsm->changes;
}

/* Whether all logs before this one are in tables. */
static bool is_flushed(const struct lsm *lsm, uint64_t log)
{
    const struct view *view = lsm->view;
    return memtable_log(view->memtables[view->memtable_count - 1]) >= log;
}

/* Wait until all that is frozen now is in tables, and if asked for, until
 * nothing else is and all is compacted. */
static enum status wait_for_tables(struct lsm *lsm, bool compacted)
{
    if (!lsm->threads)
        return compacted ? lsm_work(lsm, true) : lsm_flush_or_break(lsm);
    pthread_mutex_lock(&lsm->mutex);
    uint64_t log = memtable_log(lsm->view->memtables[0]);
    if (compacted) {
        lsm->settling++;
        lsm->changes++;
        pthread_cond_broadcast(&lsm->changed);
    }
    while (!lsm->broken && !lsm->stopping &&
           !(compacted ? is_settled(lsm) : is_flushed(lsm, log)))
        pthread_cond_wait(&lsm->changed, &lsm->mutex);
    if (compacted)
        lsm->settling--;
    bool gave_up = lsm->broken || lsm->stopping;
    pthread_mutex_unlock(&lsm->mutex);
    return gave_up ? STATUS_BROKEN : STATUS_OK;
}

enum status lsm_settle(struct engine *engine)
{
    struct lsm *lsm = lsm_of(engine);
    enum status status = lsm_freeze(lsm);
    return status == STATUS_OK ? wait_for_tables(lsm, true) : status;
}

static enum status link_tables(struct lsm *lsm, const struct version *version,
                               struct disk *other)
{
    enum status status = STATUS_OK;
    for (unsigned i = 0; i < LEVELS; i++) {
        const struct level *level = &version->levels[i];
        for (size_t j = 0; j < level->count && status == STATUS_OK; j++) {
            char name[LSM_NAME_MAX];
            table_name(name, level->tables[j]->number);
            status = lsm->disk->operations->link(lsm->disk, name, other);
        }
    }
    return status;
}

/* The tables of one version, linked; an empty log; the manifest last, which
 * also makes the other names durable. */
static enum status copy_version(struct lsm *lsm, struct disk *other)
{
    struct view *view;
    uint64_t sequence;
    enum status status = lsm_snapshot(lsm, &view, &sequence);
    if (status != STATUS_OK)
        return status;
    struct log log = {0};
    uint64_t number = lsm_new_file(lsm);
    status = link_tables(lsm, view->version, other);
    if (status == STATUS_OK)
        status = log_create(&log, other, number, 0);
    log_close(&log);
    if (status == STATUS_OK)
        status =
            manifest_write(other, view->version, number + 1, number, sequence);
    view_unref(view);
    return status;
}

enum status lsm_checkpoint(struct engine *engine, const char *directory,
                           struct error *error)
{
    struct lsm *lsm = lsm_of(engine);
    struct disk *other = NULL;
    enum status status = lsm->disk->operations->make_directory(
        lsm->disk, directory, &other, error);
    if (status != STATUS_OK)
        return status;
    pthread_mutex_lock(&lsm->drop_mutex);
    status = lsm_freeze(lsm);
    if (status == STATUS_OK)
        status = wait_for_tables(lsm, false);
    if (status == STATUS_OK) {
        /* No name is removed while this is held. */
        pthread_mutex_lock(&lsm->manifest_mutex);
        status = copy_version(lsm, other);
        pthread_mutex_unlock(&lsm->manifest_mutex);
    }
    pthread_mutex_unlock(&lsm->drop_mutex);
    disk_free(other);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(error, status, "no checkpoint in %.200s: %s",
                           directory,
                           status == STATUS_REFUSED
                               ? "it is on another file system, which cannot "
                                 "share files with this store"
                               : status_name(status));
}
