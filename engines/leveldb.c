/* SPDX-License-Identifier: MIT */
#include "engines/directory.h"
#include "engines/types.h"
#include "engines/walk.h"

#include <leveldb/c.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* LevelDB through its C API, opened with paranoid checks and read with
 * checksums verified. After a write that failed, 1.23 places later records at
 * the wrong offset of its log and loses them at the next crash, so nothing is
 * written any more until it is opened again: broken is what makes that true,
 * as long as writes come one at a time, so several threads must not write.
 * When its write buffer is full, 1.23 goes on in another log and does not sync
 * the one it leaves, so a synced write after unsynced ones would not make them
 * last: we sync every log there is. It has no checkpoint. */

/* 10 bits a key: about 1 % of the tables asked for an absent key are read. */
enum { BLOOM_BITS_PER_KEY = 10 };

struct leveldb_engine {
    struct engine base;
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_readoptions_t *read;
    leveldb_writeoptions_t *write_synced, *write_unsynced;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    char *directory;
    int lock; /* -1: none */
    atomic_bool broken;
    bool unsynced; /* the writer's: something was written without sync */
};

struct leveldb_walk {
    struct walk base;
    struct leveldb_engine *engine;
    leveldb_iterator_t *iterator;
    bool started;
};

static const struct engine_setting_spec settings[] = {
    {"cache_bytes", 1 << 20, UINT64_C(1) << 40, 64 << 20,
     "bytes of uncompressed blocks kept in memory; more costs memory, less "
     "costs reads of the disk",
     NULL},
    {"write_buffer_bytes", 64 << 10, 1 << 30, 4 << 20,
     "bytes of writes kept in memory before a table is written, twice that at "
     "worst; more costs memory and a longer open, less costs compaction",
     NULL},
    {"max_open_files", 74, 50000, 1000,
     "file descriptors that may be held; fewer costs opening tables again",
     NULL},
    {NULL, 0, 0, 0, NULL, NULL},
};

/* The C API tells failures apart by their text only. Frees message. */
static enum status status_of(char *message)
{
    enum status status = STATUS_IO;
    if (message == NULL)
        return STATUS_OK;
    if (strncmp(message, "Corruption", strlen("Corruption")) == 0)
        status = STATUS_CORRUPT;
    else if (strstr(message, "No space left") != NULL ||
             strstr(message, "quota exceeded") != NULL)
        status = STATUS_NO_SPACE;
    leveldb_free(message);
    return status;
}

static void leveldb_engine_close(struct engine *engine)
{
    struct leveldb_engine *level = (struct leveldb_engine *)engine;
    if (level->db != NULL)
        leveldb_close(level->db);
    leveldb_writeoptions_destroy(level->write_unsynced);
    leveldb_writeoptions_destroy(level->write_synced);
    leveldb_readoptions_destroy(level->read);
    leveldb_options_destroy(level->options);
    leveldb_cache_destroy(level->cache);
    leveldb_filterpolicy_destroy(level->filter);
    if (level->lock >= 0)
        close(level->lock);
    free(level->directory);
    free(level);
}

/* The constructors of the C API do not fail: they throw, and so abort, when
 * there is no memory. */
static void set_options(struct leveldb_engine *level,
                        const struct engine_options *options)
{
    const struct engine_type *type = &leveldb_engine_type;
    level->cache = leveldb_cache_create_lru(
        (size_t)engine_setting(options, type, "cache_bytes"));
    level->filter = leveldb_filterpolicy_create_bloom(BLOOM_BITS_PER_KEY);
    level->options = leveldb_options_create();
    leveldb_options_set_create_if_missing(level->options, 1);
    leveldb_options_set_paranoid_checks(level->options, 1);
    leveldb_options_set_cache(level->options, level->cache);
    leveldb_options_set_filter_policy(level->options, level->filter);
    leveldb_options_set_write_buffer_size(
        level->options,
        (size_t)engine_setting(options, type, "write_buffer_bytes"));
    leveldb_options_set_max_open_files(
        level->options, (int)engine_setting(options, type, "max_open_files"));
    level->read = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(level->read, 1);
    level->write_synced = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(level->write_synced, 1);
    level->write_unsynced = leveldb_writeoptions_create();
}

static enum status leveldb_engine_open(const struct engine_options *options,
                                       struct engine **engine,
                                       struct error *error)
{
    struct leveldb_engine *level = calloc(1, sizeof *level);
    if (level == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    level->base.type = &leveldb_engine_type;
    level->lock = -1;
    set_options(level, options);
    enum status status = STATUS_OK;
    level->directory = strdup(options->directory);
    if (level->directory == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    if (status == STATUS_OK)
        status = directory_lock(options->directory, &level->lock, error);
    if (status == STATUS_OK) {
        char *message = NULL;
        level->db = leveldb_open(level->options, options->directory, &message);
        if (message != NULL) {
            error_set(error, STATUS_IO,
                      "LevelDB cannot open %.100s: %.120s; mend the cause, or "
                      "give it an empty directory and let replicas fill it",
                      options->directory, message);
            status = status_of(message);
            if (error != NULL)
                error->status = status;
        }
    }
    if (status == STATUS_OK)
        status = directory_sync(options->directory, error);
    if (status != STATUS_OK) {
        leveldb_engine_close(&level->base);
        return status;
    }
    *engine = &level->base;
    return STATUS_OK;
}

static enum status leveldb_engine_get(struct engine *engine, struct bytes key,
                                      struct buffer *value)
{
    struct leveldb_engine *level = (struct leveldb_engine *)engine;
    if (atomic_load(&level->broken))
        return STATUS_BROKEN;
    char *message = NULL;
    size_t size = 0;
    char *found = leveldb_get(level->db, level->read, (const char *)key.data,
                              key.size, &size, &message);
    if (message != NULL)
        return status_of(message);
    if (found == NULL)
        return STATUS_NOT_FOUND;
    buffer_clear(value);
    enum status status = buffer_append(value, bytes_of(found, size));
    leveldb_free(found);
    return status;
}

static enum status sync_file(int directory, const char *name)
{
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    /* Removed meanwhile: what it held is in a table, and that is synced. */
    if (fd < 0)
        return errno == ENOENT ? STATUS_OK : directory_status(errno);
    enum status status =
        fdatasync(fd) == 0 ? STATUS_OK : directory_status(errno);
    close(fd);
    return status;
}

static enum status sync_logs(const char *directory)
{
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return directory_status(errno);
    enum status status = STATUS_OK;
    const struct dirent *entry;
    while (status == STATUS_OK && (errno = 0, entry = readdir(entries))) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot != NULL && strcmp(dot, ".log") == 0)
            status = sync_file(dirfd(entries), entry->d_name);
    }
    if (status == STATUS_OK && errno != 0)
        status = directory_status(errno);
    closedir(entries);
    return status;
}

static enum status leveldb_engine_write(struct engine *engine,
                                        const struct batch *batch, bool sync)
{
    struct leveldb_engine *level = (struct leveldb_engine *)engine;
    if (atomic_load(&level->broken))
        return STATUS_BROKEN;
    leveldb_writebatch_t *writes = leveldb_writebatch_create();
    for (size_t i = 0; i < batch->count; i++) {
        const struct batch_operation *operation = &batch->operations[i];
        const char *key = (const char *)operation->key.data;
        /* Not NULL, which C++ would copy no bytes from. */
        const char *value = operation->value.size == 0
                                ? ""
                                : (const char *)operation->value.data;
        if (operation->remove)
            leveldb_writebatch_delete(writes, key, operation->key.size);
        else
            leveldb_writebatch_put(writes, key, operation->key.size, value,
                                   operation->value.size);
    }
    char *message = NULL;
    leveldb_write(level->db, sync ? level->write_synced : level->write_unsynced,
                  writes, &message);
    leveldb_writebatch_destroy(writes);
    enum status status = status_of(message);
    /* After the write, in which LevelDB may have changed logs. */
    if (status == STATUS_OK && sync && level->unsynced)
        status = sync_logs(level->directory);
    level->unsynced = !sync;
    if (status != STATUS_OK)
        atomic_store(&level->broken, true);
    return status;
}

static enum status leveldb_engine_iterate(struct engine *engine,
                                          struct bytes from, struct bytes to,
                                          enum engine_order order,
                                          struct engine_iterator **iterator)
{
    struct leveldb_engine *level = (struct leveldb_engine *)engine;
    if (atomic_load(&level->broken))
        return STATUS_BROKEN;
    struct leveldb_walk *walk =
        walk_new(sizeof *walk, &leveldb_engine_type, from, to, order);
    if (walk == NULL)
        return STATUS_NO_MEMORY;
    walk->engine = level;
    /* It reads the state at this moment: an implicit snapshot. */
    walk->iterator = leveldb_create_iterator(level->db, level->read);
    *iterator = &walk->base.base;
    return STATUS_OK;
}

static enum status walk_status(const struct leveldb_walk *walk)
{
    char *message = NULL;
    leveldb_iter_get_error(walk->iterator, &message);
    return status_of(message);
}

/* To the last key before `to`: LevelDB seeks from a key on. */
static enum status seek_back(struct leveldb_walk *walk)
{
    leveldb_iterator_t *at = walk->iterator;
    struct bytes to = walk->base.to;
    if (to.size > 0) {
        leveldb_iter_seek(at, (const char *)to.data, to.size);
        if (leveldb_iter_valid(at)) {
            leveldb_iter_prev(at);
            return STATUS_OK;
        }
        enum status status = walk_status(walk);
        if (status != STATUS_OK)
            return status;
    }
    leveldb_iter_seek_to_last(at);
    return STATUS_OK;
}

static enum status walk_step(struct leveldb_walk *walk)
{
    struct bytes from = walk->base.from;
    bool started = walk->started;
    walk->started = true;
    if (!started && walk->base.order == ENGINE_BACKWARD)
        return seek_back(walk);
    if (!started)
        leveldb_iter_seek(walk->iterator, (const char *)from.data, from.size);
    else if (leveldb_iter_valid(walk->iterator) &&
             walk->base.order == ENGINE_BACKWARD)
        leveldb_iter_prev(walk->iterator);
    else if (leveldb_iter_valid(walk->iterator))
        leveldb_iter_next(walk->iterator);
    return STATUS_OK;
}

static enum status leveldb_engine_next(struct engine_iterator *iterator,
                                       struct bytes *key, struct bytes *value)
{
    struct leveldb_walk *walk = (struct leveldb_walk *)iterator;
    if (atomic_load(&walk->engine->broken))
        return STATUS_BROKEN;
    enum status status = walk_step(walk);
    /* LevelDB passes over a block that it could not read, and is valid behind
     * it: a chunk that ended there would be short of keys. */
    if (status == STATUS_OK)
        status = walk_status(walk);
    if (status == STATUS_OK && !leveldb_iter_valid(walk->iterator))
        status = STATUS_NOT_FOUND;
    if (status != STATUS_OK)
        return status;
    size_t size = 0;
    const char *data = leveldb_iter_key(walk->iterator, &size);
    struct bytes found = bytes_of(data, size);
    if (!walk_has(&walk->base, found))
        return STATUS_NOT_FOUND;
    data = leveldb_iter_value(walk->iterator, &size);
    *key = found;
    *value = bytes_of(data, size);
    return STATUS_OK;
}

static void leveldb_engine_iterator_free(struct engine_iterator *iterator)
{
    struct leveldb_walk *walk = (struct leveldb_walk *)iterator;
    leveldb_iter_destroy(walk->iterator);
    free(walk);
}

static void leveldb_engine_stats(struct engine *engine,
                                 struct engine_stats *stats)
{
    struct leveldb_engine *level = (struct leveldb_engine *)engine;
    stats->disk_bytes = directory_bytes(level->directory);
    char *usage =
        leveldb_property_value(level->db, "leveldb.approximate-memory-usage");
    if (usage != NULL)
        stats->memory_bytes = strtoull(usage, NULL, 10);
    leveldb_free(usage);
}

const struct engine_type leveldb_engine_type = {
    .name = "leveldb",
    .capabilities = ENGINE_DURABLE,
    .settings = settings,
    .open = leveldb_engine_open,
    .close = leveldb_engine_close,
    .get = leveldb_engine_get,
    .write = leveldb_engine_write,
    .iterate = leveldb_engine_iterate,
    .next = leveldb_engine_next,
    .iterator_free = leveldb_engine_iterator_free,
    .stats = leveldb_engine_stats,
};
