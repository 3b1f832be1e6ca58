/* SPDX-License-Identifier: MIT */
#include "engines/lsm/run.h"

#include <stdlib.h>

/* Half a cache line, and what qsort moves at most in one piece. */
struct run_item {
    uint64_t digest; /* of the key, behind what all keys begin with */
    uint64_t sequence;
    union {
        size_t offset;      /* while data may move */
        const uint8_t *key; /* once sorted */
    } at;
    uint32_t value_size;
    uint16_t key_size;
    bool removed;
};

enum {
    CAPACITY_MIN = 64,
    /* Entries ahead: who walks a run waits for memory, else. */
    PREFETCH = 8,
};

enum status run_add(struct run *run, const struct entry *entry)
{
    if (run->count == run->capacity) {
        size_t capacity =
            run->capacity < CAPACITY_MIN ? CAPACITY_MIN : 2 * run->capacity;
        struct run_item *items =
            realloc(run->items, capacity * sizeof *run->items);
        if (items == NULL)
            return STATUS_NO_MEMORY;
        run->items = items;
        run->capacity = capacity;
    }
    struct bytes value = entry->removed ? (struct bytes){0} : entry->value;
    size_t offset = run->data.size;
    enum status status = buffer_append(&run->data, entry->key);
    if (status == STATUS_OK)
        status = buffer_append(&run->data, value);
    if (status != STATUS_OK)
        return status;
    run->items[run->count++] = (struct run_item){
        .sequence = entry->sequence,
        .at.offset = offset,
        .value_size = (uint32_t)value.size,
        .key_size = (uint16_t)entry->key.size,
        .removed = entry->removed,
    };
    return STATUS_OK;
}

size_t run_size(const struct run *run)
{
    return run->data.size + run->count * sizeof *run->items;
}

static struct bytes item_key(const struct run_item *item)
{
    return bytes_of(item->at.key, item->key_size);
}

/* Most pairs differ in their digests, and then nothing else is touched. */
static int compare(const void *a, const void *b)
{
    const struct run_item *x = a, *y = b;
    if (x->digest != y->digest)
        return x->digest < y->digest ? -1 : 1;
    int order = bytes_compare(item_key(x), item_key(y));
    return order != 0
               ? order
               : (x->sequence < y->sequence) - (x->sequence > y->sequence);
}

static size_t shared_prefix(struct bytes a, struct bytes b, size_t size)
{
    size = a.size < size ? a.size : size;
    size = b.size < size ? b.size : size;
    size_t at = 0;
    while (at < size && a.data[at] == b.data[at])
        at++;
    return at;
}

void run_sort(struct run *run)
{
    size_t prefix = SIZE_MAX;
    for (size_t i = 0; i < run->count; i++) {
        struct run_item *item = &run->items[i];
        item->at.key = run->data.data + item->at.offset;
        prefix =
            shared_prefix(item_key(&run->items[0]), item_key(item), prefix);
    }
    for (size_t i = 0; i < run->count; i++) {
        struct bytes key = item_key(&run->items[i]);
        uint64_t digest = 0;
        for (size_t j = prefix; j < prefix + sizeof digest; j++)
            digest = digest << 8 | (j < key.size ? key.data[j] : 0);
        run->items[i].digest = digest;
    }
    if (run->count > 0)
        qsort(run->items, run->count, sizeof *run->items, compare);
}

struct entry run_entry(const struct run *run, size_t at)
{
    const struct run_item *item = &run->items[at];
    if (at + PREFETCH < run->count) {
        const uint8_t *later = item[PREFETCH].at.key;
        __builtin_prefetch(later);
        __builtin_prefetch(later + 64);
    }
    return (struct entry){
        .key = item_key(item),
        .value = bytes_of(item->at.key + item->key_size, item->value_size),
        .sequence = item->sequence,
        .removed = item->removed,
    };
}

void run_clear(struct run *run)
{
    run->count = 0;
    buffer_clear(&run->data);
}

void run_fini(struct run *run)
{
    free(run->items);
    buffer_fini(&run->data);
    *run = (struct run){0};
}
