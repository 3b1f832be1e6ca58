/* SPDX-License-Identifier: MIT */
#include "engines/types.h"

#include <stdlib.h>

/* Keeps nothing and answers at once: what is left when a load runs on it is
 * the proxy's own cost. */

static enum status null_open(const struct engine_options *options,
                             struct engine **engine, struct error *error)
{
    (void)options;
    *engine = malloc(sizeof **engine);
    if (*engine == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an engine");
    (*engine)->type = &null_engine_type;
    return STATUS_OK;
}

static void null_close(struct engine *engine)
{
    free(engine);
}

static enum status null_get(struct engine *engine, struct bytes key,
                            struct buffer *value)
{
    (void)engine;
    (void)key;
    (void)value;
    return STATUS_NOT_FOUND;
}

static enum status null_write(struct engine *engine, const struct batch *batch,
                              bool sync)
{
    (void)engine;
    (void)batch;
    (void)sync;
    return STATUS_OK;
}

static enum status null_iterate(struct engine *engine, struct bytes from,
                                struct bytes to, enum engine_order order,
                                struct engine_iterator **iterator)
{
    (void)engine;
    (void)from;
    (void)to;
    (void)order;
    *iterator = malloc(sizeof **iterator);
    if (*iterator == NULL)
        return STATUS_NO_MEMORY;
    (*iterator)->type = &null_engine_type;
    return STATUS_OK;
}

static enum status null_next(struct engine_iterator *iterator,
                             struct bytes *key, struct bytes *value)
{
    (void)iterator;
    (void)key;
    (void)value;
    return STATUS_NOT_FOUND;
}

static void null_iterator_free(struct engine_iterator *iterator)
{
    free(iterator);
}

static void null_stats(struct engine *engine, struct engine_stats *stats)
{
    (void)engine;
    *stats = (struct engine_stats){0};
}

const struct engine_type null_engine_type = {
    .name = "null",
    .capabilities = ENGINE_NEVER_BLOCKS | ENGINE_CONCURRENT_WRITES,
    .settings = NULL,
    .open = null_open,
    .close = null_close,
    .get = null_get,
    .write = null_write,
    .iterate = null_iterate,
    .next = null_next,
    .iterator_free = null_iterator_free,
    .stats = null_stats,
};
