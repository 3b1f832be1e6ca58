/* SPDX-License-Identifier: MIT */
#include "engines/lsm/merge.h"

#include <stdlib.h>

#include "proto/assert.h"

struct merge_source {
    const struct memtable_node *node; /* of a memtable; NULL at its end */
    struct table_cursor cursor;       /* of a table */
    bool is_table;
    bool valid; /* entry is the source's current one */
    struct entry entry;
};

enum status merge_init(struct merge *merge, size_t capacity, uint64_t sequence)
{
    *merge = (struct merge){.capacity = capacity, .sequence = sequence};
    merge->sources = calloc(capacity + 1, sizeof *merge->sources);
    return merge->sources == NULL ? STATUS_NO_MEMORY : STATUS_OK;
}

void merge_fini(struct merge *merge)
{
    for (size_t i = 0; i < merge->count; i++)
        table_cursor_fini(&merge->sources[i].cursor);
    free(merge->sources);
    buffer_fini(&merge->last_key);
    *merge = (struct merge){0};
}

/* Show the next node that the snapshot may see, from source->node on. */
static void settle_memtable(struct merge_source *source, uint64_t sequence)
{
    source->valid = false;
    for (; source->node != NULL; source->node = memtable_next(source->node)) {
        source->entry = memtable_entry(source->node);
        if (source->entry.sequence <= sequence) {
            source->valid = true;
            return;
        }
    }
}

static enum status advance(struct merge_source *source, uint64_t sequence)
{
    if (!source->is_table) {
        source->node = memtable_next(source->node);
        settle_memtable(source, sequence);
        return STATUS_OK;
    }
    enum status status = table_cursor_next(&source->cursor, &source->entry);
    source->valid = status == STATUS_OK;
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status merge_add_memtable(struct merge *merge,
                               const struct memtable *memtable,
                               struct bytes from)
{
    ASSERT(merge->count < merge->capacity);
    struct merge_source *source = &merge->sources[merge->count++];
    source->node = memtable_seek(memtable, from, UINT64_MAX);
    settle_memtable(source, merge->sequence);
    return STATUS_OK;
}

enum status merge_add_table(struct merge *merge, struct table *table,
                            struct bytes from)
{
    ASSERT(merge->count < merge->capacity);
    struct merge_source *source = &merge->sources[merge->count++];
    source->is_table = true;
    enum status status = table_cursor_seek(&source->cursor, table, from);
    return status == STATUS_OK ? advance(source, merge->sequence) : status;
}

/* Move every source past the key given last: its older versions are hidden. */
static enum status skip_last(struct merge *merge)
{
    struct bytes last = buffer_bytes(&merge->last_key);
    for (size_t i = 0; i < merge->count; i++) {
        struct merge_source *source = &merge->sources[i];
        while (source->valid && bytes_equal(source->entry.key, last)) {
            enum status status = advance(source, merge->sequence);
            if (status != STATUS_OK)
                return status;
        }
    }
    return STATUS_OK;
}

enum status merge_next(struct merge *merge, struct entry *entry)
{
    if (merge->failure == STATUS_OK && merge->started)
        merge->failure = skip_last(merge);
    if (merge->failure != STATUS_OK)
        return merge->failure;
    /* Sources are few (a handful per tier), so a heap would not pay. On equal
     * keys the first, which is the newest, wins. */
    struct merge_source *least = NULL;
    for (size_t i = 0; i < merge->count; i++) {
        struct merge_source *source = &merge->sources[i];
        if (source->valid &&
            (least == NULL ||
             bytes_compare(source->entry.key, least->entry.key) < 0))
            least = source;
    }
    if (least == NULL)
        return STATUS_NOT_FOUND;
    *entry = least->entry;
    merge->started = true;
    buffer_clear(&merge->last_key);
    merge->failure = buffer_append(&merge->last_key, entry->key);
    return merge->failure;
}
