/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_VIEW_H
#define REPLIKV_ENGINES_LSM_VIEW_H

#include "engines/lsm/memtable.h"
#include "engines/lsm/table.h"

/* Everything a reader needs at one moment: the memtable that is written, the
 * frozen one on its way to a table, and the tables, newest data first. A view
 * never changes; a rotation, flush or compaction makes a new one. Holding a
 * view and a sequence is a snapshot. Reference-counted; it references what
 * it lists, and a table's file stays readable after it was removed. */
struct view {
    atomic_uint references;
    struct memtable *active;
    struct memtable *frozen; /* NULL: none */
    struct table **tables;
    size_t table_count;
};

/* With one reference, and references on all that is given. NULL: no memory. */
struct view *view_new(struct memtable *active, struct memtable *frozen,
                      struct table *const *tables, size_t table_count);
void view_ref(struct view *view);
void view_unref(struct view *view); /* NULL is allowed */

/* A view without the tables in `removed` (a run of neighbours in it), with
 * added, if not NULL, in their place; in front if none is removed. */
struct view *view_replace(const struct view *view, struct memtable *frozen,
                          struct table *const *removed, size_t removed_count,
                          struct table *added);

#endif
