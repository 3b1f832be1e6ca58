/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_COMPACTION_H
#define REPLIKV_ENGINES_LSM_COMPACTION_H

#include "engines/lsm/version.h"

/* Which tables to merge next, decided from a version alone.
 *
 * A level is due when it is larger than its share: level 0 by its tables,
 * which every read asks one by one, the others by their bytes. The one that is
 * furthest over goes first. From level 0 all tables go at once; from another
 * the one that takes the fewest bytes of the next level with it, which writes
 * the least (RocksDB's kMinOverlappingRatio). Before all that, tables that a
 * drop covers are removed, which makes room. A table that holds what a drop
 * hides, and that the drop covers only in part, is written anew in its level
 * when nothing else is due; one of level 0 goes down with all that are there.
 *
 * Damaged tables stay where they are. While one holds up level 0, the tables
 * that came since are merged among themselves, so that reads do not have to
 * ask more and more of them. */

enum {
    /* Tables in level 0 at which it is due. While writes go on: each round
     * merges them with much of level 1, so the more at once, the less is
     * written in all, and a get passes by the others' filters in 25 ns each.
     * When writes rest: so few that a seek has little to merge; if they are
     * small beside level 1, which is written anew for them, some more. */
    COMPACTION_LEVEL0_TABLES = 8,
    COMPACTION_LEVEL0_TABLES_QUIET = 2,
    COMPACTION_LEVEL0_TABLES_SMALL = 4,
    COMPACTION_LEVEL0_SMALL = 16, /* level 1 is so many times as large */
    /* Each level holds so many times the bytes of the one above. */
    COMPACTION_LEVEL_FACTOR = 10,
};

struct compaction {
    unsigned level, output_level;
    struct table **inputs; /* of level, newest first if it is 0; then `lower`
                            * of the output level, in key order. Borrowed from
                            * the version */
    size_t upper_count, lower_count;
    bool move;   /* nothing to merge: the tables change their level */
    bool remove; /* a drop covers all that is in them */
};

/* NOT_FOUND if nothing is due. quiet: writes rest. */
enum status compaction_pick(const struct version *version,
                            uint64_t level1_bytes, bool quiet,
                            struct compaction *compaction) MUST_CHECK;
bool compaction_any_damaged(struct table *const *tables, size_t count);
/* Whether damage keeps level 0 from going down. */
bool compaction_held_up(const struct version *version);
void compaction_fini(struct compaction *compaction);

#endif
