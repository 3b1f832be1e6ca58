/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_VERSION_H
#define REPLIKV_ENGINES_LSM_VERSION_H

#include "engines/lsm/memtable.h"
#include "engines/lsm/table.h"

/* Which tables are the store, and which ranges of keys were dropped. A version
 * never changes: a flush, a compaction or a drop makes a new one by an edit,
 * and the manifest keeps the newest. Reference-counted; it references its
 * tables, and a table's file stays readable after its name was removed. So
 * whoever holds a version and the memtables beside it holds a snapshot, and
 * compactions may drop overwritten entries at once.
 *
 * What levels and dropped ranges are, says FORMAT.md. All that a table holds of
 * a range dropped since it was made is older than the drop, since its entries
 * were in the tree before, so tables need no sequences. */

enum { LEVELS = 7 };

struct level {
    struct table **tables;
    size_t count;
    uint64_t bytes; /* of their files */
};

struct dropped_range {
    struct bytes from, to; /* owned by a version; an empty to: no bound */
    uint64_t sequence;
};

static inline bool drop_has(const struct dropped_range *drop, struct bytes key)
{
    return bytes_compare(key, drop->from) >= 0 &&
           (drop->to.size == 0 || bytes_compare(key, drop->to) < 0);
}

struct version {
    atomic_uint references;
    struct level levels[LEVELS];
    struct dropped_range *drops; /* oldest first */
    size_t drop_count;
};

/* What changes from one version to the next. Borrowed. */
struct version_edit {
    struct table *const *removed;
    size_t removed_count;
    struct table *const *added; /* of level 0: newest first, in front, or in
                                 * the place of removed neighbours */
    size_t added_count;
    unsigned added_level;
    bool moved; /* the added ones are the removed: their files stay */
    const struct dropped_range *drop; /* NULL: none */
};

struct version *version_new(void); /* empty; NULL: no memory */
/* Copy a drop behind those that version, which nobody reads yet, has; drops has
 * room for it. */
enum status version_push_drop(struct version *version,
                              const struct dropped_range *drop) MUST_CHECK;
/* All up to flushed_sequence is in tables, so that drops up to it are forgotten
 * when no table needs them, as are those that the edit's covers. NULL: no
 * memory. */
struct version *version_apply(const struct version *version,
                              const struct version_edit *edit,
                              uint64_t flushed_sequence);
/* Whether no tables of a level above 0 overlap. What a compaction made may, if
 * the keys of a table are not those it says it has. */
bool version_in_order(const struct version *version);
void version_ref(struct version *version);
void version_unref(struct version *version); /* NULL is allowed */

/* Of tables in key order, the first whose largest key (backward: smallest) is
 * at or behind key; count if there is none. */
size_t version_seek(struct table *const *tables, size_t count, struct bytes key,
                    enum engine_order order);
/* The tables of a level above 0 that overlap [smallest, largest], as a run of
 * its array. */
void version_overlap(const struct level *level, struct bytes smallest,
                     struct bytes largest, size_t *first, size_t *count);
/* The one table of a level above 0 that may hold key, or NULL. */
struct table *version_find(const struct level *level, struct bytes key);
/* Whether a drop hides an entry: of a memtable by its sequence, of a table by
 * its drops_applied. */
bool version_hides(const struct version *version, struct bytes key,
                   uint64_t sequence);
/* Whether the table may hold what the drop hides. */
bool version_needs(const struct table *table, const struct dropped_range *drop);
/* The sequence of the last drop, 0 if none. */
uint64_t version_last_drop(const struct version *version);

/* A version and the memtables in front of it, newest first: everything that a
 * reader needs. */
enum { MEMTABLES_MAX = 8 };
struct view {
    atomic_uint references;
    struct memtable *memtables[MEMTABLES_MAX]; /* [0]: being written */
    size_t memtable_count;
    struct version *version;
};
/* References what it is given. NULL: no memory. */
struct view *view_new(struct memtable *const *memtables, size_t count,
                      struct version *version);
void view_ref(struct view *view);
void view_unref(struct view *view); /* NULL is allowed */

#endif
