/* SPDX-License-Identifier: MIT */
#include "engines/engine.h"

#include "engines/directory.h"
#include "engines/types.h"
#include "proto/assert.h"

#include <stdlib.h>

/* The table: one line per engine, ended by NULL. */
static const struct engine_type *const types[] = {
    &leveldb_engine_type, &lmdb_engine_type, &lsm_engine_type,
    &memory_engine_type,  &null_engine_type, NULL,
};

const struct engine_type *const *engine_types(void)
{
    return types;
}

const struct engine_type *engine_type_find(const char *name)
{
    for (size_t i = 0; types[i] != NULL; i++)
        if (strcmp(types[i]->name, name) == 0)
            return types[i];
    return twin_type_find(name);
}

enum status engine_open(const struct engine_type *type,
                        const struct engine_options *options,
                        struct engine **engine, struct error *error)
{
    *engine = NULL;
    struct engine_options own = *options;
    own.type = type;
    enum status status = engine_check_settings(type, options, error);
    if (status == STATUS_OK && options->directory != NULL &&
        type->adopt != NULL)
        status = type->adopt(type, options->directory, error);
    if (status == STATUS_OK && options->directory != NULL)
        status = directory_claim(options->directory, type->name, error);
    else if (status == STATUS_OK && (type->capabilities & ENGINE_DURABLE) != 0)
        status = error_set(error, STATUS_INVALID,
                           "the engine \"%s\" needs a directory", type->name);
    if (status == STATUS_OK)
        status = type->open(&own, engine, error);
    return status;
}

void engine_close(struct engine *engine)
{
    if (engine != NULL)
        engine->type->close(engine);
}

enum status engine_get(struct engine *engine, struct bytes key,
                       struct buffer *value)
{
    ASSERT(key.size > 0 && key.size <= ENGINE_KEY_BYTES_MAX);
    return engine->type->get(engine, key, value);
}

enum status engine_write(struct engine *engine, const struct batch *batch,
                         bool sync)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct bytes key = batch->operations[i].key;
        ASSERT(key.size > 0 && key.size <= ENGINE_KEY_BYTES_MAX);
        ASSERT(batch->operations[i].remove ||
               batch->operations[i].value.size <= ENGINE_VALUE_BYTES_MAX);
    }
    return engine->type->write(engine, batch, sync);
}

enum status engine_iterate(struct engine *engine, struct bytes from,
                           struct bytes to, enum engine_order order,
                           struct engine_iterator **iterator)
{
    ASSERT(from.size <= ENGINE_KEY_BYTES_MAX);
    ASSERT(to.size <= ENGINE_KEY_BYTES_MAX);
    *iterator = NULL;
    return engine->type->iterate(engine, from, to, order, iterator);
}

enum status engine_next(struct engine_iterator *iterator, struct bytes *key,
                        struct bytes *value)
{
    return iterator->type->next(iterator, key, value);
}

void engine_iterator_free(struct engine_iterator *iterator)
{
    if (iterator != NULL)
        iterator->type->iterator_free(iterator);
}

/* Of one batch: few enough to hold their keys, 126 KiB, and many enough to
 * find the place again seldom. */
enum { REMOVALS_MAX = 256 };

struct removals {
    struct batch_operation operations[REMOVALS_MAX];
    uint8_t keys[REMOVALS_MAX][ENGINE_KEY_BYTES_MAX];
    size_t count;
};

/* NOT_FOUND at the end of the range, OK if there may be more of it. */
static enum status collect(struct engine_iterator *iterator,
                           struct removals *removals)
{
    struct bytes key, value;
    enum status status = STATUS_OK;
    for (removals->count = 0; removals->count < REMOVALS_MAX;) {
        status = engine_next(iterator, &key, &value);
        if (status == STATUS_OK &&
            (key.size == 0 || key.size > ENGINE_KEY_BYTES_MAX))
            status = STATUS_CORRUPT;
        if (status != STATUS_OK)
            break;
        size_t i = removals->count++;
        memcpy(removals->keys[i], key.data, key.size);
        removals->operations[i] = (struct batch_operation){
            .key = bytes_of(removals->keys[i], key.size), .remove = true};
    }
    return status;
}

/* The next chunk begins at the last key of this one and not at `from`: what
 * was removed in between costs an engine time to pass. Only the last batch,
 * which may be empty, is synced: those before it last with it. */
static enum status remove_each(struct engine *engine, struct bytes from,
                               struct bytes to, struct removals *removals)
{
    for (bool done = false; !done;) {
        struct engine_iterator *iterator;
        enum status status =
            engine_iterate(engine, from, to, ENGINE_FORWARD, &iterator);
        if (status != STATUS_OK)
            return status;
        status = collect(iterator, removals);
        engine_iterator_free(iterator);
        done = status == STATUS_NOT_FOUND;
        struct batch batch = {.operations = removals->operations,
                              .count = removals->count};
        if (done || status == STATUS_OK)
            status = engine_write(engine, &batch, done);
        if (status != STATUS_OK)
            return status;
        if (!done)
            from = removals->operations[removals->count - 1].key;
    }
    return STATUS_OK;
}

enum status engine_delete_range(struct engine *engine, struct bytes from,
                                struct bytes to)
{
    ASSERT(from.size <= ENGINE_KEY_BYTES_MAX);
    ASSERT(to.size <= ENGINE_KEY_BYTES_MAX);
    if (to.size > 0 && bytes_compare(from, to) >= 0)
        return STATUS_OK;
    if (engine->type->delete_range != NULL)
        return engine->type->delete_range(engine, from, to);
    struct removals *removals = malloc(sizeof *removals);
    if (removals == NULL)
        return STATUS_NO_MEMORY;
    enum status status = remove_each(engine, from, to, removals);
    free(removals);
    return status;
}

void engine_stats(struct engine *engine, struct engine_stats *stats)
{
    *stats = (struct engine_stats){0};
    engine->type->stats(engine, stats);
}

enum status engine_checkpoint(struct engine *engine, const char *directory,
                              struct error *error)
{
    if ((engine->type->capabilities & ENGINE_CHECKPOINT) == 0)
        return error_set(error, STATUS_UNSUPPORTED,
                         "the engine \"%s\" cannot make checkpoints",
                         engine->type->name);
    enum status status = engine->type->checkpoint(engine, directory, error);
    /* Last, so that half a copy has no owner and is never opened. */
    if (status == STATUS_OK)
        status = directory_mark(directory, engine->type->name, error);
    return status;
}
