/* SPDX-License-Identifier: MIT */
#include "engines/directory.h"
#include "engines/types.h"
#include "engines/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* LMDB: a copy-on-write B+tree in one mapped file. The map is reserved once,
 * as address space and not as memory or disk. Never MDB_WRITEMAP: on a full
 * disk that is a SIGBUS and not an error. MDB_NOTLS, as an iterator may be
 * freed by another thread than made it. LMDB has no checksums.
 *
 * A batch without sync leaves out the flush of the meta page only
 * (MDB_NOMETASYNC): a power loss may undo it, no more. Leaving out all of them
 * (MDB_NOSYNC) is ten times as fast, but two such batches overwrite both meta
 * pages, and a power loss that keeps those and not what they point to loses
 * the whole store with everything synced before. This engine promises that
 * what was synced lasts, so that is a setting, off unless it is asked for. */

/* Read transactions at once: a shard's reads and scans, with room. A slot is
 * 64 bytes of the lock file. */
enum { READERS_MAX = 1024 };
/* Less is no room for a commit, which writes up to 64 pages at once. */
enum { ROOM_BYTES_MIN = 1 << 20 };

struct lmdb_engine {
    struct engine base;
    MDB_env *env;
    MDB_dbi dbi;
    char *directory;
    int lock;          /* -1: none */
    unsigned unsynced; /* the flag of batches without sync */
    atomic_bool broken;
};

struct lmdb_walk {
    struct walk base;
    struct lmdb_engine *engine;
    MDB_txn *txn;
    MDB_cursor *cursor;
    bool started, ended;
};

static const struct engine_setting_spec settings[] = {
    {"map_bytes", 1 << 20, UINT64_C(1) << 46, UINT64_C(1) << 40,
     "bytes of address space reserved, the most the store can grow to; more "
     "costs nothing but address space, less ends in no_space",
     NULL},
    {"unsafe_nosync", 0, 1, 0,
     "1: batches without sync flush nothing and are fast, but a power loss "
     "may then lose the whole store, also what was synced; 0: it cannot",
     NULL},
    {NULL, 0, 0, 0, NULL, NULL},
};

static enum status status_of(int number)
{
    switch (number) {
    case 0:
        return STATUS_OK;
    case MDB_NOTFOUND:
        return STATUS_NOT_FOUND;
    case MDB_MAP_FULL:
        return STATUS_NO_SPACE;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_PANIC:
        return STATUS_CORRUPT;
    case MDB_READERS_FULL:
        return STATUS_OVERLOADED;
    default:
        return directory_status(number);
    }
}

/* LMDB takes what it only reads through pointers that are not const. */
static MDB_val val_of(struct bytes bytes)
{
    union {
        const uint8_t *read;
        void *data;
    } pointer = {.read = bytes.data};
    return (MDB_val){.mv_size = bytes.size, .mv_data = pointer.data};
}

static void lmdb_close(struct engine *engine)
{
    struct lmdb_engine *lmdb = (struct lmdb_engine *)engine;
    /* Not all that was written without sync is on disk yet, and a failure
     * costs nothing that was promised. */
    if (lmdb->env != NULL) {
        if (!atomic_load(&lmdb->broken))
            (void)mdb_env_sync(lmdb->env, 1);
        mdb_env_close(lmdb->env);
    }
    if (lmdb->lock >= 0)
        close(lmdb->lock);
    free(lmdb->directory);
    free(lmdb);
}

/* 0 or what LMDB says. */
static int open_environment(struct lmdb_engine *lmdb, size_t map_bytes)
{
    MDB_txn *txn = NULL;
    int number = mdb_env_create(&lmdb->env);
    if (number != 0) {
        lmdb->env = NULL;
        return number;
    }
    if ((number = mdb_env_set_mapsize(lmdb->env, map_bytes)) != 0 ||
        (number = mdb_env_set_maxreaders(lmdb->env, READERS_MAX)) != 0 ||
        (number = mdb_env_open(lmdb->env, lmdb->directory, MDB_NOTLS, 0644)) !=
            0 ||
        (number = mdb_txn_begin(lmdb->env, NULL, 0, &txn)) != 0)
        return number;
    number = mdb_dbi_open(txn, NULL, 0, &lmdb->dbi);
    if (number != 0) {
        mdb_txn_abort(txn);
        return number;
    }
    if ((number = mdb_txn_commit(txn)) != 0)
        return number;
    return mdb_env_sync(lmdb->env, 1);
}

static enum status lmdb_open(const struct engine_options *options,
                             struct engine **engine, struct error *error)
{
    const struct engine_type *type = &lmdb_engine_type;
    struct lmdb_engine *lmdb = calloc(1, sizeof *lmdb);
    if (lmdb == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    lmdb->base.type = type;
    lmdb->lock = -1;
    lmdb->unsynced = engine_setting(options, type, "unsafe_nosync") != 0
                         ? MDB_NOSYNC
                         : MDB_NOMETASYNC;
    enum status status = STATUS_OK;
    lmdb->directory = strdup(options->directory);
    if (lmdb->directory == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    if (status == STATUS_OK)
        status = directory_lock(options->directory, &lmdb->lock, error);
    if (status == STATUS_OK) {
        int number = open_environment(
            lmdb, (size_t)engine_setting(options, type, "map_bytes"));
        if (number != 0)
            status = error_set(
                error, status_of(number),
                "LMDB cannot open %.120s: %.80s; mend the cause, or give it "
                "an empty directory and let replicas fill it",
                options->directory, mdb_strerror(number));
    }
    if (status == STATUS_OK)
        status = directory_sync(options->directory, error);
    if (status != STATUS_OK) {
        lmdb_close(&lmdb->base);
        return status;
    }
    *engine = &lmdb->base;
    return STATUS_OK;
}

static enum status lmdb_get(struct engine *engine, struct bytes key,
                            struct buffer *value)
{
    struct lmdb_engine *lmdb = (struct lmdb_engine *)engine;
    if (atomic_load(&lmdb->broken))
        return STATUS_BROKEN;
    MDB_txn *txn = NULL;
    int number = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn);
    if (number != 0)
        return status_of(number);
    MDB_val name = val_of(key);
    MDB_val found = {0};
    enum status status = status_of(mdb_get(txn, lmdb->dbi, &name, &found));
    if (status == STATUS_OK) {
        buffer_clear(value);
        status = buffer_append(value, bytes_of(found.mv_data, found.mv_size));
    }
    mdb_txn_abort(txn);
    return status;
}

/* 0 or what LMDB says. */
static int put_all(struct lmdb_engine *lmdb, MDB_txn *txn,
                   const struct batch *batch)
{
    int number = 0;
    for (size_t i = 0; number == 0 && i < batch->count; i++) {
        const struct batch_operation *operation = &batch->operations[i];
        MDB_val key = val_of(operation->key);
        MDB_val value = val_of(operation->value);
        if (operation->remove) {
            number = mdb_del(txn, lmdb->dbi, &key, NULL);
            if (number == MDB_NOTFOUND)
                number = 0;
        } else {
            number = mdb_put(txn, lmdb->dbi, &key, &value, 0);
        }
    }
    return number;
}

static int commit(struct lmdb_engine *lmdb, const struct batch *batch)
{
    MDB_txn *txn = NULL;
    int number = mdb_txn_begin(lmdb->env, NULL, 0, &txn);
    if (number != 0)
        return number;
    number = put_all(lmdb, txn, batch);
    if (number != 0) {
        mdb_txn_abort(txn);
        return number;
    }
    return mdb_txn_commit(txn);
}

static size_t last_commit(struct lmdb_engine *lmdb)
{
    MDB_envinfo info = {0};
    (void)mdb_env_info(lmdb->env, &info); /* fails only without an env */
    return info.me_last_txnid;
}

/* LMDB calls a short write EIO. A disk writes short when it has room for some
 * of it only. */
static int short_write(const struct lmdb_engine *lmdb, int number)
{
    struct statvfs disk;
    bool is_full = number == EIO && statvfs(lmdb->directory, &disk) == 0 &&
                   disk.f_bavail * disk.f_frsize < ROOM_BYTES_MIN;
    return is_full ? ENOSPC : number;
}

static enum status lmdb_write(struct engine *engine, const struct batch *batch,
                              bool sync)
{
    struct lmdb_engine *lmdb = (struct lmdb_engine *)engine;
    if (atomic_load(&lmdb->broken))
        return STATUS_BROKEN;
    size_t before = last_commit(lmdb);
    int number = mdb_env_set_flags(lmdb->env, lmdb->unsynced, !sync);
    if (number == 0)
        number = commit(lmdb, batch);
    /* A commit that changed no page flushes nothing, but batches before it
     * may still wait for their flush. */
    if (number == 0 && sync && last_commit(lmdb) == before)
        number = mdb_env_sync(lmdb->env, 1);
    if (number != 0)
        atomic_store(&lmdb->broken, true);
    return status_of(short_write(lmdb, number));
}

static enum status lmdb_iterate(struct engine *engine, struct bytes from,
                                struct bytes to, enum engine_order order,
                                struct engine_iterator **iterator)
{
    struct lmdb_engine *lmdb = (struct lmdb_engine *)engine;
    if (atomic_load(&lmdb->broken))
        return STATUS_BROKEN;
    struct lmdb_walk *walk =
        walk_new(sizeof *walk, &lmdb_engine_type, from, to, order);
    if (walk == NULL)
        return STATUS_NO_MEMORY;
    walk->engine = lmdb;
    int number = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &walk->txn);
    if (number == 0) {
        number = mdb_cursor_open(walk->txn, lmdb->dbi, &walk->cursor);
        if (number != 0)
            mdb_txn_abort(walk->txn);
    }
    if (number != 0) {
        free(walk);
        return status_of(number);
    }
    *iterator = &walk->base.base;
    return STATUS_OK;
}

static int step_forward(struct lmdb_walk *walk, MDB_val *name, MDB_val *data)
{
    MDB_cursor_op step = MDB_NEXT;
    if (!walk->started)
        step = walk->base.from.size == 0 ? MDB_FIRST : MDB_SET_RANGE;
    *name = val_of(walk->base.from);
    return mdb_cursor_get(walk->cursor, name, data, step);
}

/* LMDB finds the first key from `to` on: the one before it, or the last of
 * all, is where it begins. */
static int step_back(struct lmdb_walk *walk, MDB_val *name, MDB_val *data)
{
    MDB_cursor_op step = MDB_PREV;
    if (!walk->started && walk->base.to.size == 0) {
        step = MDB_LAST;
    } else if (!walk->started) {
        *name = val_of(walk->base.to);
        int number = mdb_cursor_get(walk->cursor, name, data, MDB_SET_RANGE);
        if (number == MDB_NOTFOUND)
            step = MDB_LAST;
        else if (number != 0)
            return number;
    }
    return mdb_cursor_get(walk->cursor, name, data, step);
}

static enum status lmdb_next(struct engine_iterator *iterator,
                             struct bytes *key, struct bytes *value)
{
    struct lmdb_walk *walk = (struct lmdb_walk *)iterator;
    if (atomic_load(&walk->engine->broken))
        return STATUS_BROKEN;
    if (walk->ended)
        return STATUS_NOT_FOUND;
    MDB_val name = {0};
    MDB_val data = {0};
    enum status status = status_of(walk->base.order == ENGINE_BACKWARD
                                       ? step_back(walk, &name, &data)
                                       : step_forward(walk, &name, &data));
    walk->started = true;
    struct bytes found = bytes_of(name.mv_data, name.mv_size);
    if (status == STATUS_OK && !walk_has(&walk->base, found))
        status = STATUS_NOT_FOUND;
    if (status != STATUS_OK) {
        walk->ended = status == STATUS_NOT_FOUND;
        return status;
    }
    *key = found;
    *value = bytes_of(data.mv_data, data.mv_size);
    return STATUS_OK;
}

static void lmdb_iterator_free(struct engine_iterator *iterator)
{
    struct lmdb_walk *walk = (struct lmdb_walk *)iterator;
    mdb_cursor_close(walk->cursor);
    mdb_txn_abort(walk->txn);
    free(walk);
}

static void lmdb_stats(struct engine *engine, struct engine_stats *stats)
{
    struct lmdb_engine *lmdb = (struct lmdb_engine *)engine;
    MDB_txn *txn = NULL;
    MDB_stat tree;
    stats->disk_bytes = directory_bytes(lmdb->directory);
    if (mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn) != 0)
        return;
    if (mdb_stat(txn, lmdb->dbi, &tree) == 0)
        stats->keys = tree.ms_entries;
    mdb_txn_abort(txn);
}

/* mdb_env_copy does not flush what it wrote. 0 or an errno. */
static int sync_copy(const char *directory)
{
    int number = 0;
    int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return errno;
    int fd = openat(at, "data.mdb", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0 || fsync(at) != 0)
        number = errno;
    if (fd >= 0)
        close(fd);
    close(at);
    return number;
}

static enum status lmdb_checkpoint(struct engine *engine, const char *directory,
                                   struct error *error)
{
    struct lmdb_engine *lmdb = (struct lmdb_engine *)engine;
    if (atomic_load(&lmdb->broken))
        return error_set(error, STATUS_BROKEN,
                         "a write to %.200s failed; open it again first",
                         lmdb->directory);
    int number = mkdir(directory, 0755) == 0 ? 0 : errno;
    if (number == 0)
        number = mdb_env_copy(lmdb->env, directory);
    if (number == 0)
        number = sync_copy(directory);
    if (number == 0)
        return STATUS_OK;
    return error_set(error, status_of(number), "cannot copy to %.200s: %.80s",
                     directory, mdb_strerror(number));
}

const struct engine_type lmdb_engine_type = {
    .name = "lmdb",
    .capabilities = ENGINE_DURABLE | ENGINE_CHECKPOINT,
    .settings = settings,
    .open = lmdb_open,
    .close = lmdb_close,
    .get = lmdb_get,
    .write = lmdb_write,
    .iterate = lmdb_iterate,
    .next = lmdb_next,
    .iterator_free = lmdb_iterator_free,
    .stats = lmdb_stats,
    .checkpoint = lmdb_checkpoint,
};
