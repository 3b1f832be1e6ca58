/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engines/lsm/lsm.h"
#include "engines/lsm/manifest.h"
#include "engines/lsm/run.h"

/* Opening a store:
 *
 *   1. read the manifest, remove the tables it does not name and the logs
 *      before its log_number;
 *   2. open its tables;
 *   3. read the logs from log_number on, each naming the next, and make tables
 *      of what they hold. Where they end early, in a torn record, whatever
 *      follows is unsynced, too, or else something is damaged and the open
 *      refused;
 *   4. make a new log, write a manifest that names it and the new tables, and
 *      remove the old ones.
 *
 * A crash or a full disk at any point leaves a store that opens the same. */

enum {
    /* So much stays in the processor's cache while it becomes a table. */
    RUN_BYTES_MIN = 16 << 20,
    /* But level 0 is not to be full of small tables. */
    RUNS_PER_MEMTABLE = 8,
};

struct recovery {
    struct lsm *lsm;
    struct manifest manifest;
    uint64_t *logs, *tables; /* numbers found, ascending */
    size_t log_count, table_count;
    size_t first_log;        /* of logs, that is not before log_number */
    struct log_replay last;  /* of the last log that counts */
    struct version *version; /* what the manifest says */
    struct run run;          /* what was read last */
    size_t run_bytes;
    /* The run before it, sorted, is made a table meanwhile, by a thread of its
     * own in a store with threads: reading and sorting take about as long. */
    struct run storing;
    bool is_storing, has_storer;
    pthread_t storer;
    enum status storing_status;
    int storing_errno; /* what lsm_why tells of it */
    struct table *storing_table;
    struct table **stored; /* made of what was before, newest first */
    size_t stored_count;
    bool unwritten; /* what failed is writing */
    struct error *error;
};

static enum status push(uint64_t **numbers, size_t *count, uint64_t number)
{
    uint64_t *grown = realloc(*numbers, (*count + 1) * sizeof **numbers);
    if (grown == NULL)
        return STATUS_NO_MEMORY;
    *numbers = grown;
    grown[(*count)++] = number;
    return STATUS_OK;
}

static enum status add_name(void *context, const char *name)
{
    struct recovery *recovery = context;
    char exact[LSM_NAME_MAX];
    uint64_t number = strtoull(name, NULL, 10);
    log_name(exact, number);
    if (strcmp(name, exact) == 0)
        return push(&recovery->logs, &recovery->log_count, number);
    table_name(exact, number);
    if (strcmp(name, exact) == 0)
        return push(&recovery->tables, &recovery->table_count, number);
    return STATUS_OK;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static enum status list_files(struct recovery *recovery)
{
    struct lsm *lsm = recovery->lsm;
    enum status status =
        lsm->disk->operations->list(lsm->disk, add_name, recovery);
    if (status != STATUS_OK)
        return error_set(recovery->error, status, "%s: cannot be listed: %s",
                         lsm->directory, lsm_why(status));
    if (recovery->log_count > 0)
        qsort(recovery->logs, recovery->log_count, sizeof *recovery->logs,
              compare_numbers);
    lsm->next_file = recovery->manifest.next_file;
    for (size_t i = 0; i < recovery->log_count; i++) {
        if (recovery->logs[i] >= lsm->next_file)
            lsm->next_file = recovery->logs[i] + 1;
    }
    for (size_t i = 0; i < recovery->table_count; i++) {
        if (recovery->tables[i] >= lsm->next_file)
            lsm->next_file = recovery->tables[i] + 1;
    }
    return STATUS_OK;
}

/* What is missing or damaged is lost; what cannot be read may be whole, and
 * nobody is to be told to give it up. */
static enum status open_failed(struct recovery *recovery, const char *name,
                               enum status status)
{
    const char *directory = recovery->lsm->directory;
    if (status != STATUS_NOT_FOUND && status != STATUS_CORRUPT)
        return error_set(recovery->error, status,
                         "%s/%s cannot be read: %s; its data may be whole: "
                         "mend the cause and start again",
                         directory, name, lsm_why(status));
    return error_set(recovery->error, STATUS_CORRUPT,
                     "%s/%s is %s; restore it from a backup, or empty this "
                     "directory and let the replicas refill it",
                     directory, name,
                     status == STATUS_NOT_FOUND ? "missing" : "corrupt");
}

static enum status log_unread(struct recovery *recovery, uint64_t number,
                              enum status status)
{
    char name[LSM_NAME_MAX];
    log_name(name, number);
    return open_failed(recovery, name, status);
}

static enum status ignore(void *context, const struct entry *entry)
{
    (void)context;
    (void)entry;
    return STATUS_OK;
}

/* A store that has no manifest was never opened whole: only the empty log of
 * a first open that crashed may be there. */
static enum status check_new(struct recovery *recovery)
{
    struct lsm *lsm = recovery->lsm;
    bool empty = recovery->table_count == 0;
    for (size_t i = 0; empty && i < recovery->log_count; i++) {
        struct log_replay replay;
        enum status status =
            log_read(lsm->disk, recovery->logs[i], ignore, NULL, &replay);
        if (status != STATUS_OK)
            return log_unread(recovery, recovery->logs[i], status);
        empty = replay.sequence == 0;
    }
    lsm->next_file = lsm->next_file > 0 ? lsm->next_file : 1;
    return empty ? STATUS_OK
                 : error_set(recovery->error, STATUS_CORRUPT,
                             "%s: there is data but no MANIFEST; restore it "
                             "from a backup",
                             lsm->directory);
}

static bool is_listed(const struct manifest *manifest, uint64_t number)
{
    for (size_t i = 0; i < manifest->table_count; i++) {
        if (manifest->tables[i].number == number)
            return true;
    }
    return false;
}

/* Before anything is written, so that on a full disk a start that failed does
 * not take the space that the next one needs. The manifest that was read may
 * have been renamed and not synced, so it is made to stay first. */
static enum status remove_orphans(struct recovery *recovery)
{
    struct lsm *lsm = recovery->lsm;
    enum status status = lsm->disk->operations->sync_directory(lsm->disk);
    if (status != STATUS_OK)
        return error_set(recovery->error, status, "%s: cannot be synced: %s",
                         lsm->directory, lsm_why(status));
    for (size_t i = 0; i < recovery->table_count; i++) {
        if (!is_listed(&recovery->manifest, recovery->tables[i]))
            lsm_remove_table(lsm, recovery->tables[i]);
    }
    while (recovery->first_log < recovery->log_count &&
           recovery->logs[recovery->first_log] < recovery->manifest.log_number)
        lsm_remove_log(lsm, recovery->logs[recovery->first_log++]);
    return STATUS_OK;
}

/* The table's level takes it behind those it has. */
static enum status open_table(struct recovery *recovery,
                              struct version *version,
                              const struct manifest_table *of)
{
    struct table *table = NULL;
    struct level *level = &version->levels[of->level];
    enum status status =
        lsm_open_table(recovery->lsm, of->number, of->drops_applied, &table);
    if (status != STATUS_OK) {
        char name[LSM_NAME_MAX];
        table_name(name, of->number);
        return open_failed(recovery, name, status);
    }
    /* Which a manifest with a sound checksum never says. */
    if (of->level > 0 && level->count > 0 &&
        bytes_compare(level->tables[level->count - 1]->largest,
                      table->smallest) >= 0) {
        table_unref(table);
        return open_failed(recovery, "MANIFEST", STATUS_CORRUPT);
    }
    level->tables[level->count++] = table;
    level->bytes += table->facts.bytes;
    return STATUS_OK;
}

static enum status load_version(struct recovery *recovery)
{
    const struct manifest *manifest = &recovery->manifest;
    struct version *version = version_new();
    enum status status = version == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    for (unsigned i = 0; status == STATUS_OK && i < LEVELS; i++) {
        version->levels[i].tables =
            calloc(manifest->table_count + 1, sizeof(struct table *));
        if (version->levels[i].tables == NULL)
            status = STATUS_NO_MEMORY;
    }
    for (size_t i = 0; status == STATUS_OK && i < manifest->table_count; i++)
        status = open_table(recovery, version, &manifest->tables[i]);
    if (status == STATUS_OK) {
        version->drops =
            calloc(manifest->drop_count + 1, sizeof *version->drops);
        status = version->drops == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    for (size_t i = 0; status == STATUS_OK && i < manifest->drop_count; i++)
        status = version_push_drop(version, &manifest->drops[i]);
    if (status == STATUS_OK)
        recovery->version = version;
    else
        version_unref(version);
    return status;
}

/* Add a sorted run, the newest version of each key, for lsm_store. */
static enum status add_run(const void *context, const struct version *version,
                           struct table_writer *writer)
{
    const struct run *run = context;
    enum status status = STATUS_OK;
    struct bytes last = {0};
    for (size_t i = 0; status == STATUS_OK && i < run->count; i++) {
        struct entry entry = run_entry(run, i);
        if (i > 0 && bytes_equal(entry.key, last))
            continue;
        entry.removed =
            entry.removed || version_hides(version, entry.key, entry.sequence);
        last = entry.key;
        status = table_writer_add(writer, &entry);
    }
    return status;
}

/* With which a run becomes a table. */
static size_t run_bytes(size_t memtable_bytes)
{
    size_t bytes = memtable_bytes / RUNS_PER_MEMTABLE;
    if (bytes >= RUN_BYTES_MIN)
        return bytes;
    return memtable_bytes < RUN_BYTES_MIN ? memtable_bytes : RUN_BYTES_MIN;
}

static void *store_run(void *argument)
{
    struct recovery *recovery = argument;
    recovery->storing_status =
        lsm_store(recovery->lsm, add_run, &recovery->storing, recovery->version,
                  &recovery->storing_table);
    recovery->storing_errno = errno;
    return NULL;
}

/* Wait for the table under way, if there is one. */
static enum status finish_storing(struct recovery *recovery)
{
    struct table **stored = recovery->stored;
    if (!recovery->is_storing)
        return STATUS_OK;
    if (recovery->has_storer)
        pthread_join(recovery->storer, NULL);
    recovery->is_storing = recovery->has_storer = false;
    run_clear(&recovery->storing);
    if (recovery->storing_status != STATUS_OK) {
        recovery->unwritten = true;
        errno = recovery->storing_errno;
        return recovery->storing_status;
    }
    memmove(stored + 1, stored, recovery->stored_count * sizeof *stored);
    stored[0] = recovery->storing_table;
    recovery->stored_count++;
    return STATUS_OK;
}

/* Begin to make a table of what was read. */
static enum status store(struct recovery *recovery)
{
    run_sort(&recovery->run);
    enum status status = finish_storing(recovery);
    if (status != STATUS_OK)
        return status;
    struct table **stored =
        realloc(recovery->stored,
                (recovery->stored_count + 1) * sizeof(struct table *));
    if (stored == NULL)
        return STATUS_NO_MEMORY;
    recovery->stored = stored;
    struct run run = recovery->storing;
    recovery->storing = recovery->run;
    recovery->run = run;
    recovery->is_storing = true;
    recovery->has_storer =
        recovery->lsm->threads &&
        pthread_create(&recovery->storer, NULL, store_run, recovery) == 0;
    if (!recovery->has_storer)
        store_run(recovery);
    return STATUS_OK;
}

static enum status apply(void *context, const struct entry *entry)
{
    struct recovery *recovery = context;
    if (run_size(&recovery->run) >= recovery->run_bytes) {
        enum status status = store(recovery);
        if (status != STATUS_OK)
            return status;
    }
    return run_add(&recovery->run, entry);
}

static enum status log_damaged(struct recovery *recovery,
                               const struct log_replay *replay)
{
    char name[LSM_NAME_MAX];
    log_name(name, replay->number);
    return error_set(recovery->error, STATUS_CORRUPT,
                     "%s/%s is corrupt at offset %" PRIu64
                     "; restore it from a backup, or empty this directory and "
                     "let the replicas refill it",
                     recovery->lsm->directory, name, replay->size);
}

/* Read the logs up to the first that has no end, which is where the records
 * end; what comes after must not say that they had been synced. The manifest
 * names the first, and each end record the next: it was made durably before. */
static enum status read_logs(struct recovery *recovery)
{
    struct lsm *lsm = recovery->lsm;
    bool ended = true;
    uint64_t next = recovery->manifest.log_number; /* 0: it is not known */
    for (size_t i = recovery->first_log; i < recovery->log_count; i++) {
        uint64_t number = recovery->logs[i];
        struct log_replay replay;
        if (ended && number < next)
            continue; /* given up as soon as it was made */
        if (ended && number > next && next != 0)
            break;
        enum status status = log_read(lsm->disk, number, ended ? apply : ignore,
                                      recovery, &replay);
        if (recovery->unwritten)
            return status;
        if (status != STATUS_OK)
            return log_unread(recovery, number, status);
        if (replay.damaged)
            return log_damaged(recovery, &replay);
        if (!ended && replay.claims)
            return log_damaged(recovery, &recovery->last);
        if (!ended)
            continue;
        recovery->last = replay;
        ended = replay.ended;
        next = replay.next;
        if (replay.sequence > lsm->log_sequence)
            lsm->log_sequence = replay.sequence;
    }
    return ended && next != 0 ? log_unread(recovery, next, STATUS_NOT_FOUND)
                              : STATUS_OK;
}

/* Make the log to go on with: the last one anew if it is empty. What lies
 * behind is forgotten. Otherwise starts that fail would leave more and more. */
static enum status begin_log(struct recovery *recovery)
{
    struct lsm *lsm = recovery->lsm;
    const struct log_replay *last = &recovery->last;
    for (size_t i = recovery->first_log; i < recovery->log_count; i++) {
        if (recovery->logs[i] > last->number)
            lsm_remove_log(lsm, recovery->logs[i]);
    }
    uint64_t number =
        last->number != 0 && last->size == 0 ? last->number : lsm_new_file(lsm);
    enum status status = log_create(&lsm->log, lsm->disk, number, 0);
    /* Lest what was torn there show again behind new records. */
    if (status == STATUS_OK)
        status = disk_file_sync(lsm->log.file);
    lsm->log.predecessors_synced = true;
    return status;
}

/* A new log, the view, and a manifest that does not need the old logs: at once,
 * so that a full disk is a reason not to open. Until it is there, the old ones
 * are as they were. */
static enum status begin(struct recovery *recovery)
{
    struct lsm *lsm = recovery->lsm;
    enum status status = STATUS_OK;
    if (recovery->run.count > 0)
        status = store(recovery);
    if (status == STATUS_OK)
        status = finish_storing(recovery);
    if (status == STATUS_OK)
        status = begin_log(recovery);
    if (status != STATUS_OK)
        return status;
    struct memtable *memtable =
        memtable_new(lsm->memtable_bytes, lsm->log.number, NULL, &lsm->chunks);
    if (memtable == NULL)
        return STATUS_NO_MEMORY;
    lsm->view = view_new(&memtable, 1, recovery->version);
    lsm->active = memtable;
    memtable_unref(memtable);
    if (lsm->view == NULL)
        return STATUS_NO_MEMORY;
    struct version_edit edit = {.added = recovery->stored,
                                .added_count = recovery->stored_count};
    status = lsm_install(lsm, &edit, 0);
    for (size_t i = recovery->first_log; i < recovery->log_count; i++) {
        uint64_t number = recovery->logs[i];
        if (status == STATUS_OK && number <= recovery->last.number &&
            number != lsm->log.number)
            lsm_remove_log(lsm, number);
    }
    return status;
}

static enum status read_files(struct recovery *recovery)
{
    struct lsm *lsm = recovery->lsm;
    enum status status = manifest_read(lsm->disk, &recovery->manifest);
    bool is_new = status == STATUS_NOT_FOUND;
    if (status != STATUS_OK && !is_new)
        return open_failed(recovery, "MANIFEST", status);
    status = list_files(recovery);
    if (status == STATUS_OK && is_new)
        status = check_new(recovery);
    if (status == STATUS_OK)
        status = remove_orphans(recovery);
    if (status == STATUS_OK)
        status = load_version(recovery);
    if (status != STATUS_OK)
        return status;
    lsm->log_sequence = recovery->manifest.sequence;
    lsm->flushed_log = recovery->manifest.log_number;
    return read_logs(recovery);
}

static void recovery_fini(struct recovery *recovery)
{
    (void)finish_storing(recovery);
    for (size_t i = 0; i < recovery->stored_count; i++) {
        if (recovery->lsm->view == NULL) /* nothing names it */
            lsm_remove_table(recovery->lsm, recovery->stored[i]->number);
        table_unref(recovery->stored[i]);
    }
    free(recovery->stored);
    run_fini(&recovery->run);
    run_fini(&recovery->storing);
    version_unref(recovery->version);
    manifest_fini(&recovery->manifest);
    free(recovery->logs);
    free(recovery->tables);
}

enum status lsm_recover(struct lsm *lsm, struct error *error)
{
    struct recovery recovery = {
        .lsm = lsm,
        .run_bytes = run_bytes(lsm->memtable_bytes),
        .error = error,
    };
    enum status status = read_files(&recovery);
    atomic_store(&lsm->sequence, lsm->log_sequence);
    if (status == STATUS_OK) {
        status = begin(&recovery);
        recovery.unwritten = status != STATUS_OK;
    }
    if (recovery.unwritten)
        error_set(error, status, "%s: cannot be written: %s", lsm->directory,
                  lsm_why(status));
    lsm->spare_wanted = true;
    recovery_fini(&recovery);
    return status;
}
