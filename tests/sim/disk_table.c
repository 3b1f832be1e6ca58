/* SPDX-License-Identifier: MIT */
#include "disk_table.h"

#include <stdlib.h>

#include "proto/assert.h"

static void set_buffer(struct buffer *buffer, struct bytes bytes)
{
    buffer_clear(buffer);
    enum status status = buffer_append(buffer, bytes);
    ASSERT(status == STATUS_OK);
}

static void *grown(void *list, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return list;
    *capacity = *capacity * 2 + 16;
    list = realloc(list, *capacity * size);
    ASSERT(list != NULL);
    return list;
}

size_t disk_table_place(const struct disk_table *table, struct bytes key,
                        bool *found)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bytes_compare(buffer_bytes(&table->entries[middle].key), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < table->count &&
             bytes_equal(buffer_bytes(&table->entries[low].key), key);
    return low;
}

struct disk_entry *disk_table_find(const struct disk_table *table,
                                   struct bytes key)
{
    bool found;
    size_t at = disk_table_place(table, key, &found);
    return found ? &table->entries[at] : NULL;
}

size_t disk_table_count(const struct disk_table *table, uint8_t begins,
                        unsigned damages)
{
    size_t count = 0;
    for (size_t i = 0; i < table->count; i++)
        count += table->entries[i].key.data[0] == begins &&
                 (damages >> table->entries[i].damage & 1) != 0;
    return count;
}

struct bytes disk_table_get(const struct disk_table *table, struct bytes key)
{
    const struct disk_entry *entry = disk_table_find(table, key);
    return entry != NULL && entry->damage == SOUND ? buffer_bytes(&entry->value)
                                                   : (struct bytes){0};
}

static void insert(struct disk_table *table, size_t at, struct bytes key)
{
    table->entries = grown(table->entries, table->count, &table->capacity,
                           sizeof *table->entries);
    memmove(table->entries + at + 1, table->entries + at,
            (table->count - at) * sizeof *table->entries);
    table->entries[at] = (struct disk_entry){0};
    set_buffer(&table->entries[at].key, key);
    table->count++;
}

static void entry_fini(struct disk_entry *entry)
{
    buffer_fini(&entry->key);
    buffer_fini(&entry->value);
}

static void drop(struct disk_table *table, size_t at)
{
    entry_fini(&table->entries[at]);
    table->count--;
    memmove(table->entries + at, table->entries + at + 1,
            (table->count - at) * sizeof *table->entries);
}

void disk_table_apply(struct disk_table *table,
                      const struct disk_change *change, int64_t now_us)
{
    bool found;
    size_t at = disk_table_place(table, buffer_bytes(&change->key), &found);
    if (change->removed) {
        if (found)
            drop(table, at);
        return;
    }
    if (!found)
        insert(table, at, buffer_bytes(&change->key));
    set_buffer(&table->entries[at].value, buffer_bytes(&change->value));
    table->entries[at].damage = SOUND;
    table->entries[at].written_us = now_us;
}

void disk_table_copy(struct disk_table *table, const struct disk_table *from)
{
    disk_table_clear(table);
    for (size_t i = 0; i < from->count; i++) {
        insert(table, i, buffer_bytes(&from->entries[i].key));
        set_buffer(&table->entries[i].value,
                   buffer_bytes(&from->entries[i].value));
        table->entries[i].damage = from->entries[i].damage;
        table->entries[i].written_us = from->entries[i].written_us;
        table->entries[i].damaged_us = from->entries[i].damaged_us;
    }
}

void disk_table_clear(struct disk_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        entry_fini(&table->entries[i]);
    table->count = 0;
}

void disk_table_fini(struct disk_table *table)
{
    disk_table_clear(table);
    free(table->entries);
    *table = (struct disk_table){0};
}

void disk_changes_add(struct disk_changes *changes, struct bytes key,
                      struct bytes value, bool removed)
{
    changes->list = grown(changes->list, changes->count, &changes->capacity,
                          sizeof *changes->list);
    struct disk_change *change = &changes->list[changes->count++];
    *change = (struct disk_change){.removed = removed};
    set_buffer(&change->key, key);
    if (!removed)
        set_buffer(&change->value, value);
}

void disk_changes_clear(struct disk_changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        buffer_fini(&changes->list[i].key);
        buffer_fini(&changes->list[i].value);
    }
    changes->count = 0;
}

void disk_changes_fini(struct disk_changes *changes)
{
    disk_changes_clear(changes);
    free(changes->list);
    *changes = (struct disk_changes){0};
}
