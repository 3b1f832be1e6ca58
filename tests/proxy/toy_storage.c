/* SPDX-License-Identifier: MIT */
#include "tests/proxy/toy_storage.h"

#include <stdlib.h>

#include "proto/assert.h"

enum { SCRATCH_BYTES = 64 << 20, DEDUP_WINDOW_MS = 60000 };

void toy_init(struct toy_storage *toy, uint64_t seed)
{
    *toy = (struct toy_storage){.count = 0};
    replica_init(&toy->replica, seed, DEDUP_WINDOW_MS);
    arena_init(&toy->scratch, SCRATCH_BYTES);
}

static void entry_fini(struct toy_entry *entry)
{
    buffer_fini(&entry->key);
    buffer_fini(&entry->value);
}

void toy_fini(struct toy_storage *toy)
{
    for (size_t i = 0; i < toy->count; i++)
        entry_fini(&toy->entries[i]);
    free(toy->entries);
    free(toy->rows);
    buffer_fini(&toy->value);
    buffer_fini(&toy->next);
    arena_fini(&toy->scratch);
}

/* The first entry at or behind the key. */
static size_t lower_bound(const struct toy_storage *toy, struct bytes key)
{
    size_t low = 0, high = toy->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bytes_compare(buffer_bytes(&toy->entries[middle].key), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct toy_storage *toy, size_t at, struct bytes key)
{
    return at < toy->count &&
           bytes_equal(buffer_bytes(&toy->entries[at].key), key);
}

static void set(struct toy_storage *toy, struct bytes key, struct bytes value)
{
    size_t at = lower_bound(toy, key);
    if (!is_at(toy, at, key)) {
        if (toy->count == toy->capacity) {
            toy->capacity = toy->capacity == 0 ? 16 : toy->capacity * 2;
            toy->entries =
                realloc(toy->entries, toy->capacity * sizeof *toy->entries);
            toy->rows = realloc(toy->rows, toy->capacity * sizeof *toy->rows);
            ASSERT(toy->entries != NULL && toy->rows != NULL);
        }
        memmove(toy->entries + at + 1, toy->entries + at,
                (toy->count - at) * sizeof *toy->entries);
        toy->entries[at] = (struct toy_entry){.key = {0}};
        toy->count++;
        ASSERT(buffer_append(&toy->entries[at].key, key) == STATUS_OK);
    }
    buffer_clear(&toy->entries[at].value);
    ASSERT(buffer_append(&toy->entries[at].value, value) == STATUS_OK);
}

static void erase(struct toy_storage *toy, struct bytes key)
{
    size_t at = lower_bound(toy, key);
    if (!is_at(toy, at, key))
        return;
    entry_fini(&toy->entries[at]);
    memmove(toy->entries + at, toy->entries + at + 1,
            (--toy->count - at) * sizeof *toy->entries);
}

struct bytes toy_get(const struct toy_storage *toy,
                     const struct storage_key *key)
{
    struct buffer name = {0};
    ASSERT(storage_key_encode(key, &name) == STATUS_OK);
    size_t at = lower_bound(toy, buffer_bytes(&name));
    bool found = is_at(toy, at, buffer_bytes(&name));
    buffer_fini(&name);
    return found ? buffer_bytes(&toy->entries[at].value) : (struct bytes){0};
}

void toy_put(struct toy_storage *toy, const struct storage_key *key,
             struct bytes value)
{
    struct buffer name = {0};
    ASSERT(storage_key_encode(key, &name) == STATUS_OK);
    set(toy, buffer_bytes(&name), value);
    buffer_fini(&name);
}

static void scan(struct toy_storage *toy, const struct storage_op *op,
                 struct storage_result *result)
{
    struct buffer from = {0}, to = {0};
    ASSERT(storage_scan_range(op, &from, &to) == STATUS_OK);
    size_t at = lower_bound(toy, buffer_bytes(&from));
    size_t bytes = 0;
    result->rows = toy->rows;
    while (at < toy->count &&
           bytes_compare(buffer_bytes(&toy->entries[at].key),
                         buffer_bytes(&to)) < 0 &&
           (bytes < op->bytes_max || result->row_count == 0)) {
        struct storage_row *row = &toy->rows[result->row_count++];
        const struct toy_entry *entry = &toy->entries[at++];
        ASSERT(storage_key_decode(buffer_bytes(&entry->key), &row->key) ==
               STATUS_OK);
        row->record = buffer_bytes(&entry->value);
        bytes += entry->key.size + entry->value.size;
        result->next = buffer_bytes(&entry->key);
    }
    result->done =
        at == toy->count || bytes_compare(buffer_bytes(&toy->entries[at].key),
                                          buffer_bytes(&to)) >= 0;
    buffer_fini(&from);
    buffer_fini(&to);
}

static void change(struct toy_storage *toy, const struct storage_op *op,
                   struct storage_result *result)
{
    struct replica_change change;
    struct buffer name = {0};
    buffer_clear(&toy->value);
    ASSERT(buffer_append(&toy->value, toy_get(toy, &op->key)) == STATUS_OK);
    replica_apply(&toy->replica, op,
                  (struct replica_copy){.record = buffer_bytes(&toy->value)},
                  &toy->scratch, &toy->next, &change);
    result->status = change.status;
    result->message = change.message;
    result->duplicate = change.duplicate;
    result->records_delta = change.records_delta;
    result->bytes_delta = change.bytes_delta;
    result->version_before = change.version_before;
    result->ripe_ms = change.ripe_ms;
    result->version_after = change.version_after;
    result->was_damaged = change.was_damaged;
    result->record = buffer_bytes(&toy->next);
    ASSERT(storage_key_encode(&op->key, &name) == STATUS_OK);
    if (change.status == STATUS_OK && change.removed)
        erase(toy, buffer_bytes(&name));
    else if (change.status == STATUS_OK && change.changed)
        set(toy, buffer_bytes(&name), buffer_bytes(&toy->next));
    buffer_fini(&name);
}

void toy_run(struct toy_storage *toy, const struct storage_op *op,
             struct storage_result *result)
{
    *result = (struct storage_result){.op = op, .status = STATUS_OK};
    arena_reset(&toy->scratch);
    switch (op->kind) {
    case STORAGE_READ:
        result->record = toy_get(toy, &op->key);
        if (result->record.size == 0)
            result->status = STATUS_NOT_FOUND;
        break;
    case STORAGE_SCAN:
        scan(toy, op, result);
        break;
    case STORAGE_COORDINATE:
    case STORAGE_MERGE:
    case STORAGE_DROP:
    case STORAGE_COLLECT:
    case STORAGE_SET:
        change(toy, op, result);
        break;
    }
}
