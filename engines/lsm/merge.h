/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_MERGE_H
#define REPLIKV_ENGINES_LSM_MERGE_H

#include "engines/lsm/memtable.h"
#include "engines/lsm/version.h"

/* Memtables and tables walked as one, in either direction: of every key the
 * newest version up to a sequence, removals included, what a drop hides left
 * out as if it were removed. Iterators, flushes and compactions are this. It
 * references nothing: its owner keeps the sources alive. Not thread-safe.
 *
 * A block that cannot be read is told once and passed over, and of the keys
 * that may be in it nothing older is shown, which it may hide. */
struct merge {
    struct merge_source *sources; /* newest first */
    size_t count, capacity;
    struct merge_source **heap; /* those that have an entry; [0] is next */
    size_t heap_count;
    uint64_t sequence;
    enum engine_order order;
    enum table_access access;
    const struct version *version; /* whose drops count */
    /* What the entry given last came from: it moves on with the next call. */
    struct merge_source *given;
    struct buffer last_key;
    /* The first failure, answered from then on: a source that failed must not
     * be taken for one that ended. */
    enum status failure;
    struct merge_damage *damages; /* blocks passed over */
    size_t damage_count;
    enum status untold; /* of the last one; OK: it was told */
};

/* Room for up to `capacity` sources. version may be NULL: no drops. */
enum status merge_init(struct merge *merge, size_t capacity, uint64_t sequence,
                       enum engine_order order, enum table_access access,
                       const struct version *version) MUST_CHECK;
void merge_fini(struct merge *merge); /* safe on zeroed memory */

/* From newest to oldest, before the seek. */
void merge_add_memtable(struct merge *merge, const struct memtable *memtable);
/* Tables in key order that do not overlap: a level, or one of level 0. The
 * array is borrowed for the life of the merge. */
void merge_add_tables(struct merge *merge, struct table *const *tables,
                      size_t count);
/* Memtables and levels of a view; capacity is view_sources(view) then. */
void merge_add_view(struct merge *merge, const struct view *view);
size_t view_sources(const struct view *view);

/* Forward: before the first entry at or behind key. Backward: behind the last
 * one before key, or behind all if key is empty. */
enum status merge_seek(struct merge *merge, struct bytes key) MUST_CHECK;
/* NOT_FOUND at the end. The entry is valid until the next call. An entry that
 * a drop hides comes as a removal. CORRUPT and IO: something cannot be read,
 * and the next call goes on behind it. */
enum status merge_next(struct merge *merge, struct entry *entry) MUST_CHECK;

#endif
