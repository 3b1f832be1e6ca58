/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_MERGE_H
#define REPLIKV_ENGINES_LSM_MERGE_H

#include "engines/lsm/memtable.h"
#include "engines/lsm/table.h"

/* Memtables and tables walked as one: the newest version of every key that is
 * not newer than a sequence, in key order, removals included. Iterators,
 * flushes and compactions are this. It references nothing: its owner keeps
 * the sources alive. Not thread-safe. */
struct merge {
    struct merge_source *sources; /* newest first */
    size_t count, capacity;
    uint64_t sequence;
    struct buffer last_key; /* given last; every source moves past it */
    bool started;
    /* The first failure, answered from then on: a source that failed must not
     * be taken for one that ended. */
    enum status failure;
};

/* Room for up to `capacity` sources. */
enum status merge_init(struct merge *merge, size_t capacity,
                       uint64_t sequence) MUST_CHECK;
void merge_fini(struct merge *merge); /* safe on zeroed memory */

/* From newest to oldest; from is borrowed for the call. */
enum status merge_add_memtable(struct merge *merge,
                               const struct memtable *memtable,
                               struct bytes from) MUST_CHECK;
enum status merge_add_table(struct merge *merge, struct table *table,
                            struct bytes from) MUST_CHECK;

/* NOT_FOUND at the end. The entry is valid until the next call. */
enum status merge_next(struct merge *merge, struct entry *entry) MUST_CHECK;

#endif
