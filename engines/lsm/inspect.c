/* SPDX-License-Identifier: MIT */
#include "engines/lsm/inspect.h"

#include <stdlib.h>

#include "engines/directory.h"
#include "engines/lsm/table_inside.h"

static const char manifest_name[] = "MANIFEST";

struct look {
    struct disk *disk;
    const struct inspector *inspector;
    struct manifest manifest; /* zeros if there is none */
    char file[LSM_NAME_MAX];  /* what is being read */
    bool damaged;
    struct table *before; /* the one read before, in the level */
    unsigned level;
    uint64_t log_number;  /* of the first log that counts */
    uint64_t after, next; /* while looking for the log after one */
    bool has_data;
};

static void tell_damage(void *context, uint64_t offset, const char *what)
{
    struct look *look = context;
    look->damaged = true;
    look->inspector->damage(look->inspector->context, look->file, offset, what);
}

enum store_file inspect_name(const char *name, uint64_t *number)
{
    char exact[LSM_NAME_MAX];
    *number = strtoull(name, NULL, 10);
    table_name(exact, *number);
    if (strcmp(name, exact) == 0)
        return STORE_TABLE;
    log_name(exact, *number);
    if (strcmp(name, exact) == 0)
        return STORE_LOG;
    return strcmp(name, manifest_name) == 0 ? STORE_MANIFEST : STORE_OTHER;
}

static bool names_table(const struct manifest *manifest, uint64_t number)
{
    for (size_t i = 0; i < manifest->table_count; i++) {
        if (manifest->tables[i].number == number)
            return true;
    }
    return false;
}

/* ---- tables ---- */

static void note_open(void *context, uint64_t table, uint64_t offset,
                      const char *what)
{
    (void)table;
    tell_damage(context, offset, what);
}

/* CORRUPT is told. */
static enum status open_table(struct look *look, uint64_t number,
                              unsigned level, struct table **table)
{
    struct table_report report = {note_open, look};
    table_name(look->file, number);
    enum status status = table_open(look->disk, NULL, number, &report, table);
    if (status != STATUS_OK)
        return status;
    (*table)->inside->report.damaged = NULL; /* who reads blocks tells */
    look->inspector->table(look->inspector->context, level, *table);
    return STATUS_OK;
}

/* Whether a compaction has removed it since the manifest was read. */
static bool is_gone(struct look *look, uint64_t number)
{
    struct manifest now;
    enum status status = manifest_read(look->disk, &now);
    bool gone = status == STATUS_OK && !names_table(&now, number);
    manifest_fini(&now);
    return gone;
}

/* NO_MEMORY. */
static enum status check_table(struct look *look,
                               const struct manifest_table *of)
{
    struct table *table = NULL;
    enum status status = open_table(look, of->number, of->level, &table);
    if (status == STATUS_OK) {
        if (of->level > 0 && look->before != NULL && look->level == of->level &&
            bytes_compare(look->before->largest, table->smallest) >= 0)
            tell_damage(look, 0, "its level has a table before with its keys");
        status = table_check(table, tell_damage, look);
        table_unref(look->before);
        look->before = table;
        look->level = of->level;
    } else if (status == STATUS_NOT_FOUND && is_gone(look, of->number)) {
        return STATUS_OK;
    }
    if (status == STATUS_NO_MEMORY)
        return status;
    if (status == STATUS_NOT_FOUND)
        tell_damage(look, 0, "missing");
    else if (status != STATUS_OK && status != STATUS_CORRUPT)
        tell_damage(look, 0, status_name(status));
    return STATUS_OK;
}

static enum status tell_block(struct look *look, struct table *table,
                              size_t number)
{
    uint64_t offset = table->inside->index.offsets[number];
    struct cache_block *read = NULL;
    enum status status = table_read_block(table, number, &read);
    if (status == STATUS_CORRUPT)
        tell_damage(look, offset, "the block is damaged");
    if (status != STATUS_OK)
        return status;
    struct block block = block_of(read->data, read->size);
    struct block_cursor at;
    block_cursor_init(&at, &block);
    for (uint32_t i = 0; block_cursor_move(&at, i); i++) {
        struct entry entry = {.key = bytes_of(at.key, at.key_size),
                              .value = at.value,
                              .removed = at.removed};
        look->inspector->entry(look->inspector->context, offset, &entry);
    }
    cache_release(read);
    return STATUS_OK;
}

enum status inspect_table(struct disk *disk, uint64_t number,
                          const struct inspector *inspector)
{
    struct look look = {.disk = disk, .inspector = inspector};
    struct table *table = NULL;
    enum status status = open_table(&look, number, 0, &table);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < table->inside->index.count; i++) {
        status = tell_block(&look, table, i);
        if (status != STATUS_OK && status != STATUS_CORRUPT)
            break;
    }
    table_unref(table);
    return status == STATUS_OK && look.damaged ? STATUS_CORRUPT : status;
}

/* ---- logs ---- */

/* Logs before it are in tables; in a store that is open it grows. */
static uint64_t first_log(struct look *look)
{
    struct manifest now;
    if (manifest_read(look->disk, &now) == STATUS_OK)
        look->log_number = now.log_number;
    manifest_fini(&now);
    return look->log_number;
}

static enum status find_next(void *context, const char *name)
{
    struct look *look = context;
    uint64_t number;
    if (inspect_name(name, &number) == STORE_LOG && number > look->after &&
        number < look->next)
        look->next = number;
    return STATUS_OK;
}

/* UINT64_MAX if there is none. */
static enum status next_log(struct look *look, uint64_t after, uint64_t *next)
{
    look->after = after;
    look->next = UINT64_MAX;
    enum status status =
        look->disk->operations->list(look->disk, find_next, look);
    *next = look->next;
    return status;
}

static enum status count(void *context, const struct entry *entry)
{
    (void)entry;
    ++*(uint64_t *)context;
    return STATUS_OK;
}

/* Again, as long as what is damaged is elsewhere each time: a record may have
 * been half written. What is wrong, or NULL. */
static const char *read_log(struct look *look, uint64_t number,
                            struct log_replay *replay, uint64_t *operations)
{
    uint64_t before;
    enum status status;
    log_name(look->file, number);
    replay->damaged = false;
    do {
        before = replay->damaged ? replay->size : UINT64_MAX;
        *operations = 0;
        status = log_read(look->disk, number, count, operations, replay);
    } while (status == STATUS_OK && replay->damaged && replay->size != before);
    if (status == STATUS_OK)
        return replay->damaged ? "what had been synced is damaged" : NULL;
    return status == STATUS_NOT_FOUND ? "missing" : status_name(status);
}

/* A log behind the one without an end says that this one had been synced. */
static void check_open(struct look *look, uint64_t number)
{
    struct log_replay replay;
    uint64_t operations;
    const char *wrong = read_log(look, number, &replay, &operations);
    if (wrong == NULL && !replay.ended && number >= first_log(look))
        tell_damage(look, replay.size, "more than this had been synced");
}

static enum status check_logs(struct look *look)
{
    const struct inspector *to = look->inspector;
    uint64_t tables = look->manifest.table_count, done = tables;
    uint64_t number = first_log(look), open = 0;
    enum status status = STATUS_OK;
    if (look->manifest.content.size == 0) /* no manifest: all that are there */
        status = next_log(look, 0, &number);
    while (status == STATUS_OK && number != UINT64_MAX) {
        struct log_replay replay;
        uint64_t operations;
        const char *wrong = read_log(look, number, &replay, &operations);
        if (number >= first_log(look)) {
            const char *end = replay.ended       ? "ended"
                              : replay.size == 0 ? "empty"
                                                 : "open";
            if (wrong != NULL)
                tell_damage(look, replay.size, wrong);
            if (wrong != NULL || (open != 0 && operations > 0))
                end = wrong != NULL ? "damaged" : "ignored";
            to->log(to->context, &replay, operations, end);
            look->has_data |= operations > 0;
            if (open != 0 && replay.claims)
                check_open(look, open);
            else if (open == 0 && !replay.ended)
                open = number;
        }
        to->progress(to->context, ++done, tables);
        if (replay.ended && replay.next != 0)
            number = replay.next;
        else
            status = next_log(look, number, &number);
    }
    return status;
}

/* ---- all of it ---- */

static enum status tell_unnamed(void *context, const char *name)
{
    struct look *look = context;
    uint64_t number;
    const char *what = "no file that a store reads";
    switch (inspect_name(name, &number)) {
    case STORE_TABLE:
        look->has_data = true;
        if (names_table(&look->manifest, number))
            return STATUS_OK;
        what = "no table of the store: left over, or just being made";
        break;
    case STORE_LOG:
        if (number >= look->log_number)
            return STATUS_OK;
        what = "all in tables: the file is kept for another log";
        break;
    case STORE_MANIFEST:
        return STATUS_OK;
    case STORE_OTHER:
        if (strcmp(name, "ENGINE") == 0)
            return STATUS_OK;
        break;
    }
    look->inspector->unnamed(look->inspector->context, name, what);
    return STATUS_OK;
}

static enum status check_files(struct look *look)
{
    const struct inspector *to = look->inspector;
    const struct manifest *manifest = &look->manifest;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < manifest->table_count; i++) {
        to->progress(to->context, i, manifest->table_count);
        status = check_table(look, &manifest->tables[i]);
    }
    if (status == STATUS_OK)
        status = check_logs(look);
    if (status == STATUS_OK)
        status = look->disk->operations->list(look->disk, tell_unnamed, look);
    if (manifest->content.size == 0 && look->has_data) {
        memcpy(look->file, manifest_name, sizeof manifest_name);
        tell_damage(look, 0, "missing, though there is data");
    }
    return status;
}

enum status inspect_store(struct disk *disk, const struct inspector *inspector,
                          struct error *error)
{
    struct look look = {.disk = disk, .inspector = inspector};
    memcpy(look.file, manifest_name, sizeof manifest_name);
    enum status status = manifest_read(disk, &look.manifest);
    if (status == STATUS_OK)
        inspector->manifest(inspector->context, &look.manifest);
    else if (status == STATUS_CORRUPT)
        tell_damage(&look, 0, "damaged, so which files count is not known");
    if (status == STATUS_OK || status == STATUS_NOT_FOUND)
        status = check_files(&look);
    table_unref(look.before);
    manifest_fini(&look.manifest);
    if (status == STATUS_OK || status == STATUS_CORRUPT)
        return look.damaged ? STATUS_CORRUPT : STATUS_OK;
    return error_set(error, status, "the store cannot be read: %s",
                     status_name(status));
}

enum status inspect_directory(const char *directory,
                              const struct inspector *inspector,
                              struct error *error)
{
    char owner[DIRECTORY_OWNER_MAX];
    struct disk *disk = NULL;
    enum status status = disk_open_to_read(directory, &disk, error);
    if (status != STATUS_OK)
        return status;
    status = directory_owner(directory, owner, error);
    if (status == STATUS_NOT_FOUND)
        status = error_set(error, STATUS_INVALID,
                           "%.200s is no store: it has no ENGINE file; give "
                           "the data_dir of a node",
                           directory);
    else if (status == STATUS_OK && strcmp(owner, "lsm") != 0)
        status = error_set(error, STATUS_REFUSED,
                           "%.150s is a store of the engine \"%.40s\", and "
                           "only those of lsm can be looked into",
                           directory, owner);
    if (status == STATUS_OK)
        status = inspect_store(disk, inspector, error);
    disk_free(disk);
    return status;
}
