/* SPDX-License-Identifier: MIT */
#include "engines/lsm/compaction.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "engines/lsm/lsm.h"
#include "engines/lsm/merge.h"

/* One compaction under way. */
struct job {
    struct lsm *lsm;
    struct version *version; /* keeps the inputs alive */
    struct compaction compaction;
    struct merge merge;
    struct table_writer *writer; /* of outputs[output_count], or NULL */
    uint64_t number;             /* of the writer's file */
    uint64_t drops_applied;
    struct table **outputs;
    size_t output_count, output_capacity;
    bool unread; /* an input could not be */
    /* Where the keys so far have got to in each level beneath. */
    size_t beneath[LEVELS];
};

static struct timespec in_ns(uint64_t ns)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    ns += (uint64_t)at.tv_nsec;
    at.tv_sec += (time_t)(ns / 1000000000);
    at.tv_nsec = (long)(ns % 1000000000);
    return at;
}

/* Keep to the rate, but wake for a stop. */
static void pace(void *context, size_t bytes)
{
    struct lsm *lsm = context;
    uint64_t rate = lsm->compaction_bytes_per_second;
    if (rate == 0)
        return;
    struct timespec until =
        in_ns((uint64_t)((double)bytes * 1e9 / (double)rate));
    pthread_mutex_lock(&lsm->mutex);
    int waited = 0;
    while (!lsm->stopping && waited == 0)
        waited = pthread_cond_timedwait(&lsm->changed, &lsm->mutex, &until);
    pthread_mutex_unlock(&lsm->mutex);
}

static bool is_last_level(const struct version *version, unsigned level)
{
    for (unsigned i = level + 1; i < LEVELS; i++) {
        if (version->levels[i].count > 0)
            return false;
    }
    return true;
}

/* Whether nothing beneath the output level may hold key, so that its removal
 * has nothing left to hide. Keys ascend from call to call. */
static bool is_base(struct job *job, struct bytes key)
{
    const struct version *version = job->version;
    /* Older tables of level 0 are beneath, too. */
    if (job->compaction.output_level == 0)
        return false;
    for (unsigned i = job->compaction.output_level + 1; i < LEVELS; i++) {
        const struct level *level = &version->levels[i];
        size_t *at = &job->beneath[i];
        while (*at < level->count &&
               bytes_compare(level->tables[*at]->largest, key) < 0)
            ++*at;
        if (*at < level->count &&
            bytes_compare(level->tables[*at]->smallest, key) <= 0)
            return false;
    }
    return true;
}

/* What the disk keeps for logs and flushes, in memtables: one that is in a log
 * and is being made a table, and the log behind it. */
enum { SPARED_MEMTABLES = 2 };

/* Beyond that: of level 0 one table is made of all. */
static uint64_t output_bytes(const struct job *job)
{
    const struct compaction *compaction = &job->compaction;
    uint64_t bytes = 0;
    if (compaction->output_level > 0)
        return job->lsm->table_bytes;
    for (size_t i = 0; i < compaction->upper_count; i++)
        bytes += compaction->inputs[i]->facts.bytes;
    return bytes;
}

/* Compactions can wait for room, logs cannot. What does not fit is told once,
 * until a compaction does. */
static bool has_room(const struct job *job)
{
    struct lsm *lsm = job->lsm;
    uint64_t needed =
        SPARED_MEMTABLES * (uint64_t)lsm->memtable_bytes + output_bytes(job);
    uint64_t found = lsm->disk->operations->free_bytes(lsm->disk);
    if (found >= needed)
        return true;
    if (!lsm->rest_told && lsm->report != NULL) {
        char message[320];
        snprintf(message, sizeof message,
                 "%.150s: compactions rest: %" PRIu64 " MB free, %" PRIu64
                 " needed",
                 lsm->directory, found / 1000000, needed / 1000000 + 1);
        lsm->report(lsm->report_context, message);
    }
    lsm->rest_told = true;
    return false;
}

/* Of the tables that compactions write to a level. */
static enum compression compression_of(const struct job *job, unsigned level)
{
    return is_last_level(job->version, level) ? job->lsm->compression_last
                                              : job->lsm->compression;
}

/* Whether tables that move would come to the last level as they were written
 * for one above. That is told by where they are: of tables that became the
 * last, those below them having gone, it is wrong. */
static bool needs_compression(const struct job *job)
{
    unsigned level = job->compaction.level;
    enum compression has =
        level == 0 ? job->lsm->compression : compression_of(job, level);
    return has != compression_of(job, job->compaction.output_level);
}

static enum status begin_output(struct job *job)
{
    struct lsm *lsm = job->lsm;
    if (!has_room(job))
        return STATUS_NO_SPACE;
    if (job->output_count == job->output_capacity) {
        size_t capacity = 2 * job->output_capacity + 8;
        struct table **grown = realloc(job->outputs, capacity * sizeof *grown);
        if (grown == NULL)
            return STATUS_NO_MEMORY;
        job->outputs = grown;
        job->output_capacity = capacity;
    }
    struct table_options options = {
        .compression = compression_of(job, job->compaction.output_level),
        .pace = pace,
        .pace_context = lsm,
    };
    job->number = lsm_new_file(lsm);
    return table_writer_new(lsm->disk, job->number, &options, &job->writer);
}

static enum status end_output(struct job *job)
{
    struct lsm *lsm = job->lsm;
    struct table_facts facts = {0};
    if (job->writer == NULL)
        return STATUS_OK;
    enum status status = table_writer_finish(job->writer, &facts);
    table_writer_free(job->writer);
    job->writer = NULL;
    if (status == STATUS_OK)
        status = lsm_open_written(lsm, job->number, job->drops_applied,
                                  &job->outputs[job->output_count]);
    if (status == STATUS_OK)
        job->output_count++;
    else
        lsm_remove_table(lsm, job->number);
    atomic_fetch_add(&lsm->counters.stored_bytes, facts.bytes);
    return status;
}

static enum status add(struct job *job, const struct entry *entry)
{
    if (entry->removed && is_base(job, entry->key))
        return STATUS_OK;
    enum status status = STATUS_OK;
    /* In level 0, to have fewer of them is the purpose. */
    if (job->writer != NULL && job->compaction.output_level > 0 &&
        table_writer_bytes(job->writer) >= job->lsm->table_bytes)
        status = end_output(job);
    if (status == STATUS_OK && job->writer == NULL)
        status = begin_output(job);
    if (status == STATUS_OK)
        status = table_writer_add(job->writer, entry);
    return status;
}

/* What reading the inputs answered: an output may fail alike. Of more damage
 * than is remembered they say that memory is short. */
static enum status read_inputs(struct job *job, enum status status)
{
    job->unread = status == STATUS_CORRUPT || status == STATUS_IO ||
                  job->merge.damage_count > 0;
    return status;
}

static enum status open_inputs(struct job *job)
{
    const struct compaction *compaction = &job->compaction;
    enum status status =
        merge_init(&job->merge, compaction->upper_count + 1, UINT64_MAX,
                   ENGINE_FORWARD, TABLE_STREAM, job->version);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < compaction->upper_count; i++)
        merge_add_tables(&job->merge, &compaction->inputs[i], 1);
    if (compaction->lower_count > 0)
        merge_add_tables(&job->merge,
                         compaction->inputs + compaction->upper_count,
                         compaction->lower_count);
    return read_inputs(job, merge_seek(&job->merge, (struct bytes){0}));
}

static enum status merge_inputs(struct job *job)
{
    enum status status = open_inputs(job);
    struct entry entry;
    bool ended = false;
    while (status == STATUS_OK && !ended) {
        if (job->lsm->stopping || job->lsm->broken)
            return STATUS_CLOSED;
        status = read_inputs(job, merge_next(&job->merge, &entry));
        ended = status == STATUS_NOT_FOUND;
        if (ended)
            status = end_output(job);
        else if (status == STATUS_OK)
            status = add(job, &entry);
    }
    if (status == STATUS_OK)
        status = job->lsm->disk->operations->sync_directory(job->lsm->disk);
    return status;
}

static enum status install(struct job *job)
{
    struct lsm *lsm = job->lsm;
    const struct compaction *compaction = &job->compaction;
    struct version_edit edit = {
        .removed = compaction->inputs,
        .removed_count = compaction->upper_count + compaction->lower_count,
        .added = job->outputs,
        .added_count = job->output_count,
        .added_level = compaction->output_level,
        .moved = compaction->move,
    };
    if (compaction->move) {
        edit.added = compaction->inputs;
        edit.added_count = compaction->upper_count;
    }
    pthread_mutex_lock(&lsm->manifest_mutex);
    enum status status = lsm_install(lsm, &edit, 0);
    pthread_mutex_unlock(&lsm->manifest_mutex);
    return status;
}

static void job_fini(struct job *job, enum status status)
{
    if (job->writer != NULL)
        lsm_remove_table(job->lsm, job->number);
    table_writer_free(job->writer);
    for (size_t i = 0; i < job->output_count; i++) {
        /* If it is broken, the manifest may name them; else nothing does. */
        if (status != STATUS_OK && !job->lsm->broken)
            lsm_remove_table(job->lsm, job->outputs[i]->number);
        table_unref(job->outputs[i]);
    }
    free(job->outputs);
    merge_fini(&job->merge);
    compaction_fini(&job->compaction);
    version_unref(job->version);
}

void lsm_set_rest(struct lsm *lsm, bool rests)
{
    pthread_mutex_lock(&lsm->mutex);
    lsm->compaction_rests = rests;
    pthread_mutex_unlock(&lsm->mutex);
    lsm_update_pressure(lsm);
}

static bool writes_tables(const struct compaction *compaction)
{
    return !compaction->move && !compaction->remove;
}

static enum status run(struct job *job)
{
    const struct compaction *compaction = &job->compaction;
    enum status status = STATUS_OK;
    if (writes_tables(compaction))
        status = merge_inputs(job);
    if (status == STATUS_OK) {
        job->lsm->rest_told &= !writes_tables(compaction);
        return install(job);
    }
    /* What is damaged is marked and not picked again. A full disk may have
     * room after the next flush, when what it wrote has replaced a log, or
     * when somebody has made some. */
    if (job->unread &&
        compaction_any_damaged(compaction->inputs, compaction->upper_count +
                                                       compaction->lower_count))
        return STATUS_CORRUPT;
    if (status == STATUS_NO_SPACE) {
        lsm_set_rest(job->lsm, true);
    } else if (status != STATUS_CLOSED) {
        lsm_break(job->lsm, status);
    }
    return status;
}

enum status lsm_compact(struct lsm *lsm, bool quiet)
{
    struct job job = {.lsm = lsm};
    pthread_mutex_lock(&lsm->mutex);
    job.version = lsm->view->version;
    version_ref(job.version);
    bool rests = lsm->compaction_rests;
    pthread_mutex_unlock(&lsm->mutex);
    job.drops_applied = version_last_drop(job.version);
    enum status status = lsm->stopping
                             ? STATUS_NOT_FOUND
                             : compaction_pick(job.version, lsm->level1_bytes,
                                               quiet, &job.compaction);
    if (status == STATUS_OK && needs_compression(&job))
        job.compaction.move = false;
    if (status == STATUS_OK && rests && writes_tables(&job.compaction))
        status = STATUS_NOT_FOUND;
    if (status == STATUS_OK)
        status = run(&job);
    job_fini(&job, status);
    return status;
}

/* A tenth of the processor time that others get who want it as well. */
enum { COMPACTION_NICE = 10 };

/* As long as nothing was written, writes rest. */
enum { QUIET_MS = 250 };

/* How long compactions rest at most before they look for room again. */
enum { REST_MS = 2000 };

/* Sleep until something changed since `seen`; not for long, if it is not yet
 * known whether writes rest, or compactions do. False: nothing did. */
static bool wait_for_change(struct lsm *lsm, uint64_t seen, bool quiet)
{
    int waited = 0;
    pthread_mutex_lock(&lsm->mutex);
    bool rests = lsm->compaction_rests;
    struct timespec until =
        in_ns((rests ? REST_MS : QUIET_MS) * UINT64_C(1000000));
    if (quiet) {
        lsm->compactor_seen = seen;
        pthread_cond_broadcast(&lsm->changed);
    }
    while (lsm->changes == seen && !lsm->stopping && !lsm->broken &&
           waited == 0) {
        if (quiet && !rests)
            pthread_cond_wait(&lsm->changed, &lsm->mutex);
        else
            waited = pthread_cond_timedwait(&lsm->changed, &lsm->mutex, &until);
    }
    bool changed = lsm->changes != seen;
    pthread_mutex_unlock(&lsm->mutex);
    if (rests && waited != 0)
        lsm_set_rest(lsm, false);
    return changed;
}

void *lsm_compactor(void *context)
{
    struct lsm *lsm = context;
    /* Of threads that want to run, readers, writers and flushes go first. On
     * Linux this is the priority of the thread alone; without it all is well,
     * too. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), COMPACTION_NICE);
    /* Nothing had been written since this for a while: writes rest until
     * something is. */
    uint64_t quiet_sequence = UINT64_MAX;
    while (!lsm->stopping && !lsm->broken) {
        pthread_mutex_lock(&lsm->mutex);
        uint64_t seen = lsm->changes;
        bool settling = lsm->settling > 0;
        pthread_mutex_unlock(&lsm->mutex);
        uint64_t sequence = atomic_load(&lsm->sequence);
        bool quiet = settling || sequence == quiet_sequence;
        enum status status = lsm_compact(lsm, quiet);
        if (status == STATUS_OK || status == STATUS_CORRUPT)
            continue;
        if (!wait_for_change(lsm, seen, quiet) &&
            sequence == atomic_load(&lsm->sequence)) {
            quiet_sequence = sequence;
            chunk_pool_rest(&lsm->chunks);
        }
    }
    return NULL;
}
