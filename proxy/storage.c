/* SPDX-License-Identifier: MIT */
#include "proxy/storage.h"

#include "proto/assert.h"
#include "proxy/storage_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void storage_log(struct storage *storage, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    storage->handlers->log(storage->user, line);
}

/* --- copies of operations --- */

size_t storage_op_bytes(const struct storage_op *op)
{
    return op->key.key.size + op->data.size + op->context.size + op->after.size;
}

static uint8_t *move(struct bytes *bytes, uint8_t *memory)
{
    if (bytes->size > 0)
        memcpy(memory, bytes->data, bytes->size);
    bytes->data = memory;
    return memory + bytes->size;
}

void storage_op_move(struct storage_op *op, uint8_t *memory)
{
    memory = move(&op->key.key, memory);
    memory = move(&op->data, memory);
    memory = move(&op->context, memory);
    move(&op->after, memory);
}

struct storage_op *storage_op_copy_head(struct arena *arena,
                                        const struct storage_op *op)
{
    struct storage_op *copy =
        arena_alloc(arena, sizeof *copy + op->key.key.size);
    if (copy == NULL)
        return NULL;
    *copy = *op;
    copy->data = copy->context = copy->after = (struct bytes){0};
    storage_op_move(copy, (uint8_t *)(copy + 1));
    return copy;
}

/* --- queueing --- */

/* Under lock. */
static bool enqueue(struct storage *storage, const struct storage_op *op)
{
    struct op_queue *queue = &storage->waiting;
    if (queue->count == storage->config.queue_max)
        return false;
    uint8_t *memory = arena_alloc(&queue->arena, storage_op_bytes(op));
    if (memory == NULL)
        return false;
    struct storage_op *copy = &queue->ops[queue->count++];
    *copy = *op;
    storage_op_move(copy, memory);
    return true;
}

static bool grow(struct refusals *refusals)
{
    if (refusals->count < refusals->capacity)
        return true;
    size_t capacity = refusals->capacity == 0 ? 64 : refusals->capacity * 2;
    struct storage_done *list =
        realloc(refusals->list, capacity * sizeof *list);
    if (list == NULL)
        return false;
    refusals->list = list;
    refusals->capacity = capacity;
    return true;
}

/* Without memory for a refusal nothing is told, and the deadline of whoever
 * waits for it has to do. */
void storage_refuse(struct storage *storage, const struct storage_op *op,
                    enum status status)
{
    struct refusals *refusals = &storage->refusals;
    if (!grow(refusals))
        return;
    struct storage_op *copy = storage_op_copy_head(&refusals->arena, op);
    if (copy == NULL)
        return;
    refusals->list[refusals->count++] = (struct storage_done){
        .kind = EVENT_STORED,
        .result = {.op = copy,
                   .status = status,
                   .message = status == STATUS_BROKEN
                                  ? STORAGE_BROKEN_MESSAGE
                                  : "too many writes wait for the disk"},
    };
}

void storage_submit(struct storage *storage, const struct storage_op *op)
{
    ASSERT(op->kind != STORAGE_READ && op->kind != STORAGE_SCAN);
    pthread_mutex_lock(&storage->lock);
    if (atomic_load(&storage->broken))
        storage_refuse(storage, op, STATUS_BROKEN);
    else if (!enqueue(storage, op))
        storage_refuse(storage, op, STATUS_OVERLOADED);
    pthread_mutex_unlock(&storage->lock);
}

void storage_tell_refusals(struct storage *storage)
{
    if (storage->is_telling)
        return;
    storage->is_telling = true;
    while (storage->refusals.count > 0) {
        struct refusals told = storage->refusals;
        storage->refusals = storage->telling;
        storage->telling = told;
        pthread_mutex_unlock(&storage->lock);
        storage->handlers->done(storage->user, told.list, told.count);
        storage->telling.count = 0;
        arena_reset(&storage->telling.arena);
        pthread_mutex_lock(&storage->lock);
    }
    storage->is_telling = false;
}

void storage_run(struct storage *storage)
{
    pthread_mutex_lock(&storage->lock);
    if (storage_is_inline(storage))
        writer_run_inline(storage);
    else
        storage_prepare(storage);
    storage_tell_refusals(storage);
    pthread_mutex_unlock(&storage->lock);
}

bool storage_blocks(const struct storage *storage)
{
    return !storage_is_inline(storage);
}

void storage_renew(struct storage *storage)
{
    atomic_store(&storage->renew, true);
}

/* --- before there is a node --- */

static enum status meta_key(enum table table, const char *name,
                            struct buffer *encoded)
{
    struct storage_key key = {.table = table, .key = bytes_of_string(name)};
    return storage_key_encode(&key, encoded);
}

enum status storage_meta_get(struct storage *storage, enum table table,
                             const char *name, struct buffer *value)
{
    struct buffer key = {0};
    enum status status = meta_key(table, name, &key);
    if (status == STATUS_OK)
        status = engine_get(storage->engine, buffer_bytes(&key), value);
    buffer_fini(&key);
    return status;
}

enum status storage_meta_set(struct storage *storage, enum table table,
                             const char *name, struct bytes value)
{
    struct buffer key = {0};
    enum status status = atomic_load(&storage->broken)
                             ? STATUS_BROKEN
                             : meta_key(table, name, &key);
    struct batch_operation operation = {.value = value};
    operation.key = buffer_bytes(&key);
    struct batch batch = {.operations = &operation, .count = 1};
    if (status == STATUS_OK)
        status = engine_write(storage->engine, &batch, true);
    buffer_fini(&key);
    return status;
}

/* Engines without checksums leave it to those of the records. */
static enum status check_record(struct bytes key, struct bytes value,
                                struct arena *scratch)
{
    struct storage_key decoded;
    struct record record;
    arena_reset(scratch);
    if (storage_key_decode(key, &decoded) != STATUS_OK ||
        decoded.table == TABLE_META || decoded.table == TABLE_TREES)
        return STATUS_OK;
    return record_decode(value, scratch, &record);
}

static enum status check_each(struct storage *storage,
                              struct engine_iterator *iterator,
                              struct arena *scratch)
{
    struct bytes key, value;
    int64_t told_ms = clock_now_ms();
    enum status status;
    for (uint64_t keys = 0;; keys++) {
        status = engine_next(iterator, &key, &value);
        if (status == STATUS_OK)
            status = check_record(key, value, scratch);
        if (status != STATUS_OK)
            break;
        if (clock_now_ms() - told_ms < CHECK_TOLD_MS)
            continue;
        told_ms = clock_now_ms();
        storage_log(storage, "event=check keys=%" PRIu64, keys + 1);
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status storage_check(struct storage *storage)
{
    struct engine_iterator *iterator;
    struct bytes all = {0};
    enum status status =
        engine_iterate(storage->engine, all, all, ENGINE_FORWARD, &iterator);
    if (status == STATUS_OK) {
        struct arena scratch;
        arena_init(&scratch, SIZE_MAX);
        status = check_each(storage, iterator, &scratch);
        arena_fini(&scratch);
        engine_iterator_free(iterator);
    }
    return status == STATUS_IO ? STATUS_CORRUPT : status;
}

void storage_stats(struct storage *storage, struct storage_stats *stats)
{
    *stats = (struct storage_stats){
        .batches = atomic_load(&storage->batches),
        .operations = atomic_load(&storage->operations),
        .syncs = atomic_load(&storage->syncs),
        .reopens = atomic_load(&storage->reopens),
        .reads_inline = atomic_load(&storage->reads_inline),
        .reads_handed_over = atomic_load(&storage->reads_handed_over),
    };
    readers_stats(storage, &stats->engine);
}

/* --- open and close --- */

static void report(void *context, const char *message)
{
    struct storage *storage = context;
    storage_log(storage, "event=engine_report engine=%s what=\"%.400s\"",
                storage->config.type->name, message);
}

/* The engine took the settings, so their names are those of the table, which
 * outlives the caller's. */
static enum status copy_options(struct storage *storage)
{
    struct engine_options *options = &storage->config.options;
    if (options->directory != NULL) {
        storage->directory = strdup(options->directory);
        if (storage->directory == NULL)
            return STATUS_NO_MEMORY;
        options->directory = storage->directory;
    }
    size_t count = options->setting_count;
    if (count == 0)
        return STATUS_OK;
    storage->settings = calloc(count, sizeof *storage->settings);
    if (storage->settings == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const struct engine_setting_spec *spec = storage->config.type->settings;
        while (strcmp(spec->name, options->settings[i].name) != 0)
            spec++;
        storage->settings[i] = (struct engine_setting){
            .name = spec->name, .value = options->settings[i].value};
    }
    options->settings = storage->settings;
    return STATUS_OK;
}

static enum status queue_init(struct op_queue *queue, size_t ops, size_t bytes)
{
    arena_init(&queue->arena, bytes);
    queue->ops = malloc(ops * sizeof *queue->ops);
    return queue->ops == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

static void queue_fini(struct op_queue *queue)
{
    free(queue->ops);
    arena_fini(&queue->arena);
}

static void release(struct storage *storage)
{
    engine_close(storage->engine);
    batch_fini(&storage->batches_of[0]);
    batch_fini(&storage->batches_of[1]);
    readers_fini(storage);
    queue_fini(&storage->waiting);
    queue_fini(&storage->taken);
    free(storage->refusals.list);
    free(storage->telling.list);
    arena_fini(&storage->refusals.arena);
    arena_fini(&storage->telling.arena);
    pthread_rwlock_destroy(&storage->engine_lock);
    pthread_mutex_destroy(&storage->lock);
    pthread_mutex_destroy(&storage->read_lock);
    pthread_cond_destroy(&storage->wake);
    pthread_cond_destroy(&storage->told_wake);
    pthread_cond_destroy(&storage->read_wake);
    free(storage->settings);
    free(storage->directory);
    free(storage);
}

static void init(struct storage *storage)
{
    pthread_rwlock_init(&storage->engine_lock, NULL);
    pthread_mutex_init(&storage->lock, NULL);
    pthread_mutex_init(&storage->read_lock, NULL);
    pthread_cond_init(&storage->read_wake, NULL);
    pthread_cond_init(&storage->told_wake, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&storage->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    storage->read_last = &storage->read_first;
    arena_init(&storage->refusals.arena, SIZE_MAX);
    arena_init(&storage->telling.arena, SIZE_MAX);
}

static enum status start(struct storage *storage)
{
    size_t ops = storage->config.queue_max;
    size_t bytes = storage->config.queue_bytes_max;
    enum status status = copy_options(storage);
    if (status == STATUS_OK)
        status = queue_init(&storage->waiting, ops, bytes);
    if (status == STATUS_OK)
        status = queue_init(&storage->taken, ops, bytes);
    if (status == STATUS_OK)
        status = writer_start(storage);
    if (status == STATUS_OK)
        status = readers_start(storage);
    return status;
}

enum status storage_open(const struct storage_config *config,
                         const struct storage_handlers *handlers, void *user,
                         struct storage **out, struct error *error)
{
    ASSERT(config->queue_max > 0 && config->queue_bytes_max > 0);
    *out = NULL;
    struct storage *storage = calloc(1, sizeof *storage);
    if (storage == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the storage");
    storage->config = *config;
    storage->config.options.report = report;
    storage->config.options.report_context = storage;
    storage->handlers = handlers;
    storage->user = user;
    init(storage);
    enum status status = engine_open(config->type, &storage->config.options,
                                     &storage->engine, error);
    if (status == STATUS_OK) {
        status = start(storage);
        if (status != STATUS_OK)
            error_set(error, status,
                      "no memory or threads for a queue of %zu operations",
                      config->queue_max);
    }
    if (status != STATUS_OK) {
        readers_stop(storage);
        writer_stop(storage);
        release(storage);
        return status;
    }
    *out = storage;
    return STATUS_OK;
}

void storage_drain(struct storage *storage)
{
    if (storage->is_drained)
        return;
    /* Readers first: their last results may ask for writes. */
    readers_stop(storage);
    writer_stop(storage);
    storage_run(storage);
    storage->is_drained = true;
}

void storage_close(struct storage *storage)
{
    storage_drain(storage);
    release(storage);
}
