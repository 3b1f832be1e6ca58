/* SPDX-License-Identifier: MIT */
#include "engines/engine.h"

#include "engines/directory.h"
#include "engines/types.h"
#include "proto/assert.h"

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
    return NULL;
}

enum status engine_open(const struct engine_type *type,
                        const struct engine_options *options,
                        struct engine **engine, struct error *error)
{
    *engine = NULL;
    enum status status = engine_check_settings(type, options, error);
    if (status == STATUS_OK && options->directory != NULL)
        status = directory_claim(options->directory, type->name, error);
    else if (status == STATUS_OK && (type->capabilities & ENGINE_DURABLE) != 0)
        status = error_set(error, STATUS_INVALID,
                           "the engine \"%s\" needs a directory", type->name);
    if (status == STATUS_OK)
        status = type->open(options, engine, error);
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
    }
    return engine->type->write(engine, batch, sync);
}

enum status engine_iterate(struct engine *engine, struct bytes from,
                           struct bytes to, struct engine_iterator **iterator)
{
    ASSERT(from.size <= ENGINE_KEY_BYTES_MAX);
    ASSERT(to.size <= ENGINE_KEY_BYTES_MAX);
    *iterator = NULL;
    return engine->type->iterate(engine, from, to, iterator);
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
