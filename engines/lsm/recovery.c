/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "engines/directory.h"
#include "engines/lsm/compaction.h"
#include "engines/lsm/manifest.h"

/* What the directory holds. */
struct listing {
    uint64_t *logs, *tables; /* ascending */
    size_t log_count, table_count;
};

static void listing_fini(struct listing *listing)
{
    free(listing->logs);
    free(listing->tables);
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static enum status push(uint64_t **numbers, size_t *count, uint64_t number)
{
    uint64_t *grown = realloc(*numbers, (*count + 1) * sizeof **numbers);
    if (grown == NULL)
        return STATUS_NO_MEMORY;
    *numbers = grown;
    grown[(*count)++] = number;
    return STATUS_OK;
}

static enum status list_files(const char *path, struct listing *listing)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return STATUS_IO;
    enum status status = STATUS_OK;
    struct dirent *found;
    /* A listing that ends early would take logs that hold data for logs that
     * never were. */
    while (status == STATUS_OK && (errno = 0, found = readdir(directory))) {
        enum lsm_file_kind kind;
        uint64_t number;
        if (!file_parse_name(found->d_name, &kind, &number))
            continue;
        if (kind == LSM_FILE_LOG)
            status = push(&listing->logs, &listing->log_count, number);
        else
            status = push(&listing->tables, &listing->table_count, number);
    }
    if (status == STATUS_OK && errno != 0)
        status = directory_status(errno);
    closedir(directory);
    if (listing->log_count > 0)
        qsort(listing->logs, listing->log_count, sizeof *listing->logs,
              compare_numbers);
    return status;
}

/* Open the manifest's tables into a view; sequence grows to their largest. */
static enum status open_tables(struct lsm *lsm, const struct manifest *manifest,
                               struct error *error)
{
    size_t count = 0;
    enum status status = STATUS_OK;
    struct table **tables =
        calloc(manifest->table_count + 2, sizeof(struct table *));
    struct memtable *memtable = memtable_new();
    if (tables == NULL || memtable == NULL)
        status = STATUS_NO_MEMORY;
    for (; status == STATUS_OK && count < manifest->table_count; count++) {
        const struct manifest_table *of = &manifest->tables[count];
        status =
            table_open(lsm->directory, of->number, of->tier, &tables[count]);
        if (status == STATUS_NOT_FOUND)
            status = STATUS_CORRUPT;
        if (status != STATUS_OK) {
            error_set(error, status,
                      "%s: table %08llu is %s; restore it from a backup, or "
                      "empty this directory and let the replicas refill it",
                      lsm->directory, (unsigned long long)of->number,
                      status_name(status));
            break;
        }
        if (tables[count]->sequence > lsm->sequence)
            lsm->sequence = tables[count]->sequence;
    }
    if (status == STATUS_OK) {
        lsm->view = view_new(memtable, NULL, tables, count);
        status = lsm->view == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    for (size_t i = 0; i < count; i++)
        table_unref(tables[i]);
    memtable_unref(memtable);
    free(tables);
    return status;
}

static enum status apply(void *context, const struct entry *entry)
{
    struct lsm *lsm = context;
    if (entry->sequence > lsm->sequence)
        lsm->sequence = entry->sequence;
    return memtable_add(lsm->view->active, entry);
}

static enum status replay_logs(struct lsm *lsm, const struct manifest *manifest,
                               const struct listing *listing,
                               struct error *error)
{
    bool first_found = false;
    for (size_t i = 0; i < listing->log_count; i++) {
        uint64_t number = listing->logs[i];
        if (number < manifest->log_number)
            continue;
        first_found = first_found || number == manifest->log_number;
        bool last = i + 1 == listing->log_count;
        enum status status =
            log_replay(lsm->directory, number, last, apply, lsm);
        if (status != STATUS_OK)
            return error_set(error, status,
                             "%s: log %08llu is %s; restore it from a backup, "
                             "or empty this directory and let the replicas "
                             "refill it",
                             lsm->directory, (unsigned long long)number,
                             status_name(status));
    }
    /* It was made durably before the manifest that names it. */
    if (!first_found)
        return error_set(error, STATUS_CORRUPT, "%s: log %08llu is missing",
                         lsm->directory,
                         (unsigned long long)manifest->log_number);
    return STATUS_OK;
}

/* Put what the logs held into a table and begin a new log. Until the manifest
 * says so, the old logs stand, so a crash in here repeats it. */
static enum status settle(struct lsm *lsm)
{
    struct table *table = NULL;
    struct view *view = lsm->view, *next = NULL;
    struct memtable *memtable = memtable_new();
    enum status status = memtable == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK && memtable_count(view->active) > 0)
        status = compaction_write_memtable(lsm, view->active, lsm_new_file(lsm),
                                           &table);
    if (status == STATUS_OK) {
        struct view *tables = view_replace(view, NULL, NULL, 0, table);
        if (tables != NULL)
            next =
                view_new(memtable, NULL, tables->tables, tables->table_count);
        view_unref(tables);
        status = next == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    if (status == STATUS_OK) {
        lsm->log_number = lsm_new_file(lsm);
        /* This syncs the directory, and so the table's name too. */
        status = log_create(&lsm->log, lsm->directory, lsm->log_number);
    }
    if (status == STATUS_OK)
        status = compaction_write_manifest(lsm, next, lsm->log_number);
    if (status == STATUS_OK) {
        lsm->flushed_log = lsm->log_number;
        lsm->view = next;
        next = view;
    }
    view_unref(next);
    table_unref(table);
    memtable_unref(memtable);
    return status;
}

static bool is_listed(const struct manifest *manifest, uint64_t number)
{
    for (size_t i = 0; i < manifest->table_count; i++) {
        if (manifest->tables[i].number == number)
            return true;
    }
    return false;
}

/* A store that has no manifest was never opened whole: only the empty log of
 * a first open that crashed may be there. */
static enum status check_new(struct lsm *lsm, const struct listing *listing,
                             struct error *error)
{
    bool empty = listing->table_count == 0;
    for (size_t i = 0; i < listing->log_count; i++) {
        char path[LSM_PATH_MAX];
        struct buffer content = {0};
        empty =
            empty &&
            file_path(path, lsm->directory, LSM_FILE_LOG, listing->logs[i]) &&
            file_read_all(path, &content) == STATUS_OK && content.size == 0;
        buffer_fini(&content);
    }
    return empty ? STATUS_OK
                 : error_set(error, STATUS_CORRUPT,
                             "%s: there is data but no MANIFEST; restore it "
                             "from a backup",
                             lsm->directory);
}

static void skip_numbers(struct lsm *lsm, const struct manifest *manifest,
                         const struct listing *listing)
{
    lsm->next_file = manifest->next_file > 0 ? manifest->next_file : 1;
    for (size_t i = 0; i < listing->log_count; i++) {
        if (listing->logs[i] >= lsm->next_file)
            lsm->next_file = listing->logs[i] + 1;
    }
    for (size_t i = 0; i < listing->table_count; i++) {
        if (listing->tables[i] >= lsm->next_file)
            lsm->next_file = listing->tables[i] + 1;
    }
}

/* Before anything is written, so that on a full disk a start that failed does
 * not take the space that the next one needs. The manifest that was read may
 * have been renamed and not synced, so it is made to stay first. */
static enum status remove_orphans(struct lsm *lsm,
                                  const struct manifest *manifest,
                                  const struct listing *listing)
{
    enum status status = directory_sync(lsm->directory, NULL);
    for (size_t i = 0; status == STATUS_OK && i < listing->table_count; i++) {
        if (!is_listed(manifest, listing->tables[i]))
            lsm_remove_file(lsm, LSM_FILE_TABLE, listing->tables[i]);
    }
    return status;
}

static enum status read_files(struct lsm *lsm, struct manifest *manifest,
                              struct listing *listing, struct error *error)
{
    enum status status = list_files(lsm->directory, listing);
    if (status != STATUS_OK)
        return error_set(error, status, "%s: cannot be listed: %s",
                         lsm->directory, status_name(status));
    status = manifest_read(lsm->directory, manifest);
    bool is_new = status == STATUS_NOT_FOUND;
    if (is_new)
        status = check_new(lsm, listing, error);
    else if (status != STATUS_OK)
        error_set(error, status,
                  "%s/MANIFEST is %s; restore it from a backup, or empty this "
                  "directory and let the replicas refill it",
                  lsm->directory, status_name(status));
    if (status != STATUS_OK)
        return status;
    lsm->sequence = manifest->sequence;
    skip_numbers(lsm, manifest, listing);
    status = remove_orphans(lsm, manifest, listing);
    if (status != STATUS_OK)
        return error_set(error, status, "%s: cannot be synced: %s",
                         lsm->directory, status_name(status));
    status = open_tables(lsm, manifest, error);
    if (status == STATUS_OK && !is_new)
        status = replay_logs(lsm, manifest, listing, error);
    return status;
}

enum status lsm_recover(struct lsm *lsm, struct error *error)
{
    struct listing listing = {0};
    struct manifest manifest = {0};
    enum status status = read_files(lsm, &manifest, &listing, error);
    if (status == STATUS_OK) {
        status = settle(lsm);
        if (status != STATUS_OK) {
            /* A disk that is mounted read-only is the usual one. */
            bool denied =
                status == STATUS_IO && access(lsm->directory, W_OK) != 0;
            error_set(error, status, "%s: cannot be written: %s",
                      lsm->directory,
                      denied ? strerror(errno) : status_name(status));
        }
    }
    if (status == STATUS_OK) {
        for (size_t i = 0; i < listing.log_count; i++)
            lsm_remove_file(lsm, LSM_FILE_LOG, listing.logs[i]);
    }
    manifest_fini(&manifest);
    listing_fini(&listing);
    return status;
}
