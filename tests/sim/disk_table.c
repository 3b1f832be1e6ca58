/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "disk.h"
#include "proto/assert.h"

/* What is synced: a sorted array. */

static void set_buffer(struct buffer *buffer, struct bytes bytes)
{
    buffer_clear(buffer);
    enum status status = buffer_append(buffer, bytes);
    ASSERT(status == STATUS_OK);
}

size_t disk_place(const struct disk *disk, struct bytes key, bool *found)
{
    size_t low = 0, high = disk->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bytes_compare(buffer_bytes(&disk->entries[middle].key), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < disk->count &&
             bytes_equal(buffer_bytes(&disk->entries[low].key), key);
    return low;
}

struct bytes disk_get(const struct disk *disk, struct bytes key)
{
    bool found;
    size_t at = disk_place(disk, key, &found);
    return found ? buffer_bytes(&disk->entries[at].value) : (struct bytes){0};
}

void disk_set(struct disk *disk, struct bytes key, struct bytes value)
{
    bool found;
    size_t at = disk_place(disk, key, &found);
    if (!found) {
        if (disk->count == disk->capacity) {
            disk->capacity = disk->capacity * 2 + 16;
            disk->entries =
                realloc(disk->entries, disk->capacity * sizeof *disk->entries);
            ASSERT(disk->entries != NULL);
        }
        memmove(disk->entries + at + 1, disk->entries + at,
                (disk->count - at) * sizeof *disk->entries);
        disk->entries[at] = (struct disk_entry){{0}, {0}};
        set_buffer(&disk->entries[at].key, key);
        disk->count++;
    }
    set_buffer(&disk->entries[at].value, value);
}

static void entry_fini(struct disk_entry *entry)
{
    buffer_fini(&entry->key);
    buffer_fini(&entry->value);
}

void disk_remove(struct disk *disk, struct bytes key)
{
    bool found;
    size_t at = disk_place(disk, key, &found);
    if (!found)
        return;
    entry_fini(&disk->entries[at]);
    disk->count--;
    memmove(disk->entries + at, disk->entries + at + 1,
            (disk->count - at) * sizeof *disk->entries);
}

void disk_wipe(struct disk *disk)
{
    for (size_t i = 0; i < disk->count; i++)
        entry_fini(&disk->entries[i]);
    disk->count = 0;
}
