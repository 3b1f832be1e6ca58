/* SPDX-License-Identifier: MIT */
#include "engines/lsm/merge.h"

#include <stdlib.h>

#include "proto/assert.h"

/* A memtable, or tables in a row. Never the same key twice. */
struct merge_source {
    const struct memtable *memtable; /* NULL: tables */
    const struct memtable_node *node;
    struct table *const *tables;
    size_t table_count, at;
    struct table_cursor cursor; /* of tables[at], once opened */
    bool opened;
    struct entry entry; /* the current one, while it is in the heap */
};

/* A block of a source that could not be read. */
struct merge_damage {
    const struct merge_source *source;
    const struct table *table;
    size_t block;
};

/* With more there is hardly anything left to walk through. */
enum { DAMAGES_MAX = 1000 };

enum status merge_init(struct merge *merge, size_t capacity, uint64_t sequence,
                       enum engine_order order, enum table_access access,
                       const struct version *version)
{
    *merge = (struct merge){
        .capacity = capacity,
        .sequence = sequence,
        .order = order,
        .access = access,
        .version = version != NULL && version->drop_count > 0 ? version : NULL,
    };
    merge->sources = calloc(capacity + 1, sizeof *merge->sources);
    merge->heap = calloc(capacity + 1, sizeof(struct merge_source *));
    return merge->sources == NULL || merge->heap == NULL ? STATUS_NO_MEMORY
                                                         : STATUS_OK;
}

void merge_fini(struct merge *merge)
{
    for (size_t i = 0; i < merge->count; i++)
        table_cursor_fini(&merge->sources[i].cursor);
    free(merge->sources);
    free(merge->heap);
    free(merge->damages);
    buffer_fini(&merge->last_key);
    *merge = (struct merge){0};
}

void merge_add_memtable(struct merge *merge, const struct memtable *memtable)
{
    ASSERT(merge->count < merge->capacity);
    merge->sources[merge->count++].memtable = memtable;
}

void merge_add_tables(struct merge *merge, struct table *const *tables,
                      size_t count)
{
    ASSERT(merge->count < merge->capacity && count > 0);
    struct merge_source *source = &merge->sources[merge->count++];
    source->tables = tables;
    source->table_count = count;
}

size_t view_sources(const struct view *view)
{
    return view->memtable_count + view->version->levels[0].count + LEVELS - 1;
}

void merge_add_view(struct merge *merge, const struct view *view)
{
    for (size_t i = 0; i < view->memtable_count; i++)
        merge_add_memtable(merge, view->memtables[i]);
    const struct level *levels = view->version->levels;
    for (size_t i = 0; i < levels[0].count; i++)
        merge_add_tables(merge, &levels[0].tables[i], 1);
    for (unsigned i = 1; i < LEVELS; i++) {
        if (levels[i].count > 0)
            merge_add_tables(merge, levels[i].tables, levels[i].count);
    }
}

static void open_table(struct merge *merge, struct merge_source *source,
                       size_t at)
{
    if (source->opened)
        table_cursor_fini(&source->cursor);
    source->at = at;
    source->opened = true;
    table_cursor_init(&source->cursor, source->tables[at], merge->access);
    /* The oldest, the lowest level, has most of the keys. */
    source->cursor.leads = source == &merge->sources[merge->count - 1];
}

/* The table to begin a seek in: the first that reaches key, or the last that
 * begins before it. table_count if there is none. */
static size_t find_table(const struct merge *merge,
                         const struct merge_source *source, struct bytes key)
{
    size_t count = source->table_count;
    bool backward = merge->order == ENGINE_BACKWARD;
    if (backward && key.size == 0)
        return count - 1;
    size_t at = version_seek(source->tables, count, key, merge->order);
    if (backward)
        return at == 0 ? count : at - 1;
    return at;
}

static bool is_damage(enum status status)
{
    return status == STATUS_CORRUPT || status == STATUS_IO;
}

/* The block that the source's cursor is in cannot be read. */
static enum status note_damage(struct merge *merge,
                               const struct merge_source *source,
                               enum status status)
{
    if (merge->untold != STATUS_IO)
        merge->untold = status;
    if (merge->damages == NULL)
        merge->damages = calloc(DAMAGES_MAX, sizeof *merge->damages);
    if (merge->damages == NULL || merge->damage_count == DAMAGES_MAX)
        return STATUS_NO_MEMORY;
    merge->damages[merge->damage_count++] =
        (struct merge_damage){.source = source,
                              .table = source->cursor.table,
                              .block = source->cursor.block_number};
    return STATUS_OK;
}

/* On behind what cannot be read, as what a step answered says. */
static enum status pass_damage(struct merge *merge, struct merge_source *source,
                               enum status status)
{
    while (is_damage(status)) {
        status = note_damage(merge, source, status);
        if (status != STATUS_OK)
            return status;
        status = merge->order == ENGINE_BACKWARD
                     ? table_cursor_previous(&source->cursor)
                     : table_cursor_next(&source->cursor);
    }
    return status;
}

/* Whether a newer source may have something else of the key. */
static bool is_hidden(const struct merge *merge,
                      const struct merge_source *source)
{
    for (size_t i = 0; i < merge->damage_count; i++)
        if (source > merge->damages[i].source &&
            table_block_covers(merge->damages[i].table, merge->damages[i].block,
                               source->entry.key))
            return true;
    return false;
}

/* Take what a walk's last step answered: the entry, or on to the next table.
 * *valid: whether the source has an entry. */
static enum status settle_tables(struct merge *merge,
                                 struct merge_source *source,
                                 enum status status, bool *valid)
{
    status = pass_damage(merge, source, status);
    while (status == STATUS_NOT_FOUND) {
        bool backward = merge->order == ENGINE_BACKWARD;
        if (backward ? source->at == 0 : source->at + 1 == source->table_count)
            break;
        open_table(merge, source, backward ? source->at - 1 : source->at + 1);
        status =
            backward
                ? table_cursor_seek_before(&source->cursor, (struct bytes){0})
                : table_cursor_seek(&source->cursor, (struct bytes){0});
        status = pass_damage(merge, source, status);
    }
    *valid = status == STATUS_OK;
    if (*valid) {
        source->entry = table_cursor_entry(&source->cursor);
        source->entry.sequence = source->cursor.table->drops_applied;
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static bool settle_memtable(struct merge_source *source)
{
    if (source->node == NULL)
        return false;
    source->entry = memtable_entry(source->node);
    return true;
}

static enum status seek_source(struct merge *merge, struct merge_source *source,
                               struct bytes key, bool *valid)
{
    bool backward = merge->order == ENGINE_BACKWARD;
    *valid = false;
    if (source->memtable != NULL) {
        source->node =
            backward
                ? memtable_seek_before(source->memtable, key, merge->sequence)
                : memtable_seek(source->memtable, key, merge->sequence);
        *valid = settle_memtable(source);
        return STATUS_OK;
    }
    size_t at = find_table(merge, source, key);
    if (at == source->table_count)
        return STATUS_OK;
    open_table(merge, source, at);
    enum status status = backward
                             ? table_cursor_seek_before(&source->cursor, key)
                             : table_cursor_seek(&source->cursor, key);
    return settle_tables(merge, source, status, valid);
}

static enum status advance(struct merge *merge, struct merge_source *source,
                           bool *valid)
{
    bool backward = merge->order == ENGINE_BACKWARD;
    if (source->memtable == NULL)
        return settle_tables(merge, source,
                             backward ? table_cursor_previous(&source->cursor)
                                      : table_cursor_next(&source->cursor),
                             valid);
    source->node =
        backward ? memtable_seek_before(source->memtable, source->entry.key,
                                        merge->sequence)
                 : memtable_next(source->node, merge->sequence);
    *valid = settle_memtable(source);
    return STATUS_OK;
}

/* Whether a comes before b: by key, and of one key the newer. */
static bool before(const struct merge *merge, const struct merge_source *a,
                   const struct merge_source *b)
{
    int order = bytes_compare(a->entry.key, b->entry.key);
    if (order == 0)
        return a < b;
    return (order < 0) == (merge->order == ENGINE_FORWARD);
}

static void sift_down(struct merge *merge, size_t at)
{
    struct merge_source **heap = merge->heap, *source = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= merge->heap_count)
            break;
        if (child + 1 < merge->heap_count &&
            before(merge, heap[child + 1], heap[child]))
            child++;
        if (before(merge, source, heap[child]))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = source;
}

enum status merge_seek(struct merge *merge, struct bytes key)
{
    merge->heap_count = 0;
    merge->given = NULL;
    merge->failure = merge->untold = STATUS_OK;
    merge->damage_count = 0;
    for (size_t i = 0; i < merge->count; i++) {
        bool valid;
        merge->failure = seek_source(merge, &merge->sources[i], key, &valid);
        if (merge->failure != STATUS_OK)
            return merge->failure;
        if (valid)
            merge->heap[merge->heap_count++] = &merge->sources[i];
    }
    for (size_t i = merge->heap_count / 2; i-- > 0;)
        sift_down(merge, i);
    return STATUS_OK;
}

static enum status advance_first(struct merge *merge)
{
    bool valid;
    enum status status = advance(merge, merge->heap[0], &valid);
    if (status != STATUS_OK)
        return status;
    if (!valid)
        merge->heap[0] = merge->heap[--merge->heap_count];
    if (merge->heap_count > 1)
        sift_down(merge, 0);
    return STATUS_OK;
}

/* Move behind the key given last, in every source that has it: older versions
 * are hidden. Once the source that gave it is first again, no other has it. */
static enum status skip_given(struct merge *merge)
{
    const struct merge_source *given = merge->given;
    if (merge->heap_count == 1)
        return advance_first(merge);
    buffer_clear(&merge->last_key);
    enum status status = buffer_append(&merge->last_key, given->entry.key);
    struct bytes last = buffer_bytes(&merge->last_key);
    if (status == STATUS_OK)
        status = advance_first(merge);
    while (status == STATUS_OK && merge->heap_count > 0 &&
           merge->heap[0] != given &&
           bytes_equal(merge->heap[0]->entry.key, last))
        status = advance_first(merge);
    return status;
}

/* The next that is to be shown becomes the first of the heap. */
static enum status find_next(struct merge *merge)
{
    for (;;) {
        if (merge->given != NULL && merge->failure == STATUS_OK)
            merge->failure = skip_given(merge);
        merge->given = NULL;
        if (merge->untold != STATUS_OK) {
            enum status status = merge->untold;
            merge->untold = STATUS_OK;
            return status;
        }
        if (merge->failure != STATUS_OK)
            return merge->failure;
        if (merge->heap_count == 0)
            return STATUS_NOT_FOUND;
        if (!is_hidden(merge, merge->heap[0]))
            return STATUS_OK;
        merge->given = merge->heap[0];
    }
}

enum status merge_next(struct merge *merge, struct entry *entry)
{
    enum status status = find_next(merge);
    if (status != STATUS_OK)
        return status;
    merge->given = merge->heap[0];
    *entry = merge->given->entry;
    if (merge->version != NULL && !entry->removed)
        entry->removed =
            version_hides(merge->version, entry->key, entry->sequence);
    return STATUS_OK;
}
