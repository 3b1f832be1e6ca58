/* SPDX-License-Identifier: MIT */
#include "engines/walk.h"
#include "tests/bench/engine/peers.h"

#include <leveldb/c.h>

#include <stdlib.h>

enum { BLOOM_BITS_PER_KEY = 10 };

struct peer {
    struct engine base;
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_readoptions_t *read;
    leveldb_writeoptions_t *write[2]; /* by sync */
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
};

struct peer_walk {
    struct walk base;
    leveldb_iterator_t *iterator;
    bool started;
};

static const struct engine_setting_spec settings[] = {
    {"cache_bytes", 0, UINT64_C(1) << 40, 64 << 20, "as the adapter's", NULL},
    {"write_buffer_bytes", 64 << 10, 1 << 30, 4 << 20, "as the adapter's",
     NULL},
    {NULL, 0, 0, 0, NULL, NULL},
};

static enum status status_of(char *message)
{
    if (message == NULL)
        return STATUS_OK;
    leveldb_free(message);
    return STATUS_IO;
}

static void peer_close(struct engine *engine)
{
    struct peer *peer = (struct peer *)engine;
    if (peer->db != NULL)
        leveldb_close(peer->db);
    leveldb_writeoptions_destroy(peer->write[0]);
    leveldb_writeoptions_destroy(peer->write[1]);
    leveldb_readoptions_destroy(peer->read);
    leveldb_options_destroy(peer->options);
    leveldb_cache_destroy(peer->cache);
    leveldb_filterpolicy_destroy(peer->filter);
    free(peer);
}

static void set_options(struct peer *peer, const struct engine_options *options)
{
    const struct engine_type *type = &leveldb_default_type;
    peer->cache = leveldb_cache_create_lru(
        (size_t)engine_setting(options, type, "cache_bytes"));
    peer->filter = leveldb_filterpolicy_create_bloom(BLOOM_BITS_PER_KEY);
    peer->options = leveldb_options_create();
    leveldb_options_set_create_if_missing(peer->options, 1);
    leveldb_options_set_cache(peer->options, peer->cache);
    leveldb_options_set_filter_policy(peer->options, peer->filter);
    leveldb_options_set_write_buffer_size(
        peer->options,
        (size_t)engine_setting(options, type, "write_buffer_bytes"));
    peer->read = leveldb_readoptions_create();
    peer->write[0] = leveldb_writeoptions_create();
    peer->write[1] = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(peer->write[1], 1);
}

static enum status peer_open(const struct engine_options *options,
                             struct engine **engine, struct error *error)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    peer->base.type = &leveldb_default_type;
    set_options(peer, options);
    char *message = NULL;
    peer->db = leveldb_open(peer->options, options->directory, &message);
    if (message != NULL) {
        error_set(error, STATUS_IO, "%.200s", message);
        peer_close(&peer->base);
        return status_of(message);
    }
    *engine = &peer->base;
    return STATUS_OK;
}

static enum status peer_get(struct engine *engine, struct bytes key,
                            struct buffer *value)
{
    struct peer *peer = (struct peer *)engine;
    char *message = NULL;
    size_t size = 0;
    char *found = leveldb_get(peer->db, peer->read, (const char *)key.data,
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

static enum status peer_write(struct engine *engine, const struct batch *batch,
                              bool sync)
{
    struct peer *peer = (struct peer *)engine;
    leveldb_writebatch_t *writes = leveldb_writebatch_create();
    for (size_t i = 0; i < batch->count; i++) {
        const struct batch_operation *operation = &batch->operations[i];
        const char *key = (const char *)operation->key.data;
        if (operation->remove)
            leveldb_writebatch_delete(writes, key, operation->key.size);
        else
            leveldb_writebatch_put(writes, key, operation->key.size,
                                   (const char *)operation->value.data,
                                   operation->value.size);
    }
    char *message = NULL;
    leveldb_write(peer->db, peer->write[sync], writes, &message);
    leveldb_writebatch_destroy(writes);
    return status_of(message);
}

static enum status peer_iterate(struct engine *engine, struct bytes from,
                                struct bytes to, enum engine_order order,
                                struct engine_iterator **iterator)
{
    struct peer *peer = (struct peer *)engine;
    struct peer_walk *walk =
        walk_new(sizeof *walk, &leveldb_default_type, from, to, order);
    if (walk == NULL)
        return STATUS_NO_MEMORY;
    walk->iterator = leveldb_create_iterator(peer->db, peer->read);
    *iterator = &walk->base.base;
    return STATUS_OK;
}

/* The last before `to`. */
static void seek_back(struct peer_walk *walk)
{
    struct bytes to = walk->base.to;
    if (to.size == 0) {
        leveldb_iter_seek_to_last(walk->iterator);
        return;
    }
    leveldb_iter_seek(walk->iterator, (const char *)to.data, to.size);
    if (leveldb_iter_valid(walk->iterator))
        leveldb_iter_prev(walk->iterator);
    else
        leveldb_iter_seek_to_last(walk->iterator);
}

static void step(struct peer_walk *walk)
{
    struct bytes from = walk->base.from;
    bool back = walk->base.order == ENGINE_BACKWARD;
    if (!walk->started && back)
        seek_back(walk);
    else if (!walk->started)
        leveldb_iter_seek(walk->iterator, (const char *)from.data, from.size);
    else if (back)
        leveldb_iter_prev(walk->iterator);
    else
        leveldb_iter_next(walk->iterator);
    walk->started = true;
}

static enum status peer_next(struct engine_iterator *iterator,
                             struct bytes *key, struct bytes *value)
{
    struct peer_walk *walk = (struct peer_walk *)iterator;
    step(walk);
    if (!leveldb_iter_valid(walk->iterator)) {
        char *message = NULL;
        leveldb_iter_get_error(walk->iterator, &message);
        return message == NULL ? STATUS_NOT_FOUND : status_of(message);
    }
    size_t size = 0;
    const char *data = leveldb_iter_key(walk->iterator, &size);
    *key = bytes_of(data, size);
    if (!walk_has(&walk->base, *key))
        return STATUS_NOT_FOUND;
    data = leveldb_iter_value(walk->iterator, &size);
    *value = bytes_of(data, size);
    return STATUS_OK;
}

static void peer_iterator_free(struct engine_iterator *iterator)
{
    struct peer_walk *walk = (struct peer_walk *)iterator;
    leveldb_iter_destroy(walk->iterator);
    free(walk);
}

static void peer_stats(struct engine *engine, struct engine_stats *stats)
{
    struct peer *peer = (struct peer *)engine;
    char *usage =
        leveldb_property_value(peer->db, "leveldb.approximate-memory-usage");
    if (usage != NULL)
        stats->memory_bytes = strtoull(usage, NULL, 10);
    leveldb_free(usage);
}

const struct engine_type leveldb_default_type = {
    .name = "leveldb-default",
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
