/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_COMPACTION_H
#define REPLIKV_ENGINES_LSM_COMPACTION_H

#include "engines/lsm/lsm.h"

enum {
    /* Size-tiered: as many tables of one tier become one of the next, so a
     * byte is written once per tier (log4 of the store over a memtable), and
     * a read asks at most three tables per tier, most of which a filter
     * rules out. More tables write less and read more. */
    COMPACTION_TABLES = 4,
    /* Writers wait beyond this: more than 3 tables in each of 16 tiers (which
     * no store reaches) can only be flushes that outrun compaction. */
    COMPACTION_TABLES_MAX = 48,
};

/* Write a memtable as a table of tier 0, file `number`, durable but for its
 * directory entry. On failure there is no such file. */
enum status compaction_write_memtable(struct lsm *lsm,
                                      const struct memtable *memtable,
                                      uint64_t number,
                                      struct table **table) MUST_CHECK;

/* Make `view`'s tables the manifest's. */
enum status compaction_write_manifest(struct lsm *lsm, const struct view *view,
                                      uint64_t log_number) MUST_CHECK;

/* The background thread: flush what is frozen, compact what is due, until
 * lsm->stopping. */
void *compaction_thread(void *lsm);

#endif
