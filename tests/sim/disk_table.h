/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_DISK_TABLE_H
#define REPLIKV_TESTS_SIM_DISK_TABLE_H

#include "proto/bytes.h"

/* What a disk must hold, synced, whatever holds it: a sorted array of keys and
 * values; and changes to it. All bytes are owned. */

struct disk_entry {
    struct buffer key, value;
    /* Until it is written again: a bit of it is another; or the engine says so.
     */
    enum { SOUND, FLIPPED, UNREADABLE } damage;
    int64_t written_us, damaged_us; /* last */
};

struct disk_table {
    struct disk_entry *entries; /* by key */
    size_t count, capacity;
};

void disk_table_fini(struct disk_table *table);
void disk_table_clear(struct disk_table *table);
void disk_table_copy(struct disk_table *table, const struct disk_table *from);
/* Empty when there is none, or it is damaged. Valid until the next change. */
struct bytes disk_table_get(const struct disk_table *table, struct bytes key);
/* Its entry, damaged or not, or NULL; likewise. */
struct disk_entry *disk_table_find(const struct disk_table *table,
                                   struct bytes key);
/* How many keys begin with the byte, and are damaged so: of 1 << SOUND, ... */
size_t disk_table_count(const struct disk_table *table, uint8_t begins,
                        unsigned damages);
/* Where the key is, or would be. */
size_t disk_table_place(const struct disk_table *table, struct bytes key,
                        bool *found);

struct disk_change {
    struct buffer key, value;
    bool removed;
};

struct disk_changes {
    struct disk_change *list; /* in their order: a later one wins */
    size_t count, capacity;
};

void disk_changes_add(struct disk_changes *changes, struct bytes key,
                      struct bytes value, bool removed);
void disk_changes_clear(struct disk_changes *changes);
void disk_changes_fini(struct disk_changes *changes);
void disk_table_apply(struct disk_table *table,
                      const struct disk_change *change, int64_t now_us);

#endif
