/* SPDX-License-Identifier: MIT */
#include "engines/walk.h"
#include "tests/bench/engine/peers.h"

#include <rocksdb/c.h>

#include <stdlib.h>

enum {
    BLOOM_BITS_PER_KEY = 10,
    BACKGROUND_JOBS = 2,
};

struct peer {
    struct engine base;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write[2]; /* by sync */
    rocksdb_cache_t *cache;
};

struct peer_walk {
    struct walk base;
    rocksdb_iterator_t *iterator;
    bool started;
};

static const char *const compressions[] = {"none", "lz4", NULL};

static const struct engine_setting_spec settings[] = {
    {"cache_bytes", 0, UINT64_C(1) << 40, 64 << 20, "bytes of blocks", NULL},
    {"write_buffer_bytes", 64 << 10, 1 << 30, 4 << 20,
     "bytes of writes in memory", NULL},
    {"compression", 0, 1, 0, "of blocks", compressions},
    {NULL, 0, 0, 0, NULL, NULL},
};

static enum status status_of(char *message)
{
    if (message == NULL)
        return STATUS_OK;
    rocksdb_free(message);
    return STATUS_IO;
}

static void peer_close(struct engine *engine)
{
    struct peer *peer = (struct peer *)engine;
    if (peer->db != NULL)
        rocksdb_close(peer->db);
    rocksdb_writeoptions_destroy(peer->write[0]);
    rocksdb_writeoptions_destroy(peer->write[1]);
    rocksdb_readoptions_destroy(peer->read);
    rocksdb_options_destroy(peer->options);
    rocksdb_cache_destroy(peer->cache);
    free(peer);
}

static void set_table_options(struct peer *peer)
{
    rocksdb_block_based_table_options_t *table =
        rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, peer->cache);
    /* Owned by the table's options from here on. */
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom(BLOOM_BITS_PER_KEY));
    rocksdb_options_set_block_based_table_factory(peer->options, table);
    rocksdb_block_based_options_destroy(table);
}

static void set_options(struct peer *peer, const struct engine_options *options)
{
    const struct engine_type *type = &rocksdb_type;
    peer->cache = rocksdb_cache_create_lru(
        (size_t)engine_setting(options, type, "cache_bytes"));
    peer->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(peer->options, 1);
    rocksdb_options_set_write_buffer_size(
        peer->options,
        (size_t)engine_setting(options, type, "write_buffer_bytes"));
    rocksdb_options_set_compression(
        peer->options, engine_setting(options, type, "compression") == 0
                           ? rocksdb_no_compression
                           : rocksdb_lz4_compression);
    rocksdb_options_set_max_background_jobs(peer->options, BACKGROUND_JOBS);
    set_table_options(peer);
    peer->read = rocksdb_readoptions_create();
    peer->write[0] = rocksdb_writeoptions_create();
    peer->write[1] = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(peer->write[1], 1);
}

static enum status peer_open(const struct engine_options *options,
                             struct engine **engine, struct error *error)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    peer->base.type = &rocksdb_type;
    set_options(peer, options);
    char *message = NULL;
    peer->db = rocksdb_open(peer->options, options->directory, &message);
    if (message != NULL) {
        error_set(error, STATUS_IO, "%.200s", message);
        peer_close(&peer->base);
        return status_of(message);
    }
    *engine = &peer->base;
    return STATUS_OK;
}

/* Pinned, which saves a copy and an allocation of its plain get. */
static enum status peer_get(struct engine *engine, struct bytes key,
                            struct buffer *value)
{
    struct peer *peer = (struct peer *)engine;
    char *message = NULL;
    rocksdb_pinnableslice_t *found = rocksdb_get_pinned(
        peer->db, peer->read, (const char *)key.data, key.size, &message);
    if (message != NULL)
        return status_of(message);
    if (found == NULL)
        return STATUS_NOT_FOUND;
    size_t size = 0;
    const char *data = rocksdb_pinnableslice_value(found, &size);
    buffer_clear(value);
    enum status status = buffer_append(value, bytes_of(data, size));
    rocksdb_pinnableslice_destroy(found);
    return status;
}

static enum status write_many(struct peer *peer, const struct batch *batch,
                              bool sync)
{
    rocksdb_writebatch_t *writes = rocksdb_writebatch_create();
    for (size_t i = 0; i < batch->count; i++) {
        const struct batch_operation *operation = &batch->operations[i];
        const char *key = (const char *)operation->key.data;
        if (operation->remove)
            rocksdb_writebatch_delete(writes, key, operation->key.size);
        else
            rocksdb_writebatch_put(writes, key, operation->key.size,
                                   (const char *)operation->value.data,
                                   operation->value.size);
    }
    char *message = NULL;
    rocksdb_write(peer->db, peer->write[sync], writes, &message);
    rocksdb_writebatch_destroy(writes);
    return status_of(message);
}

static enum status peer_write(struct engine *engine, const struct batch *batch,
                              bool sync)
{
    struct peer *peer = (struct peer *)engine;
    if (batch->count != 1)
        return write_many(peer, batch, sync);
    /* What its own bench calls. */
    const struct batch_operation *one = &batch->operations[0];
    const char *key = (const char *)one->key.data;
    char *message = NULL;
    if (one->remove)
        rocksdb_delete(peer->db, peer->write[sync], key, one->key.size,
                       &message);
    else
        rocksdb_put(peer->db, peer->write[sync], key, one->key.size,
                    (const char *)one->value.data, one->value.size, &message);
    return status_of(message);
}

static enum status peer_iterate(struct engine *engine, struct bytes from,
                                struct bytes to, enum engine_order order,
                                struct engine_iterator **iterator)
{
    struct peer *peer = (struct peer *)engine;
    struct peer_walk *walk =
        walk_new(sizeof *walk, &rocksdb_type, from, to, order);
    if (walk == NULL)
        return STATUS_NO_MEMORY;
    walk->iterator = rocksdb_create_iterator(peer->db, peer->read);
    *iterator = &walk->base.base;
    return STATUS_OK;
}

/* The last before `to`. */
static void seek_back(struct peer_walk *walk)
{
    struct bytes to = walk->base.to;
    if (to.size == 0) {
        rocksdb_iter_seek_to_last(walk->iterator);
        return;
    }
    rocksdb_iter_seek(walk->iterator, (const char *)to.data, to.size);
    if (rocksdb_iter_valid(walk->iterator))
        rocksdb_iter_prev(walk->iterator);
    else
        rocksdb_iter_seek_to_last(walk->iterator);
}

static void step(struct peer_walk *walk)
{
    struct bytes from = walk->base.from;
    bool back = walk->base.order == ENGINE_BACKWARD;
    if (!walk->started && back)
        seek_back(walk);
    else if (!walk->started)
        rocksdb_iter_seek(walk->iterator, (const char *)from.data, from.size);
    else if (back)
        rocksdb_iter_prev(walk->iterator);
    else
        rocksdb_iter_next(walk->iterator);
    walk->started = true;
}

static enum status peer_next(struct engine_iterator *iterator,
                             struct bytes *key, struct bytes *value)
{
    struct peer_walk *walk = (struct peer_walk *)iterator;
    step(walk);
    if (!rocksdb_iter_valid(walk->iterator)) {
        char *message = NULL;
        rocksdb_iter_get_error(walk->iterator, &message);
        return message == NULL ? STATUS_NOT_FOUND : status_of(message);
    }
    size_t size = 0;
    const char *data = rocksdb_iter_key(walk->iterator, &size);
    *key = bytes_of(data, size);
    if (!walk_has(&walk->base, *key))
        return STATUS_NOT_FOUND;
    data = rocksdb_iter_value(walk->iterator, &size);
    *value = bytes_of(data, size);
    return STATUS_OK;
}

static void peer_iterator_free(struct engine_iterator *iterator)
{
    struct peer_walk *walk = (struct peer_walk *)iterator;
    rocksdb_iter_destroy(walk->iterator);
    free(walk);
}

static uint64_t property(const struct peer *peer, const char *name)
{
    uint64_t value = 0;
    return rocksdb_property_int(peer->db, name, &value) == 0 ? value : 0;
}

static void peer_stats(struct engine *engine, struct engine_stats *stats)
{
    const struct peer *peer = (struct peer *)engine;
    stats->memory_bytes = property(peer, "rocksdb.cur-size-all-mem-tables") +
                          property(peer, "rocksdb.estimate-table-readers-mem") +
                          property(peer, "rocksdb.block-cache-usage");
    stats->keys = property(peer, "rocksdb.estimate-num-keys");
    stats->live_bytes = property(peer, "rocksdb.estimate-live-data-size");
}

const struct engine_type rocksdb_type = {
    .name = "rocksdb",
    .capabilities = ENGINE_DURABLE | ENGINE_CONCURRENT_WRITES,
    .settings = settings,
    .open = peer_open,
    .close = peer_close,
    .get = peer_get,
    .write = peer_write,
    .iterate = peer_iterate,
    .next = peer_next,
    .iterator_free = peer_iterator_free,
    .stats = peer_stats,
};
